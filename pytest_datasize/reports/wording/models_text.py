"""Say which models stand behind a verdict, and whether better training was tried."""

import math

from pytest_datasize.curve.counts import beside
from pytest_datasize.reports.records.record_parts import Model
from pytest_datasize.reports.records.record_types import GateRecord
from pytest_datasize.reports.records.selection import units
from pytest_datasize.reports.records.text import one_line

_REASON = 160
"""Longest reason of a model that was not tried, in characters."""

_ROUND = 60
"""A time limit that is suggested is a multiple of this many seconds."""


def lines(record: GateRecord) -> list[str]:
    r"""Return a line for each model; none if there is only one.

    Examples
    --------
    >>> found = {"name": "small input", "strategy": "feature_extraction", "image_size": 96,
    ...     "features": "", "judged": False, "verdict": "insufficient", "score": 0.81,
    ...     "score_low": 0.78, "score_high": 0.83, "required": 2300, "probability": 0.2,
    ...     "level": 0.5, "seconds": None, "reason": ""}
    >>> print(*lines({"models": [found, {**found, "judged": True, "image_size": 224}]}), sep="\n")
    feature_extraction at 96 pixels: 0.810 (0.780 to 0.830)
    feature_extraction at 224 pixels: 0.810 (0.780 to 0.830); this one is judged
    """
    found = record.get("models", [])
    return [_line(model) for model in found] if len(found) > 1 else []


def name(model: Model) -> str:
    """Name a model by its strategy and the side of its input."""
    side = f" at {model['image_size']} pixels" if model["image_size"] else ""
    return f"{model['strategy']}{side}"


def _line(model: Model) -> str:
    if model["reason"]:
        return f"{name(model)}: not tried: {one_line(model['reason'], _REASON)}"
    judged = "; this one is judged" if model["judged"] else ""
    return (
        f"{name(model)}: {model['score']:.3f} ({model['score_low']:.3f} to "
        f"{model['score_high']:.3f}){judged}"
    )


def second_look(record: GateRecord) -> str:
    """Say how to try better training, if nobody has; empty if there is nothing to say."""
    found = {model["name"]: model for model in record.get("models", [])}
    look, asked = found.get("second look"), found.get("as asked")
    if record["verdict"] == "sufficient":
        return ""  # see how_to_reach_it
    if asked is not None and asked["strategy"] == "feature_extraction":
        return (
            "Train better first: strategy='auto' or 'fine_tuning' may need fewer "
            f"{units(record)} (not tried)"
        )
    if look is None or not look["reason"]:
        return ""
    if look["seconds"] is None:
        return f"Train better first (not tried: {one_line(look['reason'], _REASON)})"
    minutes = max(1, math.ceil(1.5 * look["seconds"] / _ROUND))
    about = max(1, round(look["seconds"] / _ROUND))
    return f"Train better first (about {about} min): --datasize-second-look={minutes}m"


def how_to_reach_it(record: GateRecord) -> str:
    """Say how to train, if the target is met only with better training; else empty."""
    found = record.get("models", [])
    judged = next((model for model in found if model["judged"]), None)
    short = [model for model in found if not model["judged"] and not model["reason"]]
    met = record["verdict"] == "sufficient"
    if judged is None or not short or judged["name"] != "second look" or not met:
        return ""
    scores = [model["score"] or 0.0 for model in short]
    target = record["target"]
    higher = record["score_at_available"] >= target  # as it is met, so the metric is one to raise
    best = max(scores) if higher else min(scores)
    if best >= target if higher else best <= target:  # other targets of the gate went on to it
        return ""
    return (
        f"The {units(record)} suffice if the backbone is fine-tuned (strategy='fine_tuning'): a "
        f"head on the frozen backbone falls short with {beside(best, target)}."
    )
