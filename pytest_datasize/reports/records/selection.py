"""Select, sort and count the records that a report shows."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeGuard

from pytest_datasize.reports.records.record_parts import ClassRow
from pytest_datasize.reports.records.record_types import (
    CheckRecord,
    ConditionRecord,
    DataCheck,
    GateRecord,
    PlanRecord,
    Record,
)
from pytest_datasize.requirement.checks import LEVELS
from pytest_datasize.requirement.units import IMAGE, plural

MOST_DOUBTFUL = 0.3
"""If the model contradicts a larger share of the labels, it is the model that is wrong."""


def unit_of(record: Mapping[str, Any]) -> str:
    """Return what the numbers of a record count: ``image`` or ``group``."""
    return str(record.get("unit", IMAGE))


def units(record: Mapping[str, Any]) -> str:
    """Return what the numbers of a record count, in the plural."""
    return plural(unit_of(record))


def is_judged(record: Any) -> TypeGuard[GateRecord]:
    """Whether a record holds the verdict on a metric."""
    return record["metric"] is not None


def target_name(record: Mapping[str, Any]) -> str:
    """Return the name of a target, unique in its requirement: the metric, or `min_slice.` and it.

    Examples
    --------
    >>> target_name({"metric": "accuracy"}), target_name({"metric": "accuracy", "slice": {}})
    ('accuracy', 'accuracy')
    >>> target_name({"metric": "accuracy", "slice": {"factor": "site", "value": "B"}})
    'min_slice.accuracy'
    """
    metric = str(record["metric"])
    return f"min_slice.{metric}" if record.get("slice") else metric


def is_planned(record: Record) -> TypeGuard[PlanRecord]:
    """Whether a record is a plan of training."""
    return record["verdict"] == "planned"


def is_checked(record: Record) -> TypeGuard[CheckRecord]:
    """Whether a record is a data check."""
    return "checks" in record


def is_condition(record: Record) -> TypeGuard[ConditionRecord]:
    """Whether a record holds the verdict on a condition without training."""
    return "check" in record


def judged(records: Iterable[Record]) -> list[GateRecord]:
    """Return the judged requirements."""
    return [record for record in records if is_judged(record)]


def planned(records: Iterable[Record]) -> list[PlanRecord]:
    """Return the plans."""
    return [record for record in records if is_planned(record)]


def checked(records: Iterable[Record]) -> list[CheckRecord]:
    """Return the data checks."""
    return [record for record in records if is_checked(record)]


def conditions(records: Iterable[Record]) -> list[ConditionRecord]:
    """Return the conditions."""
    return [record for record in records if is_condition(record)]


def unscored(records: Iterable[Record]) -> list[Record]:
    """Return everything but the judged requirements."""
    return [record for record in records if not is_judged(record)]


def failures(records: Iterable[Record]) -> list[GateRecord]:
    """Return the judged requirements that failed their test."""
    return [record for record in judged(records) if record["failed"]]


def failed_first(records: Iterable[GateRecord]) -> list[GateRecord]:
    """Sort the failed requirements before the others."""
    return sorted(records, key=lambda record: not record["failed"])


def exceeded_only(record: GateRecord) -> bool:
    """Whether a requirement is met, but needs too many more images than in the baseline."""
    change = record["baseline"]
    return bool(change and change["exceeded"]) and record["verdict"] == "sufficient"


def weakest(record: GateRecord, most: int) -> list[ClassRow]:
    """Return the classes with the lowest recall, the lowest first."""
    return sorted(record["classes"], key=lambda row: (row["recall"], row["images"]))[:most]


def warned(record: Record) -> bool:
    """Whether a gate is not met, but only warns: its level is ``warning``."""
    if is_judged(record):
        unmet = record["verdict"] != "sufficient" or exceeded_only(record)
    elif is_condition(record):
        unmet = record["verdict"] == "unmet"
    else:
        return False
    level = record.get("settings", {}).get("level")
    return unmet and not record["failed"] and level == "warning"


def worst_first(checks: Iterable[DataCheck]) -> list[DataCheck]:
    """Sort findings by their level, errors first."""
    return sorted(checks, key=lambda check: LEVELS.index(check["level"]))


def by_data_set(records: Iterable[CheckRecord]) -> list[tuple[CheckRecord, list[str]]]:
    """Return each data set's check with the tests that use it; equal checks are one."""
    found: dict[str, tuple[CheckRecord, list[str]]] = {}
    for record in records:
        key = repr([record["source"], record["checks"], unit_of(record)])
        nodeids = found.setdefault(key, (record, []))[1]
        if record["nodeid"] not in nodeids:
            nodeids.append(record["nodeid"])
    return list(found.values())


def by_gate(records: Iterable[Record]) -> list[list[Record]]:
    """Group records by test and requirement, in order of appearance."""
    gates: dict[tuple[str, int], list[Record]] = {}
    for record in records:
        gates.setdefault((record["nodeid"], record["order"]), []).append(record)
    return list(gates.values())


class Largest(NamedTuple):
    """The classes that need most images, and the sum over the others."""

    named: list[tuple[str, int]]
    other_images: int
    other_classes: int


def largest(images: Mapping[str, int], most: int) -> Largest:
    """Return the classes with most images to add.

    Examples
    --------
    >>> largest({"rust": 120, "dent": 40, "good": 0, "hole": 7}, most=2)
    Largest(named=[('rust', 120), ('dent', 40)], other_images=7, other_classes=1)
    """
    wanted = sorted(((n, name) for name, n in images.items() if n), reverse=True)
    rest = wanted[most:]
    return Largest([(name, n) for n, name in wanted[:most]], sum(n for n, _ in rest), len(rest))
