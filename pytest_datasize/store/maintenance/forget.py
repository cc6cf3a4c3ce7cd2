"""Taking things out of an index: in transactions so short that sessions can write between them."""

import sqlite3
from collections.abc import Iterator
from functools import partial
from itertools import groupby, islice, pairwise
from operator import itemgetter
from pathlib import Path

from pytest_datasize.store.maintenance.folder import transaction
from pytest_datasize.store.maintenance.pieces import Entry, Piece, Reader, copied
from pytest_datasize.store.shards import FOLDER, shard_name

_MANY = 100_000  # entries; one transaction forgets fewer


def forget_values(connection: sqlite3.Connection, table: str, where: str, until: float) -> None:
    """Delete those of some values that were last used up to a moment."""
    statement = f"DELETE FROM {table} WHERE {where} AND used <= ?"  # noqa: S608
    if table != "files":
        with transaction(connection):
            connection.execute(statement, (until,))
        return
    for low, high in _ranges(connection, table):
        with transaction(connection):
            connection.execute(f"{statement} AND stamp >= ? AND stamp < ?", (until, low, high))


def forget_rows(connection: sqlite3.Connection) -> None:
    """Delete the names of all rows in the files of ``temp.fate``."""
    ranges = _ranges(connection, "rows")
    spaces = connection.execute(
        "SELECT DISTINCT space FROM temp.shards WHERE shard IN (SELECT shard FROM temp.fate)"
    ).fetchall()
    for (space,) in spaces:
        for low, high in ranges:
            with transaction(connection):
                connection.execute(
                    "DELETE FROM rows WHERE space = ? AND content >= ? AND content < ? "
                    "AND shard IN (SELECT shard FROM temp.fate)",
                    (space, low, high),
                )


def forget_spaces(connection: sqlite3.Connection, until: float) -> None:
    """Delete the names of spaces that have no rows and were last used before a moment."""
    with transaction(connection):
        connection.execute(
            "DELETE FROM spaces WHERE used < ? "
            "AND NOT EXISTS (SELECT 1 FROM rows WHERE rows.space = spaces.id)",
            (until,),
        )


def _ranges(connection: sqlite3.Connection, table: str) -> list[tuple[bytes, bytes]]:
    """Cut the keys of a table, which are random bytes, into parts of some thousand entries."""
    [(number,)] = connection.execute(f"SELECT count(*) FROM {table}")  # noqa: S608
    edges = [bytes([first]) for first in range(1, 256)] if number > _MANY else []
    return list(pairwise([b"", *edges, b"\xff" * 33]))


def move(connection: sqlite3.Connection, folder: Path) -> None:
    """Copy what ``temp.fate`` keeps of a file to new ones: the last so many of its rows."""
    connection.execute("DROP TABLE IF EXISTS temp.moving")
    connection.execute(
        "CREATE TEMP TABLE moving AS "
        "SELECT r.shard, s.space, s.width, s.live - f.keep, r.row, r.content, r.checksum "
        "FROM rows r CROSS JOIN temp.fate f ON f.shard = r.shard AND f.keep > 0 "
        "CROSS JOIN temp.shards s ON s.shard = r.shard AND s.space = r.space "
        "ORDER BY r.shard, r.row"
    )
    rows = connection.execute("SELECT * FROM temp.moving ORDER BY rowid")
    for (shard, space, width, dropped), group in groupby(rows, key=itemgetter(0, 1, 2, 3)):
        kept = islice((Entry(*row[4:]) for row in group), dropped, None)
        with Reader(folder / FOLDER / shard_name(shard), width) as reader:
            make = partial(Piece, folder / FOLDER, space, width)
            for place, entries in copied(reader, kept, make):
                with transaction(connection):
                    connection.executemany(
                        "UPDATE rows SET shard = ?, row = ? "
                        "WHERE space = ? AND content = ? AND shard = ? AND row = ?",
                        _moves(entries, space, shard, place),
                    )


def _moves(
    entries: list[Entry], space: int, before: int, after: int
) -> Iterator[tuple[int, int, int, bytes, int, int]]:
    for row, entry in enumerate(entries):
        yield after, row, space, entry.content, before, entry.row


def compact(connection: sqlite3.Connection, *, always: bool = False) -> bool:
    """Give free space of the index back to the disk; tell whether it could be done now.

    Parameters
    ----------
    connection
        The index.
    always
        Also where no page is free: pages that are half full become fewer.
    """
    try:
        if always or connection.execute("PRAGMA freelist_count").fetchone()[0]:
            connection.execute("VACUUM")
        [(busy, _, _)] = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.OperationalError:  # a session writes for long, or there is no space for a copy
        return False
    return not busy
