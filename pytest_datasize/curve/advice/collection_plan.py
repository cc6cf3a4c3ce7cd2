"""Plan which classes to collect images of: the cheapest allocation that reaches the target.

A greedy path adds images step by step to the class where the expected score rises most per money,
until the posterior of :mod:`~pytest_datasize.curve.advice.class_curves` is sure that the target is
met. The steps at which the probability reaches 5 %, 50 % and 95 % are the ends and the middle of
the interval. Growing all classes in current proportions is a second path, judged in the same way.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from pytest_datasize.curve.advice.class_curves import ClassCurves
from pytest_datasize.curve.laws import FloatArray
from pytest_datasize.requirement.registries import WORST_CLASS

FURTHEST: Final = 16.0
"""A path ends at this multiple of today's images; beyond, a projection is too uncertain to plan."""

_STEP: Final = 0.02
_SURE: Final = (0.05, 0.5, 0.95)
_MOST_CANDIDATES: Final = 24
_FEW: Final = slice(None, None, 4)
"""Every fourth draw is used to choose the next class; all draws are used to judge."""

Combine = Callable[[FloatArray, FloatArray], FloatArray]

SCORES: Final[Mapping[str, Combine]] = {
    WORST_CLASS: lambda recalls, shares: recalls.min(axis=-1),
    "balanced_accuracy": lambda recalls, shares: recalls.mean(axis=-1),
    "accuracy": lambda recalls, shares: recalls @ shares,
    "f1_micro": lambda recalls, shares: recalls @ shares,
}
"""Metric → its score from the recalls of the classes (..., C) and their shares (C,)."""


@dataclass(frozen=True)
class Route:
    """An allocation of new images that reaches the target.

    Attributes
    ----------
    images
        Class name → images to add, for a probability of 50 % to reach the target.
    total, low, high
        Images to add in total, and their 90 % interval; None if no number of images up to
        :data:`FURTHEST` times today's reaches that probability.
    cost, cost_low, cost_high
        The same in money; None without prices.
    score, score_low, score_high
        Projected score with the added images, and its 90 % interval.
    """

    images: Mapping[str, int]
    total: int | None
    low: int | None
    high: int | None
    cost: float | None
    cost_low: float | None
    cost_high: float | None
    score: float
    score_low: float
    score_high: float


@dataclass(frozen=True)
class Collection:
    """Two allocations that reach one target: by class, and in current proportions."""

    by_class: Route
    proportional: Route


def plan_collection(
    curves: ClassCurves,
    metric: str,
    target: float,
    shares: FloatArray,
    prices: Mapping[str, float] | None = None,
) -> Collection:
    """Find the cheapest images to add.

    Parameters
    ----------
    curves
        All classes' curves.
    metric
        One of :data:`SCORES`.
    target
        Score to reach, in (0, 1).
    shares
        Share of every class in the scored images, shape (C,); sums to one.
    prices
        Class name → price of one image; None if images of all classes cost the same.

    Examples
    --------
    >>> from pytest_datasize.curve.advice.class_curves import ClassCurves
    >>> draws = np.random.default_rng(0).standard_normal((400, 2)) * 0.05
    >>> curves = ClassCurves(("often", "rare"), np.array([900.0, 100.0]),
    ...     draws + [3.0, 0.5], np.full((400, 2), 0.8), np.full(400, 0.3), 0 * draws,
    ...     1 + 0 * draws, np.zeros((2, 2)))
    >>> plan = plan_collection(curves, "recall_per_class", 0.75, np.array([0.9, 0.1]))
    >>> plan.by_class.images["often"], 100 < plan.by_class.images["rare"] < 300
    (0, True)
    >>> plan.proportional.total > 4 * plan.by_class.total
    True
    """
    price = np.array([1.0 if prices is None else prices[name] for name in curves.names])
    course = _Course(curves, SCORES[metric], shares, target, price, prices is not None)
    return Collection(course.route(cheapest=True), course.route(cheapest=False))


def within_budget(
    curves: ClassCurves,
    metric: str,
    shares: FloatArray,
    prices: Mapping[str, float],
    budget: float,
) -> Route:
    """Allocate a budget so that the score rises most; see :func:`plan_collection`."""
    price = np.array([prices[name] for name in curves.names])
    course = _Course(curves, SCORES[metric], shares, 1.0, price, True)
    return course.spend(budget)


@dataclass(frozen=True, eq=False)
class _Course:
    curves: ClassCurves
    combine: Combine
    shares: FloatArray
    target: float
    price: FloatArray
    priced: bool

    def route(self, cheapest: bool) -> Route:
        """Follow the path to its end; note where the probability crosses each level."""
        now = self.curves.images
        images = now.copy()
        reached: list[FloatArray | None] = [None] * len(_SURE)
        most = FURTHEST * now.sum()
        while True:
            sure = float(np.mean(self._scores(images) >= self.target))
            for place, wanted in enumerate(_SURE):
                if reached[place] is None and sure >= wanted:
                    reached[place] = images - now
            if reached[-1] is not None or images.sum() >= most:
                break
            images = images + (self._next(images) if cheapest else self._grown(images))
        low, middle, high = reached
        return self._route(low, middle, high, images - now)

    def spend(self, budget: float) -> Route:
        """Follow the path until the budget is spent."""
        images = self.curves.images.copy()
        left = budget
        while images.sum() < FURTHEST * self.curves.images.sum():
            step = self._next(images)
            cost = float(step @ self.price)
            if cost > left:
                part = np.floor(step * (left / cost if cost else 0.0))
                images = images + part
                break
            images, left = images + step, left - cost
        added = images - self.curves.images
        return self._route(added, added, added, added)

    def _scores(self, images: FloatArray) -> FloatArray:
        return self.combine(self.curves.recalls(images), self.shares)

    def _grown(self, images: FloatArray) -> FloatArray:
        """Return the images after one step in current proportions."""
        step: FloatArray = np.maximum(_STEP * images.sum(), 1.0) * (
            self.curves.images / self.curves.images.sum()
        )
        return step

    def _next(self, images: FloatArray) -> FloatArray:
        """Return the images after one step in the class with the highest gain per money."""
        size = max(1.0, float(np.round(_STEP * images.sum())))
        few = self._some()
        today = few.curves.recalls(images)
        weakest = np.argsort(np.median(today, axis=0))[:_MOST_CANDIDATES]
        steps = np.concatenate([size * np.eye(len(images))[weakest], [self._grown(images)]])
        gains = few.combine(few.curves.recalls(images + steps), self.shares).mean(axis=0)
        gains = gains - float(few.combine(today, self.shares).mean())
        best: FloatArray = steps[int(np.argmax(gains / np.maximum(steps @ self.price, 1e-12)))]
        return best

    def _some(self) -> "_Course":
        every = self.curves
        fewer = replace(
            every,
            level=every.level[_FEW],
            rise=every.rise[_FEW],
            curvature=every.curvature[_FEW],
            misfit=every.misfit[_FEW],
            shift_factor=every.shift_factor[_FEW],
        )
        return replace(self, curves=fewer)

    def _route(
        self,
        low: FloatArray | None,
        middle: FloatArray | None,
        high: FloatArray | None,
        given_up: FloatArray,
    ) -> Route:
        added = given_up if middle is None else middle
        whole = np.ceil(added - 1e-9)
        scores = self._scores(self.curves.images + added)
        score_low, score, score_high = (float(q) for q in np.quantile(scores, _SURE))
        chosen = dict(zip(self.curves.names, whole.astype(int).tolist(), strict=True))
        return Route(
            images={} if middle is None else chosen,
            total=_total(middle),
            low=_total(low),
            high=_total(high),
            cost=self._cost(middle),
            cost_low=self._cost(low),
            cost_high=self._cost(high),
            score=score,
            score_low=score_low,
            score_high=score_high,
        )

    def _cost(self, added: FloatArray | None) -> float | None:
        if added is None or not self.priced:
            return None
        return round(float(np.ceil(added - 1e-9) @ self.price), 2)


def _total(added: FloatArray | None) -> int | None:
    return None if added is None else int(np.ceil(added - 1e-9).sum())
