"""The files of rows and what the index says of them, side by side in a temporary table.

``temp.shards``: one row for each file that exists or is named, with its ``space`` and ``width``,
``bytes``, ``used``, ``live`` rows that the index names, the ``last`` of them, and whether it is
``held`` by a session. ``live`` is 0 for garbage, ``bytes`` NULL for a file that is gone.
"""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pytest_datasize.store.index import NAME
from pytest_datasize.store.maintenance.folder import files_of, other_versions
from pytest_datasize.store.maintenance.pieces import TEMPORARY
from pytest_datasize.store.shards import FOLDER, in_use, shard_of

YOUNG = 600.0
"""Seconds for which a file that nothing names is left: its session may be about to name it."""


class Leftover(NamedTuple):
    """A file that no session needs: half written by a command, or a damaged index set aside."""

    name: str
    bytes: int


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


def leftovers(folder: Path) -> Iterator[Leftover]:
    """Yield the files of a store that no session will look at."""
    for name, status in files_of(folder):
        half_written = name.startswith(f"{FOLDER}/") and name.endswith(TEMPORARY)
        if name.startswith(f"{NAME}.damaged-") or (half_written and not in_use(folder / name)):
            yield Leftover(name, status.st_size)


def garbage(connection: sqlite3.Connection, folder: Path, now: float) -> list[tuple[int, int]]:
    """Return (shard, bytes) of the files that no index names and no session is writing.

    Another version's index may name files that ours does not: beside one, none is garbage.
    """
    if other_versions(folder):
        return []
    return connection.execute(
        "SELECT shard, bytes FROM temp.shards WHERE live = 0 AND NOT held AND used < ?",
        (now - YOUNG,),
    ).fetchall()
