"""What every session found, kept in the store: score and required images over time."""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from pytest_datasize.reports.records.record_numbers import NUMBERS
from pytest_datasize.reports.records.result_file import commit
from pytest_datasize.store import Store

Record = dict[str, Any]
_KEPT = ("nodeid", "order", "metric", "class", "target", "verdict", "message", "total", *NUMBERS)


class Past(NamedTuple):
    """One judged requirement of one earlier run.

    Attributes
    ----------
    when
        Date and time as text, ISO 8601.
    commit
        What was checked out, or None.
    fingerprint
        Names the images by their content, or None.
    record
        The record, as in the JSON file.
    """

    when: str
    commit: str | None
    fingerprint: str | None
    record: Record


def remember(store: Store, records: Sequence[Record], root: Path) -> None:
    """Keep the judged requirements of a session.

    Parameters
    ----------
    store
        Where; one without a folder keeps nothing.
    records
        Those of the session.
    root
        pytest's root directory, for the commit that is checked out.
    """
    judged = [record for record in records if record["metric"] is not None]
    if store.folder is None or not judged:
        return
    when = datetime.now(UTC).isoformat(timespec="seconds")
    run = {
        "when": when,
        "commit": commit(root),
        "records": [
            {**{name: record.get(name) for name in _KEPT}, "fingerprint": _fingerprint(record)}
            for record in judged
        ],
    }
    store.put("run", f"{when} {secrets.token_hex(8)}", run)


def past(store: Store) -> list[Past]:
    """Return what earlier sessions found, in no order."""
    return [
        Past(run["when"], run["commit"], record["fingerprint"], record)
        for run in store.all("run")
        for record in run["records"]
    ]


def _fingerprint(record: Record) -> str | None:
    subject = record.get("subject") or {}
    fingerprint: str | None = subject.get("images", {}).get("fingerprint")
    return fingerprint
