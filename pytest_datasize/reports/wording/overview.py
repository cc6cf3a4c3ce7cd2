"""Summarise a run as a whole, for several reports."""

from collections.abc import Sequence

from pytest_datasize.reports.records.record_types import Record
from pytest_datasize.reports.records.selection import tally


def headline(records: Sequence[Record]) -> str:
    """Return the outcome of a run in one line.

    Examples
    --------
    >>> headline([])
    'no requirement was judged'
    """
    count = tally(records)
    said = []
    if count.judged:
        noun = "requirement" if count.judged == 1 else "requirements"
        said.append(
            f"{count.failed} of {count.judged} {noun} failed"
            if count.failed
            else f"all {count.judged} {noun} met"
            if count.judged > 1
            else "the requirement is met"
        )
        if count.unmet and not count.failed:  # expected failures, and doubts that only warn
            said = [f"no requirement failed, {count.unmet} of {count.judged} not met"]
    if count.conditions:
        noun = "condition" if count.conditions == 1 else "conditions"
        said.append(
            f"{count.conditions_failed} of {count.conditions} {noun} failed"
            if count.conditions_failed
            else f"{count.conditions} {noun} met"
        )
    said += [f"{count.errors} could not be judged"] * bool(count.errors)
    said += [f"{count.skipped} skipped"] * bool(count.skipped)
    return ", ".join(said) or "no requirement was judged"
