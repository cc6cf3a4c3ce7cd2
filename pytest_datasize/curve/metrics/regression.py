"""Metrics of numbers: the contribution of every test image to a score.

Each metric takes ``(numbers, predicted)``, both of shape (m, K); a score of several numbers is the
mean of theirs. See :mod:`pytest_datasize.curve.metrics.classification` for what contributions are.
"""

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.floating]

_ROUNDING = 1e-12


def mae(numbers: Numbers, predicted: Numbers) -> Numbers:
    """Mean absolute error, in the unit of the numbers; lower is better.

    Examples
    --------
    >>> mae(np.array([[1.0], [2.0]]), np.array([[1.5], [2.0]])).tolist()
    [0.5, 0.0]
    """
    found: Numbers = np.abs(predicted - numbers).mean(axis=1)
    return found


def rmse(numbers: Numbers, predicted: Numbers) -> Numbers:
    """Root of the mean squared error, in the unit of the numbers; lower is better."""
    squares = (predicted - numbers) ** 2
    root = np.sqrt(squares.mean(axis=0))
    influence = (squares - root**2) / np.maximum(2 * root, np.finfo(np.float64).tiny)
    found: Numbers = (root + np.where(root > 0, influence, 0.0)).mean(axis=1)
    return found


def r2(numbers: Numbers, predicted: Numbers) -> Numbers:
    """Coefficient of determination: 1 less the squared errors over the numbers' own variance.

    1 is perfect; 0 is what the mean of the test images' numbers would score. Numbers that are all
    alike have no variance to explain, and score 0.
    """
    squares, centred = (predicted - numbers) ** 2, (numbers - numbers.mean(axis=0)) ** 2
    variance = centred.mean(axis=0)
    some = _varies(numbers, np.sqrt(variance))
    over = np.where(some, variance, 1.0)
    error = squares.mean(axis=0)
    influence = (error * centred / over - squares) / over
    found: Numbers = np.where(some, 1.0 - error / over + influence, 0.0).mean(axis=1)
    return found


def pearson(numbers: Numbers, predicted: Numbers) -> Numbers:
    """Linear correlation of predicted and true numbers; 0 where either does not vary."""
    true, guessed = _standardised(numbers), _standardised(predicted)
    correlation = (true * guessed).mean(axis=0)
    influence = true * guessed - correlation * (true**2 + guessed**2) / 2
    found: Numbers = (correlation + influence).mean(axis=1)
    return found


def _standardised(values: Numbers) -> Numbers:
    centred = values - values.mean(axis=0)
    deviation = np.sqrt((centred**2).mean(axis=0))
    some = _varies(values, deviation)
    found: Numbers = np.where(some, centred / np.where(some, deviation, 1.0), 0.0)
    return found


def _varies(values: Numbers, deviation: Numbers) -> NDArray[np.bool_]:
    """Whether numbers differ by more than rounding: the mean of equal ones need not be theirs."""
    found: NDArray[np.bool_] = deviation > _ROUNDING * np.abs(values).max(axis=0)
    return found
