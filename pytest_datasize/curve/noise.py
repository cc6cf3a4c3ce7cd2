"""Estimate the K x K covariance of the mean scores at K training sizes.

Usual error bars show the variance between repeats. Two more kinds of luck (sampling variance) move
all sizes together and do not show in the repeats' spread, so a bootstrap misses them: the *test
set* is one draw of items, and a *finite pool* is one draw of images that all repeats share.
Everything is on the working scale of :mod:`pytest_datasize.curve.laws` (delta method), where
deviations are relative errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from pytest_datasize.curve.laws import FloatArray, LogScale, Scale

_VARIANCE_DECAY: Final = 1.0
"""Variance of a run on the working scale falls like n to minus this power: a sum over images."""

_POOL_SHARED: Final = 0.5
"""Share of the sampling variance of a finite pool that is common to all sizes."""

_LEAST_LEFT: Final = 0.1
"""Least unused share of a pool in the formulas: nearer the whole pool, all runs are the same."""

_PRIOR_RUNS: Final = 3.0
"""Weight of the smooth variance, in additional runs at every size."""

_UNKNOWN_DEVIATION: Final = 0.1
"""Deviation of a run if there are neither repeats nor a number of test items."""

_TINY: Final = 1e-8
"""Least variance: scores without any spread still give an invertible covariance."""


def means_covariance(
    sizes: FloatArray,
    scores: Sequence[FloatArray],
    scale: Scale,
    *,
    n_test: int | None,
    pool: int | None,
    replacement: bool = False,
    bounds: tuple[float, float],
    test_covariance: FloatArray | None,
    train_covariance: FloatArray | None,
    split_variance: FloatArray | None,
) -> FloatArray:
    """Return the covariance of the mean scores on the working scale, shape (K, K).

    Parameters
    ----------
    sizes : array, shape (K,)
        Training sizes, ascending.
    scores : sequence of K arrays
        Repeats at every size.
    scale : Scale
        Working scale of the law.
    n_test, pool : int or None
        Test items behind the scores; images in the pool that all repeats are drawn from.
    replacement : bool
        Whether they are drawn with replacement: then no repeat is the whole pool.
    bounds : (float, float)
        Range of the score; the binomial formula needs it finite.
    test_covariance, train_covariance : array, shape (K, K), or None
        Covariances of the means (in scores, not working scale) that replace the formulas.
    split_variance : array, shape (K,), or None
        Part of the variance between repeats due to their different test splits.
    """
    means = np.array([s.mean() for s in scores])
    slope = scale.slope(means)
    slopes = np.outer(slope, slope)
    binomial = None if n_test is None else _binomial(means, n_test, bounds, slopes)
    shared = None if replacement else pool  # at its size all repeats are the same images
    run = _run_variance(sizes, scores, slope, scale, binomial, shared, split_variance)

    if train_covariance is not None:
        covariance = train_covariance * slopes
    elif pool is not None:
        covariance = _pool_covariance(sizes, scores, run, pool, replacement)
    else:
        covariance = _repeat_covariance(scores, run, slope)

    if test_covariance is not None:
        covariance = covariance + _test_luck(test_covariance * slopes)
    elif binomial is not None:
        # Items on which repeats disagree (churn) are already in the repeats' variance; repeats that
        # vary by far more than the test set explains probably had different test sets.
        churn = run[-1] / binomial[-1, -1]
        covariance = covariance + _test_luck(binomial) / (1.0 + churn) ** 2
    return covariance + _TINY * np.eye(len(means))


def _test_luck(covariance: FloatArray) -> FloatArray:
    """Split the luck of the test images into that of the largest size and a random walk.

    Most of it is common to all sizes. Converted to the working scale with slopes at the observed
    means, it is larger where the mean is worse. Least squares would then explain a common deviation
    by a curve that lies on one side of all its points (Peelle's pertinent puzzle: R. W. Peelle
    1987; G. D'Agostini, NIM A 346, 1994). So it is written as one common deviation, which moves
    only the level, and a random walk from the largest size down for the rest.
    """
    common = covariance[-1, -1]
    unshared = np.maximum(np.diag(covariance) + common - 2.0 * covariance[-1], 0.0)
    walk = np.maximum.accumulate(unshared[::-1])[::-1]
    luck: FloatArray = common + np.minimum.outer(walk, walk)
    return luck


def _binomial(
    means: FloatArray, n_test: int, bounds: tuple[float, float], slopes: FloatArray
) -> FloatArray | None:
    """Return the test-set luck, if errors of better models are nested in those of worse ones."""
    low, high = bounds
    if not np.isfinite(high - low):
        return None
    share = ((high - means) / (high - low) * n_test + 0.5) / (n_test + 1.0)
    small, large = np.minimum.outer(share, share), np.maximum.outer(share, share)
    return slopes * (high - low) ** 2 * small * (1.0 - large) / n_test


def _run_variance(
    sizes: FloatArray,
    scores: Sequence[FloatArray],
    slope: FloatArray,
    scale: Scale,
    binomial: FloatArray | None,
    pool: int | None,
    split_variance: FloatArray | None,
) -> FloatArray:
    """Return the variance of one run per size: its own estimate, shrunk to a smooth one."""
    # Repeats on the whole pool share all images: they carry no data on the luck of images.
    freedom = np.array(
        [0.0 if n == pool else len(s) - 1.0 for n, s in zip(sizes, scores, strict=True)]
    )
    spread = np.array([s.var(ddof=1) if len(s) > 1 else 0.0 for s in scores])
    own = (spread if split_variance is None else spread - split_variance) * slope**2
    trend = (sizes[-1] / sizes) ** _VARIANCE_DECAY
    if pool is not None:
        # the images that two runs of one pool share do not show in their spread
        left = np.maximum(1.0 - sizes / pool, _LEAST_LEFT)
        own, freedom = own / left, freedom * left**2
    if freedom.sum() > 0.0:
        level = max(float(freedom @ (own / trend) / freedom.sum()), 0.0)
    elif binomial is not None:
        level = float(binomial[-1, -1])
    else:
        level = _UNKNOWN_DEVIATION**2
    resolution = 0.5 * scale.offset * slope if isinstance(scale, LogScale) else 0.0
    drawn = (_PRIOR_RUNS * level * trend + freedom * own) / (_PRIOR_RUNS + freedom)
    variance: FloatArray = np.maximum(drawn, 0.0) + resolution**2 + _TINY
    return variance


def _repeat_covariance(
    scores: Sequence[FloatArray], run: FloatArray, slope: FloatArray
) -> FloatArray:
    """Covariance of independent repeats; repeat i of all sizes may share its split or images."""
    runs = np.array([len(s) for s in scores])
    deviation = np.sqrt(run / runs)
    shared = 0.0
    if runs[0] > 1 and (runs == runs[0]).all():
        residuals = np.stack([s - s.mean() for s in scores]) * (slope / np.sqrt(run))[:, None]
        products = residuals @ residuals.T / (runs[0] - 1)
        k = len(runs)
        shared = float(np.clip((products.sum() - np.trace(products)) / (k * (k - 1)), 0.0, 0.95))
    correlation = shared + (1.0 - shared) * np.eye(len(runs))
    return correlation * np.outer(deviation, deviation)


def _pool_covariance(
    sizes: FloatArray, scores: Sequence[FloatArray], run: FloatArray, pool: int, replacement: bool
) -> FloatArray:
    """Covariance of repeats drawn from one pool, which is itself a sample.

    A score that is a sum over training images splits into the luck of the pool, equal at every
    size, and a rest. Without replacement, the rest vanishes when the whole pool is used:
    every repeat is then the same run. With replacement, repeats stay independent given the
    pool, and the rest does not shrink.
    Scores are not exactly such sums, so only a share of the pool's luck is equal at every size. If
    all of it were, the flatness of a curve near the whole pool would count as exact.
    """
    runs = np.array([len(s) for s in scores])
    luck = run[-1] * (sizes[-1] / pool) ** _VARIANCE_DECAY
    if replacement:
        alone = run / runs + (1.0 - _POOL_SHARED) * luck
    else:
        left = np.maximum(1.0 - sizes / pool, 0.0)
        alone = run * left / runs + (1.0 - _POOL_SHARED) * run * (sizes / pool) / runs
    covariance: FloatArray = np.diag(alone) + _POOL_SHARED * luck
    return covariance
