"""Build the record of a comparison of strategies as plain data."""

import math
from typing import TYPE_CHECKING, Literal, cast

from pytest_datasize.reports.records.record_types import ComparisonRecord
from pytest_datasize.reports.records.text import each_text, sendable

if TYPE_CHECKING:
    from pytest_datasize.study.compare import Comparison


def comparison_record(found: "Comparison", nodeid: str) -> ComparisonRecord:
    """Return a comparison as plain data, in images of the whole data set."""
    held_out = next(iter(found.results.values())).held_out

    def images(training: float) -> int | None:
        return None if math.isinf(training) else int(held_out.data_set(training))

    def finite(value: float) -> float | None:
        return None if math.isinf(value) else value

    record: ComparisonRecord = {
        "nodeid": nodeid,
        "metric": found.metric,
        "target": found.target,
        "source": found.source,
        "images": int(held_out.data_set(found.available)),
        "unit": cast(Literal["image", "group"], found.unit),
        "fewest": found.fewest,
        "strategies": [
            {
                "name": row.name,
                "score": row.score,
                "score_low": row.interval.low,
                "score_high": row.interval.high,
                "required": images(row.required),
                "required_low": images(row.required_interval.low),
                "required_high": images(row.required_interval.high),
                "best": row.ceiling.mean,
                "best_low": row.ceiling.low,
                "best_high": row.ceiling.high,
                "seconds": row.seconds,
                "lost": list(row.lost[1:]),
            }
            for row in found.rows
        ],
        "worth": [
            {
                "name": one.name,
                "against": one.against,
                "times": finite(one.times),
                "low": finite(one.low),
                "high": finite(one.high),
            }
            for one in found.worth
        ],
        "text": str(found),
    }
    return each_text(record, sendable)
