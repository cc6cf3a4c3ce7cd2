"""Publish to GitHub Actions: the job's summary, and one annotation per failed gate."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pytest_datasize.reports.records.record_types import Record, RunContent
from pytest_datasize.reports.records.selection import by_gate, warned
from pytest_datasize.reports.wording.titles import text, title

MOST_ANNOTATIONS = 10
"""GitHub shows at most this many errors of one step."""


def configured() -> bool:
    """Whether this runs in a job of GitHub Actions."""
    return bool(os.environ.get("GITHUB_STEP_SUMMARY") or _annotates())


def publish(run: RunContent, root: Path, say: Callable[[str], None]) -> None:
    """Append the run to the job's summary, and annotate what failed.

    Parameters
    ----------
    run
        The whole run.
    root
        pytest's root directory, to which the files in the records are relative.
    say
        Prints a line, starting in the first column.
    """
    if named := os.environ.get("GITHUB_STEP_SUMMARY"):
        from pytest_datasize.reports.formats import markdown

        summary = Path(named)
        try:
            used = summary.stat().st_size if summary.exists() else 0
            with summary.open("a", encoding="utf-8", newline="\n") as file:
                file.write(markdown.draw(run, markdown.MOST_BYTES - used))
        except OSError as problem:
            say(f"the job summary cannot be written: {problem}")
    if _annotates():
        for line in annotations(run["requirements"], root):
            say(line)


def annotations(records: Sequence[Record], root: Path) -> Iterator[str]:
    """Yield one workflow command for every gate that failed or warns, at its decorator's line."""
    shown = by_gate(record for record in records if record["failed"] or warned(record))
    shown.sort(key=lambda gate: not any(record["failed"] for record in gate))
    for number, gate in enumerate(shown[:MOST_ANNOTATIONS]):
        name = title(gate[0])
        said = " ".join(text(record) for record in gate)
        if number == MOST_ANNOTATIONS - 1 and len(shown) > MOST_ANNOTATIONS:
            said += f" ({len(shown) - MOST_ANNOTATIONS} more gates, see the summary.)"
        properties = {
            "file": _from_workspace(root / gate[0]["file"]) if gate[0]["file"] else None,
            "line": gate[0]["line"],
            "title": name,
        }
        where = ",".join(f"{k}={_property(str(v))}" for k, v in properties.items() if v is not None)
        kind = "error" if any(record["failed"] for record in gate) else "warning"
        yield f"::{kind} {where}::{_data(said)}"


def _annotates() -> bool:
    return os.environ.get("GITHUB_ACTIONS") == "true"


def _from_workspace(file: Path) -> str:
    """Return a path relative to the top of the checkout, as annotations need it."""
    workspace = os.environ.get("GITHUB_WORKSPACE")
    if workspace and file.resolve().is_relative_to(Path(workspace).resolve()):
        return file.resolve().relative_to(Path(workspace).resolve()).as_posix()
    return file.as_posix()


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
