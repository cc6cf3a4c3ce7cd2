"""Compute the rows of slices and factors of a record, as plain data."""

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, TypedDict, cast

from pytest_datasize.curve.verdict import LEVEL, SliceName
from pytest_datasize.reports.records import record_parts
from pytest_datasize.reports.records.record_parts import FactorRow, SliceRow

if TYPE_CHECKING:
    from pytest_datasize.curve.slices import Slice
    from pytest_datasize.curve.verdict import Judgement
    from pytest_datasize.study.result import StudyResult


class SlicePart(TypedDict, total=False):
    """The part of a record about slices; empty if there are no factors."""

    slice: record_parts.SliceName | None
    slices: list[SliceRow]
    slices_reason: str
    factors: list[FactorRow]


def slices(judged: "Judgement", result: "StudyResult") -> SlicePart:
    """Return the rows of all slices, the one with the worst projected score first."""
    if not result.slices:
        return {}
    decides = judged.slice
    rows = [_row(one, judged, result) for one in result.slices]
    sign = result.outcomes[judged.metric].sign
    rows.sort(key=lambda row: (row["score"] is None, sign * (row["score"] or 0.0), -row["n_test"]))
    return {
        "slice": None if decides is None else cast(record_parts.SliceName, decides._asdict()),
        "slices": rows,
        "slices_reason": result.no_slices(judged.metric),
        "factors": [cast(FactorRow, {**asdict(one), "tells": one.tells}) for one in result.factors],
    }


def _row(one: "Slice", judged: "Judgement", result: "StudyResult") -> SliceRow:
    name = SliceName(one.factor, one.value)
    row: SliceRow = {
        "factor": one.factor,
        "value": one.value,
        "images": one.images,
        "n_test": one.n_test,
        "n_groups": one.n_groups,
        "measured": one.measured.get(judged.metric),
        "score": None,
        "score_low": None,
        "score_high": None,
        "required": None,
        "required_low": None,
        "required_high": None,
        "in_slice": None,
        "in_slice_low": None,
        "in_slice_high": None,
        "probability": None,
        "decides": name == judged.slice,
    }
    curve = result.curves_by_slice.get(judged.metric, {}).get(name)
    if curve is None:
        return row
    sign = result.outcomes[judged.metric].sign
    target = sign * judged.target
    interval = curve.required_interval(target, LEVEL)
    ends = sorted(sign * end for end in curve.interval(judged.available, LEVEL))
    pool = sum(other.images for other in result.slices if other.factor == one.factor)
    share = one.images / pool
    required = [
        judged.held_out.data_set(n) for n in (curve.required(target), interval.low, interval.high)
    ]
    return {
        **row,
        "score": sign * curve.predict(judged.available),
        "score_low": ends[0],
        "score_high": ends[1],
        "required": _whole(required[0]),
        "required_low": _whole(required[1]),
        "required_high": _whole(required[2]),
        "in_slice": _whole(share * required[0]),
        "in_slice_low": _whole(share * required[1]),
        "in_slice_high": _whole(share * required[2]),
        "probability": curve.probability(judged.available, target),
    }


def _whole(images: float) -> int | None:
    return math.ceil(images - 1e-9) if math.isfinite(images) else None
