"""Compute the numbers that follow from the rest of a judged record, once for all reports."""

import math
from collections.abc import Mapping
from typing import Any

from pytest_datasize.curve.counts import CLOSE
from pytest_datasize.curve.held_out import HeldOut
from pytest_datasize.reports.records.record_parts import (
    Converted,
    DataSet,
    Derived,
    Missing,
    RequiredImages,
)
from pytest_datasize.reports.records.record_types import GateRecord
from pytest_datasize.requirement.units import GROUP, IMAGE


def with_derived(record: GateRecord) -> GateRecord:
    """Return a record with its derived numbers; those of an earlier version are replaced."""
    return {**record, "derived": derive(record)}


def derive(record: GateRecord) -> Derived:
    """Compute the derived numbers that reports show besides the measured and projected ones."""
    required, counts = record["required"], record["class_counts"].values()
    advice = record.get("advice")
    labels = advice["labels"] if advice else None
    parameters = advice.get("parameters") if advice else None
    return {
        "missing": missing(record),
        "data_set": (found := data_set(record)),
        "converted": converted(record, found),
        "close": record["confidence"] is None
        and CLOSE[0] <= record["probability_sufficient"] <= CLOSE[1],
        "times_measured": None if required is None else required / record["sizes"][-1],
        "probability_insufficient": 1 - record["probability_sufficient"],
        "repeats": {
            "least": [min(repeats) for repeats in record["scores"]],
            "most": [max(repeats) for repeats in record["scores"]],
        },
        "class_images": {"least": min(counts), "most": max(counts)},
        "label_gain": labels["number"] / labels["judged"] if labels and labels["judged"] else None,
        "frozen_parameters": parameters["in_all"] - parameters["trained"] if parameters else None,
    }


def converted(record: GateRecord, found: DataSet) -> Converted | None:
    """Convert images to groups, or groups to images; None if no groups are known."""
    groups = record.get("groups")
    if not groups:
        return None
    per_group = groups["images"] / groups["number"]
    counted = record.get("unit", IMAGE)
    factor = per_group if counted == GROUP else 1.0 / per_group

    def other(number: int | None) -> int | None:
        return None if number is None else math.ceil(number * factor - 1e-9)

    return {
        "unit": "image" if counted == GROUP else "group",
        "per_group": per_group,
        "today": groups["images"] if counted == GROUP else groups["number"],
        "required": other(found["required"]),
        "missing": other(found["missing"]),
    }


def missing(record: GateRecord) -> Missing | None:
    """Return how many images are missing; None if no known number suffices."""
    required, low, high = (record["required"], record["required_low"], record["required_high"])
    if required is None:
        return None
    available = record["available"]
    return {
        "images": max(required - available, 0),
        "low": max((required if low is None else low) - available, 0),
        "high": None if high is None else max(high - available, 0),
    }


def held_out_of(record: Mapping[str, Any]) -> HeldOut:
    """Return what is held out; nothing for records of earlier versions, which do not say."""
    given = record.get("held_out")
    return HeldOut(given["share"], given["images"]) if given else HeldOut()


def in_all(record: Mapping[str, Any]) -> RequiredImages:
    """Return the required number and its interval in images of the data set."""
    held_out = held_out_of(record)

    def whole(training: int | None) -> int | None:
        return None if training is None else int(held_out.data_set(training))

    return {
        "required": whole(record["required"]),
        "required_low": whole(record["required_low"]),
        "required_high": whole(record["required_high"]),
    }


def smallest_measured(record: Mapping[str, Any]) -> int:
    """Return the smallest measured size, in images of the data set; 0 if a past run kept none."""
    if "sizes" not in record:
        return 0
    return int(held_out_of(record).data_set(record["sizes"][0]))


def data_set(record: GateRecord) -> DataSet:
    """Convert the numbers of training images to images of the data set."""
    held_out = held_out_of(record)
    today = int(held_out.data_set(record["available"]))

    def more(images: int | None) -> int | None:
        return None if images is None else max(images - today, 0)

    found = in_all(record)
    training = record.get("required_sure", record["required_high"])
    sure = None if training is None else int(held_out.data_set(training))
    return {
        "images": today,
        **found,
        "sure": sure,
        "missing": more(found["required"]),
        "missing_low": more(found["required_low"]),
        "missing_high": more(found["required_high"]),
        "missing_sure": more(sure),
    }
