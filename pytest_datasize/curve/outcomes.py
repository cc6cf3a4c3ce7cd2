"""Compute scores and their sampling variance from the per-image outcomes of all trials.

Scores alone do not show how much of their error is common to all sizes because they share test
images. The outcomes of single images do: an image that is hard at one size is hard at the others
too. So the covariance of the mean scores is measured here, image by image. "Luck" means sampling
variance throughout.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.curve.learning_curve import LearningCurve

Scores = tuple[tuple[float, ...], ...]
"""One tuple of repeats per size."""


@dataclass(frozen=True)
class Outcomes:
    """Scores of one metric for all trials of a plan, with their sampling variance.

    Attributes
    ----------
    sizes
        K training sizes, ascending.
    scores
        One tuple of repeats per size.
    n_test
        Different test images behind the scores of one size.
    test_covariance
        Covariance of the K mean scores from the sampling of test images, (K, K).
    split_variance
        Part of the variance between repeats due to their different test images, (K,); zeros if all
        share one test set.
    pool
        Images that all repeats are drawn from; groups, where sizes count groups.
    bounds
        Range of the scores.
    sign
        -1 if lower is better: ``scores`` and ``bounds`` are then negated, since a
        learning curve rises.
    replacement
        Whether the repeats are drawn with replacement.
    """

    sizes: tuple[int, ...]
    scores: Scores
    n_test: int
    test_covariance: NDArray[np.floating]
    split_variance: NDArray[np.floating]
    pool: int
    bounds: tuple[float, float] = (0.0, 1.0)
    sign: int = 1
    replacement: bool = False

    @property
    def given(self) -> Scores:
        """The scores with the metric's own sign."""
        if self.sign > 0:
            return self.scores
        return tuple(tuple(-score for score in repeats) for repeats in self.scores)

    @property
    def given_bounds(self) -> tuple[float, float]:
        """The range of the given scores."""
        low, high = self.bounds
        return (low, high) if self.sign > 0 else (-high, -low)

    def first(self, k: int) -> "Outcomes":
        """Return the outcomes of the k smallest sizes only."""
        return replace(
            self,
            sizes=self.sizes[:k],
            scores=self.scores[:k],
            test_covariance=self.test_covariance[:k, :k],
            split_variance=self.split_variance[:k],
        )

    def curve(self, law: str = "power") -> LearningCurve:
        """Fit the learning curve with the measured noise."""
        return LearningCurve.fit(
            self.sizes,
            self.scores,
            self.n_test,
            law=law,
            pool=self.pool,
            replacement=self.replacement,
            bounds=self.bounds,
            test_covariance=self.test_covariance,
            split_variance=self.split_variance,
        )


def gather(
    sizes: tuple[int, ...],
    contributions: Sequence[Sequence[NDArray[np.floating]]],
    tested: Sequence[NDArray[np.int64]],
    pool: int,
    groups: NDArray[np.int64] | None = None,
    strata: NDArray[np.int64] | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    lower_is_better: bool = False,
) -> Outcomes:
    """Average the contributions of test images, per trial and per image.

    Parameters
    ----------
    sizes
        K training sizes, ascending.
    contributions
        Per size, per repeat: one value per test image whose mean is the score, see
        :mod:`pytest_datasize.curve.metrics`.
    tested
        Per repeat: rows of its test images, in the order of the contributions.
    pool
        Images that all repeats are drawn from.
    groups
        Group of every row, see ``groups`` in :mod:`pytest_datasize.images.image_set`: images
        of one group share their luck, so that groups are counted instead of images.
    strata
        Class of every row, if each repeat's test images have the classes' shares: the scores of the
        repeats then differ only by the luck within classes. Groups cannot be split like that, so
        classes are ignored with groups.
    bounds
        Range of the metric with its own sign; infinite for an open end.
    lower_is_better
        Whether the metric falls as models get better.

    Examples
    --------
    >>> right = np.array([1.0, 1.0, 0.0, 0.0])
    >>> outcomes = gather((10, 20), [[right], [right]], [np.arange(4)], pool=20)
    >>> outcomes.scores, outcomes.n_test
    (((0.5,), (0.5,)), 4)
    >>> bool(outcomes.test_covariance[0, 1] == outcomes.test_covariance[0, 0] > 0)
    True
    >>> two = np.array([0, 0, 1, 1])  # patients, of which one is recognised and one is not
    >>> patients = gather((10, 20), [[right], [right]], [np.arange(4)], pool=20, groups=two)
    >>> bool(patients.test_covariance[0, 0] > 2 * outcomes.test_covariance[0, 0])
    True
    """
    sign = -1 if lower_is_better else 1
    low, high = (-bounds[1], -bounds[0]) if lower_is_better else bounds
    signed = [[sign * values for values in repeats] for repeats in contributions]
    shared = all(np.array_equal(part, tested[0]) for part in tested)
    rows, means = image_means(signed, tested)
    return Outcomes(
        sizes=sizes,
        scores=tuple(
            tuple(float(np.clip(values.mean(), low, high)) for values in repeats)
            for repeats in signed
        ),
        n_test=len(rows),
        test_covariance=mean_covariance(means, None if groups is None else groups[rows], low, high),
        split_variance=np.array(
            [
                0.0 if shared else _split_variance(repeats, tested, groups, strata)
                for repeats in signed
            ]
        ),
        pool=pool,
        bounds=(low, high),
        sign=sign,
    )


def image_covariance(
    contributions: Sequence[Sequence[NDArray[np.floating]]],
    tested: Sequence[NDArray[np.int64]],
    groups: NDArray[np.int64] | None = None,
) -> NDArray[np.floating]:
    """Return the covariance of the K mean scores from the sampling of images, (K, K).

    Parameters
    ----------
    contributions, tested, groups
        See :func:`gather`. Unlike there, nothing is added for few images.

    Examples
    --------
    >>> image_covariance([[np.array([1.0, 0.0])], [np.array([1.0, 1.0])]], [np.arange(2)]).tolist()
    [[0.125, 0.0], [0.0, 0.0]]
    """
    rows, means = image_means(contributions, tested)
    centred = means - means.mean(axis=1, keepdims=True)
    if groups is not None:
        centred, _ = _summed(centred, groups[rows])
    found: NDArray[np.floating] = centred @ centred.T / len(rows) ** 2
    return found


def bare(
    sizes: tuple[int, ...],
    scores: Sequence[Sequence[float]],
    tested: Sequence[NDArray[np.int64]],
    pool: int,
    bounds: tuple[float, float] = (0.0, 1.0),
    lower_is_better: bool = False,
    groups: NDArray[np.int64] | None = None,
) -> Outcomes:
    """Return outcomes for scores without the outcomes of single images.

    The luck of the test images is then not measured but bounded: a mean over images varies most if
    all values are at the ends of its range. Larger sizes are assumed to be right on all images on
    which smaller ones are. If an end of the range is open there is no bound, and the luck of test
    images is left out.

    Parameters
    ----------
    sizes
        K training sizes, ascending.
    scores
        Per size, per repeat: a score within the bounds.
    tested
        Per repeat: rows of its test images.
    pool
        Images that all repeats are drawn from.
    bounds
        Range of the metric with its own sign; infinite for an open end.
    lower_is_better
        Whether the metric falls as models get better.
    groups
        Group of every row, if the test images of a group may all be right or all wrong. Groups are
        then counted instead of images; if their sizes m differ, by Kish's effective number,
        (sum m)^2 / sum m^2 (Kish 1965, "Survey Sampling").

    Examples
    --------
    >>> outcomes = bare((10, 20), [[0.5], [0.5]], [np.arange(100)], 20)
    >>> outcomes.test_covariance.round(4).tolist()
    [[0.0025, 0.0025], [0.0025, 0.0025]]
    >>> bare((10, 20), [[0.5], [0.4]], [np.arange(9)], 20, (0.0, 2.0), True).scores
    ((-0.5,), (-0.4,))
    """
    sign = -1 if lower_is_better else 1
    low, high = (-bounds[1], -bounds[0]) if lower_is_better else bounds
    taken = tuple(tuple(sign * float(score) for score in repeats) for repeats in scores)
    rows = np.unique(np.concatenate(tested))
    n_test = len(rows)
    independent = _independent(rows, groups)
    covariance, split = np.zeros((len(sizes), len(sizes))), np.zeros(len(sizes))
    if np.isfinite(high - low):
        means = np.array([np.mean(repeats) for repeats in taken])
        # half an image right and half an image wrong, as for measured outcomes
        share = ((high - means) / (high - low) * independent + 0.5) / (independent + 1.0)
        small, large = np.minimum.outer(share, share), np.maximum.outer(share, share)
        covariance = (high - low) ** 2 * small * (1.0 - large) / independent
        if not all(np.array_equal(part, tested[0]) for part in tested):
            each = np.mean([_independent(part, groups) for part in tested])
            split = np.diag(covariance) * independent / each
    return Outcomes(sizes, taken, n_test, covariance, split, pool, (low, high), sign)


def _independent(rows: NDArray[np.int64], groups: NDArray[np.int64] | None) -> float:
    """Return a lower bound of the number of independent images among some rows."""
    if groups is None:
        return len(rows)
    counts = np.unique(groups[rows], return_counts=True)[1]
    return float(counts.sum() ** 2 / (counts**2).sum())


def image_means(
    contributions: Sequence[Sequence[NDArray[np.floating]]], tested: Sequence[NDArray[np.int64]]
) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
    """Return the n rows that were tested, and each one's mean contribution at K sizes, (K, n).

    Parameters
    ----------
    contributions, tested
        See :func:`gather`.
    """
    rows = np.unique(np.concatenate(tested))
    places = [np.searchsorted(rows, part) for part in tested]
    means = np.empty((len(contributions), len(rows)))
    for mean, repeats in zip(means, contributions, strict=True):
        sums, counts = np.zeros(len(rows)), np.zeros(len(rows))
        # the whole pool with a fixed test set has one repeat, which tested all rows
        for values, place in zip(repeats, places, strict=False):
            sums[place] += values
            counts[place] += 1
        mean[:] = sums / counts
    return rows, means


def mean_covariance(
    values: NDArray[np.floating], groups: NDArray[np.int64] | None, low: float, high: float
) -> NDArray[np.floating]:
    """Covariance between K mean scores over N images, (K, N) → (K, K), never exactly zero.

    Half an image that is always right and half of one that is always wrong are added (Jeffreys'
    prior, when contributions are hits): a perfect score on few images proves little. Where a score
    has an open end nothing is known of the worst image: one image with the mean deviation of all
    sizes is added instead, which keeps the covariance above zero. With groups,
    the deviations are summed in each group first (the cluster-robust estimate of Liang & Zeger
    1986, with its correction for few groups), and half a group of average size is added.
    """
    n = values.shape[1]
    centred = values - values.mean(axis=1, keepdims=True)
    if np.isfinite(high - low):
        right, wrong = high - values.mean(axis=1), values.mean(axis=1) - low
        half = (np.outer(right, right) + np.outer(wrong, wrong)) / 2
    else:
        deviation = centred.std(axis=1)
        least = np.finfo(np.float64).eps * max(float(np.abs(values).max()), 1e-300)
        half = np.outer(deviation, deviation) + least**2 * np.eye(len(values))
    correction = 1.0
    if groups is not None:
        centred, n_groups = _summed(centred, groups)
        half *= (n / n_groups) ** 2
        correction = n_groups / max(n_groups - 1, 1)
    covariance: NDArray[np.floating] = (correction * centred @ centred.T + half) / n**2
    return covariance


def _summed(
    values: NDArray[np.floating], groups: NDArray[np.int64]
) -> tuple[NDArray[np.floating], int]:
    """Sum the columns of each group: (K, N) → (K, G), and G."""
    _, numbers = np.unique(groups, return_inverse=True)
    n_groups = int(numbers.max()) + 1
    sums: NDArray[np.floating] = np.stack(
        [np.bincount(numbers, row, n_groups).astype(np.float64) for row in values]
    )
    return sums, n_groups


def _split_variance(
    repeats: Sequence[NDArray[np.floating]],
    tested: Sequence[NDArray[np.int64]],
    groups: NDArray[np.int64] | None,
    strata: NDArray[np.int64] | None,
) -> float:
    """Return the variance of a repeat's score due to its test images, pooled over the repeats.

    It is pooled because a rare class may have a single image, or group, in each.
    """
    everything = np.concatenate(repeats)
    if groups is None:
        classes = np.zeros(len(everything), dtype=np.int64)
        if strata is not None:
            rows = np.concatenate(tested[: len(repeats)])
            classes = np.unique(strata[rows], return_inverse=True)[1]
        counts = np.bincount(classes)
        deviations = everything - (np.bincount(classes, everything) / counts)[classes]
        freedom = np.maximum(counts - 1, 1)
        variances = np.bincount(classes, deviations**2) / freedom
        variance = float(counts @ variances / len(everything))
        return float(np.mean([variance / len(values) for values in repeats]))
    mean = everything.mean()
    parts = [
        _summed((values - mean)[None, :], groups[rows])
        for values, rows in zip(repeats, tested, strict=False)
    ]
    seen = sum(n_groups for _, n_groups in parts)
    spread = sum(float((sums**2).sum()) for sums, _ in parts) / max(seen - 1, 1)
    return float(
        np.mean(
            [
                spread * n_groups / len(values) ** 2
                for values, (_, n_groups) in zip(repeats, parts, strict=True)
            ]
        )
    )
