"""SQLite index of a store; errors fall back to an in-memory cache with a warning.

A process that dies, a full disk, a read-only folder or damaged bytes cost recomputation and nothing
else. What cannot be written is kept in memory until the session ends, and is found there.
"""

import sqlite3
import time
import warnings
import weakref
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytest_datasize.errors import DatasizeWarning

SCHEMA = 1
NAME = f"store-{SCHEMA}.sqlite"  # another version's file is neither read nor harmed
BUSY_SECONDS = 60.0
CHUNK = 500  # values in one query; SQLite's oldest limit is 999

TABLES = """
CREATE TABLE IF NOT EXISTS files (
    stamp BLOB PRIMARY KEY, content TEXT NOT NULL, used REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spaces (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, width INTEGER NOT NULL, used REAL NOT NULL);
CREATE TABLE IF NOT EXISTS rows (
    space INTEGER NOT NULL, content BLOB NOT NULL, shard INTEGER NOT NULL, row INTEGER NOT NULL,
    checksum INTEGER NOT NULL, PRIMARY KEY (space, content)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS documents (
    kind TEXT NOT NULL, key TEXT NOT NULL, family TEXT NOT NULL, value BLOB NOT NULL,
    checksum INTEGER NOT NULL, used REAL NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS families ON documents (kind, family);
CREATE TABLE IF NOT EXISTS trials (
    key TEXT NOT NULL, size INTEGER NOT NULL, repeat INTEGER NOT NULL, value BLOB NOT NULL,
    checksum INTEGER NOT NULL, used REAL NOT NULL, PRIMARY KEY (key, size, repeat)) WITHOUT ROWID;
"""

Row = tuple[Any, ...]


class Index:
    """Reads and writes that never raise because of disk errors.

    Parameters
    ----------
    folder
        Where the index lies; None keeps it in memory alone.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._disk: sqlite3.Connection | None = None
        self._memory: sqlite3.Connection | None = None
        if folder is not None:
            self._open(folder)

    def read(self, query: str, values: Sequence[Any] = ()) -> list[Row]:
        """Return the rows of a query; rows that exist only in memory come last."""
        found: list[Row] = []
        if self._disk is not None:
            try:
                found = self._disk.execute(query, values).fetchall()
            except sqlite3.Error as problem:
                self._trouble("read", problem)
        if self._memory is not None:
            found += self._memory.execute(query, values).fetchall()
        return found

    def read_many(self, query: str, first: Sequence[Any], values: Sequence[Any]) -> list[Row]:
        """Like :meth:`read`, for ``... IN ({})`` with any number of values."""
        found: list[Row] = []
        for start in range(0, len(values), CHUNK):
            chunk = values[start : start + CHUNK]
            marks = ",".join("?" * len(chunk))
            found += self.read(query.format(marks), [*first, *chunk])
        return found

    def write(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run a statement for every row in one transaction."""
        rows = list(rows)
        if self._disk is not None:
            try:
                with self._disk:
                    self._disk.executemany(statement, rows)
                return
            except sqlite3.Error as problem:
                self._trouble("write", problem)
        memory = self._in_memory()
        with memory:
            memory.executemany(statement, rows)

    def note(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """Write optional data; errors are ignored without a warning."""
        if self._disk is not None and rows:
            with suppress(sqlite3.Error), self._disk:
                self._disk.executemany(statement, rows)

    def close(self) -> None:
        """Close the file."""
        for connection in (self._disk, self._memory):
            if connection is not None:
                connection.close()
        self._disk = self._memory = None

    def _in_memory(self) -> sqlite3.Connection:
        if self._memory is None:
            self._memory = sqlite3.connect(":memory:", check_same_thread=False)
            weakref.finalize(self, self._memory.close)
            self._memory.executescript(TABLES)
        return self._memory

    def _open(self, folder: Path) -> None:
        try:
            self._connect(folder)
        except sqlite3.DatabaseError as problem:
            if isinstance(problem, sqlite3.OperationalError):  # read-only, full, locked
                self._trouble("open", problem)
            else:
                self._set_aside(folder, problem)
        except OSError as problem:
            self._trouble("open", problem)

    def _connect(self, folder: Path) -> None:
        self._disk = _connect(folder)
        weakref.finalize(self, self._disk.close)

    def _trouble(self, what: str, problem: Exception) -> None:
        """Continue without the file: rename it if it is damaged, else leave it unchanged."""
        if self._disk is not None:
            self._disk.close()
            self._disk = None
        damaged = isinstance(problem, sqlite3.DatabaseError) and not isinstance(
            problem, sqlite3.OperationalError
        )
        if damaged and self.folder is not None:
            self._set_aside(self.folder, problem)
            return
        warnings.warn(
            DatasizeWarning(
                f"store {self.folder}: cannot {what} it ({problem}). The session goes on; what it "
                "finds out from here is not kept for the next. Free space or mend the folder's "
                "rights, or name another with --datasize-store=PATH."
            ),
            stacklevel=2,
        )

    def _set_aside(self, folder: Path, problem: Exception) -> None:
        try:
            aside = set_aside(folder)
            self._connect(folder)
        except (OSError, sqlite3.Error) as second:
            self._trouble("open", second if isinstance(second, OSError) else OSError(second))
            return
        warnings.warn(
            DatasizeWarning(
                f"store {folder}: the index is damaged ({problem}) and was set aside as "
                f"{aside.name}; a new one is begun."
            ),
            stacklevel=2,
        )


def set_aside(folder: Path) -> Path:
    """Rename the index, so that the next session creates a new one; return the new name."""
    aside = folder / f"{NAME}.damaged-{time.time_ns()}"
    (folder / NAME).replace(aside)
    for rest in ("-wal", "-shm"):
        (folder / f"{NAME}{rest}").unlink(missing_ok=True)
    return aside


def _connect(folder: Path) -> sqlite3.Connection:
    folder.mkdir(parents=True, exist_ok=True)
    # one connection is used by one thread at a time: the one that runs the study
    connection = sqlite3.connect(folder / NAME, timeout=BUSY_SECONDS, check_same_thread=False)
    try:
        _journal(connection)
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.executescript(TABLES)
    except BaseException:
        connection.close()
        raise
    return connection


def _journal(connection: sqlite3.Connection) -> None:
    """Choose write-ahead logging, and wait for others that choose it for a new file just now.

    SQLite does not wait here by itself, whatever the timeout.
    """
    give_up = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as problem:
            if "locked" not in str(problem) or time.monotonic() > give_up:
                raise
        time.sleep(0.02)
