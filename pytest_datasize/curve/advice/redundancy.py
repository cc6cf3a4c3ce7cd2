"""Estimate the effective number of images in a pool with near-duplicates.

There are two numbers. The number of *different* images is counted: each group of near-duplicates
once. What near-duplicates add is measured, by Kish 1965, "Survey Sampling": a group of m images
whose values have an intraclass correlation r is worth m / (1 + (m - 1) r) independent ones, from m
(r = 0: as different as any) to one (r = 1: identical). The value of an image here is the
probability that models not trained on it or its near-duplicates give its label, relative to the
mean of its class. So the number is that of independent images with equal information about the
score.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.curve.seeds import Purpose, stream

LEAST_GROUPS: Final = 10
"""With fewer groups of near-duplicates the correlation is not estimated; only bounds are given."""

_DRAWS: Final = 1000
_ENDS: Final = (0.05, 0.95)


@dataclass(frozen=True)
class Redundancy:
    """Redundancy of a pool.

    Attributes
    ----------
    images
        Images of the pool, exact copies counted once.
    different
        The same with near-duplicates counted once. A count of those found, so without interval.
    effective, low, high
        Effective number of independent images, and the 90 % interval; between ``different``
        and ``images``.
    measured
        Whether the correlation was measured; if not, near-duplicates add nothing to ``effective``
        and the interval spans all possible values.
    """

    images: int
    different: int
    effective: float
    low: float
    high: float
    measured: bool


def redundancy(
    near: NDArray[np.int64],
    labels: NDArray[np.int64],
    values: NDArray[np.floating],
    seed: int = 0,
) -> Redundancy:
    """Count different images, and measure what their near-duplicates add.

    Parameters
    ----------
    near
        Group number of every image; images with equal numbers are near-duplicates, shape (N,).
    labels
        Classes, shape (N,).
    values
        Held-out probability of an image's own label, shape (N,); NaN for an image that was never
        held out.
    seed
        Seed of the bootstrap over groups.

    Examples
    --------
    >>> near = np.repeat(np.arange(40), 2)
    >>> values = np.random.default_rng(0).random(40)
    >>> found = redundancy(near, np.zeros(80, int), np.repeat(values, 2))
    >>> found.different, round(found.effective)
    (40, 40)
    """
    _, group, sizes = np.unique(near, return_inverse=True, return_counts=True)
    images, different = len(near), len(sizes)
    several = np.flatnonzero(sizes > 1)
    if not len(several):
        return Redundancy(images, images, images, images, images, measured=True)
    known = np.isfinite(values)
    centred = _centred(labels[known], values[known])
    spread = float((centred**2).sum()) / max(len(centred), 1)
    within, freedom = _within(group[known], centred, different)
    used = several[freedom[several] > 0]
    if len(used) < LEAST_GROUPS or spread == 0.0:
        return Redundancy(images, different, different, different, images, measured=False)
    chosen = stream(seed, Purpose.REDUNDANCY).integers(0, len(used), (_DRAWS, len(used)))
    drawn = within[used][chosen].sum(axis=1) / freedom[used][chosen].sum(axis=1)
    variances = [within[used].sum() / freedom[used].sum(), *np.quantile(drawn, _ENDS)]
    effective, low, high = (
        float(_worth(sizes, np.clip(1.0 - variance / spread, 0.0, 1.0))) for variance in variances
    )
    return Redundancy(images, different, effective, low, high, measured=True)


def _centred(labels: NDArray[np.int64], values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return values relative to the mean of their class."""
    counts = np.bincount(labels)
    means = np.bincount(labels, values) / np.maximum(counts, 1)
    return np.asarray(values - means[labels])


def _within(
    group: NDArray[np.int64], values: NDArray[np.floating], groups: int
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return the sum of squares within groups, and its degrees of freedom."""
    counts = np.bincount(group, minlength=groups)
    means = np.bincount(group, values, groups) / np.maximum(counts, 1)
    squares = np.bincount(group, (values - means[group]) ** 2, groups)
    return np.asarray(squares), np.maximum(counts - 1.0, 0.0)


def _worth(sizes: NDArray[np.int64], likeness: float) -> float:
    """Return Kish's effective number of images."""
    return float((sizes / (1.0 + (sizes - 1.0) * likeness)).sum())
