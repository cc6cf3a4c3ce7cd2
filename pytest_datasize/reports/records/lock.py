"""Read and write the committed record: verdicts for machines that cannot measure.

``datasize.lock.json`` belongs in version control: if the images, the requirement and the options
equal those of an entry, its verdict is valid, without a GPU, a cache or weights.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from pytest_datasize.errors import DatasizeError, RequirementError
from pytest_datasize.reports.records.files import write_text
from pytest_datasize.reports.records.record_types import (
    ConditionRecord,
    GateRecord,
    Record,
    Subject,
)
from pytest_datasize.reports.records.result_file import contradiction, no_number
from pytest_datasize.reports.records.selection import is_condition, is_judged
from pytest_datasize.study.cache_keys import UNNAMED

NAME = "datasize.lock.json"
SCHEMA = 3
_OF_A_SESSION = ("subject", "baseline", "failed", "advice", "derived")
_AGAIN = f"Measure again with `pytest --datasize-lock` and commit {NAME}."


_NAMED = 3
"""Most images listed in each list of an entry; thumbnails do not go into version control."""


class Entry(TypedDict):
    """One requirement in the file: what its verdicts depend on, and their records, shortened."""

    subject: dict[str, Any]
    records: list[dict[str, Any]]
    digest: NotRequired[str]


def find(
    path: Path, nodeid: str, order: int, subject: Subject, kind: str = ""
) -> list[dict[str, Any]]:
    """Return the committed records of a requirement with the same subject.

    Parameters
    ----------
    path
        The committed file.
    nodeid, order
        The test, and which of its requirements.
    subject
        The current subject: images, options and targets.
    kind
        Kind of condition, such as ``represents``; empty for scores.

    Raises
    ------
    DatasizeError
        There is no such entry, or its subject differs; the message says what changed.
    RequirementError
        The file is damaged.
    """
    if not path.is_file():
        raise DatasizeError(f"--datasize=locked: there is no {path}. {_AGAIN}")
    name = _name(nodeid, order, kind)
    entry = read(path).get(name)
    if entry is None:
        raise DatasizeError(f"--datasize=locked: {path.name} has no entry {name}. {_AGAIN}")
    was, now = entry["subject"], json.loads(json.dumps(subject))
    for option, value in now["options"].items():
        if value == UNNAMED:
            raise DatasizeError(
                f"--datasize=locked: {option} is {UNNAMED}, so the record cannot be compared with "
                "it. Give a function of a module, a 'module:function' or a name; or judge without "
                "--datasize=locked."
            )
    for part, what in (("images", "data"), ("deployment", "images of the deployment")):
        if was.get(part) != now.get(part):
            before, after = (side.get(part, {}).get("number", 0) for side in (was, now))
            number = f"{before:,} then, {after:,} now" if before != after else f"still {after:,}"
            raise DatasizeError(f"--datasize=locked: {what} changed ({number} images). {_AGAIN}")
    changed = [
        f"{name} was {was[part].get(name)!r}, is {now[part].get(name)!r}"
        for part in ("asked", "options")
        for name in sorted({*was[part], *now[part]})
        if was[part].get(name) != now[part].get(name)
    ]
    if changed:
        raise DatasizeError(
            f"--datasize=locked: the requirement changed ({'; '.join(changed)}). {_AGAIN}"
        )
    return entry["records"]


def write(path: Path, records: Sequence[Record]) -> None:
    """Add the judged requirements to the file; entries of gates that did not run stay.

    Raises
    ------
    RequirementError
        The existing file is damaged.
    """
    entries = read(path)
    root = f"{path.parent}{os.sep}"
    new: dict[str, Entry] = {}
    for record in records:
        if (is_judged(record) or is_condition(record)) and (subject := record.get("subject")):
            kind = record["check"]["kind"] if is_condition(record) else ""
            name = _name(record["nodeid"], record["order"], kind)
            entry = new.setdefault(name, {"subject": {**subject}, "records": []})
            entry["records"].append(_entered(record, root))
    entries.update(new)
    write_text(path, _text(entries))


def _entered(record: GateRecord | ConditionRecord, root: str) -> dict[str, Any]:
    return {
        key: _short(_without_pictures(value) if key == "check" else value, root)
        for key, value in record.items()
        if key not in _OF_A_SESSION
    }


def _name(nodeid: str, order: int, kind: str) -> str:
    which = f" (requirement {order + 1})" if order else ""
    return f"{nodeid}{which}{f' {kind}' if kind else ''}"


def _without_pictures(check: Any) -> dict[str, Any]:
    return {
        key: [{**one, "picture": None} for one in value[:_NAMED]]
        if key in ("least_alike", "unseen")
        else value
        for key, value in check.items()
    }


def read(path: Path) -> dict[str, Entry]:
    """Return the entries of the file, none if there is no file.

    Raises
    ------
    RequirementError
        The file is damaged.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=no_number)
        if content["schema"] != SCHEMA:
            raise ValueError(f"schema {content['schema']}, expected {SCHEMA}")
        entries: dict[str, Entry] = content["gates"]
        for entry in entries.values():
            if not (entry["records"] and {"images", "asked", "options"} <= set(entry["subject"])):
                raise ValueError("an entry lacks records or subject")
            if entry["digest"] != _digest(entry["subject"], entry["records"]):
                raise ValueError("an entry was edited: its digest is not that of its content")
            for record in entry["records"]:
                if found := contradiction(record):
                    raise ValueError(found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise RequirementError(
            f"{path}: cannot be read ({type(problem).__name__}: {problem}). Restore it from "
            "version control, or remove it and run `pytest --datasize-lock`."
        ) from None
    return entries


def _short(value: Any, root: str) -> Any:
    """Round to six digits and make paths relative to the root, equal on every machine."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, str):
        return value.replace(root, "")
    if isinstance(value, dict):
        return {key: _short(inner, root) for key, inner in value.items()}
    return [_short(inner, root) for inner in value] if isinstance(value, list) else value


def _text(entries: Mapping[str, Entry]) -> str:
    """Write one fact per line, so that a diff shows what changed."""
    lines = ["{", f'"schema": {SCHEMA},', '"gates": {']
    for number, (name, entry) in enumerate(sorted(entries.items())):
        lines.append(f"{json.dumps(name)}: {{")
        lines.append('  "subject": {')
        lines += _facts(entry["subject"])
        lines.append('  }, "records": [')
        for place, record in enumerate(entry["records"]):
            lines.append("  {")
            lines += _facts(record)
            lines.append("  }," if place + 1 < len(entry["records"]) else "  }")
        digest = _digest(entry["subject"], entry["records"])
        lines.append(f'  ], "digest": "{digest}"')
        lines.append("}," if number + 1 < len(entries) else "}")
    return "\n".join([*lines, "}}", ""])


def _digest(subject: Any, records: Any) -> str:
    """Return a hash of the content of an entry, by which an edit is found."""
    text = json.dumps([subject, records], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _facts(facts: Mapping[str, Any]) -> list[str]:
    lines = [f"    {json.dumps(key)}: {json.dumps(value)}," for key, value in facts.items()]
    return [*lines[:-1], lines[-1].removesuffix(",")]
