"""Define the laws of learning curves: how the score may continue beyond the largest measured size.

The posterior in :mod:`curve` needs one thing from a law: on a *working scale* on which noise is
additive, the change from the largest measured size N to any size n, for a grid of parameters that
covers everything plausible. The score at N itself is integrated out in closed form, so no
law has a scale parameter, and all laws share one noise model, one posterior and one contract
test. A new law is one class and one line in :data:`LAWS`.

Working scales fall while scores rise:

===========================  =========================  ========================================
scale                        z of a score y             used for
===========================  =========================  ========================================
``LogScale(upper, 1)``       log(upper - y)             saturating laws under an upper bound
``LinearScale(unit)``        -y / unit                  saturating laws without an upper bound
``LogScale(lower, -1)``      -log(y - lower)            ``power2``
===========================  =========================  ========================================

References
----------
.. [1] R. L. Figueroa et al., "Predicting sample size required for classification performance",
   BMC Med. Inform. Decis. Mak. 12:8, 2012.
.. [2] J. Hestness et al., "Deep learning scaling is predictable, empirically", 2017.
.. [3] F. Mohr, T. J. Viering, M. Loog, J. N. van Rijn, "LCDB 1.0: an extensive learning curves
   database for classification tasks", ECML PKDD 2022 (names the laws POW2, POW4, EXP3).
.. [4] I. Alabdulmohsin, B. Neyshabur, X. Zhai, "Revisiting neural scaling laws in language and
   vision", NeurIPS 2022 (M4).
.. [5] J. Verster, "Estimating required sample size for model training", Keras examples, 2021.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv

FloatArray: TypeAlias = NDArray[np.float64]

_FLOOR_PRIOR: Final = (0.6, 0.6)
"""Beta prior of the share of the error at N that no number of images removes."""

_EXPONENT_PRIOR: Final = (0.5, 0.9)
"""Median and log-scale deviation of the exponent of a power law: 0.15 to 1.6 in 90 % of cases."""


class Scale(ABC):
    """A working scale: a decreasing, invertible map z of the score."""

    @abstractmethod
    def z(self, score: FloatArray) -> FloatArray:
        """Map scores to the working scale."""

    @abstractmethod
    def score(self, z: FloatArray) -> FloatArray:
        """Map back; the inverse of :meth:`z`, not yet clipped to the bounds."""

    @abstractmethod
    def slope(self, score: FloatArray) -> FloatArray:
        """Return ``|dz / dscore|``, which converts deviations (delta method)."""


@dataclass(frozen=True)
class LogScale(Scale):
    """Logarithm of the distance to a bound.

    Parameters
    ----------
    bound : float
        The upper (`side` = 1: log error) or the lower bound (`side` = -1: negative log score).
    side : {1, -1}
        Which bound it is.
    offset : float
        Added to the distance, so that a score at the bound stays finite.
    """

    bound: float
    side: int
    offset: float

    def _distance(self, score: FloatArray) -> FloatArray:
        return self.side * (self.bound - score) + self.offset

    def z(self, score: FloatArray) -> FloatArray:
        """Return ``side * log(distance)``."""
        return self.side * np.log(self._distance(score))

    def score(self, z: FloatArray) -> FloatArray:
        """Return ``bound - side * (exp(side * z) - offset)``."""
        return self.bound - self.side * (np.exp(self.side * z) - self.offset)

    def slope(self, score: FloatArray) -> FloatArray:
        """Return ``1 / distance``: deviations become relative ones."""
        return 1.0 / self._distance(score)


@dataclass(frozen=True)
class LinearScale(Scale):
    """The negative score in units of `unit`, so that results scale with the metric."""

    unit: float

    def z(self, score: FloatArray) -> FloatArray:
        """Return ``-score / unit``."""
        return -score / self.unit

    def score(self, z: FloatArray) -> FloatArray:
        """Return ``-z * unit``."""
        return -z * self.unit

    def slope(self, score: FloatArray) -> FloatArray:
        """Return ``1 / unit`` for every score."""
        return np.full_like(score, 1.0 / self.unit)


class Law(ABC):
    """A family of curves on a grid of G parameter vectors."""

    @abstractmethod
    def scale(self, bounds: tuple[float, float], offset: float, unit: float) -> Scale:
        """Choose the working scale for a metric within `bounds`.

        Raises
        ------
        ValueError
            If the law does not exist for such bounds.
        """

    @abstractmethod
    def log_prior(self, scale: Scale) -> FloatArray:
        """Return the unnormalised log prior of the grid, shape (G,)."""

    @abstractmethod
    def change(self, log_ratio: FloatArray, scale: Scale) -> FloatArray:
        """Return z(n) - z(N) at ``log_ratio = log(n / N)``, shape (M,) -> (G, M), falling in n."""


class SaturatingLaw(Law):
    """The distance to the ceiling decays: h(n / N) falls from h(1) = 1 to h(inf) = 0.

    Under an upper bound: ``error(n) = error(N) * (f + (1 - f) * h)`` with f the share of the error
    that stays. Without one: ``score(n) = score(N) + gain * (1 - h)``. Ceilings are
    ``upper - f * error(N)`` and ``score(N) + gain``.
    """

    _floors = betaincinv(*_FLOOR_PRIOR, (np.arange(12) + 0.5) / 12)
    _gains = np.geomspace(0.01, 30.0, 16)
    _log_shape_prior: FloatArray
    """Unnormalised log prior of the P shapes of h, (P,)."""

    @abstractmethod
    def _decay(self, log_ratio: FloatArray) -> FloatArray:
        """Return h at ``log_ratio = log(n / N)`` for every shape, (M,) -> (P, M)."""

    def scale(self, bounds: tuple[float, float], offset: float, unit: float) -> Scale:
        """Choose the log error, or the score itself if it has no upper bound."""
        return LogScale(bounds[1], 1, offset) if math.isfinite(bounds[1]) else LinearScale(unit)

    def log_prior(self, scale: Scale) -> FloatArray:
        """Repeat the prior of the shapes; floors are prior quantiles, gains log-uniform."""
        return np.tile(self._log_shape_prior, len(self._levels(scale)))

    def change(self, log_ratio: FloatArray, scale: Scale) -> FloatArray:
        """Return ``gain * (h - 1)`` or ``log(f + (1 - f) * h)``."""
        level = self._levels(scale)[:, None, None]
        h = self._decay(log_ratio)
        linear = isinstance(scale, LinearScale)
        z: FloatArray = level * (h - 1.0) if linear else np.log(level + (1.0 - level) * h)
        return z.reshape(-1, len(log_ratio))

    def _levels(self, scale: Scale) -> FloatArray:
        return self._gains if isinstance(scale, LinearScale) else self._floors


def _exponent_prior(exponents: FloatArray) -> FloatArray:
    """Unnormalised log prior, normal in the logarithm, of log-spaced exponents."""
    median, sigma = _EXPONENT_PRIOR
    return -0.5 * (np.log(exponents / median) / sigma) ** 2


class Power(SaturatingLaw):
    """Inverse power law with a ceiling: ``score = c - a * (n + d) ** -b``.

    The three-parameter law of Figueroa et al. [1]_ and Hestness et al. [2]_ for d = 0; d > 0 (POW4
    in Mohr et al. [3]_) is a late start: the curve is flat first and steep later.
    """

    _exponents = np.geomspace(0.05, 3.0, 14)
    _starts = np.array([0.0, 0.3, 1.0, 3.0])  # d / N
    _start_weights = np.array([0.85, 0.05, 0.05, 0.05])
    _log_shape_prior = np.add.outer(_exponent_prior(_exponents), np.log(_start_weights)).ravel()

    def _decay(self, log_ratio: FloatArray) -> FloatArray:
        start = self._starts[:, None]
        stretched = np.log((np.exp(log_ratio) + start) / (1.0 + start))
        h: FloatArray = np.exp(-self._exponents[:, None, None] * stretched)
        return h.reshape(-1, len(log_ratio))


class Exponential(SaturatingLaw):
    """Exponential law with a ceiling: ``score = c - a * exp(-n / tau)`` (EXP3 in [3]_)."""

    _times = np.geomspace(0.05, 3.0, 24)  # tau / N
    _log_shape_prior = np.zeros(len(_times))

    def _decay(self, log_ratio: FloatArray) -> FloatArray:
        h: FloatArray = np.exp(-np.expm1(log_ratio) / self._times[:, None])
        return h


class M4(SaturatingLaw):
    """Logistic curve in log n between two levels: M4 of Alabdulmohsin et al. [4]_ at alpha = 1.

    ``(error - e_inf) / (e_0 - error) = (n / m) ** -c``: the error leaves the level of guessing e_0,
    is half way at m and ends at e_inf. With alpha = 1 the law has a closed form; alpha = 0 is
    `Power`.
    """

    _exponents = np.geomspace(0.1, 3.0, 12)
    _midpoints = np.geomspace(0.003, 3.0, 8)  # m / N
    _log_shape_prior = np.repeat(_exponent_prior(_exponents), len(_midpoints))

    def _decay(self, log_ratio: FloatArray) -> FloatArray:
        c = self._exponents[:, None, None]
        half = self._midpoints[:, None] ** c
        h: FloatArray = (1.0 + half) / (np.exp(c * log_ratio) + half)
        return h.reshape(-1, len(log_ratio))


class Power2(Law):
    """The Keras recipe's ``score = a * n ** b`` [5]_ (POW2 in [3]_), which has no ceiling."""

    _exponents = np.linspace(0.0, 1.0, 101)

    def scale(self, bounds: tuple[float, float], offset: float, unit: float) -> Scale:
        """Choose the log score; it needs a finite lower bound."""
        if not math.isfinite(bounds[0]):
            raise ValueError(
                f"law 'power2' needs a finite lower bound of the score, got bounds={bounds}; "
                "give one or use law='power'"
            )
        return LogScale(bounds[0], -1, offset)

    def log_prior(self, scale: Scale) -> FloatArray:
        """Return the uniform prior of b between 0 and 1."""
        return np.zeros(len(self._exponents))

    def change(self, log_ratio: FloatArray, scale: Scale) -> FloatArray:
        """Return ``-b * log(n / N)``."""
        return np.multiply.outer(-self._exponents, log_ratio)


LAWS: Final = MappingProxyType[str, Law](
    {"power": Power(), "power2": Power2(), "exponential": Exponential(), "m4": M4()}
)
"""Laws by name, in the order in which they are offered."""


def fit_power2_least_squares(sizes: ArrayLike, means: ArrayLike) -> tuple[float, float, float]:
    """Fit ``a * n ** b`` to mean scores by least squares: the point fit of the Keras recipe [5]_.

    The best a has a closed form for every b, so one bracketed search over b finds the optimum.

    Parameters
    ----------
    sizes, means : array_like, shape (K,)
        Training sizes, two or more, the largest last, and mean scores.

    Returns
    -------
    a, b, mae : float
        The optimum and its mean absolute error.

    Examples
    --------
    >>> a, b, mae = fit_power2_least_squares([100, 200, 400], [0.5, 0.6, 0.72])
    >>> round(a, 3), round(b, 3), round(mae, 3)
    (0.149, 0.263, 0.0)
    """
    from scipy.optimize import minimize_scalar  # slow to import, and only the recipe needs it

    n, y = np.asarray(sizes, dtype=float), np.asarray(means, dtype=float)
    ratio = n / n[-1]

    def best_scale(b: float) -> float:
        x = ratio**b
        return float(x @ y / (x @ x))

    def squares(b: float) -> float:
        return float(np.sum((y - best_scale(b) * ratio**b) ** 2))

    grid = np.linspace(-1.0, 2.0, 61)
    start = grid[np.argmin([squares(b) for b in grid])]
    found = minimize_scalar(squares, bounds=(start - 0.05, start + 0.05), options={"xatol": 1e-10})
    b = float(found.x)
    scale = best_scale(b)
    mae = float(np.mean(np.abs(y - scale * ratio**b)))
    return scale * float(n[-1]) ** -b, b, mae
