"""Store the results of every session, for score and required images over time."""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from pytest_datasize.reports.records.record_parts import HeldOutImages
from pytest_datasize.reports.records.record_types import GateRecord, PastRecord, PastRun, Record
from pytest_datasize.reports.records.result_file import commit
from pytest_datasize.reports.records.selection import is_judged, judged, target_name, unit_of
from pytest_datasize.store import Store


class Past(NamedTuple):
    """One judged requirement of one earlier run.

    Attributes
    ----------
    when
        Date and time as text, ISO 8601.
    commit
        The commit that was checked out, or None.
    fingerprint
        Hash of the images' content, or None.
    record
        The record, as in the JSON file.
    """

    when: str
    commit: str | None
    fingerprint: str | None
    record: PastRecord


def remember(store: Store, records: Sequence[Record], root: Path) -> None:
    """Store the judged requirements of a session.

    Parameters
    ----------
    store
        The store; one without a folder stores nothing.
    records
        Records of the session.
    root
        pytest's root directory, for the commit that is checked out.
    """
    requirements = judged(records)
    if store.folder is None or not requirements:
        return
    when = datetime.now(UTC).isoformat(timespec="seconds")
    run: PastRun = {
        "when": when,
        "commit": commit(root),
        "records": [_kept(record) for record in requirements],
    }
    store.put("run", f"{when} {secrets.token_hex(8)}", run)


def past(store: Store) -> list[Past]:
    """Return the judged requirements of earlier sessions, in no particular order."""
    return [
        Past(run["when"], run["commit"], record["fingerprint"], record)
        for run in store.all("run")
        for record in run["records"]
    ]


def series(past: Sequence[Past]) -> list[list[Past]]:
    """Group runs by requirement and sort each group by time; runs not judged are left out."""
    found: dict[tuple[str, ...], list[Past]] = {}
    for run in sorted(past, key=lambda run: run.when):
        if is_judged(run.record):
            order = f"{run.record.get('order', 0):06}"
            key = run.record["nodeid"], order, target_name(run.record), unit_of(run.record)
            found.setdefault(key, []).append(run)
    return [found[key] for key in sorted(found)]


def _kept(record: GateRecord) -> PastRecord:
    subject, part = record.get("subject"), record.get("slice")
    nothing: HeldOutImages = {"share": 0.0, "images": 0}
    kept: PastRecord = {
        "held_out": record.get("held_out", nothing),
        "unit": record.get("unit", "image"),
        "nodeid": record["nodeid"],
        "order": record["order"],
        "metric": record["metric"],
        "class": record["class"],
        "target": record["target"],
        "operating_point": record.get("operating_point"),
        "verdict": record["verdict"],
        "message": record["message"],
        "total": record["total"],
        "required": record["required"],
        "required_low": record["required_low"],
        "required_high": record["required_high"],
        "available": record["available"],
        "score_at_available": record["score_at_available"],
        "score_at_available_low": record["score_at_available_low"],
        "score_at_available_high": record["score_at_available_high"],
        "ceiling": record["ceiling"],
        "ceiling_low": record["ceiling_low"],
        "ceiling_high": record["ceiling_high"],
        "probability_sufficient": record["probability_sufficient"],
        "fingerprint": subject["images"]["fingerprint"] if subject else None,
    }
    if part:
        kept["slice"] = part
    return kept
