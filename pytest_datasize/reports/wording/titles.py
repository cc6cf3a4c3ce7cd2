"""Say in a few words what failed, for the title of an annotation."""

from pytest_datasize.reports.records.record_types import Record
from pytest_datasize.reports.records.selection import is_condition, is_judged, units
from pytest_datasize.reports.records.text import one_line
from pytest_datasize.reports.wording import explain

_BY_VERDICT = {
    "unreachable": "Target out of reach",
    "undecided": "Undecided: more certainty is required",
}


def title(record: Record) -> str:
    """Return what failed."""
    if is_condition(record) and record["check"]["kind"] == "represents":
        return "Not the right images"
    if is_judged(record) and record["verdict"] in _BY_VERDICT:
        return _BY_VERDICT[record["verdict"]]
    if is_judged(record) and record["verdict"] == "sufficient":
        return f"More {units(record)} needed than before"
    if is_judged(record) or is_condition(record):
        return f"Not enough {units(record)}"
    return "Images could not be judged"


def text(record: Record) -> str:
    """Return what was found, in one line."""
    return one_line(explain.sentence(record) if is_judged(record) else record["message"])
