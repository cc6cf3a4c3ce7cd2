"""Compute the gain of transfer: a frozen backbone against training from scratch, same images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Final

import numpy as np
from scipy.special import stdtrit

LEVEL: Final = 0.9


@dataclass(frozen=True)
class Gain:
    """Accuracy of frozen features against that of the same architecture from random weights.

    Attributes
    ----------
    images
        Training images of both: the largest common size.
    frozen, scratch
        Mean accuracies over the common repeats.
    gain
        Their difference.
    low, high
        Its 90 % interval; None with a single repeat, from which no variance can be estimated.
    repeats
        Repeats of both.
    """

    images: int
    frozen: float
    scratch: float
    gain: float
    low: float | None
    high: float | None
    repeats: int


def transfer_gain(
    frozen: Mapping[int, Sequence[float]],
    scratch: Mapping[int, Sequence[float]],
    test_images: int,
) -> Gain | None:
    """Compare the two at the largest training size that was measured for both.

    The repeats' training sets overlap, so the variance of their mean difference is the variance of
    one repeat times (1 / repeats + test images / training images), not / repeats (Nadeau & Bengio
    2003, "Inference for the Generalization Error", Machine Learning 52).

    Parameters
    ----------
    frozen, scratch
        Training size → accuracy of every repeat, on the same splits.
    test_images
        Test images behind each score.

    Returns
    -------
    Gain or None
        None without a common size.

    Examples
    --------
    >>> found = transfer_gain({100: [0.8, 0.82], 200: [0.9, 0.9]}, {100: [0.5, 0.54]}, 40)
    >>> found.images, round(found.gain, 2), found.low < 0.29 < found.high
    (100, 0.29, True)
    """
    common = [size for size in frozen if frozen[size] and scratch.get(size)]
    if not common:
        return None
    size = max(common)
    repeats = min(len(frozen[size]), len(scratch[size]))
    one, other = np.array(frozen[size][:repeats]), np.array(scratch[size][:repeats])
    differences = one - other
    mean = float(differences.mean())
    low = high = None
    if repeats > 1:
        variance = float(differences.var(ddof=1)) * (1.0 / repeats + test_images / size)
        half = float(stdtrit(repeats - 1, (1.0 + LEVEL) / 2.0)) * sqrt(variance)
        low, high = max(mean - half, -1.0), min(mean + half, 1.0)
    return Gain(size, float(one.mean()), float(other.mean()), mean, low, high, repeats)
