"""What several reports say about a run as a whole."""

from collections.abc import Sequence
from typing import Any

Record = dict[str, Any]


def failures(records: Sequence[Record]) -> list[Record]:
    """Return the judged requirements that failed their test, in order."""
    return [record for record in records if record["failed"] and record["metric"] is not None]


def headline(records: Sequence[Record]) -> str:
    """Say in a line how a run went.

    Examples
    --------
    >>> headline([])
    'no requirement was judged'
    """
    judged = [record for record in records if record["metric"] is not None]
    failed = len(failures(records))
    errors = sum(record["verdict"] == "error" for record in records)
    skipped = sum(record["verdict"] == "skipped" for record in records)
    unmet = sum(record["verdict"] != "sufficient" for record in judged)
    said = []
    if judged:
        noun = "requirement" if len(judged) == 1 else "requirements"
        said.append(
            f"{failed} of {len(judged)} {noun} failed"
            if failed
            else f"all {len(judged)} {noun} met"
            if len(judged) > 1
            else "the requirement is met"
        )
        if unmet and not failed:  # expected failures, and doubts that only warn
            said = [f"no requirement failed, {unmet} of {len(judged)} not met"]
    checks = [record for record in records if "check" in record]
    if checks:
        lost = sum(record["failed"] for record in checks)
        noun = "condition" if len(checks) == 1 else "conditions"
        said.append(
            f"{lost} of {len(checks)} {noun} failed" if lost else f"{len(checks)} {noun} met"
        )
    said += [f"{errors} could not be judged"] * bool(errors)
    said += [f"{skipped} skipped"] * bool(skipped)
    return ", ".join(said) or "no requirement was judged"
