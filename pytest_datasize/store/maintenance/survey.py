"""Compare the files of rows with their index entries, in a temporary table.

``temp.shards``: one row for each file that exists or is named, with its ``space`` and ``width``,
``bytes``, ``used``, ``live`` rows that the index names, the ``last`` of them, and whether it is
``held`` by a session. ``live`` is 0 for garbage, ``bytes`` NULL for a file that is gone.
"""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from pytest_datasize.store.index import NAME
from pytest_datasize.store.maintenance.folder import files_of, other_versions
from pytest_datasize.store.shards import FOLDER, in_use, shard_name, shard_of

TEMPORARY = ".tmp"
"""Suffix of a file that a command has not finished."""
_YOUNG = 600.0  # seconds for which a file stays that is not named: its session may be about to


def survey(connection: sqlite3.Connection, folder: Path) -> None:
    """Fill ``temp.shards``; memory does not grow with the rows.

    Parameters
    ----------
    connection
        The index.
    folder
        The store.
    """
    connection.executescript(_SCRIPT)  # names first: a file that is made from here on is not gone
    connection.executemany("INSERT INTO temp.found VALUES (?, ?, ?, ?)", _found(folder))
    connection.execute(
        "INSERT INTO temp.shards "
        "SELECT n.shard, n.space, s.width, f.bytes, coalesce(f.used, 0), n.live, n.last, "
        "coalesce(f.held, 0) FROM temp.named n LEFT JOIN spaces s ON s.id = n.space "
        "LEFT JOIN temp.found f ON f.shard = n.shard "
        "UNION ALL SELECT shard, NULL, NULL, bytes, used, 0, -1, held FROM temp.found "
        "WHERE shard NOT IN (SELECT shard FROM temp.named)"
    )


_SCRIPT = """
DROP TABLE IF EXISTS temp.named;
DROP TABLE IF EXISTS temp.found;
DROP TABLE IF EXISTS temp.shards;
CREATE TEMP TABLE named AS
    SELECT shard, min(space) AS space, count(*) AS live, max(row) AS last FROM rows GROUP BY shard;
CREATE TEMP TABLE found (shard INTEGER PRIMARY KEY, bytes INTEGER, used REAL, held INTEGER);
CREATE TEMP TABLE shards (
    shard INTEGER PRIMARY KEY, space INTEGER, width INTEGER, bytes INTEGER, used REAL NOT NULL,
    live INTEGER NOT NULL, last INTEGER NOT NULL, held INTEGER NOT NULL);
"""


def _found(folder: Path) -> Iterator[tuple[int, int, float, bool]]:
    for name, status in files_of(folder):
        shard = shard_of(name.removeprefix(f"{FOLDER}/"))
        if shard is not None and name.startswith(FOLDER):
            yield shard, status.st_size, status.st_mtime, in_use(folder / name)


def half_written(folder: Path) -> Iterator[tuple[Path, int]]:
    """Yield (path, bytes) of the files that an interrupted command left unfinished."""
    for name, status in files_of(folder):
        if name.startswith(f"{FOLDER}/") and name.endswith(TEMPORARY):
            yield folder / name, status.st_size


def garbage(connection: sqlite3.Connection, folder: Path, now: float) -> list[tuple[Path, int]]:
    """Return (path, bytes) of the files that no session needs.

    Those are unfinished files, indexes that were set aside, and files of rows that the index does
    not name and no session is writing. An index of another version may name files that ours does
    not: beside one, no file of rows is garbage.
    """
    found = list(half_written(folder))
    for name, status in files_of(folder):
        if name.startswith(f"{NAME}.damaged-"):
            found.append((folder / name, status.st_size))
    if not other_versions(folder):
        unnamed = connection.execute(
            "SELECT shard, bytes FROM temp.shards WHERE live = 0 AND NOT held AND used < ?",
            (now - _YOUNG,),
        )
        found += [(folder / FOLDER / shard_name(shard), size) for shard, size in unnamed]
    return found
