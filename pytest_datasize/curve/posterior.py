"""Compute the posterior of a learning curve, tabulated over training sizes and probabilities.

On the working scale of :mod:`pytest_datasize.curve.laws`, mean scores are normal given a curve,
and the unknown level at the largest size N is integrated out in closed form. The rest is a sum
over a grid of curves and over how closely real curves follow their law: a mixture of normals
at every size, whose quantiles are stored. Reading score, probability and required size from one
table keeps them consistent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri

from pytest_datasize.curve.laws import FloatArray, Law, Scale

_MISFIT_BACK: Final = 0.10
"""Deviation of a real curve from its law on the working scale, at 1/e of the largest size.

A random walk in the cube of the distance log(N / n): laws are smooth near N and fail far back.
"""

_MISFIT_FORWARD: Final = 0.06
"""The same at e times the largest size; a random walk in the distance itself."""

_MISFIT_FACTORS: Final = (0.25, 0.5, 1.0, 2.0)
"""Misfit factors: some curves follow their law closely, some do not; the data weight them."""

_HORIZON: Final = 20
"""Projections end at 2 to this power times the largest size, a million times the measured sizes.

The score there is the ceiling: a law's own limit needs more images than anyone can collect.
"""

_NEGLIGIBLE: Final = 3e-4
"""Parameter vectors whose posterior weight is below this share of the best are dropped."""

_BINS: Final = 40
"""Number of score bins; curves in the same bin are merged before quantiles are computed."""

NORMAL_SCORES: Final = np.linspace(-4.0, 4.0, 65)
"""Probabilities at which the posterior is tabulated, as quantiles of the normal distribution."""

_ABSCISSAE: Final = np.sinh(np.linspace(-2.5, 2.5, 45))
"""Points at which a mixture's distribution function is evaluated, in standard deviations."""


@dataclass(frozen=True, eq=False)
class PosteriorTable:
    """Quantiles of the true mean score; none decreases with the number of images.

    Attributes
    ----------
    log_sizes : array, shape (M,)
        Logarithms of the numbers of images.
    quantiles : array, shape (M, L)
        Scores at the probabilities of :data:`NORMAL_SCORES`.
    """

    log_sizes: FloatArray
    quantiles: FloatArray


def tabulate_posterior(
    law: Law,
    scale: Scale,
    sizes: FloatArray,
    z: FloatArray,
    covariance: FloatArray,
    bounds: tuple[float, float],
) -> PosteriorTable:
    """Compute the posterior of a law.

    Parameters
    ----------
    law, scale : Law, Scale
        Family of curves, and the working scale it has chosen.
    sizes : array, shape (K,)
        Training sizes, ascending.
    z : array, shape (K,)
        Mean scores on the working scale.
    covariance : array, shape (K, K)
        Their covariance, see :func:`pytest_datasize.curve.noise.means_covariance`.
    bounds : (float, float)
        Range of the score.
    """
    ratios = _node_ratios(sizes[-1])
    mixture = _posterior(law, scale, np.log(sizes / sizes[-1]), z, covariance, ratios)
    quantiles = np.clip(scale.score(_quantiles(mixture)), *bounds)
    quantiles = _never_falling(quantiles, from_node=int(np.argmin(np.abs(ratios))))
    log_sizes = ratios + math.log(sizes[-1])
    for array in (quantiles, log_sizes):
        array.setflags(write=False)
    return PosteriorTable(log_sizes, quantiles)


def level_off(table: PosteriorTable, largest: int) -> PosteriorTable:
    """Keep the median level beyond the largest measured size.

    For a curve that is measured as flat or falling: every law keeps rising, however slowly, and its
    median would meet any target with some millions of images. Quantiles below the median stay
    level, too; those above rise by a share that grows to 1, since nothing is measured there.
    """
    above = table.log_sizes > math.log(largest) + 1e-9
    last = table.quantiles[~above][-1]
    share = np.clip(2.0 * ndtr(NORMAL_SCORES) - 1.0, 0.0, 1.0)
    quantiles = table.quantiles.copy()
    quantiles[above] = np.maximum.accumulate(last + share * (quantiles[above] - last), axis=1)
    quantiles.setflags(write=False)
    return PosteriorTable(table.log_sizes, quantiles)


class _Mixture(NamedTuple):
    """Normal mixtures of z, one for each of M nodes; all arrays are (C, M)."""

    weights: FloatArray
    means: FloatArray
    deviations: FloatArray


class _Fit(NamedTuple):
    """Posterior for one misfit factor, for G curves, M nodes and K sizes."""

    evidence: FloatArray  # (G,), log, unnormalised
    level: FloatArray  # (G,), posterior mean of z(N)
    pull: FloatArray  # (M, K), effect of the sizes' residuals on the nodes
    variance: FloatArray  # (M,), of z at the nodes, the same for all curves


def _posterior(
    law: Law,
    scale: Scale,
    log_ratio: FloatArray,
    z: FloatArray,
    covariance: FloatArray,
    node_ratio: FloatArray,
) -> _Mixture:
    """Return the posterior of z at every node.

    Given a curve of the law and a misfit factor, z is normal, and so is the level z(N), whose flat
    prior is integrated out; each such pair is one component of the mixture.
    """
    residual = z - law.change(log_ratio, scale)
    change = law.change(node_ratio, scale)
    fits = [
        _fit_level(residual, law.log_prior(scale), covariance, factor, log_ratio, node_ratio)
        for factor in _MISFIT_FACTORS
    ]
    best = max(float(fit.evidence.max()) for fit in fits)
    parts = []
    for fit in fits:
        kept = np.flatnonzero(fit.evidence > best + math.log(_NEGLIGIBLE))
        if kept.size:
            level = fit.level[kept, None]
            means = level + change[kept] + (residual[kept] - level) @ fit.pull.T
            weights = np.exp(fit.evidence[kept] - best)
            parts.append(_binned(weights, means, np.sqrt(fit.variance)))
    weights, means, deviations = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _Mixture(weights / weights.sum(axis=0), means, deviations)


def _fit_level(
    residual: FloatArray,
    log_prior: FloatArray,
    covariance: FloatArray,
    factor: float,
    log_ratio: FloatArray,
    node_ratio: FloatArray,
) -> _Fit:
    """Estimate the level z(N) by generalised least squares, and the misfit at the nodes."""
    size_back, node_back = np.maximum(-log_ratio, 0.0), np.maximum(-node_ratio, 0.0)
    misfit = (factor * _MISFIT_BACK) ** 2 * np.minimum.outer(node_back, size_back) ** 3
    total = covariance + (factor * _MISFIT_BACK) ** 2 * np.minimum.outer(size_back, size_back) ** 3
    inverse = np.linalg.inv(total)
    share = inverse.sum(axis=0)
    precision = float(share.sum())
    level = residual @ share / precision
    squares = np.einsum("gk,kl,gl->g", residual, inverse, residual) - precision * level**2
    evidence = log_prior - 0.5 * (squares + np.linalg.slogdet(total)[1] + math.log(precision))

    pull = misfit @ inverse
    ahead = np.maximum(node_ratio, 0.0)
    own = factor**2 * (_MISFIT_BACK**2 * node_back**3 + _MISFIT_FORWARD**2 * ahead)
    left = np.maximum(own - np.sum(pull * misfit, axis=1), 0.0)
    variance = left + (1.0 - pull.sum(axis=1)) ** 2 / precision
    return _Fit(evidence, level, pull, variance)


def _binned(weights: FloatArray, means: FloatArray, deviations: FloatArray) -> _Mixture:
    """Merge normals of equal deviation whose means lie close together, (C, M) -> (bins, M)."""
    low, width = means.min(axis=0), np.ptp(means, axis=0) + 1e-12
    bins = np.minimum(((means - low) / width * _BINS).astype(int), _BINS - 1)
    nodes = means.shape[1]
    cells = (bins * nodes + np.arange(nodes)).ravel()
    spread = np.broadcast_to(weights[:, None], means.shape)

    def summed(values: FloatArray) -> FloatArray:
        sums: FloatArray = np.bincount(cells, values.ravel(), _BINS * nodes).astype(float)
        return sums.reshape(_BINS, nodes)

    mass, moment = summed(spread), summed(spread * means)
    centres = np.where(mass > 0.0, moment / np.maximum(mass, 1e-300), low)
    return _Mixture(mass, centres, np.broadcast_to(deviations, mass.shape))


def _quantiles(mixture: _Mixture) -> FloatArray:
    """Tabulate z of each node at the probabilities of scores, (C, M) -> (M, probabilities)."""
    weights, means, deviations = mixture
    centre = np.sum(weights * means, axis=0)
    spread = np.sqrt(np.sum(weights * (deviations**2 + (means - centre) ** 2), axis=0))
    points = centre + spread * _ABSCISSAE[:, None]
    table = np.empty((len(centre), len(NORMAL_SCORES)))
    for m, z in enumerate(points.T):
        below = weights[:, m] @ ndtr((z - means[:, m, None]) / deviations[:, m, None])
        below = np.clip(np.maximum.accumulate(below), 1e-12, 1.0 - 1e-12)
        table[m] = np.interp(-NORMAL_SCORES, ndtri(below), z)  # a score's quantiles fall with z
    return table


def _never_falling(quantiles: FloatArray, from_node: int) -> FloatArray:
    """Make quantiles non-decreasing in images; the one at N, known best, bounds the others."""
    below = np.minimum.accumulate(quantiles[from_node::-1], axis=0)[::-1]
    above = np.maximum.accumulate(quantiles[from_node:], axis=0)
    return np.concatenate([below[:-1], above])


def _node_ratios(largest: float) -> FloatArray:
    """Logarithms of n / N at which the posterior is tabulated: from one image to the horizon."""
    octave = math.log(2.0)
    return np.concatenate(
        [
            np.linspace(-math.log(largest), 0.0, 16)[:-1],
            np.arange(0.0, 4.0, 0.25) * octave,
            np.arange(4.0, _HORIZON + 1.0, 2.0) * octave,
        ]
    )
