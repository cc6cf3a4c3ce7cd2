"""Write the numbers of a gate as JUnit properties, through ``user_properties``.

Each property belongs to its test case, because suite properties are lost under pytest-xdist.
"""

from collections.abc import Iterator, Mapping, Sequence

import pytest

from pytest_datasize.reports.records.record_numbers import NUMBERS
from pytest_datasize.reports.records.record_types import Record
from pytest_datasize.reports.records.selection import is_judged, target_name
from pytest_datasize.reports.records.text import one_line

PREFIX = "datasize."
_FIELDS = ("verdict", "target", *NUMBERS)


def note_properties(
    item: pytest.Item, report: pytest.TestReport, records: Sequence[Record]
) -> None:
    """Add the numbers to a test and its report; those of an earlier attempt are replaced."""
    others = [pair for pair in item.user_properties if not str(pair[0]).startswith(PREFIX)]
    item.user_properties[:] = [*others, *properties(records)]
    report.user_properties = list(item.user_properties)


def properties(records: Sequence[Record]) -> Iterator[tuple[str, object]]:
    """Yield name and value of every property.

    Names are ``datasize.<metric>.<field>``; those of a test's second requirement begin with
    ``datasize.2.``. A required number that does not exist is ``none``.

    Examples
    --------
    >>> plain = {"metric": None, "order": 0, "verdict": "skipped"}
    >>> list(properties([plain]))
    [('datasize.verdict', 'skipped')]
    """
    for record in records:
        if not is_judged(record):
            yield f"{PREFIX}verdict", record["verdict"]
            continue
        which = f"{record['order'] + 1}." if record["order"] else ""
        start = f"{PREFIX}{which}{target_name(record)}."
        values: Mapping[str, object] = record
        for field in _FIELDS:
            value = values[field]
            yield f"{start}{field}", "none" if value is None else value
        if record["class"] is not None:
            yield f"{start}class", one_line(record["class"])
        if part := record.get("slice"):
            yield f"{start}slice", one_line(f"{part['factor']}={part['value']}")
        if record["baseline"]:
            yield f"{start}baseline", record["baseline"]["text"]
