"""Check the input of the fit of a learning curve; every error names the wrong value."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pytest_datasize.curve.laws import LAWS, FloatArray


def checked_points(
    sizes: Sequence[int], scores: Sequence[Sequence[float]], bounds: tuple[float, float]
) -> tuple[FloatArray, list[FloatArray]]:
    """Return the training sizes, and the scores of each, as arrays.

    Raises
    ------
    ValueError
        There are fewer than three sizes, a size without scores, or a score outside its bounds.
    """
    if not bounds[0] < bounds[1]:
        raise ValueError(f"bounds must be (low, high) with low < high, got {bounds}")
    n = np.asarray(sizes, dtype=float)
    if n.ndim != 1 or len(n) != len(scores):
        raise ValueError(
            f"one list of scores per training size, got {n.size} sizes and {len(scores)} lists"
        )
    if not (np.isfinite(n).all() and (n >= 1).all() and (n == np.round(n)).all()):
        raise ValueError(f"training sizes are whole numbers from 1, got {list(sizes)}")
    if len(n) < 3 or len(set(n.tolist())) < len(n):
        raise ValueError(f"a learning curve needs 3 or more different sizes, got {list(sizes)}")
    runs = [np.atleast_1d(np.asarray(s, dtype=float)) for s in scores]
    for size, run in zip(sizes, runs, strict=True):
        if run.ndim != 1 or run.size == 0:
            raise ValueError(f"size {size} needs a list of one score or more, got {run.tolist()}")
        if not np.isfinite(run).all():
            raise ValueError(f"scores must be finite, got {run.tolist()} at size {size}")
        if run.min() < bounds[0] or run.max() > bounds[1]:
            raise ValueError(
                f"scores must lie in bounds={bounds}, got {run.tolist()} at size {size}"
            )
    return n, runs


def check_options(
    n: FloatArray, n_test: int | None, law: str, pool: int | None, level: float
) -> None:
    """Check the law, the numbers of images and the level of a fit.

    Raises
    ------
    ValueError
        The law is unknown, or a number is out of its range.
    """
    if law not in LAWS:
        raise ValueError(f"unknown law {law!r}; choose one of {', '.join(LAWS)}")
    if n_test is not None and n_test < 1:
        raise ValueError(f"n_test must be a positive number of test items or None, got {n_test}")
    if pool is not None and pool < n.max():
        raise ValueError(f"pool={pool} is smaller than the largest training size {int(n.max())}")
    check_level(level)


def check_level(level: float) -> None:
    """Check that the level of an interval is a probability.

    Raises
    ------
    ValueError
        It is not between 0 and 1.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie between 0 and 1, got {level}")


def checked_covariance(
    name: str, covariance: ArrayLike | None, order: NDArray[np.intp]
) -> FloatArray | None:
    """Return a covariance as an array, in the order of ascending sizes.

    Raises
    ------
    ValueError
        It has another shape, or is not a covariance.
    """
    if covariance is None:
        return None
    matrix = np.asarray(covariance, dtype=float)
    k = len(order)
    if matrix.shape != (k, k) or not np.allclose(matrix, matrix.T):
        raise ValueError(f"{name} must be a symmetric {k} x {k} matrix, got shape {matrix.shape}")
    if np.linalg.eigvalsh(matrix)[0] < -1e-9 * max(float(np.trace(matrix)), 1e-300):
        raise ValueError(f"{name} must be positive semidefinite")
    return matrix[np.ix_(order, order)]
