"""Fit learning curves: the expected score at any number of training images, with its uncertainty.

A few trials at a few sizes allow many curves. A least-squares fit picks one of them, and its
bootstrap covers only the spread of the repeats; its "90 %" intervals contain the truth about half
of the time. So :class:`LearningCurve` keeps *all* curves of a law that the scores allow, weighted
by their posterior probability, and includes four kinds of error: the spread of the repeats, the
luck (sampling variance) of the test set, the luck of a finite pool
(:mod:`pytest_datasize.curve.noise`) and the misfit of the law itself, which grows with the distance
from the largest measured size, both back to small sizes and forward.

The fit is deterministic and takes a few milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from pytest_datasize.curve import notebook
from pytest_datasize.curve.checked_input import (
    check_level,
    check_options,
    checked_covariance,
    checked_points,
)
from pytest_datasize.curve.laws import LAWS, FloatArray
from pytest_datasize.curve.noise import means_covariance
from pytest_datasize.curve.posterior import (
    NORMAL_SCORES,
    PosteriorTable,
    level_off,
    tabulate_posterior,
)
from pytest_datasize.curve.trend import Trend, measure_trend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Status: TypeAlias = Literal["reached", "needed", "unreachable", "undecided"]

_BELOW_HALF: Final = math.nextafter(0.5, 0.0)
"""Largest probability that does not round a missed target up to a met one."""


class Interval(NamedTuple):
    """Two-sided interval."""

    low: float
    high: float


class Ceiling(NamedTuple):
    """Asymptote of a curve: posterior median and 90 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """Posterior over learning curves; made by :meth:`fit`.

    Attributes
    ----------
    sizes : tuple of int
        Training sizes, ascending.
    scores : tuple of tuples of float
        Repeats at every size.
    n_test : int or None
        Test items behind every score.
    law : str
        Name of the law, a key of :data:`pytest_datasize.curve.laws.LAWS`.
    bounds : (float, float)
        Range of the score.
    level : float
        Default level of an interval.
    trend : Trend
        Whether the score still rises at the largest sizes. If it does not, the median curve stays
        level, and no number of images meets a target above it.
    """

    sizes: tuple[int, ...]
    scores: tuple[tuple[float, ...], ...]
    n_test: int | None
    law: str
    bounds: tuple[float, float]
    level: float
    trend: Trend
    _posterior: PosteriorTable = field(repr=False)

    def __repr__(self) -> str:
        low, high = self.interval(self.sizes[-1])
        return (
            f"<LearningCurve: {self.law}, {len(self.sizes)} sizes from {self.sizes[0]:,} to "
            f"{self.sizes[-1]:,}, {self.predict(self.sizes[-1]):.3f} ({low:.3f} to {high:.3f}) "
            f"at the largest, {self.trend.direction}>"
        )

    def _repr_html_(self) -> str:
        """Show the curve as a table in a notebook."""
        return notebook.as_html(self, f"Learning curve ({self.law}, {self.trend.direction})")

    def to_frame(self) -> Any:
        """Return one row per training size as a pandas DataFrame.

        Columns: `images`, `measured` (mean score), `repeats`, `projected`, `low`, `high`.

        Raises
        ------
        ImportError
            pandas is not installed.
        """
        return notebook.as_frame(self)

    def plot(self, axes: Axes | None = None, target: float | None = None) -> Axes:
        """Draw the measured scores and the curve with matplotlib.

        Parameters
        ----------
        axes : matplotlib Axes, optional
            Where to draw; by default a new figure.
        target : float, optional
            A score that is drawn as a line.

        Returns
        -------
        matplotlib Axes
            The axes that were drawn into.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        return notebook.draw(self, axes, target)

    @classmethod
    def fit(
        cls,
        sizes: Sequence[int],
        scores: Sequence[Sequence[float]],
        n_test: int | None = None,
        *,
        law: str = "power",
        pool: int | None = None,
        replacement: bool = False,
        test_covariance: ArrayLike | None = None,
        train_covariance: ArrayLike | None = None,
        split_variance: ArrayLike | None = None,
        bounds: tuple[float, float] = (0.0, 1.0),
        level: float = 0.9,
    ) -> LearningCurve:
        """Fit a learning curve to scores measured at several training sizes.

        Parameters
        ----------
        sizes : sequence of K int
            Training sizes, at least three different ones, in any order.
        scores : sequence of K sequences of float
            Repeats at every size (or a single score), higher is better; not necessarily equally
            many. If they are, the repeats i of all sizes are treated as related.
        n_test : int, optional
            Test items behind every score. The truth is then the mean score over the population
            that they are drawn from, so intervals include the luck of the test set. None: the truth
            is the mean score on that very test set.
        law : {"power", "power2", "exponential", "m4"}
            The family of curves, see :mod:`pytest_datasize.curve.laws`.
        pool : int, optional
            Number of images that all repeats are drawn from. By default unlimited, unless the
            largest size alone has a single run, which is then assumed to use the whole pool.
        replacement : bool
            Whether they are drawn from the pool with replacement, so that even repeats of its whole
            size differ.
        test_covariance : array_like, shape (K, K), optional
            Covariance of the mean scores from the sampling of test items, in the order of `sizes`.
            Replaces the binomial formula, which only holds for accuracy.
        train_covariance : array_like, shape (K, K), optional
            Covariance of the mean scores from the sampling of training images and the randomness of
            training. Replaces the estimate from the repeats and the pool.
        split_variance : array_like, shape (K,), optional
            Part of the variance between repeats that is due to their different test splits, in
            the order of `sizes`. It is left out of the luck of training, since
            `test_covariance` counts the luck of test items.
        bounds : (float, float)
            Range of the score; ``(-inf, 0)`` for a negated loss that cannot fall below zero,
            ``(-inf, inf)`` for a score without bounds.
        level : float
            Default level of an interval, between 0 and 1.

        Raises
        ------
        ValueError
            If the input is not a learning curve; the message names the wrong value.

        Examples
        --------
        >>> scores = [[0.71, 0.68, 0.74], [0.80, 0.77, 0.79], [0.84, 0.86, 0.85], [0.89, 0.89, 0.9]]
        >>> curve = LearningCurve.fit([50, 100, 200, 400], scores, n_test=1000)
        >>> round(curve.predict(800), 2)
        0.92
        """
        n, runs = checked_points(sizes, scores, bounds)
        check_options(n, n_test, law, pool, level)
        order = np.argsort(n)
        test = checked_covariance("test_covariance", test_covariance, order)
        train = checked_covariance("train_covariance", train_covariance, order)
        n, runs = n[order], [runs[i] for i in order]
        if pool is None and len(runs[-1]) == 1 and all(len(r) > 1 for r in runs[:-1]):
            pool = int(n[-1])

        means = np.array([r.mean() for r in runs])
        unit = _unit(runs, means)
        scale = LAWS[law].scale(bounds, _offset(n_test, bounds, unit), unit)
        covariance = means_covariance(
            n,
            runs,
            scale,
            n_test=n_test,
            pool=pool,
            replacement=replacement,
            bounds=bounds,
            test_covariance=test,
            train_covariance=train,
            split_variance=None if split_variance is None else np.asarray(split_variance)[order],
        )
        z = scale.z(means)
        table = tabulate_posterior(LAWS[law], scale, n, z, covariance, bounds)
        trend = measure_trend(n, z, covariance)
        if trend.direction != "rising":
            table = level_off(table, int(n[-1]))
        return cls(
            sizes=tuple(int(size) for size in n),
            scores=tuple(tuple(map(float, r)) for r in runs),
            n_test=n_test,
            law=law,
            bounds=(float(bounds[0]), float(bounds[1])),
            level=level,
            trend=trend,
            _posterior=table,
        )

    @property
    def means(self) -> tuple[float, ...]:
        """Mean measured score at every size."""
        return tuple(math.fsum(s) / len(s) for s in self.scores)

    def predict(self, n: float) -> float:
        """Return the posterior median of the true mean score at `n` images.

        It never falls with n.

        Parameters
        ----------
        n : float
            Training images, at least 1.

        Examples
        --------
        >>> curve = LearningCurve.fit([50, 100, 200], [[0.7, 0.7], [0.8, 0.8], [0.9, 0.9]])
        >>> curve.predict(200) < curve.predict(400) < 1.0
        True
        """
        return _at_probability(self._at_size(n), 0.5)

    def interval(self, n: float, level: float | None = None) -> Interval:
        """Return the central credible interval of the true mean score at `n` images.

        Parameters
        ----------
        n : float
            Training images, at least 1.
        level : float, optional
            Probability that it contains the score, by default :attr:`level`.

        Examples
        --------
        >>> curve = LearningCurve.fit([50, 100, 200], [[0.7, 0.7], [0.8, 0.8], [0.9, 0.9]])
        >>> low, high = curve.interval(400, level=0.5)
        >>> low < curve.predict(400) < high
        True
        """
        row, tail = self._at_size(n), self._tail(level)
        return Interval(_at_probability(row, tail), _at_probability(row, 1.0 - tail))

    def probability(self, n: float, target: float) -> float:
        """Return the probability that the true mean score at `n` images is at least `target`.

        It is at least one half exactly when ``required(target) <= n`` (for whole n).

        Examples
        --------
        >>> curve = LearningCurve.fit([50, 100, 200], [[0.7, 0.7], [0.8, 0.8], [0.9, 0.9]])
        >>> curve.probability(400, 0.85) > 0.9 > curve.probability(100, 0.85)
        True
        """
        row = self._at_size(n)
        if target <= row[0]:
            return 1.0
        if target > row[-1]:
            return 0.0
        # Of equal quantiles (scores at a bound) the highest probability counts, hence side="left".
        j = int(np.searchsorted(row, target, side="left"))
        share = (target - row[j - 1]) / (row[j] - row[j - 1])
        x = NORMAL_SCORES[j - 1] + share * (NORMAL_SCORES[j] - NORMAL_SCORES[j - 1])
        probability = float(ndtr(-x))
        return min(probability, _BELOW_HALF) if x > 0.0 else probability

    def required(self, target: float) -> float:
        """Return the smallest whole number of images whose predicted score meets `target`.

        Returns
        -------
        float
            A whole number, or ``math.inf`` if the median curve never meets the target;
            :meth:`status` then distinguishes "unreachable" from "undecided".

        Examples
        --------
        >>> curve = LearningCurve.fit([50, 100, 200], [[0.7, 0.7], [0.8, 0.8], [0.9, 0.9]])
        >>> n = curve.required(0.92)
        >>> curve.predict(n - 1) < 0.92 <= curve.predict(n)
        True
        """
        return self._first_size(target, 0.5)

    def required_interval(self, target: float, level: float | None = None) -> Interval:
        """Return the central interval of the number of images that `target` needs.

        Either end may be ``math.inf``.

        Examples
        --------
        >>> curve = LearningCurve.fit([50, 100, 200], [[0.7, 0.7], [0.8, 0.8], [0.9, 0.9]])
        >>> low, high = curve.required_interval(0.92, level=0.8)
        >>> low < curve.required(0.92) < high
        True
        """
        tail = self._tail(level)
        return Interval(self._first_size(target, 1.0 - tail), self._first_size(target, tail))

    @property
    def ceiling(self) -> Ceiling:
        """Score with a million times the images (in practice unlimited): median, 90 % interval.

        A target above the interval is unreachable: :meth:`required_interval` is then infinite at
        both ends.

        Examples
        --------
        >>> curve = LearningCurve.fit([50, 100, 200], [[0.7, 0.7], [0.8, 0.8], [0.9, 0.9]])
        >>> curve.ceiling.low <= curve.ceiling.mean <= curve.ceiling.high <= 1.0
        True
        """
        low, mean, high = (
            _at_probability(self._posterior.quantiles[-1], p) for p in (0.05, 0.5, 0.95)
        )
        return Ceiling(mean, low, high)

    def reachable(self, target: float) -> bool:
        """Return whether `target` lies below or within the interval of the ceiling."""
        return target <= self.ceiling.high

    def status(self, target: float) -> Status:
        """Return the result of :meth:`required` as one word.

        Returns
        -------
        str
            "reached" (within the measured sizes), "needed" (a larger number), "unreachable" (the
            whole interval of the ceiling lies below the target) or "undecided" (the median curve
            does not meet the target, yet the ceiling may).

        Examples
        --------
        >>> curve = LearningCurve.fit([50, 100, 200], [[0.7, 0.7], [0.8, 0.8], [0.9, 0.9]])
        >>> curve.status(0.8), curve.status(0.92)
        ('reached', 'needed')
        """
        n = self.required(target)
        if math.isfinite(n):
            return "reached" if n <= self.sizes[-1] else "needed"
        return "undecided" if self.reachable(target) else "unreachable"

    def _tail(self, level: float | None) -> float:
        level = self.level if level is None else level
        check_level(level)
        return (1.0 - level) / 2.0

    def _at_size(self, n: float) -> FloatArray:
        """Return the quantiles of the score at n images, linear in log n between the nodes."""
        if not n >= 1:
            raise ValueError(f"a number of training images is at least 1, got {n!r}")
        x = self._posterior.log_sizes
        i = int(np.clip(np.searchsorted(x, math.log(n)), 1, len(x) - 1))
        share = min(max((math.log(n) - x[i - 1]) / (x[i] - x[i - 1]), 0.0), 1.0)
        below, above = self._posterior.quantiles[i - 1 : i + 1]
        row: FloatArray = np.minimum(below + share * (above - below), above)
        return row

    def _first_size(self, target: float, probability: float) -> float:
        """Return the smallest whole n whose score quantile at `probability` meets the target."""
        curve = np.array([_at_probability(row, probability) for row in self._posterior.quantiles])
        if not curve[-1] >= target:
            return math.inf
        i = int(np.argmax(curve >= target))
        if i == 0:
            return 1.0
        x = self._posterior.log_sizes
        missed, met = math.floor(math.exp(x[i - 1])) - 1, math.ceil(math.exp(x[i])) + 1
        while met - missed > 1:  # whole numbers: predict(met) >= target > predict(met - 1)
            middle = (missed + met) // 2
            if _at_probability(self._at_size(middle), probability) >= target:
                met = middle
            else:
                missed = middle
        return float(met)


def _at_probability(row: FloatArray, probability: float) -> float:
    return float(np.interp(ndtri(probability), NORMAL_SCORES, row))


def _offset(n_test: int | None, bounds: tuple[float, float], unit: float) -> float:
    """Return half a test item, added to an error of zero before its logarithm is taken."""
    span = bounds[1] - bounds[0]
    return 0.5 / ((n_test or 1000) + 1) * (span if math.isfinite(span) else unit)


def _unit(runs: Sequence[FloatArray], means: FloatArray) -> float:
    """Return the size of the differences between scores, the unit of an unbounded metric."""
    spread = float(np.ptp(np.concatenate(runs)))
    return spread if spread > 0.0 else max(float(np.abs(means).max()), 1.0) * 1e-6
