"""Check a projection against held-back sizes, and compute what would decide a verdict.

Pure: works on the outcomes of the trials and the curve through them.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri

from pytest_datasize.curve.learning_curve import LearningCurve
from pytest_datasize.curve.outcomes import Outcomes
from pytest_datasize.curve.verdict import LEVEL, Judgement, Status


@dataclass(frozen=True)
class Advice:
    """Additional data on a judgement.

    Attributes
    ----------
    check
        The fit tested on its own largest sizes; None with too few sizes.
    test_margin
        Half of the 90 % interval of the score due to the luck (sampling variance) of test images.
    test_images
        Test images needed to distinguish score and target at 90 %; None if they are distinguished
        already, or never could be.
    deciding
        What would decide an undecided judgement; None for a decided one.
    """

    check: "SelfCheck | None"
    test_margin: float
    test_images: int | None
    deciding: "DecidingAdvice | None"


def advise(outcomes: Outcomes, curve: LearningCurve, judgement: Judgement) -> Advice:
    """Collect the additional data on a judgement."""
    confidence = judgement.level if judgement.status is Status.UNDECIDED else None
    return Advice(
        check=_given(self_check(outcomes, curve.law), outcomes.sign),
        test_margin=margin(outcomes),
        test_images=images_to_tell(outcomes, judgement.score, judgement.target),
        deciding=None
        if confidence is None
        else deciding_advice(
            outcomes, curve, outcomes.sign * judgement.target, judgement.available, confidence
        ),
    )


@dataclass(frozen=True)
class SelfCheck:
    """Prediction of the largest size from a curve without the largest sizes, and the measurement.

    Attributes
    ----------
    left_out
        Number of sizes left out of the fit.
    size
        The largest size.
    predicted, low, high
        Projected score there, and its 90 % interval.
    measured
        Mean score of the trials there.
    """

    left_out: int
    size: int
    predicted: float
    low: float
    high: float
    measured: float

    @property
    def held(self) -> bool:
        """Whether the measured score lies in the interval."""
        return self.low <= self.measured <= self.high


def self_check(outcomes: Outcomes, law: str = "power") -> SelfCheck | None:
    """Fit the curve without its two largest sizes (one, of four) and let it predict the largest.

    None where fewer than three sizes would remain.
    """
    left_out = min(2, len(outcomes.sizes) - 3)
    if left_out < 1:
        return None
    size = outcomes.sizes[-1]
    curve = outcomes.first(len(outcomes.sizes) - left_out).curve(law)
    low, high = curve.interval(size, LEVEL)
    measured = float(np.mean(outcomes.scores[-1]))
    return SelfCheck(left_out, size, curve.predict(size), low, high, measured)


def _given(check: SelfCheck | None, sign: int) -> SelfCheck | None:
    """Flip the signs back for metrics where lower is better."""
    if check is None or sign > 0:
        return check
    return replace(
        check,
        predicted=-check.predicted,
        low=-check.high,
        high=-check.low,
        measured=-check.measured,
    )


def margin(outcomes: Outcomes) -> float:
    """Return half of the 90 % interval at the largest size due to the luck of test images."""
    return float(_quantile(LEVEL) * math.sqrt(outcomes.test_covariance[-1, -1]))


def half_width(outcomes: Outcomes, index: int) -> float:
    """Return half of the 90 % interval of the mean score at one size: training and test luck."""
    scores = outcomes.scores[index]
    spread = float(np.var(scores, ddof=1)) if len(scores) > 1 else 0.0
    training = max(spread - float(outcomes.split_variance[index]), 0.0) / len(scores)
    return _quantile(LEVEL) * math.sqrt(training + float(outcomes.test_covariance[index, index]))


def images_to_tell(outcomes: Outcomes, score: float, target: float) -> int | None:
    """Return the number of test images needed to distinguish score and target at 90 %.

    None if they are distinguished already, or too close for a million images.
    """
    luck, gap = margin(outcomes), abs(score - target)
    if luck <= gap:
        return None
    needed = outcomes.n_test * (luck / gap) ** 2 if gap > 0 else math.inf
    return math.ceil(needed) if needed < 1e6 else None


@dataclass(frozen=True)
class DecidingAdvice:
    """What would decide an undecided verdict, each alone; None if it would not.

    Attributes
    ----------
    repeats
        Repeats per size, all else equal.
    test_images
        Test images, all else equal.
    training_images
        Training images with which the target is met at the required confidence.
    """

    repeats: int | None
    test_images: int | None
    training_images: int | None

    def __str__(self) -> str:
        """List the ways, the cheapest first."""
        ways = [
            f"{self.repeats:,} repeats" if self.repeats else "",
            f"{self.test_images:,} test images" if self.test_images else "",
            f"{self.training_images:,} training images" if self.training_images else "",
        ]
        return ", or ".join(way for way in ways if way) or "a backbone with a better score"


def deciding_advice(
    outcomes: Outcomes, curve: LearningCurve, target: float, available: int, confidence: float
) -> DecidingAdvice:
    """Return what would narrow the interval enough, or raise the score.

    The variance of the projected score is split into the luck of the test images, that of the
    repeats, and the rest; each of the first two shrinks with its own number.
    """
    low, high = curve.interval(available, LEVEL)
    variance = ((high - low) / 2 / _quantile(LEVEL)) ** 2
    wanted = ((curve.predict(available) - target) / ndtri(confidence)) ** 2
    luck = float(outcomes.test_covariance[-1, -1])
    repeats = len(outcomes.scores[-1])
    spread = float(np.var(outcomes.scores[-1], ddof=1)) if repeats > 1 else 0.0
    training = max(spread - float(outcomes.split_variance[-1]), 0.0) / repeats
    enough = curve.required_interval(target, 2 * confidence - 1).high
    return DecidingAdvice(
        repeats=_scaled(repeats, training, variance, wanted, most=1000),
        test_images=_scaled(outcomes.n_test, luck, variance, wanted, most=1_000_000),
        training_images=int(enough) if enough <= 100 * available else None,
    )


def _scaled(now: int, part: float, variance: float, wanted: float, most: int) -> int | None:
    """Return the number that shrinks one part of the variance until the total is as wanted."""
    room = wanted - (variance - part)
    if part <= 0 or room <= 0:
        return None
    needed = math.ceil(now * part / room)
    return needed if now < needed <= most else None


def _quantile(level: float) -> float:
    return float(ndtri((1 + level) / 2))
