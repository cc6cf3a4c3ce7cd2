"""Compute the contributions of images to a ratio of means."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> NDArray[np.floating]:
    """Return contributions whose mean is ``numerator.sum() / denominator.sum()``.

    The ratio plus the influence of each image on it (Hampel 1974, "The influence curve and its
    role in robust estimation"). A denominator of zero gives zeros.

    Parameters
    ----------
    numerator, denominator
        One value per image, shape (m,).

    Examples
    --------
    >>> ratio(np.array([1, 0]), np.array([1, 3])).tolist()
    [0.625, -0.125]
    """
    over = denominator.mean() if len(denominator) else 0.0
    if not over:
        return np.zeros(len(denominator))
    whole = numerator.mean() / over
    found: NDArray[np.floating] = whole + (numerator - whole * denominator) / over
    return found
