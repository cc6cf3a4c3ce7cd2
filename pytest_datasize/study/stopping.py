"""Stop training early when the verdict is decided: a group-sequential plan.

If a confidence c is set, interim looks come when 40 % and 70 % of the repeats are done. Training
stops early only if every target is decided at a stricter level than c, that of
O'Brien & Fleming (1979, "A multiple testing procedure for clinical trials"): the normal quantile
of c divided by the square root of the share of repeats done. The last look requires c itself, so a
sequential verdict is never less certain than that of the fixed plan. (The posterior probability of
a calibrated curve keeps its meaning under early stopping; the stricter level compensates for poor
calibration with few repeats.)
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_datasize.curve.verdict import Verdict
    from pytest_datasize.study.result import StudyResult

SHARES = (0.4, 0.7, 1.0)
LEAST_REPEATS = 4  # fewer give a poor estimate of their own spread


def looks(repeats: int) -> tuple[int, ...]:
    """Return the numbers of repeats after which to check; the last is all of them.

    Examples
    --------
    >>> looks(10), looks(5), looks(3)
    ((4, 7, 10), (4, 5), (3,))
    """
    found = {max(LEAST_REPEATS, math.ceil(share * repeats)) for share in SHARES}
    return tuple(sorted({min(n, repeats) for n in found}))


def level(confidence: float, share: float) -> float:
    """Return the required probability when a share of the repeats, in (0, 1], is done.

    Examples
    --------
    >>> round(level(0.9, 1.0), 3), round(level(0.9, 0.4), 3)
    (0.9, 0.979)
    """
    from scipy.special import ndtr, ndtri  # slow to import; an unchanged gate does not need it

    return float(ndtr(ndtri(confidence) / math.sqrt(share)))


@dataclass(frozen=True)
class Certainty:
    """Stopping rule of a study, called with its result and the share of repeats done."""

    targets: Mapping[str, Any]
    confidence: float

    @property
    def key(self) -> str:
        """Key of the targets and confidence, part of the evidence's cache key."""
        return f"|{self.confidence}|{sorted(self.targets.items())}"

    def looks(self, repeats: int) -> tuple[int, ...]:
        """Return the numbers of repeats after which to check."""
        return looks(repeats)

    def __call__(self, result: "StudyResult", share: float) -> bool:
        """Whether every target is decided at the level of this interim look."""
        if unjudged(result, self.targets):
            return False
        asked = level(self.confidence, share)
        return decided(result.verdict(asked, earlier=0, **self.targets))


@dataclass(frozen=True)
class SecondLook:
    """Stopping rule of a second look: after two repeats, further ones only if they may decide.

    Attributes
    ----------
    targets
        Metric → target.
    confidence
        Required confidence; None if the median decides.
    earlier
        Number of models that fell short before.
    """

    targets: Mapping[str, Any]
    confidence: float | None
    earlier: int

    @property
    def key(self) -> str:
        """Key of the rule, part of the evidence's cache key."""
        return f"|second look|{self.confidence}|{self.earlier}|{sorted(self.targets.items())}"

    def looks(self, repeats: int) -> tuple[int, ...]:
        """Return the numbers of repeats after which to check: two, and every one after that."""
        return tuple(range(min(2, repeats), repeats + 1))

    def __call__(self, result: "StudyResult", share: float) -> bool:
        """Whether every target is clearly met, or any is clearly missed."""
        from pytest_datasize.curve.verdict import level_after

        if unjudged(result, self.targets):
            return False
        sure = level(self.confidence or SURE, share)
        verdict = result.verdict(earlier=0, **self.targets)
        chances = [judged.probability for judged in verdict.judgements]
        return min(chances) >= level_after(self.earlier, sure) or min(chances) <= 1 - sure


def unjudged(result: "StudyResult", targets: Mapping[str, Any]) -> str:
    """Return why slices cannot be judged, yet or at all; empty if they can, or need not."""
    metrics = targets.get("min_slice", ())
    return next(
        (why for metric in metrics if (why := result.no_slices(metric) or result.under_tested)), ""
    )


SURE = 0.9
"""Probability at which a second look is decided if no confidence is required."""


def decided(verdict: "Verdict") -> bool:
    """Whether every judgement reaches the required confidence."""
    from pytest_datasize.curve.verdict import Status

    return all(judgement.status is not Status.UNDECIDED for judgement in verdict.judgements)
