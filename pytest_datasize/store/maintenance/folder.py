"""A store's folder as the commands see it: opened or refused, its size, one command at a time.

Sessions continue when a store fails; a maintenance command reports the failure instead.
"""

import errno
import os
import sqlite3
import stat
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from pytest_datasize.errors import StoreError
from pytest_datasize.store.index import BUSY_SECONDS, NAME, TABLES
from pytest_datasize.store.shards import FOLDER

MAINTENANCE = "maintenance.lock"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_OUR_TABLES = {"files", "spaces", "rows", "documents", "trials"}
_HINT = (
    "Sessions keep theirs where --datasize-store says, else in .pytest_cache/d/datasize below "
    "pytest's root directory."
)


def check(folder: Path) -> None:
    """Raise :class:`StoreError` unless a folder is a store of this version."""
    if not folder.is_dir():
        raise StoreError(f"{folder}: no such folder. {_HINT}")
    if not (folder / NAME).is_file():
        if others := other_versions(folder):
            raise StoreError(
                f"{folder}: a store of another version of pytest-datasize ({', '.join(others)}; "
                f"this one reads {NAME}). Use the version that wrote it."
            )
        raise StoreError(f"{folder}: not a store, it has no {NAME}. {_HINT}")


def other_versions(folder: Path) -> list[str]:
    """Name the indexes of other versions that share a folder."""
    return sorted(path.name for path in folder.glob("store-*.sqlite") if path.name != NAME)


@contextmanager
def opened(folder: Path, *, new: bool = False) -> Iterator[sqlite3.Connection]:
    """Open the index of a store; what it raises meanwhile becomes a :class:`StoreError`.

    Parameters
    ----------
    folder
        The store.
    new
        Whether to make it where it is missing.
    """
    with store_errors(folder):
        if new:
            folder.mkdir(parents=True, exist_ok=True)
        else:
            check(folder)
        with closing(_connect(folder, "rwc" if new else "rw")) as connection:
            yield connection


def index_problem(folder: Path) -> str:
    """Read the whole index and return its problems; empty if there are none."""
    with store_errors(folder):
        check(folder)
        try:
            with closing(_connect(folder, "rw")) as connection:
                [(found,)] = connection.execute("PRAGMA integrity_check(1)")
        except sqlite3.OperationalError:  # not its fault
            raise
        except sqlite3.DatabaseError as problem:
            found = str(problem)
    return "" if found == "ok" else str(found)


def attach(connection: sqlite3.Connection, folder: Path, name: str) -> None:
    """Give a connection a second store to read from."""
    connection.execute(f"ATTACH DATABASE ? AS {name}", (_uri(folder, _readable(folder)),))


def crc32(value: Any) -> int:
    """Return the checksum of a value; -1, which is none, for what no session writes."""
    return zlib.crc32(value) if isinstance(value, bytes) else -1


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Write all of it or nothing; wait for other writers first."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with suppress(sqlite3.Error):  # SQLite did so itself
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _connect(folder: Path, mode: str) -> sqlite3.Connection:
    asked = f"mode={mode}" if mode == "rwc" else _readable(folder)
    connection = sqlite3.connect(
        _uri(folder, asked), uri=True, timeout=BUSY_SECONDS, isolation_level=None
    )
    try:
        found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if not found >= _OUR_TABLES:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.executescript(TABLES)
        connection.execute(
            "PRAGMA synchronous=FULL"
        )  # the user may delete the source after a merge
        connection.create_function("crc32", 1, crc32, deterministic=True)
    except BaseException:
        connection.close()
        raise
    return connection


def _readable(folder: Path) -> str:
    """Return how to open a store: without write access, it cannot change either."""
    if os.access(folder, os.W_OK):
        return "mode=rw"
    log = folder / f"{NAME}-wal"
    return "mode=ro" if log.is_file() and log.stat().st_size else "mode=ro&immutable=1"


def _uri(folder: Path, asked: str) -> str:
    return f"{(folder / NAME).resolve().as_uri()}?{asked}"


@contextmanager
def store_errors(folder: Path) -> Iterator[None]:
    """Convert errors of disk or index to a :class:`StoreError` that gives a solution."""
    try:
        yield
    except sqlite3.OperationalError as problem:
        text = str(problem)
        if "full" in text or "disk I/O" in text:
            raise _full(folder, text) from None
        if "locked" in text or "busy" in text:
            raise StoreError(
                f"{folder}: another process has been writing for {BUSY_SECONDS:.0f} seconds. "
                "Run the command again when it is done."
            ) from None
        raise StoreError(f"{folder}: cannot be used ({text}). Mend the folder's rights.") from None
    except sqlite3.DatabaseError as problem:
        raise StoreError(
            f"{folder}: its index {NAME} is damaged ({problem}). `store verify --repair` sets it "
            "aside, and so does the next session; what it named is measured again."
        ) from None
    except OSError as problem:
        if problem.errno in _FULL:
            raise _full(folder, problem.strerror or "") from None
        raise StoreError(f"{problem.filename or folder}: {problem.strerror}.") from None


def _full(folder: Path, text: str) -> StoreError:
    return StoreError(
        f"{folder}: no space to write ({text}). What was done until here is kept: free space and "
        "run the same command again."
    )


@contextmanager
def maintained(folders: Sequence[Path]) -> Iterator[None]:
    """Let one command at a time work on each of these stores; others wait.

    Sessions do not take this lock and never wait for it. The order of locking is the same for
    all, so that two commands cannot wait for each other.
    """
    from filelock import FileLock

    with ExitStack() as held:
        for folder in sorted({folder.resolve() for folder in folders}):
            if os.access(folder, os.W_OK):  # nobody can change the others
                with store_errors(folder):
                    held.enter_context(FileLock(folder / MAINTENANCE))
        yield


def files_of(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield (path relative to the folder, status) of the files of a store; links are not followed.

    SQLite's shared memory is left out, which goes with the last connection.
    """
    for below in ("", FOLDER):
        with suppress(FileNotFoundError), os.scandir(folder / below) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode) and not entry.name.endswith("-shm"):
                        yield f"{below}/{entry.name}".lstrip("/"), status


def total_bytes(folder: Path) -> int:
    """Return the size of a store on disk."""
    return sum(status.st_size for _, status in files_of(folder))
