"""Extract the plain data that a drawing needs from the evidence of a requirement.

Renderers only draw and never compute, so that they can also draw from a JSON file.
"""

import math
from typing import TYPE_CHECKING

from pytest_datasize.reports.records.record_parts import ClassRow, Curve, Evidence, Fit, Measured
from pytest_datasize.reports.records.record_types import GateRecord

if TYPE_CHECKING:
    from pytest_datasize.curve.learning_curve import LearningCurve
    from pytest_datasize.curve.outcomes import Outcomes
    from pytest_datasize.curve.verdict import Judgement
    from pytest_datasize.study.result import StudyResult

_POINTS = 48
_BEYOND = 2.0
"""A drawn curve ends at this multiple of the available or required images."""

_FURTHEST = 100.0
"""Largest multiple of the largest measured size in a drawing: beyond, it is flat or unknown."""


def evidence(judged: "Judgement", result: "StudyResult") -> Evidence:
    """Return scores, their means, the curve and the data of its fit, for one judgement."""
    outcomes, curve = result.outcomes_of(judged), result.curve_of(judged)
    return {
        "sizes": list(outcomes.sizes),
        "scores": [list(repeats) for repeats in outcomes.given],
        "measured": _measured(outcomes),
        "curve": _curve(curve, judged, outcomes.sign),
        "fit": _fit(outcomes),
        "classes": _classes(result, judged),
    }


def score_bounds(record: GateRecord) -> tuple[float, float]:
    """Return the least and the greatest possible score; infinite where there is no bound.

    Examples
    --------
    >>> score_bounds({"fit": {"bounds": [None, 0.0], "sign": -1}})
    (0.0, inf)
    """
    low, high = record["fit"]["bounds"]
    ends = (-math.inf if low is None else low, math.inf if high is None else high)
    return ends if record["fit"]["sign"] > 0 else (0.0 - ends[1], 0.0 - ends[0])


Interval = tuple[float, float, float]
"""Middle, low and high."""


def at(curve: Curve, n: float) -> Interval:
    """Interpolate median and interval of a curve between its points, linear in log(n).

    Examples
    --------
    >>> line = {"n": [10, 1000], "score": [0.5, 0.7], "low": [0.4, 0.6], "high": [0.6, 0.8]}
    >>> [round(score, 3) for score in at({**line, "level": 0.9}, 100)]
    [0.6, 0.5, 0.7]
    """
    sizes = curve["n"]
    after = next((i for i, size in enumerate(sizes) if size >= n), len(sizes) - 1)
    if after == 0:
        return curve["score"][0], curve["low"][0], curve["high"][0]
    share = math.log(n / sizes[after - 1]) / math.log(sizes[after] / sizes[after - 1])

    def between(values: list[float]) -> float:
        return values[after - 1] + min(share, 1.0) * (values[after] - values[after - 1])

    return between(curve["score"]), between(curve["low"]), between(curve["high"])


def _given(interval: Interval, sign: int) -> Interval:
    """Flip the signs back for metrics where lower is better."""
    middle, low, high = interval
    return interval if sign > 0 else (-middle, -high, -low)


def _measured(outcomes: "Outcomes") -> Measured:
    """Return the mean score per size, with the 90 % interval of training and test sampling."""
    points = [_given(_mean(outcomes, index), outcomes.sign) for index in range(len(outcomes.sizes))]
    mean, low, high = ([point[i] for point in points] for i in range(3))
    return {"mean": mean, "low": low, "high": high}


def _mean(outcomes: "Outcomes", index: int) -> Interval:
    from pytest_datasize.curve.self_check import half_width

    scores = outcomes.scores[index]
    mean, half = math.fsum(scores) / len(scores), half_width(outcomes, index)
    low, high = outcomes.bounds
    return mean, max(mean - half, low), min(mean + half, high)


def _curve(curve: "LearningCurve", judged: "Judgement", sign: int) -> Curve:
    """Return median and 90 % interval of the true score, from the smallest size to the end."""
    from pytest_datasize.curve.verdict import LEVEL

    first, last = curve.sizes[0], curve.sizes[-1]
    wanted: list[float] = [last, judged.available]
    wanted += [judged.required] if math.isfinite(judged.required) else [4 * judged.available]
    end = min(_BEYOND * max(wanted), _FURTHEST * max(last, judged.available))
    step = (end / first) ** (1 / (_POINTS - 1))
    grid = sorted({round(first * step**i) for i in range(_POINTS)})
    points = [_given((curve.predict(n), *curve.interval(n, LEVEL)), sign) for n in grid]
    score, low, high = ([round(point[i], 6) for point in points] for i in range(3))
    return {"level": LEVEL, "n": grid, "score": score, "low": low, "high": high}


def _fit(outcomes: "Outcomes") -> Fit:
    """Return all inputs of the fit besides the scores, so that the curve can be fitted again."""
    return {
        "n_test": outcomes.n_test,
        "pool": outcomes.pool,
        "test_covariance": outcomes.test_covariance.tolist(),
        "split_variance": outcomes.split_variance.tolist(),
        "bounds": [end if math.isfinite(end) else None for end in outcomes.bounds],
        "sign": 1 if outcomes.sign > 0 else -1,
    }


def _classes(result: "StudyResult", judged: "Judgement") -> list[ClassRow]:
    """Return for every class: images, recall at the largest size, required images if judged."""
    from pytest_datasize.curve.verdict import LEVEL

    rows: list[ClassRow] = []
    for name, outcomes in result.recalls.items():
        recall, low, high = _mean(outcomes, -1)
        row: ClassRow = {
            "name": name,
            "images": result.class_counts[name],
            "recall": recall,
            "recall_low": low,
            "recall_high": high,
        }
        goal = judged.class_targets.get(name) if judged.class_targets else judged.target
        curve = result.curves_by_class.get(judged.metric, {}).get(name)
        if goal is not None and curve is not None:
            goal *= result.outcomes[judged.metric].sign
            low, high = curve.required_interval(goal, LEVEL)
            row["required"] = _whole(curve.required(goal))
            row["required_low"], row["required_high"] = _whole(low), _whole(high)
        rows.append(row)
    return rows


def _whole(images: float) -> int | None:
    return int(images) if math.isfinite(images) else None
