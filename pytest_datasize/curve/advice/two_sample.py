"""Test whether two sets of images come from one distribution: a classifier two-sample test.

Lopez-Paz & Oquab 2017, "Revisiting Classifier Two-Sample Tests", ICLR: if pool and deployment are
alike, no classifier trained to distinguish them is better than chance on images it has not seen.
Gretton et al. 2012, "A Kernel Two-Sample Test", JMLR 13: the maximum mean discrepancy, also given.

Scores of cross-validation are not independent, so a binomial p-value would be wrong. The
classifier here is a ridge regression, whose held-out scores are a fixed matrix times the labels:
all permutations of the labels are trained and cross-validated anew at the cost of one matrix
product, and the p-value is exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.curve.seeds import Purpose, stream

BoolArray = np.ndarray[Any, np.dtype[np.bool_]]

MOST: Final = 1500
"""Most images of each side in the comparison; of more, a random sample is drawn."""

PERMUTATIONS: Final = 999

_NORMAL: Final = 1.645
"""Half the width of a normal 90 % interval, in deviations."""

_FOLDS: Final = 5
_RIDGE: Final = 1.0
"""Strength of the ridge, in mean variances of a feature's row."""


@dataclass(frozen=True)
class TwoSample:
    """How well a classifier distinguishes two sets of images.

    Attributes
    ----------
    accuracy, accuracy_low, accuracy_high
        Balanced accuracy on images that it was not trained on, and its 90 % interval; 0.5 is
        chance.
    auc, auc_low, auc_high
        Probability that an image of the second set scores more like the second than one of the
        first does, and its 90 % interval: the effect size; 0.5 is no effect.
    p_value
        Probability of so high an accuracy if both are from one distribution.
    mmd
        Squared maximum mean discrepancy (unbiased; Gaussian kernel, median distance).
    mmd_p_value
        Probability of so large a discrepancy if both are from one distribution.
    compared
        Images of each set that were compared.
    """

    accuracy: float
    accuracy_low: float
    accuracy_high: float
    auc: float
    auc_low: float
    auc_high: float
    p_value: float
    mmd: float
    mmd_p_value: float
    compared: tuple[int, int]


def compare(
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    seed: int = 0,
    permutations: int = PERMUTATIONS,
) -> TwoSample:
    """Compare the embeddings of two sets of images.

    Parameters
    ----------
    first, second
        Embeddings, shapes (N, D) and (M, D), at least 10 each.
    seed
        Seed of the folds, the permutations and the sample of large sets.
    permutations
        Number of permutations for the p-values; the least p-value is 1 / (1 + this).

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> one, other = generator.standard_normal((2, 60, 8))
    >>> compare(one, other).p_value > 0.05
    True
    >>> compare(one, other + 1.0).p_value
    0.001
    """
    generator = stream(seed, Purpose.TWO_SAMPLE)
    parts = [_drawn(part, generator) for part in (first, second)]
    n, m = (len(part) for part in parts)
    rows = unit(np.concatenate(parts))
    is_second = np.arange(n + m) >= n
    permuted = np.stack(
        [is_second, *(generator.permutation(is_second) for _ in range(permutations))], axis=1
    )
    held_out = _held_out_scores(rows, permuted, generator)
    accuracies = _balanced_accuracy(held_out, permuted)
    discrepancies = _mmd(rows, permuted)
    auc, error = _auc(held_out[:, 0], is_second)
    spread = _NORMAL * _spread([held_out[:n, 0] <= 0.0, held_out[n:, 0] > 0.0])
    accuracy = float(accuracies[0])
    return TwoSample(
        accuracy=accuracy,
        accuracy_low=max(accuracy - spread, 0.0),
        accuracy_high=min(accuracy + spread, 1.0),
        auc=auc,
        auc_low=max(auc - _NORMAL * error, 0.0),
        auc_high=min(auc + _NORMAL * error, 1.0),
        p_value=_p_value(accuracies),
        mmd=float(discrepancies[0]),
        mmd_p_value=_p_value(discrepancies),
        compared=(n, m),
    )


def unit(rows: NDArray[np.floating]) -> NDArray[np.floating]:
    """Scale every row to length one, (N, D) float32: only directions are compared."""
    wide = np.asarray(rows, dtype=np.float32)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    scaled: NDArray[np.floating] = wide / np.maximum(length, 1e-12)
    return scaled


def _drawn(rows: NDArray[np.floating], generator: np.random.Generator) -> NDArray[np.floating]:
    if len(rows) <= MOST:
        return rows
    return rows[generator.permutation(len(rows))[:MOST]]


def _held_out_scores(
    rows: NDArray[np.floating], permuted: BoolArray, generator: np.random.Generator
) -> NDArray[np.floating]:
    """Return the cross-validated scores of every image, for all permutations at once.

    The folds do not depend on the labels: only then are all permutations equally likely.
    """
    share = permuted.mean(axis=0)
    targets = np.where(permuted, 1.0 / share, -1.0 / (1.0 - share)).astype(np.float32)
    scores = np.empty(targets.shape, dtype=np.float32)
    fold = generator.permutation(len(rows)) % _FOLDS
    for number in range(_FOLDS):
        train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        centre = rows[train].mean(axis=0)
        known, unknown = rows[train] - centre, rows[test] - centre
        kernel = known @ known.T
        ridge = _RIDGE * float(np.trace(kernel)) / len(train)
        kernel[np.diag_indices(len(train))] += ridge
        wanted = targets[train] - targets[train].mean(axis=0)
        scores[test] = (unknown @ known.T) @ np.linalg.solve(kernel, wanted)
    return scores


def _balanced_accuracy(scores: NDArray[np.floating], permuted: BoolArray) -> NDArray[np.floating]:
    positive = scores > 0.0
    number = permuted.sum(axis=0)
    found = (positive & permuted).sum(axis=0) / number
    spared = (~positive & ~permuted).sum(axis=0) / (len(scores) - number)
    return np.asarray((found + spared) / 2)


def _mmd(rows: NDArray[np.floating], permuted: BoolArray) -> NDArray[np.floating]:
    """Return the unbiased squared discrepancy for every permutation."""
    squared = np.maximum(2.0 - 2.0 * (rows @ rows.T), 0.0)
    some = squared[:: max(1, len(rows) // 500)]
    kernel = np.exp(-squared / (2.0 * max(float(np.median(some)), 1e-12) / 2.0))
    np.fill_diagonal(kernel, 0.0)
    one, other = permuted.astype(np.float32), (~permuted).astype(np.float32)
    towards = kernel @ one
    n, m = one.sum(axis=0), other.sum(axis=0)
    within = (one * towards).sum(axis=0)
    across = (other * towards).sum(axis=0)
    rest = float(kernel.sum(dtype=np.float64)) - within - 2.0 * across
    return np.asarray(
        within / (n * (n - 1.0)) + rest / (m * (m - 1.0)) - 2.0 * across / (n * m),
        dtype=np.float64,
    )


def _p_value(statistics: NDArray[np.floating]) -> float:
    """Return the share of permutations, with the true order, that reach the true order's value."""
    return float((statistics >= statistics[0] - 1e-12).mean())


def _spread(hits: Sequence[BoolArray]) -> float:
    """Return the standard deviation of the mean of two shares of hits."""
    shares = [(one.sum() + 1.0) / (len(one) + 2.0) for one in hits]
    variance = sum(p * (1.0 - p) / len(one) for p, one in zip(shares, hits, strict=True))
    return float(np.sqrt(variance)) / 2.0


def _auc(scores: NDArray[np.floating], is_second: BoolArray) -> tuple[float, float]:
    """Return the area under the ROC curve and its standard error (Hanley & McNeil 1982).

    The error is that of an area to which half a misplaced image was added: perfectly separated sets
    have no spread, but do not prove that no image will ever be misplaced.
    """
    from scipy.stats import rankdata  # slow to import

    m = int(is_second.sum())
    n = len(scores) - m
    area = float((rankdata(scores)[is_second].sum() - m * (m + 1) / 2) / (n * m))
    fewer = min(n, m)
    a = (area * fewer + 0.5) / (fewer + 1.0)
    one, both = a / (2.0 - a), 2.0 * a**2 / (1.0 + a)
    variance = (a * (1.0 - a) + (m - 1) * (one - a**2) + (n - 1) * (both - a**2)) / (n * m)
    return area, float(np.sqrt(max(variance, 0.0)))
