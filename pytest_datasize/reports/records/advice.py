"""Compute the ``advice`` of a record: what to do about a judged requirement, as plain data."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from pytest_datasize.curve.advice.collection_plan import (
    SCORES,
    Combine,
    Route,
    plan_collection,
    within_budget,
)
from pytest_datasize.curve.advice.rules import WORD, rule_of, short_classes
from pytest_datasize.curve.counts import two_digits
from pytest_datasize.curve.verdict import LEVEL, Status
from pytest_datasize.reports.records.advice_types import (
    Advice,
    ClassAdvice,
    Collection,
    Money,
    Parameters,
    RuleOfThumb,
    Spent,
    Step,
)
from pytest_datasize.reports.records.prices import (
    Prices,
    mean_price,
    price_of_group,
    prices_of_classes,
    unpriced,
)
from pytest_datasize.requirement.units import GROUP, IMAGE

if TYPE_CHECKING:
    from pytest_datasize.curve.advice.class_curves import ClassCurves
    from pytest_datasize.curve.verdict import Judgement
    from pytest_datasize.study.result import StudyResult

STEPS = (0.15, 0.4, 0.75, 1.5)
"""More images, as shares of today's, of which the reports say what they would bring."""

MOST_CLASSES = 100
"""With more classes no allocation is searched, and only the weakest are listed."""

WITHOUT_INTERVAL: Mapping[str, str] = {
    "images of each class to collect": "a choice, not an estimate; their sum has an interval",
    "score in today's proportions": "shown to compare with the plan, whose score has one",
    "rules of thumb, images per class, prices and what a budget pays for": "given or counted",
    "doubtful labels": "counted; how many of them are wrong only a look tells",
    "probability of a label or of a verdict": "it says itself how unsure it is",
    "images that are not near-copies of another": "counted; copies that were not found are not in "
    "it, and the documentation says how many are found",
    "agreement of neighbours by chance": "follows from the number of images of each class",
    "parameters per image": "counted",
    "repeats or test images that would decide": "rough: the spread behind it is an estimate itself",
}
"""Number in the advice → why it has no interval."""


class _Projected(TypedDict):
    score: float
    score_low: float
    score_high: float
    probability: float


def advice(
    judged: "Judgement",
    result: "StudyResult",
    prices: Prices,
    budget: float | None,
    group_price: float | None = None,
) -> Advice | None:
    """Return the advice; None if the evidence lacks the data for it.

    Parameters
    ----------
    judged
        The judgement.
    result
        The evidence.
    prices
        Price of one image; class name → price (``*`` for all others); None.
    budget
        Money for more images.
    group_price
        Price of one group without that of its images, if groups are counted.
    """
    curves = result.grown_classes
    if curves is None:
        return None
    by_class = prices_of_classes(prices, curves.names)
    plan, why_not = _collection(judged, result, curves, by_class)
    return {
        "classes": _classes(curves),
        "collection": plan,
        "collection_reason": why_not,
        "money": _money(judged, result, curves, by_class, budget, group_price),
        "money_reason": unpriced(prices, curves.names),
        "rule": _rule(judged, result),
        "transfer": None,  # filled in by a session that has other strategies' scores
        "neighbours": result.findings["neighbours"],
        "labels": result.findings["labels"],
        "redundancy": result.findings.get("redundancy"),
        "parameters": _parameters(judged, result),
        "steps": _steps(judged, result, by_class, group_price),
        "without_interval": dict(WITHOUT_INTERVAL),
    }


def _steps(
    judged: "Judgement",
    result: "StudyResult",
    prices: dict[str, float] | None,
    group_price: float | None,
) -> list[Step]:
    """Return what more images bring: shares of today's images, and what is missing."""
    price = _price(result, prices, result.class_counts, group_price)
    wanted = {0, *(two_digits(share * judged.images) for share in STEPS)}
    if judged.tellable and judged.missing > 0:
        wanted.add(two_digits(judged.missing))
    found: list[Step] = []
    for more in sorted(wanted):
        cost = None if price is None else round(more * price, 2)
        found.append({"more": more, "cost": cost, **_with_more(judged, result, more)})
    return found


def _with_more(judged: "Judgement", result: "StudyResult", more: int) -> _Projected:
    """Return the score with more images, and the probability that it meets the target."""
    sign = -1 if result.outcomes[judged.metric].sign < 0 else 1  # the curve is of signed scores
    curve = result.curve_of(judged)
    training = max(judged.held_out.training(judged.images + more), 1)
    low, high = sorted(sign * end for end in curve.interval(training, LEVEL))
    return {
        "score": sign * curve.predict(training),
        "score_low": low,
        "score_high": high,
        "probability": curve.probability(training, sign * judged.target),
    }


def _price(
    result: "StudyResult",
    prices: dict[str, float] | None,
    counts: Mapping[str, float],
    group_price: float | None,
) -> float | None:
    """Return the price of one image, or of one group with its images if groups are counted."""
    image = None if prices is None else mean_price(prices, counts)
    if result.unit == IMAGE or (image is None and group_price is None):
        return image
    return price_of_group(image, group_price, result.images_each)


def _classes(curves: "ClassCurves") -> list[ClassAdvice]:
    """Return every class's recall today and with twice its images, from the joint fit.

    With very many classes, only the weakest.
    """
    now = curves.images
    today = curves.recalls(now)
    weakest = np.argsort(np.median(today, axis=0), kind="stable")[:MOST_CLASSES]
    rows: list[ClassAdvice] = []
    for index in sorted(weakest.tolist()):
        more_images = now.copy()
        more_images[index] *= 2.0
        low, middle, high = np.quantile(today[:, index], _QUANTILES)
        doubled = curves.recalls(more_images)[:, index]
        more_low, more, more_high = np.quantile(doubled, _QUANTILES)
        rows.append(
            {
                "name": curves.names[index],
                "images": round(float(now[index])),
                "recall": round(float(middle), 4),
                "recall_low": round(float(low), 4),
                "recall_high": round(float(high), 4),
                "doubled": round(float(more), 4),
                "doubled_low": round(float(more_low), 4),
                "doubled_high": round(float(more_high), 4),
            }
        )
    return rows


_QUANTILES = ((1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2)


def _collection(
    judged: "Judgement",
    result: "StudyResult",
    curves: "ClassCurves",
    prices: dict[str, float] | None,
) -> tuple[Collection | None, str | None]:
    if judged.status is Status.SUFFICIENT:
        return None, None
    if why_not := _no_allocation(judged, curves, result):
        return None, why_not
    wanted = judged.images if math.isinf(judged.missing) else min(judged.missing, judged.images)
    if not wanted:
        return None, None
    images = judged.held_out.training(judged.images + wanted) - judged.available
    plan = plan_collection(curves, _combined(judged, curves), max(images, 1), judged.target)
    route = plan.by_class
    if route.score <= plan.proportional or not route.total:
        return None, "today's proportions are as good as any"
    total = int(judged.more(judged.available + route.total))
    return {
        "total": total,
        "images": _shared_out(total, route.images),
        "score": route.score,
        "score_low": route.score_low,
        "score_high": route.score_high,
        "proportional": plan.proportional,
    }, None


def _combined(judged: "Judgement", curves: "ClassCurves") -> Combine:
    """Return the score from the recalls of all classes.

    If classes have targets of their own, it is the target of the class that decides, plus the
    smallest difference between a recall and its target.
    """
    if not judged.class_targets:
        return SCORES[judged.metric]
    places = [curves.names.index(name) for name in judged.class_targets]
    goals = np.array([*judged.class_targets.values()])
    return lambda recalls: (recalls[..., places] - goals).min(axis=-1) + judged.target


def _shared_out(total: int, weights: Mapping[str, int]) -> dict[str, int]:
    """Split a number in the proportions of some weights; the parts are whole and sum to it."""
    everything = sum(weights.values())
    parts = {name: total * weight // everything for name, weight in weights.items()}
    rest = sorted(weights, key=lambda name: -(total * weights[name] % everything))
    for name in rest[: total - sum(parts.values())]:
        parts[name] += 1
    return parts


def _no_allocation(judged: "Judgement", curves: "ClassCurves", result: "StudyResult") -> str | None:
    if judged.status is Status.UNREACHABLE:
        return "the target lies above the ceiling, so that no images bring it"
    if judged.slice is not None:
        return "slices are assumed to keep their shares; the gain from one of them alone is unknown"
    if result.unit == GROUP:
        return "keep today's mix: a new group has its own classes"
    if judged.metric not in SCORES:
        return (
            f"keep today's proportions: for {judged.metric}, plans by class that were carried out "
            "gained nothing"
        )
    if not judged.tellable:
        return "the number of missing images cannot be told"
    if len(curves.names) > MOST_CLASSES or result.findings["prior_shift"] is None:
        return f"no allocation is searched for more than {MOST_CLASSES} classes"
    return None


def _money(
    judged: "Judgement",
    result: "StudyResult",
    curves: "ClassCurves",
    prices: dict[str, float] | None,
    budget: float | None,
    group_price: float | None,
) -> Money | None:
    """Return the cost of the missing images in current proportions, and what a budget buys.

    Images are those of the data set: a test image costs as much as one to train on.
    """
    counts = dict(zip(curves.names, curves.images.tolist(), strict=True))
    price = _price(result, prices, counts, group_price)
    if price is None:
        return None

    def cost(images: float) -> float | None:
        if math.isinf(images):
            return None
        return round(judged.more(images) * price, 2)

    found: Money = {
        "price": round(price, 6),
        "shortfall": cost(judged.required),
        "shortfall_low": cost(judged.required_low),
        "shortfall_high": cost(judged.required_high),
        "budget": budget,
        "buys": None,
        "bought_by_class": None,
    }
    if budget is not None and price > 0:
        images = math.floor(budget / price + 1e-9)
        found["buys"] = {"images": images, **_with_more(judged, result, images)}
        if prices is not None and _no_allocation(judged, curves, result) is None:
            # of what is bought, a part is held out: a training image costs more
            share = 1.0 - judged.held_out.share
            dear = {name: cost / share for name, cost in prices.items()}
            spent = within_budget(curves, _combined(judged, curves), dear, budget)
            found["bought_by_class"] = _bought_by_class(spent, prices, share)
    return found


def _bought_by_class(route: Route, prices: Mapping[str, float], share: float) -> Spent:
    """Convert the training images of a route to images of the data set."""
    images = {name: math.floor(number / share + 1e-9) for name, number in route.images.items()}
    return {
        "images": images,
        "total": sum(images.values()),
        "cost": round(sum(prices[name] * number for name, number in images.items()), 2),
        "score": route.score,
        "score_low": route.score_low,
        "score_high": route.score_high,
    }


def _parameters(judged: "Judgement", result: "StudyResult") -> Parameters | None:
    """Return the parameters per image: shown with ``-v``; they do not affect the verdict."""
    found = result.findings.get("parameters")
    if found is None:
        return None
    return {
        "trained": found["trained"],
        "in_all": found["in_all"],
        "per_image": round(found["trained"] / (judged.available * result.images_each), 4),
        "reason": PARAMETERS_DO_NOT_DECIDE,
    }


PARAMETERS_DO_NOT_DECIDE = (
    "for information only: networks with many times more parameters than images generalise "
    "(Zhang et al. 2017, arXiv:1611.03530), because regularisation and what the weights know "
    "already count as well; the learning curve measures it"
)


def _rule(judged: "Judgement", result: "StudyResult") -> RuleOfThumb:
    """Return the answer of the rule of thumb, and whether the measurement agrees."""
    rule = rule_of(WORD, result.strategy)
    short = short_classes(result.class_counts, rule.images)
    met = not short
    decided = judged.status is not Status.UNDECIDED
    return {
        "images_per_class": rule.images,
        "reason": rule.reason,
        "fewest": min(result.class_counts.values()),
        "met": met,
        "agrees": met == (judged.status is Status.SUFFICIENT) if decided else None,
    }
