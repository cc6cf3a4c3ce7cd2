"""What a drawing needs of the evidence behind one requirement, as plain data.

Renderers draw and never compute: they read these numbers from a JSON file as well.
"""

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_datasize.curve.learning_curve import LearningCurve
    from pytest_datasize.curve.outcomes import Outcomes
    from pytest_datasize.curve.verdict import Judgement
    from pytest_datasize.study.result import StudyResult

_POINTS = 48
_BEYOND = 2.0
"""A drawn curve goes on to so many times what is available or required."""

_FURTHEST = 100.0
"""... and to so many times the largest measured size at most: further on it is flat or unknown."""


def evidence(judged: "Judgement", result: "StudyResult") -> dict[str, Any]:
    """Return scores, their means, the curve and what it was fitted to, for one judgement."""
    if judged.class_name is None:
        outcomes, curve = result.outcomes[judged.metric], result.curves[judged.metric]
    else:
        outcomes = result.class_outcomes[judged.class_name]
        curve = result.class_curves[judged.class_name]
    return {
        "sizes": list(outcomes.sizes),
        "scores": [list(repeats) for repeats in outcomes.given],
        "measured": _as_meant(_measured(outcomes), outcomes.sign),
        "curve": _as_meant(_curve(curve, judged), outcomes.sign),
        "fit": _fit(outcomes),
        "classes": _classes(result, judged),
    }


def _as_meant(drawn: dict[str, Any], sign: int) -> dict[str, Any]:
    """Write the numbers of a score that falls as its author means them: curves are of -score."""
    if sign > 0:
        return drawn
    turned = {
        name: [-value for value in values] if isinstance(values, list) and name != "n" else values
        for name, values in drawn.items()
    }
    return {**turned, "low": turned["high"], "high": turned["low"]}


def _measured(outcomes: "Outcomes") -> dict[str, list[float]]:
    """Mean score at every size, with the 90 % interval of training and test luck."""
    points = [_mean(outcomes, index) for index in range(len(outcomes.sizes))]
    names = ("mean", "low", "high")
    return {name: [point[i] for point in points] for i, name in enumerate(names)}


def _mean(outcomes: "Outcomes", index: int) -> tuple[float, float, float]:
    from pytest_datasize.curve.self_check import half_width

    scores = outcomes.scores[index]
    mean, half = math.fsum(scores) / len(scores), half_width(outcomes, index)
    low, high = outcomes.bounds
    return mean, max(mean - half, low), min(mean + half, high)


def _curve(curve: "LearningCurve", judged: "Judgement") -> dict[str, Any]:
    """Median and 90 % interval of the true score, from the smallest size to beyond the answer."""
    from pytest_datasize.curve.verdict import LEVEL

    first, last = curve.sizes[0], curve.sizes[-1]
    wanted: list[float] = [last, judged.available]
    wanted += [judged.required] if math.isfinite(judged.required) else [4 * judged.available]
    end = min(_BEYOND * max(wanted), _FURTHEST * max(last, judged.available))
    step = (end / first) ** (1 / (_POINTS - 1))
    grid = sorted({round(first * step**i) for i in range(_POINTS)})
    intervals = [curve.interval(n, LEVEL) for n in grid]
    return {
        "level": LEVEL,
        "n": grid,
        "score": [round(curve.predict(n), 6) for n in grid],
        "low": [round(low, 6) for low, _ in intervals],
        "high": [round(high, 6) for _, high in intervals],
    }


def _fit(outcomes: "Outcomes") -> dict[str, Any]:
    """All that the curve was fitted to beside the scores: whoever has it can fit it again."""
    return {
        "n_test": outcomes.n_test,
        "pool": outcomes.pool,
        "test_covariance": outcomes.test_covariance.tolist(),
        "split_variance": outcomes.split_variance.tolist(),
        "bounds": [end if math.isfinite(end) else None for end in outcomes.bounds],
        "sign": outcomes.sign,
    }


def _classes(result: "StudyResult", judged: "Judgement") -> list[dict[str, Any]]:
    """Every class: its images, its recall at the largest size, what it needs if that was asked."""
    from pytest_datasize.curve.verdict import LEVEL

    rows = []
    for name, outcomes in result.class_outcomes.items():
        recall, low, high = _mean(outcomes, -1)
        row = {
            "name": name,
            "images": result.class_counts[name],
            "recall": recall,
            "recall_low": low,
            "recall_high": high,
        }
        if judged.class_name is not None:
            required = result.class_curves[name].required(judged.target)
            low, high = result.class_curves[name].required_interval(judged.target, LEVEL)
            for key, number in (("", required), ("_low", low), ("_high", high)):
                row[f"required{key}"] = int(number) if math.isfinite(number) else None
        rows.append(row)
    return rows
