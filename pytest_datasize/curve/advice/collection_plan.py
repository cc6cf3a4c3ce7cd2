"""Plan which classes to collect images of: a number of images, or money, spread over the classes.

A greedy path adds images step by step to the class where the expected score rises most per money.
It never asks for more images than the learning curve of the metric says are missing, and ends
where the target is more likely met than not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from pytest_datasize.curve.advice.class_curves import ClassCurves
from pytest_datasize.curve.laws import FloatArray

FURTHEST: Final = 16.0
"""A path ends at this multiple of today's images; beyond, a projection is too uncertain to plan."""

_STEP: Final = 0.02
_QUANTILES: Final = (0.05, 0.5, 0.95)
_MOST_CANDIDATES: Final = 24
_FEW: Final = slice(None, None, 4)
"""Every fourth draw is used to choose the next class; all draws are used to judge."""

Combine = Callable[[FloatArray], FloatArray]

SCORES: Final[Mapping[str, Combine]] = {
    "recall_per_class": lambda recalls: recalls.min(axis=-1),
    "balanced_accuracy": lambda recalls: recalls.mean(axis=-1),
}
"""Metric → its score from the recalls of the classes (..., C).

Only metrics for which plans that were carried out surely beat today's proportions
(``benchmarks/collection.py``).
"""


@dataclass(frozen=True)
class Route:
    """New images by class, and the score that they bring.

    Attributes
    ----------
    images
        Class name → images to add; their sum is what was asked for, or less.
    total
        Images to add in total.
    cost
        Their price.
    score, score_low, score_high
        Projected score with the added images, and its 90 % interval.
    """

    images: Mapping[str, int]
    total: int
    cost: float
    score: float
    score_low: float
    score_high: float


@dataclass(frozen=True)
class Collection:
    """The same number of images spread by class, and the score if they keep today's proportions."""

    by_class: Route
    proportional: float


def plan_collection(
    curves: ClassCurves, combine: Combine, images: int, target: float = 1.0
) -> Collection:
    """Spread a number of new images over the classes so that the score rises most.

    Parameters
    ----------
    curves
        All classes' curves.
    combine
        The score from the recalls of the classes, such as one of :data:`SCORES`.
    images
        Training images to add, at most.
    target
        Score at which no more images are added.

    Examples
    --------
    >>> from pytest_datasize.curve.advice.class_curves import ClassCurves
    >>> draws = np.random.default_rng(0).standard_normal((400, 2)) * 0.05
    >>> curves = ClassCurves(("often", "rare"), np.array([900.0, 100.0]),
    ...     draws + [3.0, 0.5], np.full((400, 2), 0.8), np.full(400, 0.3), 0 * draws,
    ...     1 + 0 * draws, np.zeros((2, 2)))
    >>> plan = plan_collection(curves, SCORES["recall_per_class"], 300)
    >>> plan.by_class.images
    {'often': 0, 'rare': 300}
    >>> plan.by_class.score > plan.proportional
    True
    """
    course = _Course(curves, combine, np.ones(len(curves.names)))
    now = curves.images
    route = course.spend(float(images), target)
    grown = now * (1.0 + route.total / now.sum())
    return Collection(route, float(np.median(course.scores(grown))))


def within_budget(
    curves: ClassCurves, combine: Combine, prices: Mapping[str, float], budget: float
) -> Route:
    """Spend a budget so that the score rises most; the cost never exceeds it.

    Parameters
    ----------
    curves
        All classes' curves.
    combine
        The score from the recalls of the classes.
    prices
        Class name → price of one training image, above 0 for some class.
    budget
        Money.
    """
    price = np.array([prices[name] for name in curves.names])
    return _Course(curves, combine, price).spend(budget)


@dataclass(frozen=True, eq=False)
class _Course:
    curves: ClassCurves
    combine: Combine
    price: FloatArray

    def spend(self, budget: float, target: float = 1.0) -> Route:
        """Follow the path to the target, or until the budget is spent on whole images."""
        now = self.curves.images
        added = np.zeros(len(now))
        left = budget
        while added.sum() < (FURTHEST - 1.0) * now.sum():
            chosen = self._next(now + added)
            if chosen is None:
                break
            size = max(1.0, float(np.round(_STEP * (now + added).sum())))
            if self.price[chosen] > 0:
                size = min(size, float(np.floor(left / self.price[chosen] + 1e-9)))
            if size < 1.0:
                break
            added[chosen] += size
            left -= size * self.price[chosen]
            if target < 1.0 and float(np.median(self.scores(now + added))) >= target:
                break
        return self._route(added)

    def scores(self, images: FloatArray) -> FloatArray:
        """Return draws of the score for numbers of images by class."""
        return self.combine(self.curves.recalls(images))

    def _next(self, images: FloatArray) -> int | None:
        """Return the class with the highest gain per money; None if no class helps."""
        size = max(1.0, float(np.round(_STEP * images.sum())))
        few = self._some()
        today = few.curves.recalls(images)
        weakest = np.argsort(np.median(today, axis=0), kind="stable")[:_MOST_CANDIDATES]
        steps = size * np.eye(len(images))[weakest]
        gains = few.combine(few.curves.recalls(images + steps)).mean(axis=0)
        gains = gains - float(few.combine(today).mean())
        best = int(np.argmax(gains / np.maximum(size * self.price[weakest], 1e-12)))
        return int(weakest[best]) if gains[best] > 0 else None

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

    def _route(self, added: FloatArray) -> Route:
        scores = self.scores(self.curves.images + added)
        low, middle, high = (float(q) for q in np.quantile(scores, _QUANTILES))
        return Route(
            images=dict(zip(self.curves.names, added.astype(int).tolist(), strict=True)),
            total=int(added.sum()),
            cost=round(float(added @ self.price), 2),
            score=middle,
            score_low=low,
            score_high=high,
        )
