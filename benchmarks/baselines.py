"""Published methods to project learning curves, written from their descriptions.

Each takes the same arguments as :meth:`pytest_datasize.LearningCurve.fit`, and gives an answer to
the same questions. Where the optimum of a least-squares problem has a closed form in all but one
parameter, that one is searched on a grid, so that no method fails for want of a starting point.
Methods that are published without an interval get one by the bootstrap over repeats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

FloatArray: TypeAlias = NDArray[np.float64]
Scores: TypeAlias = Sequence[Sequence[float]]

LOG_SIZES: Final = np.linspace(0.0, math.log(1e9), 400)
"""Where curves are tabulated: log sizes from one image to a milliard."""

SIZES: Final = np.exp(LOG_SIZES)
EXPONENTS: Final = np.geomspace(0.002, 5.0, 250)
RESAMPLES: Final = 200


class Projection(Protocol):
    """What a fit can be asked, as of :class:`pytest_datasize.LearningCurve`."""

    def predict(self, n: float) -> float:
        """Return the score expected at n images."""

    def interval(self, n: float, level: float) -> tuple[float, float]:
        """Return the interval of the true score at n images."""

    def required(self, target: float) -> float:
        """Return the images needed for a target; infinite if it is never met."""

    def required_interval(self, target: float, level: float) -> tuple[float, float]:
        """Return the interval of the images needed."""


Method: TypeAlias = Callable[[Sequence[int], Scores, int | None], Projection]


@dataclass(frozen=True)
class Tabulated:
    """A curve and its quantiles, tabulated at :data:`SIZES`.

    Attributes
    ----------
    best
        The fitted curve.
    quantile
        Probability -> curve that the true one stays below with this probability.
    least
        Smallest number of images to answer with.
    """

    best: FloatArray
    quantile: Callable[[float], FloatArray]
    least: float = 1.0

    def predict(self, n: float) -> float:
        """Read the fitted curve."""
        return float(np.interp(math.log(n), LOG_SIZES, self.best))

    def interval(self, n: float, level: float) -> tuple[float, float]:
        """Read the curves of both tails."""
        low, high = (
            float(np.interp(math.log(n), LOG_SIZES, self.quantile(p)))
            for p in ((1 - level) / 2, (1 + level) / 2)
        )
        return low, high

    def required(self, target: float) -> float:
        """Find where the fitted curve first meets the target."""
        return max(self.least, _first_crossing(self.best, target))

    def required_interval(self, target: float, level: float) -> tuple[float, float]:
        """Find where the curves of both tails first meet it."""
        few, many = (
            max(self.least, _first_crossing(self.quantile(p), target))
            for p in ((1 + level) / 2, (1 - level) / 2)
        )
        return few, many


def _first_crossing(curve: FloatArray, target: float) -> float:
    met = curve >= target
    if not met.any():
        return math.inf
    i = int(met.argmax())
    if i == 0:
        return 1.0
    share = (target - curve[i - 1]) / (curve[i] - curve[i - 1])
    return math.exp(LOG_SIZES[i - 1] + share * (LOG_SIZES[i] - LOG_SIZES[i - 1]))


Fitter: TypeAlias = Callable[[FloatArray, FloatArray], FloatArray]
"""Sizes (K,) and B rows of mean scores (B, K) -> B tabulated curves."""


def _bootstrap(sizes: Sequence[int], scores: Scores, fitter: Fitter) -> Tabulated:
    """Fit the means, and the means of repeats drawn with replacement at every size."""
    rng = np.random.default_rng(0)
    runs = [np.asarray(repeats, dtype=float) for repeats in scores]
    means = np.array([[r.mean() for r in runs]])
    drawn = np.stack([r[rng.integers(0, len(r), (RESAMPLES, len(r)))].mean(1) for r in runs], 1)
    curves = fitter(np.asarray(sizes, dtype=float), np.concatenate([means, drawn]))
    ordered = np.sort(curves[1:], axis=0)
    return Tabulated(curves[0], lambda p: ordered[round(p * (RESAMPLES - 1))])


def last_value(sizes: Sequence[int], scores: Scores, n_test: int | None) -> Projection:
    """Nothing changes: the mean score at the largest size holds at every size.

    The interval is that of a mean of repeats and of a share of the test items, together.
    """
    last = np.asarray(scores[-1], dtype=float)
    mean = float(last.mean())
    variance = float(last.var(ddof=1)) / len(last) if len(last) > 1 else 0.0
    if n_test:
        variance += mean * (1 - mean) / n_test
    flat = np.full_like(SIZES, mean)
    deviation = math.sqrt(variance)
    return Tabulated(flat, lambda p: flat + float(ndtri(p)) * deviation, float(sizes[-1]))


def keras(sizes: Sequence[int], scores: Scores, n_test: int | None) -> Projection:
    """Least squares of ``score = a * n**b``, in scores.

    J. Verster, "Estimating required sample size for model training", Keras examples, 2021. No
    interval of its own: bootstrap.
    """
    exponents = np.linspace(-1.0, 2.0, 751)

    def fit(n: FloatArray, means: FloatArray) -> FloatArray:
        x = (n / n[-1]) ** exponents[:, None]
        scale = means @ x.T / np.square(x).sum(1)  # least squares leaves what this explains
        best = (scale**2 * np.square(x).sum(1)).argmax(1)
        curves: FloatArray = (
            np.take_along_axis(scale, best[:, None], 1)
            * (SIZES / n[-1]) ** exponents[best][:, None]
        )
        return curves

    return _bootstrap(sizes, scores, fit)


@dataclass(frozen=True)
class _PowerLaws:
    """B least-squares fits of ``score = ceiling - scale * (n / unit)**-exponent``."""

    ceiling: FloatArray
    scale: FloatArray
    exponent: FloatArray
    unit: float

    def at(self, n: FloatArray) -> FloatArray:
        """Return the curves at sizes (M,): (B, M)."""
        decay = (n / self.unit) ** -self.exponent[:, None]
        curves: FloatArray = self.ceiling[:, None] - self.scale[:, None] * decay
        return curves


def _power_laws(
    n: FloatArray,
    means: FloatArray,
    weights: FloatArray | None = None,
    ceilings: tuple[float, float] = (-math.inf, math.inf),
) -> _PowerLaws:
    """Solve for ceiling (within bounds) and scale at every exponent, and keep the best exponent."""
    w = np.full(len(n), 1.0 / len(n)) if weights is None else weights / weights.sum()
    x = (n / n[-1]) ** -EXPONENTS[:, None]  # (E, K)
    x_mean, x_square, xy = x @ w, np.square(x) @ w, (means * w) @ x.T
    y_mean = (means @ w)[:, None]
    slope = (xy - y_mean * x_mean) / (x_square - x_mean**2)
    ceiling = np.clip(y_mean - slope * x_mean, *ceilings)
    scale = (ceiling * x_mean - xy) / x_square  # optimal for this ceiling, clipped or not
    misfit = (
        ceiling**2
        + scale**2 * x_square
        - 2 * (ceiling * y_mean - scale * xy + ceiling * scale * x_mean)
    )
    best = misfit.argmin(1)
    rows = np.arange(len(means))
    return _PowerLaws(ceiling[rows, best], scale[rows, best], EXPONENTS[best], float(n[-1]))


def power_law(sizes: Sequence[int], scores: Scores, n_test: int | None) -> Projection:
    """Least squares of ``score = c - a * n**-b`` without bounds, with a bootstrap over repeats.

    The inverse power law of C. Cortes et al., "Learning curves: asymptotic values and rate of
    convergence", NeurIPS 1993, as a general curve fit finds it.
    """
    return _bootstrap(sizes, scores, lambda n, means: _power_laws(n, means).at(SIZES))


def dataeval(sizes: Sequence[int], scores: Scores, n_test: int | None) -> Projection:
    """Least squares of ``error = c * n**-m + c0`` with m >= 0 and 0 <= c0 <= 1.

    Sufficiency of DataEval 1.0 (JATIC, dataeval.ai), which looks for this optimum by basin hopping;
    here it is found on a grid of m. No interval of its own: bootstrap.
    """
    return _bootstrap(
        sizes, scores, lambda n, means: _power_laws(n, means, ceilings=(0.0, 1.0)).at(SIZES)
    )


def figueroa(sizes: Sequence[int], scores: Scores, n_test: int | None) -> Projection:
    """Weighted least squares of ``score = (1 - a) - b * n**c``, later sizes counting more.

    R. L. Figueroa, Q. Zeng-Treitler, S. Kandula, L. H. Ngo, "Predicting sample size required for
    classification performance", BMC Med. Inform. Decis. Mak. 12:8, 2012: the i-th of m sizes has
    the weight i / m, 0 <= a <= 1, and intervals come from the parameters' covariance.
    """
    n = np.asarray(sizes, dtype=float)
    means = np.array([[np.mean(repeats) for repeats in scores]])
    weights = np.arange(1, len(n) + 1) / len(n)
    laws = _power_laws(n, means, weights, (0.0, 1.0))

    def gradient(at: FloatArray) -> FloatArray:
        ratio = at / laws.unit
        decay = ratio**-laws.exponent
        return np.stack([np.ones_like(at), -decay, laws.scale * decay * np.log(ratio)], axis=1)

    seen = gradient(n)
    misfit = np.square(means - laws.at(n))[0] @ weights / max(len(n) - 3, 1)
    covariance = misfit * np.linalg.pinv(seen.T @ (weights[:, None] * seen))
    ahead = gradient(SIZES)
    deviation = np.sqrt(np.maximum(np.einsum("ni,ij,nj->n", ahead, covariance, ahead), 0.0))
    best = laws.at(SIZES)[0]
    return Tabulated(best, lambda p: best + float(ndtri(p)) * deviation)


def m2(sizes: Sequence[int], scores: Scores, n_test: int | None) -> Projection:
    """Least squares in logarithms of ``error - e_inf = beta * n**-c``, with e_inf learned too.

    M2 of I. Alabdulmohsin, B. Neyshabur, X. Zhai, "Revisiting neural scaling laws in language and
    vision", NeurIPS 2022. No interval of its own: bootstrap.
    """
    return _bootstrap(sizes, scores, lambda n, means: _log_laws(n, means, np.zeros(1)))


def m4(sizes: Sequence[int], scores: Scores, n_test: int | None) -> Projection:
    """Least squares in logarithms of ``(error - e_inf) / (e_0 - error)**alpha = beta * n**-c``.

    M4 of the same paper as :func:`m2`; e_inf, e_0 and alpha are learned too. No interval of its
    own: bootstrap.
    """
    alphas = np.array([0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0])
    return _bootstrap(sizes, scores, lambda n, means: _log_laws(n, means, alphas))


def _log_laws(n: FloatArray, means: FloatArray, alphas: FloatArray) -> FloatArray:
    """Regress on log n at every (e_inf, e_0, alpha) of a grid; tabulate the best of each row."""
    error = np.clip(1.0 - means, 1e-4, 1.0 - 1e-4)
    floor = error.min(1)[:, None] * (1.0 - np.r_[1.0, np.geomspace(0.95, 0.003, 40)])
    top = error.max(1)[:, None]
    start = top + (1.0 - top) * np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0])
    start = start if len(alphas) > 1 else start[:, -1:]
    x = np.log(n) - np.log(n).mean()
    above = np.log(error[:, None] - floor[..., None])  # (B, floors, K)
    below = np.log(start[..., None] - error[:, None] + 1e-12)  # (B, starts, K)
    level = above.mean(-1)[..., None, None] - alphas * below.mean(-1)[:, None, :, None]
    above, below = _centred(above), _centred(below)
    # y = above - alpha * below is regressed on x; sums of squares and products come from the parts
    yx = (above @ x)[..., None, None] - alphas * (below @ x)[:, None, :, None]
    yy = (
        np.square(above).sum(-1)[..., None, None]
        - 2.0 * alphas * (above @ below.transpose(0, 2, 1))[..., None]
        + alphas**2 * np.square(below).sum(-1)[:, None, :, None]
    )
    slope = np.minimum(yx / (x @ x), -1e-3)
    misfit = yy - 2.0 * slope * yx + slope**2 * (x @ x)
    curves = np.empty((len(means), len(SIZES)))
    for row, flat in enumerate(misfit.reshape(len(means), -1).argmin(1)):
        i, j, k = np.unravel_index(flat, misfit.shape[1:])
        law = (floor[row, i], start[row, j], alphas[k], level[row, i, j, k], slope[row, i, j, k])
        curves[row] = _tabulate(tuple(map(float, law)), float(np.log(n).mean()))
    return curves


def _centred(rows: FloatArray) -> FloatArray:
    centred: FloatArray = rows - rows.mean(-1, keepdims=True)
    return centred


_SHARES: Final = np.concatenate([np.geomspace(1e-10, 0.5, 120), 1.0 - np.geomspace(0.5, 1e-9, 80)])


def _tabulate(law: Sequence[float], centre: float) -> FloatArray:
    """Turn log n as a function of the error around: the score at every tabulated size."""
    floor, start, alpha, level, slope = law
    error = floor + (start - floor) * _SHARES
    height = np.log((start - floor) * _SHARES) - alpha * np.log((start - floor) * (1.0 - _SHARES))
    log_n = centre + (height - level) / slope
    score: FloatArray = 1.0 - np.interp(LOG_SIZES, log_n[::-1], error[::-1])
    return score


METHODS: Final[dict[str, tuple[str, Method]]] = {
    "last value": ("the score at the largest size, unchanged", last_value),
    "Keras": ("a * n^b (Verster 2021), bootstrap", keras),
    "3-param.": ("c - a * n^-b (Cortes 1993), bootstrap", power_law),
    "Figueroa": ("weighted c - a * n^-b, intervals from its covariance (Figueroa 2012)", figueroa),
    "M2": ("power law fitted in logarithms (Alabdulmohsin 2022), bootstrap", m2),
    "M4": ("with a start level and a bend (Alabdulmohsin 2022), bootstrap", m4),
    "DataEval": ("bounded least squares of DataEval 1.0, bootstrap", dataeval),
}
"""Short name -> (what it is, method)."""
