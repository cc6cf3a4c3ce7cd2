"""Write what failed as GitLab's Code Quality JSON: GitLab shows it in the merge request.

The format is documented at https://docs.gitlab.com/ci/testing/code_quality/ (a part of the Code
Climate specification).
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from pytest_datasize.reports.records.files import write_text
from pytest_datasize.reports.records.record_types import Record, RunContent
from pytest_datasize.reports.records.selection import target_name, warned
from pytest_datasize.reports.wording.titles import text, title


def write(path: Path, run: RunContent) -> None:
    """Write a run; an empty list where nothing failed, so that GitLab sees what is resolved."""
    write_text(path, draw(run))


def draw(run: RunContent) -> str:
    """Return every requirement that failed or warns, as JSON."""
    found = [_issue(one) for one in run["requirements"] if one["failed"] or warned(one)]
    return json.dumps(found, indent=1, ensure_ascii=True) + "\n"


def _issue(record: Record) -> dict[str, Any]:
    name = "" if record["metric"] is None else target_name(record)
    # the same requirement keeps its fingerprint when its numbers change
    mark = [record["nodeid"], record["order"], name, title(record)]
    return {
        "description": f"{title(record)}: {text(record)}",
        "check_name": "pytest-datasize",
        "fingerprint": hashlib.sha256(json.dumps(mark).encode()).hexdigest(),
        "severity": "major" if record["failed"] else "minor",
        "location": {
            "path": record["file"] or record["nodeid"].partition("::")[0],
            "lines": {"begin": record["line"] or 1},
        },
    }
