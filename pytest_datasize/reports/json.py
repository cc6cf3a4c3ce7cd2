"""The machine's record: a versioned JSON file, one object per requirement and metric."""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

SCHEMA = 1


def check_writable(path: str) -> None:
    """Find out before hours of training whether the file can be written; raise OSError if not."""
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("a"):
        pass


def write(path: str, records: list[dict[str, Any]], exit_status: int) -> None:
    """Write the records and pytest's exit status (2: interrupted).

    Whoever reads the file while it is written sees the old one.
    """
    content = {
        "schema": SCHEMA,
        "exit_status": exit_status,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("pytest-datasize", "torch", "timm", "numpy")},
        },
        "requirements": [
            {key: value for key, value in record.items() if key != "order"} for record in records
        ],
    }
    place = Path(path)
    temporary = place.with_name(f"{place.name}.tmp")
    temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    temporary.replace(place)
