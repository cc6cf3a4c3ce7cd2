"""Bound the Bayes error by nearest neighbours: a second opinion on a target that is out of reach.

The Bayes error is the share of images that the best possible classifier gets wrong. Cover & Hart
1967 ("Nearest Neighbor Pattern Classification", IEEE Trans. Inf. Theory 13) bound it on both sides
by the error of the nearest neighbour with unlimited images. Renggli et al. 2023 ("Automatic
Feasibility Study via Data Quality Analysis for ML", ICDE: Snoopy) take the smallest bound over
several embeddings, since every embedding can only lose information. Nothing is trained.

Two things can make the bound too pessimistic: the embedding loses what separates the classes, or
the neighbours are still far away because there are few images. Because of the first, reports say
"in this embedding". The second shows in the error among half of the images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from pytest_datasize.curve.advice.neighbour_errors import NeighbourError
from pytest_datasize.curve.advice.neighbours import share_interval

DOUBLINGS: Final = 10
"""Doublings of the images over which a falling error is continued: to 1,024 times as many."""


@dataclass(frozen=True)
class Bound:
    """Bounds of the Bayes error from the best of several embeddings.

    Attributes
    ----------
    best
        The embedding with the smallest error.
    error, error_low, error_high
        Its error, which the Bayes error does not exceed. The 90 % interval holds for all
        embeddings together.
    least, least_low, least_high
        Lower bound of the Bayes error, and its interval. The lower end assumes that the error falls
        once more by as much as in the last doubling of the images, as neighbours come nearer.
    later
        The lower end if an error that surely falls keeps falling, see :data:`DOUBLINGS`.
    """

    best: NeighbourError
    error: float
    error_low: float
    error_high: float
    least: float
    least_low: float
    least_high: float
    later: float


def cover_hart(error: float, classes: int) -> float:
    """Return the lower bound of the Bayes error for an error of the nearest neighbour.

    Cover & Hart 1967: with unlimited images, the error e of the nearest neighbour and the Bayes
    error b of k classes satisfy b ≤ e ≤ b (2 - b k / (k - 1)). The second inequality is solved for
    b here. It is an equation where all classes but the right one are equally probable, as with
    labels that are wrong at random.

    Parameters
    ----------
    error
        Error of the nearest neighbour, 0 to 1.
    classes
        Number of classes, at least 2.

    Examples
    --------
    >>> cover_hart(0.0, 10), cover_hart(0.5, 2), cover_hart(0.9, 10)
    (0.0, 0.5, 0.9)
    >>> wrong = 0.2  # a fifth of the labels of ten classes, at random
    >>> neighbour = 2 * wrong - wrong**2 * 10 / 9
    >>> round(cover_hart(neighbour, 10), 6)
    0.2
    """
    most = (classes - 1) / classes
    return most * (1.0 - float(np.sqrt(max(0.0, 1.0 - error / most))))


def bound(found: Sequence[NeighbourError], classes: int, level: float = 0.9) -> Bound:
    """Return the bounds of the Bayes error from the errors in several embeddings.

    The smallest of several errors is small partly by chance, so the level of every interval is
    corrected for their number (Bonferroni).

    Parameters
    ----------
    found
        Errors in one embedding or more.
    classes
        Number of classes.
    level
        Probability of the interval.

    Raises
    ------
    ValueError
        There is no embedding.

    Examples
    --------
    >>> one = NeighbourError("last layer", 0.1, 400, drop=0.0, drop_low=-0.01, drop_high=0.01)
    >>> seen = bound([one], classes=2)
    >>> round(seen.error_low, 2), round(seen.error_high, 2), round(seen.least, 3)
    (0.08, 0.13, 0.053)
    """
    best = min(found, key=lambda one: one.error)
    each = 1.0 - (1.0 - level) / len(found)
    ends = [share_interval(one.error * one.worth, one.worth, each) for one in found]
    low, high = min(low for low, _ in ends), min(high for _, high in ends)
    nearer = min(low - max(one.drop_high, 0.0) for one, (low, _) in zip(found, ends, strict=True))
    falling = best.drop * DOUBLINGS if best.drop_low > 0.0 else 0.0
    return Bound(
        best=best,
        error=best.error,
        error_low=low,
        error_high=high,
        least=cover_hart(best.error, classes),
        least_low=cover_hart(max(nearer, 0.0), classes),
        least_high=cover_hart(high, classes),
        later=cover_hart(max(min(nearer, low - falling), 0.0), classes),
    )
