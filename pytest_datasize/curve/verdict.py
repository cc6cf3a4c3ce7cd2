"""Judge a requirement by a learning curve.

The four answers: ``sufficient``; ``insufficient`` (more images are required than are available);
``unreachable`` (the whole interval of the ceiling lies below the target); ``undecided`` (the
required confidence is not reached either way).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from pytest_datasize.curve.counts import (
    CLOSE,
    TELLABLE,
    beside,
    count,
    of_model,
    percent,
    required_percent,
)
from pytest_datasize.curve.held_out import HeldOut
from pytest_datasize.curve.learning_curve import LearningCurve
from pytest_datasize.curve.trend import Trend
from pytest_datasize.requirement.options import shown
from pytest_datasize.requirement.targets import subject_text
from pytest_datasize.requirement.units import IMAGE, plural

LEVEL = 0.9
"""Probability that an interval in a report contains the truth."""

TRUSTED_RANGE = 4.0
"""A projection beyond this multiple of the largest measured size is an extrapolation.

Hoiem et al. 2021, "Learning curves for analysis of deep networks", trust four times the size.
"""

SURE = 0.9
"""Probability of one-sided numbers: images that surely suffice, the score that is surely met."""


class Status(StrEnum):
    """The four answers, best first."""

    SUFFICIENT = "sufficient"
    UNDECIDED = "undecided"
    INSUFFICIENT = "insufficient"
    UNREACHABLE = "unreachable"


class SliceName(NamedTuple):
    """A slice: the images for which a factor has one value, such as those of site B."""

    factor: str
    value: str

    def __str__(self) -> str:
        """Return its name for messages, such as ``site 'B'``."""
        return f"{self.factor} {shown(self.value)}"


@dataclass(frozen=True)
class Judgement:
    """The answer for one metric, with its evidence.

    Attributes
    ----------
    metric, target
        Metric, and score to reach: that of the class, if classes have targets of their own.
    class_name
        The class that decides, for a metric of single classes.
    status
        The answer.
    required, required_low, required_high
        Training images (or groups) that the target needs, whole numbers, and their 90 % interval;
        ``math.inf`` if no number suffices.
    required_sure
        Training images with which the target is met with a probability of 90 %.
    available
        Images available for training.
    score, score_low, score_high
        Projected score with all available images, and its 90 % interval.
    ceiling, ceiling_low, ceiling_high
        Score with unlimited images, and its 90 % interval.
    probability
        Probability that the available images suffice, in [0, 1].
    score_sure
        Score that is reached with a probability of 90 % with all available images: the highest
        target that they carry.
    confidence
        Required confidence, or None.
    measured
        Largest training size with measured scores.
    trusted_range
        Multiple of that size beyond which a number is an extrapolation.
    level
        Probability at which the available images are called enough: `confidence` or 0.5, or more
        if other models were tried before, see :func:`level_after`.
    trend
        Whether the measured scores rise, are flat, or fall.
    held_out
        What is held out of the images that are collected.
    class_targets
        Class name → its target, if classes have targets of their own; others are not judged.
    at
        Of an operating point: what is required of its threshold, such as ``{"precision": 0.9}``.
    slice
        The slice that decides, for a target of every slice.
    unit
        What every number of images counts: ``image`` or ``group``.
    """

    metric: str
    target: float
    class_name: str | None
    status: Status
    required: float
    required_low: float
    required_high: float
    required_sure: float
    available: int
    score: float
    score_low: float
    score_high: float
    ceiling: float
    ceiling_low: float
    ceiling_high: float
    probability: float
    confidence: float | None
    score_sure: float
    measured: int
    trusted_range: float
    level: float
    trend: Trend
    held_out: HeldOut
    class_targets: Mapping[str, float] = field(default_factory=dict)
    at: Mapping[str, float] = field(default_factory=dict)
    slice: SliceName | None = None
    unit: str = IMAGE

    @property
    def extrapolated(self) -> bool:
        """Whether the required number lies beyond the trusted range of what was measured."""
        return self.trusted_range * self.measured < self.required < math.inf

    @property
    def subject(self) -> str:
        """What is judged, such as ``accuracy 0.9`` or ``recall of 'rust' 0.7``."""
        if self.slice is not None:
            return f"{self.metric} of {self.slice} {self.target:g}"
        return subject_text(self.metric, self.class_name, self.at, self.target)

    @property
    def images(self) -> int:
        """Images of the data set today, those held out included."""
        return int(self.held_out.data_set(self.available))

    @property
    def missing(self) -> float:
        """Images of the data set to add, a part of which is held out; infinite if none suffice."""
        return self.more(self.required)

    def more(self, training: float) -> float:
        """Return the images to add to the data set for so many training images."""
        return max(0.0, self.held_out.data_set(training) - self.images)

    @property
    def close(self) -> bool:
        """Whether the verdict is too close to call: about as likely wrong as right."""
        return self.confidence is None and CLOSE[0] <= self.probability <= CLOSE[1]

    @property
    def tellable(self) -> bool:
        """Whether the required number is close enough to the available images to plan with."""
        return self.required <= TELLABLE * self.available

    @property
    def summary(self) -> str:
        """One short line, complete by itself, with the number first."""
        now, units = f"now {beside(self.score, self.target)}", plural(self.unit)
        if self.status is Status.UNREACHABLE:
            return (
                f"{self.subject} is out of reach: about {self.ceiling:.3f} "
                f"({self.ceiling_low:.3f} to {self.ceiling_high:.3f}) with any number of {units}; "
                f"{now}"
            )
        if self.status is Status.SUFFICIENT:
            return f"{self.subject} is met: {now}, {self._sure(self.probability)}"
        likely = self.required <= self.available or self.probability >= 0.5
        if self.status is Status.UNDECIDED or likely:  # but not as surely as they must
            return (
                f"{self.subject} is not certain enough: {percent(self.probability, self.level)} "
                f"sure that these {self.images:,} {units} suffice, "
                f"{required_percent(self.level)} is required"
                f"{of_model(self.level, self.confidence)}; {now}"
            )
        if self.trend.direction != "rising" and not self.tellable:
            return (
                f"too few {units} for {self.subject}: {now}, {self.trend.direction} from "
                f"{self.trend.first:,} to {self.trend.last:,} training {units}"
            )
        if not self.tellable:
            least = self.more(self.required_low)
            known = f", at least {count(least)}" if 0 < least <= TELLABLE * self.images else ""
            return (
                f"too few {units} for {self.subject} ({now}): how many more cannot be told{known}"
            )
        return (
            f"about {count(self.missing)} {units} short of {self.subject} ({now}, "
            f"{self._sure(1 - self.probability)})"
        )

    def _sure(self, probability: float) -> str:
        return f"{percent(probability)} sure" + (", too close to call" if self.close else "")


@dataclass(frozen=True)
class Verdict:
    """The answer to a whole requirement; its worst metric decides.

    Attributes
    ----------
    judgements
        One for each metric, in the order given.
    """

    judgements: tuple[Judgement, ...]

    @property
    def status(self) -> Status:
        """The worst status among the metrics."""
        order = list(Status)
        return max((judgement.status for judgement in self.judgements), key=order.index)

    @property
    def passed(self) -> bool:
        """Whether every target is met."""
        return self.status is Status.SUFFICIENT

    @property
    def message(self) -> str:
        """The summaries, those that failed first, one a line."""
        failed_first = sorted(self.judgements, key=lambda j: j.status is Status.SUFFICIENT)
        return "\n".join(judgement.summary for judgement in failed_first)

    def __str__(self) -> str:
        return f"{self.status}: {self.message}"


def judge(
    metric: str,
    target: float | Mapping[str, float],
    curves: Mapping[str | SliceName | None, LearningCurve],
    available: int,
    confidence: float | None = None,
    trusted_range: float = TRUSTED_RANGE,
    sign: int = 1,
    earlier: int = 0,
    held_out: HeldOut | None = None,
    unit: str = IMAGE,
) -> Judgement:
    """Judge one metric; of several curves (of classes, slices) the one that needs most decides.

    Parameters
    ----------
    metric, target
        Metric, and score to reach; or class name → score to reach, for the classes to judge.
    curves
        Class name, or slice → learning curve; ``{None: curve}`` for a metric of all classes.
    available
        Images that can be trained on.
    confidence
        Required probability of the verdict, in (0.5, 1); None lets the median decide.
    trusted_range
        Multiple of the largest measured size beyond which a number is an extrapolation.
    sign
        -1 if lower is better and the curves are of the negated score.
    earlier
        Number of other models that were tried before and fell short, see :func:`level_after`.
    held_out
        What is held out of the images that are collected; None: nothing, as with a test set of
        its own.
    unit
        What the sizes of the curves and ``available`` count.
    """
    held_out = held_out or HeldOut()
    goals: dict[str | SliceName | None, float] = {}
    if isinstance(target, Mapping):
        goals.update(target)
    else:
        goals.update((name, target) for name in curves)
    judgements = [
        _judge_one(
            metric,
            sign * goals[name],
            name,
            curve,
            available,
            confidence,
            trusted_range,
            earlier,
            held_out,
            unit,
        )
        for name, curve in curves.items()
        if name in goals
    ]
    worst = max(judgements, key=_badness)
    return worst if sign > 0 else _negated(worst)


def _badness(judged: Judgement) -> tuple[int, float, float]:
    """Return a key that is largest for the class or slice that decides.

    Of slices that all reach their target, the one with the lowest score is shown.
    """
    met = judged.slice is not None and judged.status is Status.SUFFICIENT
    short = judged.target - judged.score
    return list(Status).index(judged.status), 0.0 if met else judged.required, short


def level_after(earlier: int, confidence: float = 0.5) -> float:
    """Return the probability that a model must reach after others were tried and fell short.

    The best of several models on the same test images looks better than it is. The chance of a
    wrong pass that one model may have, 1 - `confidence`, is therefore divided by the number of
    models tried so far (Dunn 1961, "Multiple comparisons among means": the Bonferroni bound).

    Examples
    --------
    >>> level_after(0), level_after(1), round(level_after(2, confidence=0.9), 3)
    (0.5, 0.75, 0.967)
    """
    return 1.0 - (1.0 - confidence) / (earlier + 1)


def _negated(judged: Judgement) -> Judgement:
    """Flip the signs back for metrics where lower is better."""
    return replace(
        judged,
        target=-judged.target,
        score=-judged.score,
        score_low=-judged.score_high,
        score_high=-judged.score_low,
        score_sure=-judged.score_sure,
        ceiling=-judged.ceiling,
        ceiling_low=-judged.ceiling_high,
        ceiling_high=-judged.ceiling_low,
    )


def _judge_one(
    metric: str,
    target: float,
    name: str | SliceName | None,
    curve: LearningCurve,
    available: int,
    confidence: float | None,
    trusted_range: float,
    earlier: int,
    held_out: HeldOut,
    unit: str,
) -> Judgement:
    low, high = curve.interval(available, LEVEL)
    level = level_after(earlier) if confidence is None else level_after(earlier, confidence)
    required = curve.required(target)
    probability = curve.probability(available, target)
    if confidence is None and earlier and required <= available and probability < level:
        # more likely than not they suffice, but not as surely as a further model must be
        required = curve.required_interval(target, 2 * level - 1).high
    required_low, required_high = curve.required_interval(target, LEVEL)
    ceiling = curve.ceiling
    if ceiling.high < target:
        status = Status.UNREACHABLE
    elif confidence is None:
        enough = required <= available and (not earlier or probability >= level)
        status = Status.SUFFICIENT if enough else Status.INSUFFICIENT
    elif probability >= level:
        status = Status.SUFFICIENT
    elif probability <= 1 - confidence:
        status = Status.INSUFFICIENT
    else:
        status = Status.UNDECIDED
    return Judgement(
        metric=metric,
        target=target,
        class_name=None if isinstance(name, SliceName) else name,
        slice=name if isinstance(name, SliceName) else None,
        status=status,
        required=required,
        required_low=required_low,
        required_high=required_high,
        required_sure=curve.required_interval(target, 2 * SURE - 1).high,
        available=available,
        score=curve.predict(available),
        score_low=low,
        score_high=high,
        ceiling=ceiling.mean,
        ceiling_low=ceiling.low,
        ceiling_high=ceiling.high,
        probability=probability,
        confidence=confidence,
        score_sure=curve.interval(available, 2 * SURE - 1).low,
        measured=curve.sizes[-1],
        trusted_range=trusted_range,
        level=level,
        trend=curve.trend,
        held_out=held_out,
        unit=unit,
    )
