"""Shard files of embeddings: names, writer locks and last-used times.

A file is appended to by the session that made it and by no other, for as long as it holds the lock;
its time of change is when it was last written or read. Standard library only.
"""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

if sys.platform != "win32":  # where a file that someone has open cannot be deleted anyway
    import fcntl

FOLDER = "embeddings"
SUFFIX = ".f16"
HOUR, WEEK = 3600.0, 7 * 86400.0
"""Seconds between updates of a last-used time; weeks for remembered files, which are many."""


def shard_name(shard: int) -> str:
    """Return the name of a file.

    Examples
    --------
    >>> shard_name(255)
    '00000000000000ff.f16'
    """
    return f"{shard:016x}{SUFFIX}"


def shard_of(name: str) -> int | None:
    """Return the number in the name of a file; None for a file of another kind.

    Examples
    --------
    >>> shard_of("00000000000000ff.f16"), shard_of("notes.txt")
    (255, None)
    """
    with suppress(ValueError):
        number = int(name.removesuffix(SUFFIX), 16)
        return number if shard_name(number) == name else None
    return None


def hold(stream: BinaryIO) -> None:
    """Lock an open file as being written; closing it or ending the process unlocks it."""
    if sys.platform != "win32":
        with suppress(OSError):  # a file system without locks
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def in_use(path: Path) -> bool:
    """Return whether a session is still writing to a file."""
    if sys.platform == "win32":
        try:
            path.replace(path)  # refused by Windows while someone has the file open
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return False
    try:
        with path.open("rb+") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # gone, read-only, or a file system without locks
        return False
    return False


def note_use(path: Path, noted: float) -> None:
    """Update a file's last-used time, at most hourly."""
    if time.time() - noted > HOUR:
        with suppress(OSError):
            os.utime(path)
