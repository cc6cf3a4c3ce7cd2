"""How many images a pool is worth, given that some are nearly the same as others there.

Two numbers. How many *different* images there are is counted: each group of near-copies once. What
the copies add is measured: Kish 1965, "Survey Sampling": a group of m images whose values have an
intraclass correlation r is worth m / (1 + (m - 1) r) independent ones, from m (r = 0: as different
as any) to one (r = 1: the same again). The value of an image here is the probability that models
which have not seen it, nor its copies, give its label, relative to the mean of its class; so the
number says how many independent images would tell as much about the score.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.curve.seeds import Purpose, stream

LEAST_GROUPS: Final = 10
"""With fewer groups of copies their likeness is not estimated, and the interval is all there is."""

_DRAWS: Final = 1000
_ENDS: Final = (0.05, 0.95)


@dataclass(frozen=True)
class Redundancy:
    """How much of a pool says the same again.

    Attributes
    ----------
    images
        Images of the pool, exact copies counted once.
    different
        The same with near-copies counted once. A count of what was found, so without interval.
    effective, low, high
        Independent images that the pool is worth, and the 90 % interval; between ``different``
        and ``images``.
    measured
        Whether the likeness of copies was measured; if not, they count as worth nothing and the
        interval spans all that is possible.
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
    """Count different images, and measure what their near-copies add.

    Parameters
    ----------
    near
        Images with one number are nearly the same, shape (N,).
    labels
        Classes, shape (N,).
    values
        Held-out probability of an image's own label, shape (N,); not a number where an image was
        never held out.
    seed
        Of the bootstrap over groups.

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
    apart = _apart(labels[known], values[known])
    spread = float((apart**2).sum()) / max(len(apart), 1)
    within, freedom = _within(group[known], apart, different)
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


def _apart(labels: NDArray[np.int64], values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Values relative to the mean of their class."""
    counts = np.bincount(labels)
    means = np.bincount(labels, values) / np.maximum(counts, 1)
    return np.asarray(values - means[labels])


def _within(
    group: NDArray[np.int64], values: NDArray[np.floating], groups: int
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Squared deviations from the mean of each group, and their degrees of freedom."""
    counts = np.bincount(group, minlength=groups)
    means = np.bincount(group, values, groups) / np.maximum(counts, 1)
    squares = np.bincount(group, (values - means[group]) ** 2, groups)
    return np.asarray(squares), np.maximum(counts - 1.0, 0.0)


def _worth(sizes: NDArray[np.int64], likeness: float) -> float:
    """Kish's effective number of images."""
    return float((sizes / (1.0 + (sizes - 1.0) * likeness)).sum())
