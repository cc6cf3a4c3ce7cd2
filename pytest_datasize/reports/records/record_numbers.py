"""Extract the numbers of a judgement, with names for experiment trackers."""

import re
from collections.abc import Iterable, Mapping

from pytest_datasize.reports.records.record_types import GateRecord
from pytest_datasize.reports.records.selection import target_name

NUMBERS = (
    "required",
    "required_low",
    "required_high",
    "available",
    "score_at_available",
    "score_at_available_low",
    "score_at_available_high",
    "ceiling",
    "ceiling_low",
    "ceiling_high",
    "probability_sufficient",
)
"""Numeric fields of a judged record; None if a number does not exist."""

LOGGED = (
    "score_at_available",
    "score_at_available_low",
    "score_at_available_high",
    "target",
    "ceiling",
    "required",
    "available",
    "probability_sufficient",
)


def numbers(records: Iterable[GateRecord]) -> dict[str, float]:
    """Return name → number; a required number that does not exist is left out.

    Examples
    --------
    >>> record = dict.fromkeys(LOGGED, 0.5) | {"nodeid": "tests/test_a.py::test[x]", "order": 0,
    ...     "metric": "accuracy", "required": None}
    >>> sorted(numbers([record]))[0]
    'datasize/tests/test_a.py/test_x/accuracy/available'
    """
    return {
        f"{title(record)}/{field}": value
        for record in records
        for field in LOGGED
        if (value := number(record, field)) is not None
    }


def number(record: Mapping[str, object], field: str) -> float | None:
    """Return a number of a record, or None.

    Raises
    ------
    TypeError
        The field is not a number: the file was edited.
    """
    value = record[field]
    if value is None:
        return None
    if not isinstance(value, (int, float)):
        raise TypeError(f"{field} is {type(value).__name__}, not a number")
    return float(value)


def title(record: GateRecord) -> str:
    """Name a requirement with characters that every tracker accepts."""
    which = f"_{record['order'] + 1}" if record["order"] else ""
    name = re.sub(r"[^\w./ -]+", "_", record["nodeid"].replace("::", "/"), flags=re.ASCII)
    return f"datasize/{name.strip('_')[:150]}{which}/{target_name(record)}"


def parameters(records: Iterable[GateRecord]) -> dict[str, str]:
    """Return the settings of all requirements; several values are joined."""
    found: dict[str, list[str]] = {}
    for record in records:
        shown: Mapping[str, object] = record
        for field in ("backbone", "strategy", "image_size", "law", "seed", "source", "device"):
            values = found.setdefault(f"datasize_{field}", [])
            if str(shown[field]) not in values:
                values.append(str(shown[field]))
    return {name: ", ".join(values)[:500] for name, values in found.items()}
