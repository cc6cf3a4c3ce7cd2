"""Compute the contribution of every test image to its trial's score, over all trials of one size.

The influence of an image on a metric of classes is its deviation from the rest of its class. In a
test split with one image of a rare class there is no rest: centred within the split, the
influence is zero, and so is the sampling variance computed from it. A ratio such as F1 is biased on
few images: with one or two test images of a class its mean over the splits lies up to four points
below its value on many. So for small splits the trials of one size are scored together: the
metric of all their test images, and the influence of each image on that.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Contribute: TypeAlias = Callable[[NDArray[np.int64], NDArray[np.floating]], NDArray[np.floating]]
"""A metric of :mod:`pytest_datasize.curve.metrics` that returns one array."""

MANY: Final = 30
"""Least test images per class for a split to be scored alone: with this number, a deviation from
the mean is too small by 2 %, and F1 is biased by less than that."""


def contributions(
    contribute: Contribute,
    labels: NDArray[np.int64],
    tested: Sequence[NDArray[np.int64]],
    probabilities: Sequence[NDArray[np.floating]],
    unbiased: bool = False,
) -> list[NDArray[np.floating]]:
    """Return one array per repeat whose mean is the repeat's score.

    Parameters
    ----------
    contribute
        A metric that returns one contribution per test image.
    labels
        Class of every image, shape (N,).
    tested
        Per repeat: rows of its test images.
    probabilities
        Per repeat: predictions for them, shape (m, C). There may be fewer repeats than in
        ``tested``.
    unbiased
        Whether the metric's mean over small splits is its value on many images, as for every
        average over images or pairs of images: the scores of the repeats are then their own, and
        only the deviations of the images come from all of them.

    Examples
    --------
    >>> from pytest_datasize.curve.metrics import balanced_accuracy
    >>> rows = [np.array([0, 2]), np.array([1, 3])]  # one image of each class in each split
    >>> hit, miss = np.array([[0.9, 0.1], [0.1, 0.9]]), np.array([[0.1, 0.9], [0.1, 0.9]])
    >>> found = contributions(balanced_accuracy, np.array([0, 0, 1, 1]), rows, [hit, miss])
    >>> [values.tolist() for values in found]  # the images of class 0 differ, those of 1 do not
    [[1.25, 0.75], [0.25, 0.75]]
    """
    pairs = [(labels[rows], p) for rows, p in zip(tested, probabilities, strict=False)]
    alone = all(np.array_equal(rows, tested[0]) for rows in tested[1 : len(pairs)])
    classes = probabilities[0].shape[1]
    fewest = min(int(np.bincount(own, minlength=classes).min()) for own, _ in pairs)
    if alone or fewest >= MANY:
        return [contribute(own, p) for own, p in pairs]
    together = contribute(
        np.concatenate([o for o, _ in pairs]), np.concatenate([p for _, p in pairs])
    )
    parts = np.split(together, np.cumsum([len(own) for own, _ in pairs])[:-1])
    if not unbiased:
        return [part + (np.clip(part.mean(), 0.0, 1.0) - part.mean()) for part in parts]
    return [
        part + (contribute(own, p).mean() - part.mean())
        for part, (own, p) in zip(parts, pairs, strict=True)
    ]
