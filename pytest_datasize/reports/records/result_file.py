"""Read and write the versioned JSON result file, one object per requirement and metric.

``result.schema.json`` beside this module is its JSON Schema. Every other report can be drawn from
such a file.
"""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from pytest_datasize.errors import ReportError
from pytest_datasize.reports.records.derived import with_derived
from pytest_datasize.reports.records.files import write_text
from pytest_datasize.reports.records.record_types import (
    ComparisonRecord,
    Record,
    RunContent,
)
from pytest_datasize.reports.records.selection import is_judged
from pytest_datasize.reports.records.text import problem_text, sendable
from pytest_datasize.reports.records.validate import problem_with

SCHEMA = 3

_COMMITS = ("GITHUB_SHA", "CI_COMMIT_SHA", "GIT_COMMIT", "BUILD_SOURCEVERSION", "CIRCLE_SHA1")
"""Environment variables with the commit on GitHub, GitLab, Jenkins, Azure and CircleCI."""


def content(
    records: Sequence[Record],
    exit_status: int,
    root: Path,
    *,
    command: Sequence[str] = (),
    headline: str = "",
    comparisons: Sequence[ComparisonRecord] = (),
) -> RunContent:
    """Return a whole run as plain data, from which all reports are drawn.

    Parameters
    ----------
    records
        One per requirement and metric.
    exit_status
        Exit status of pytest (2: interrupted).
    root
        pytest's root directory.
    command
        The command line of the session.
    headline
        The outcome in one line.
    comparisons
        Comparisons of strategies.
    """
    run: RunContent = {
        "schema": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(root),
        "dirty": dirty(root),
        "command": [sendable(word) for word in command],
        "headline": headline,
        "exit_status": exit_status,
        "platform": platform.platform(),
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in ("pytest-datasize", "torch", "timm", "numpy")},
        },
        "requirements": list(records),
        "comparisons": list(comparisons),
    }
    return {**run, "digest": digest_of(run)}


def digest_of(run: RunContent) -> str:
    """Return the SHA-256 of a run without its digest: of its JSON with sorted keys, no spaces."""
    rest = {name: value for name, value in run.items() if name != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def dirty(root: Path) -> bool | None:
    """Return whether tracked files differ from the commit; None if git cannot say."""
    try:
        found = subprocess.run(  # noqa: S603  (fixed words; git is the user's own)
            ["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no"],  # noqa: S607
            capture_output=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return bool(found.stdout.strip())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a wheel unpacked by hand, a vendored copy
        return "unknown"


def write(path: Path, run: RunContent) -> None:
    """Write a run as JSON."""
    write_text(path, json.dumps(run, indent=2, allow_nan=False) + "\n")


def read(path: Path) -> RunContent:
    """Read a file of :func:`write`; derived numbers that an earlier version lacks are added.

    Raises
    ------
    ReportError
        There is no such file, it is not a result of this plugin, or its schema is unknown.
    """
    try:
        run = json.loads(path.read_text(encoding="utf-8"), parse_constant=no_number)
    except FileNotFoundError:
        raise ReportError(f"{path}: no such file. Write one with --datasize-json.") from None
    except OSError as problem:
        raise ReportError(f"{path}: cannot be read: {problem.strerror}.") from None
    except (ValueError, RecursionError):
        raise ReportError(f"{path}: not JSON. Expected a file of --datasize-json.") from None
    found = run.get("schema") if isinstance(run, dict) else None
    if found != SCHEMA:
        what = "it has no schema" if found is None else f"it has schema {found!r}"
        raise ReportError(
            f"{path}: not a result that this version reads: {what}, expected {SCHEMA}. "
            "Write it again with --datasize-json."
        )
    if damage := _damage(run):
        raise ReportError(f"{path}: damaged: {damage}. Write it again with --datasize-json.")
    try:
        run["requirements"] = [_completed(record) for record in run["requirements"]]
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as problem:
        raise ReportError(
            f"{path}: damaged ({problem_text(problem)}). Write it again with --datasize-json."
        ) from None
    return cast(RunContent, run)


def _completed(record: Record) -> Record:
    if is_judged(record) and "derived" not in record:
        return with_derived(record)
    return record


def no_number(name: str) -> float:
    """Refuse NaN and the infinities, which JSON does not have: no comparison with them is true."""
    raise ValueError(f"{name} is no number")


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the result file."""
    text = (
        files("pytest_datasize.reports.records").joinpath("result.schema.json").read_text("utf-8")
    )
    return dict(json.loads(text))


def _damage(run: dict[str, Any]) -> str:
    """Return where a result does not follow the schema, or contradicts itself; else empty."""
    known = schema()
    whole = {**known, "properties": {**known["properties"], "requirements": {"type": "array"}}}
    if found := problem_with(run, whole):
        return found
    for number, record in enumerate(run["requirements"], 1):
        kind = _kind(record) if isinstance(record, dict) else "plain"
        definition = {**known["$defs"][kind], "$defs": known["$defs"]}
        found = problem_with(record, definition) or contradiction(record)
        if found:
            return f"requirement {number}: {found}"
    return ""


def _kind(record: Mapping[str, Any]) -> str:
    if record.get("metric") is not None:
        return "judged"
    for kind, mark in (("checked", "checks"), ("condition", "check"), ("planned", "sizes")):
        if mark in record:
            return kind
    return "plain"


def contradiction(record: Mapping[str, Any]) -> str:
    """Return how the verdict of a judged record contradicts its own numbers; else empty."""
    if record.get("metric") is None or record["verdict"] != "sufficient":
        return ""
    required, available = record["required"], record["available"]
    probability = record["probability_sufficient"]
    asked = max(record["confidence"] or 0.5, record.get("level") or 0.0)
    if required is None or probability < asked - 1e-4:
        return (
            f"the verdict is sufficient, but with a probability of {probability:.3g} "
            f"({asked:.3g} is required)"
        )
    if record["confidence"] is None and required > available:
        return f"the verdict is sufficient, but {required:,} of {available:,} images are required"
    return ""


def commit(root: Path) -> str | None:
    """Return the commit that is checked out, from the CI's environment or from git's files."""
    for name in _COMMITS:
        if os.environ.get(name):
            return os.environ[name]
    for folder in (root, *root.parents):
        if (folder / ".git").exists():
            return _head(folder / ".git")
    return None


def _head(git: Path) -> str | None:
    """Resolve HEAD from git's files, since a container may lack the program git."""
    try:
        if git.is_file():  # a worktree or a submodule
            git = git.parent / git.read_text().removeprefix("gitdir:").strip()
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref:"):
            return head
        name = head.removeprefix("ref:").strip()
        shared = git / "commondir"
        common = git / shared.read_text().strip() if shared.exists() else git
        for place in (git, common):
            if (place / name).is_file():
                return (place / name).read_text().strip()
        packed = (common / "packed-refs").read_text().splitlines()
        return next((line.split()[0] for line in packed if line.endswith(f" {name}")), None)
    except (OSError, UnicodeDecodeError):
        return None
