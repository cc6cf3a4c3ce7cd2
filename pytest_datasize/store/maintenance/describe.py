"""What a store holds, in numbers."""

import math
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_datasize.store.index import NAME, SCHEMA
from pytest_datasize.store.maintenance.folder import opened, other_versions, total_bytes
from pytest_datasize.store.maintenance.survey import garbage, survey

Facts = dict[str, Any]


def describe(folder: Path) -> Facts:
    """Return what a store holds, as plain data; nothing is read but the index and sizes of files.

    Parameters
    ----------
    folder
        The store; sessions may use it meanwhile.

    Returns
    -------
    dict
        ``bytes`` on disk, ``spaces`` of embeddings, ``documents`` by kind, ``trials`` by key,
        ``files`` remembered, ``garbage`` that no session needs. Times of use are ISO 8601, UTC.

    Raises
    ------
    StoreError
        It is no store of this version or is damaged.

    Examples
    --------
    >>> import tempfile
    >>> from pytest_datasize.store import Store
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with Store(Path(folder)) as store:
    ...         store.put("evidence", "key", {"score": 0.9})
    ...     found = describe(Path(folder))
    >>> [(one["kind"], one["number"]) for one in found["documents"]], found["spaces"]
    ([('evidence', 1)], [])
    """
    with opened(folder) as connection:
        survey(connection, folder)
        facts = {
            "store": str(folder),
            "format": SCHEMA,
            "other_formats": other_versions(folder),
            "bytes": total_bytes(folder),
            "index_bytes": (folder / NAME).stat().st_size,
            "spaces": _spaces(connection),
            "documents": _values(connection, "documents", "kind"),
            "trials": _values(connection, "trials", "key"),
            "files": _files(connection),
            "garbage": _garbage(connection, folder),
        }
        oldest, newest = connection.execute(_SPAN).fetchone()
    return {**facts, "oldest_use": _when(oldest), "newest_use": _when(newest)}


_SPAN = """
SELECT min(oldest), max(newest) FROM (
    SELECT min(used) AS oldest, max(used) AS newest FROM documents
    UNION ALL SELECT min(used), max(used) FROM trials
    UNION ALL SELECT min(used), max(used) FROM files
    UNION ALL SELECT min(used), max(used) FROM temp.shards WHERE live > 0 AND bytes IS NOT NULL)
"""


def _spaces(connection: sqlite3.Connection) -> list[Facts]:
    """Describe the embeddings of each backbone, preprocessing, precision and machine."""
    found = connection.execute(
        "SELECT s.name, s.width, coalesce(sum(f.live), 0), coalesce(sum(f.bytes), 0), "
        "count(f.shard), coalesce(sum(f.held), 0), max(f.used) "
        "FROM spaces s LEFT JOIN temp.shards f ON f.space = s.id GROUP BY s.id ORDER BY s.name"
    )
    return [
        {
            **_named(name),
            "key": name,
            "width": width,
            "rows": rows,
            "bytes": size,
            "files": files,
            "being_written": held,
            "newest_use": _when(used),
        }
        for name, width, rows, size, files, held, used in found
    ]


def _named(key: str) -> Facts:
    """Parse the key of a space, as :mod:`pytest_datasize.embedding.embedder` makes it."""
    parts = key.rsplit("|", 3)
    if len(parts) < 4:
        return {
            "backbone": key,
            "machine": None,
            "precision": None,
            "torch": None,
            "openvino": None,
        }
    backbone, machine, precision, arithmetic = parts
    versions = dict(part.split("=", 1) for part in arithmetic.split() if "=" in part)
    return {
        "backbone": backbone.partition("|")[0],
        "machine": machine,
        "precision": precision,
        "torch": versions.get("torch"),
        "openvino": versions.get("openvino"),
    }


def _values(connection: sqlite3.Connection, table: str, by: str) -> list[Facts]:
    found = connection.execute(
        f"SELECT {by}, count(*), sum(length(value)), min(used), max(used) "  # noqa: S608
        f"FROM {table} GROUP BY {by} ORDER BY {by}"
    )
    return [
        {
            by: key,
            "number": number,
            "bytes": size,
            "oldest_use": _when(oldest),
            "newest_use": _when(newest),
        }
        for key, number, size, oldest, newest in found
    ]


def _files(connection: sqlite3.Connection) -> Facts:
    query = "SELECT count(*), min(used), max(used) FROM files"
    number, oldest, newest = connection.execute(query).fetchone()
    return {"number": number, "oldest_use": _when(oldest), "newest_use": _when(newest)}


def _garbage(connection: sqlite3.Connection, folder: Path) -> Facts:
    """Count what takes space and is of no use, and the rows that are named and not there."""
    unneeded = [size for _, size in garbage(connection, folder, math.inf)]
    rows, dead = connection.execute(
        "SELECT coalesce(sum(bytes / (2 * width) - live), 0), "
        "coalesce(sum(bytes - 2 * width * live), 0) FROM temp.shards "
        "WHERE live > 0 AND NOT held AND bytes > 2 * width * live"
    ).fetchone()
    [(missing,)] = connection.execute(
        "SELECT coalesce(sum(CASE WHEN bytes IS NULL THEN live "
        "ELSE last + 1 - bytes / (2 * width) END), 0) FROM temp.shards "
        "WHERE live > 0 AND (bytes IS NULL OR bytes < 2 * width * (last + 1))"
    )
    return {
        "files": len(unneeded),
        "file_bytes": sum(unneeded),
        "dead_rows": rows,
        "dead_bytes": dead,
        "missing_rows": missing,
    }


def _when(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
