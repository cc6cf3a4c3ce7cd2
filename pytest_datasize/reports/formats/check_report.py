"""Write the report of ``--datasize=check``: the findings for each data set, worst first."""

from typing import Any

from pytest_datasize.reports.records.record_types import CheckRecord
from pytest_datasize.reports.records.selection import by_data_set, unit_of, worst_first
from pytest_datasize.reports.records.text import one_line, printable
from pytest_datasize.requirement.units import GROUP

MOST_SHOWN = 5
_COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}


def write(reporter: Any, records: list[CheckRecord]) -> None:
    """Write one block per data set; gates on the same one share it. ``-v`` lists everything."""
    for record, gates in by_data_set(records):
        _block(reporter, record, gates)


def _block(reporter: Any, record: CheckRecord, gates: list[str]) -> None:
    counts = ", ".join(f"{one_line(name)} {n:,}" for name, n in record["class_counts"].items())
    more = f" and {len(gates) - 1} more" if len(gates) > 1 else ""
    reporter.write_line(f"{printable(gates[0])}{more}")
    reporter.write_line(f"  images   {record['total']:,} from {one_line(record['source'])}")
    reporter.write_line(f"  classes  {counts}")
    if record["available"] is not None:
        groups = " groups" if unit_of(record) == GROUP else ""
        reporter.write_line(f"  split    {record['available']:,}{groups} to train on")
    found = worst_first(record["checks"])
    for check in found:
        level = check["level"]
        reporter.write(f"  {level:<7}  ", **{_COLOURS[level]: True})
        first, *rest = printable(check["text"]).splitlines()
        reporter.write_line(f"{first} [{check['check']}]")
        names = check["names"]
        if all(printable(name) in first for name in names):
            names = []  # the first line is complete
        shown = names if reporter.verbosity > 0 else names[:MOST_SHOWN]
        for line in [*rest, *(printable(name) for name in shown)]:
            reporter.write_line(f"             {line}")
        if left := check["count"] - len(shown):
            reporter.write_line(f"             and {left:,} more") if shown else None
    if not found:
        reporter.write_line("  nothing odd was found")
