"""What a session adds to the records of a gate: whose they are, and which of them fail the test.

Records of the same evidence are the same in every session; a baseline, a place in a file and what
a doubt does are not.
"""

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest

from pytest_datasize.errors import DatasizeWarning
from pytest_datasize.plugin.source_lines import places
from pytest_datasize.reports.records.baseline import Baseline
from pytest_datasize.reports.records.text import each_text, sendable
from pytest_datasize.requirement.settings import Settings

Record = dict[str, Any]


def decided(
    item: pytest.Item,
    settings: Sequence[Settings],
    found: Sequence[Iterable[Record]],
    baseline: Baseline | None,
    conditions: Sequence[Record] = (),
) -> list[Record]:
    """Return the records of a test; ``failed`` in each says whether it fails the test.

    Parameters
    ----------
    item
        The test.
    settings
        Those of each of its requirements, in reading order.
    found
        The records of each; they stay as they are.
    baseline
        An earlier run to compare with.
    conditions
        Records of what was judged without training; each says whether it failed.
    """
    where = places(item, len(settings))
    placed = [
        {**record, "nodeid": sendable(item.nodeid), "file": file, "line": line}
        for record in conditions
        for file, line in [where[record["order"]]]
    ]
    return placed + [
        record
        for order, (mine, records, (file, line)) in enumerate(
            zip(settings, found, where, strict=True)
        )
        for record in _of_one(
            {"nodeid": sendable(item.nodeid), "order": order, "file": file, "line": line},
            mine,
            records,
            baseline,
        )
    ]


def _of_one(
    place: Record, settings: Settings, found: Iterable[Record], baseline: Baseline | None
) -> Iterator[Record]:
    """Complete the records of one requirement."""
    plain = {name: _plain(value) for name, value in settings.values.items()}
    for known in found:
        record = {
            **known,
            **place,
            "failed": known["verdict"] != "sufficient",
            "notes": list(known["notes"]),
            "settings": each_text(plain, sendable),
            "baseline": None,
        }
        if record["verdict"] == "undecided" and settings["undecided"] == "warn":
            warnings.warn(DatasizeWarning(record["message"]), stacklevel=1)
            record["failed"] = False
        if baseline is not None:
            change = baseline.change(record, settings["max_increase"], settings["confidence"])
            record["baseline"] = change
            record["failed"] |= change["exceeded"]
        elif settings["max_increase"] is not None:
            record["notes"].append(
                "max_increase was not judged: give --datasize-baseline=PATH to compare with"
            )
        yield record


def _plain(value: Any) -> Any:
    """Write an option's value: itself where JSON has it, an open end as null, else its type."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        return [_plain(entry) for entry in value]
    if isinstance(value, dict):
        return {str(name): _plain(entry) for name, entry in value.items()}
    return f"<{type(value).__name__}>"
