"""Compute the contribution of every test image to its trial's score, over all trials of one size.

The influence of an image on a metric of classes is its deviation from the rest of its class. In a
test split with one image of a rare class there is no rest: centred within the split, the
influence is zero, and so is the sampling variance computed from it. A ratio such as F1 is biased on
few images: with one or two test images of a class its mean over the splits lies up to four points
below its value on many. So for small splits the trials of one size are scored together: the
metric of all their test images, and the influence of each image on that.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Contribute: TypeAlias = Callable[[NDArray[Any], NDArray[Any]], NDArray[np.floating]]
"""A metric of :mod:`pytest_datasize.curve.metrics`; of several classes, an array (C, m)."""

MANY: Final = 30
"""Least test images per class for a split to be scored alone: with this number, a deviation from
the mean is too small by 2 %, and F1 is biased by less than that."""


def contributions(
    contribute: Contribute,
    truth: NDArray[Any],
    tested: Sequence[NDArray[np.int64]],
    predicted: Sequence[NDArray[Any]],
    shown: NDArray[np.bool_],
    unbiased: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> list[NDArray[np.floating]]:
    """Return one array per repeat whose mean is the repeat's score.

    Parameters
    ----------
    contribute
        A metric that returns one contribution per test image.
    truth
        True label of every image, N rows.
    tested
        Per repeat: rows of its test images.
    predicted
        Per repeat: predictions for them, m rows. There may be fewer repeats than in ``tested``.
    shown
        Whether an image counts for a class, bool (N, C): small splits have few images of one.
    unbiased
        Whether the metric's mean over small splits is its value on many images, as for every
        average over images or pairs of images: the scores of the repeats are then their own, and
        only the deviations of the images come from all of them.
    bounds
        Range of the metric.

    Examples
    --------
    >>> from pytest_datasize.curve.metrics.classification import balanced_accuracy
    >>> rows = [np.array([0, 2]), np.array([1, 3])]  # one image of each class in each split
    >>> hit, miss = np.array([[0.9, 0.1], [0.1, 0.9]]), np.array([[0.1, 0.9], [0.1, 0.9]])
    >>> labels = np.array([0, 0, 1, 1])
    >>> found = contributions(balanced_accuracy, labels, rows, [hit, miss], np.eye(2)[labels] > 0)
    >>> [values.tolist() for values in found]  # the images of class 0 differ, those of 1 do not
    [[1.25, 0.75], [0.25, 0.75]]
    """
    rows = list(tested[: len(predicted)])
    pairs = [(truth[own], p) for own, p in zip(rows, predicted, strict=True)]
    alone = all(np.array_equal(own, rows[0]) for own in rows[1:])
    fewest = min(int(shown[own].sum(axis=0).min()) for own in rows)
    if alone or fewest >= MANY:
        return [contribute(own, p) for own, p in pairs]
    together = contribute(truth[np.concatenate(rows)], np.concatenate(list(predicted)))
    parts = np.split(together, np.cumsum([len(own) for own in rows])[:-1], axis=-1)
    if not unbiased:
        return [part + (np.clip(_mean(part), *bounds) - _mean(part)) for part in parts]
    return [
        part + (_mean(contribute(own, p)) - _mean(part))
        for part, (own, p) in zip(parts, pairs, strict=True)
    ]


def _mean(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the score, or that of each class, (C, 1)."""
    found: NDArray[np.floating] = values.mean(axis=-1, keepdims=values.ndim > 1)
    return found
