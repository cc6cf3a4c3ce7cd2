"""Claims: of several processes that need the same result, one computes it, the others wait.

A claim is a lock that the operating system releases when its process dies. A holder also touches
the file every few seconds, so that a stopped process blocks nobody: without a recent touch, a
waiting process continues without the claim. The result is the same, only computed twice. Standard
library only.
"""

import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

FOLDER = "claims"
QUIET_SECONDS = 60.0
"""A holder that has not touched its claim for this long counts as stopped."""

MOST_SECONDS = 3600.0
"""Longest wait in seconds, even while the holder is active."""

_TOUCH_SECONDS = 5.0
_POLL_SECONDS = 0.1
_SHOWN_SECONDS = 1.0  # a shorter wait is not worth a line
_LOCKED_BYTE = 1 << 20  # Windows: others may not read what is locked, and must read the holder


@contextmanager
def claimed(
    path: Path,
    work: str,
    on_wait: Callable[[str], None],
    quiet: float | None = None,
    most: float | None = None,
) -> Iterator[str]:
    """Hold a claim, or continue without it if its holder does not respond or takes too long.

    Parameters
    ----------
    path
        The file of the claim; its folder is created if missing.
    work
        What the holder of this claim does, as in "process 1, which embeds these images".
    on_wait
        Called with a message when this process begins to wait.
    quiet, most
        Seconds; None for :data:`QUIET_SECONDS` and :data:`MOST_SECONDS`.

    Yields
    ------
    str
        Message with the time waited and the holder; empty if this process did not wait.
    """
    try:
        stream, waited = _acquired(
            path,
            work,
            on_wait,
            QUIET_SECONDS if quiet is None else quiet,
            MOST_SECONDS if most is None else most,
        )
    except OSError:  # no rights, no space or no locks: nothing is shared, so nobody to wait for
        stream, waited = None, ""
    if stream is None:
        yield waited
        return
    done = threading.Event()
    touching = threading.Thread(target=_touch, args=(path, done), daemon=True)
    touching.start()
    try:
        yield waited
    finally:
        done.set()
        touching.join()
        _release(stream, path)


def _acquired(
    path: Path, work: str, on_wait: Callable[[str], None], quiet: float, most: float
) -> tuple[BinaryIO | None, str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    start = seen = time.monotonic()
    sign: tuple[int, ...] = ()
    who, shown = "", False
    while True:
        stream = path.open("a+b")
        try:
            held = _lock(stream)
            if held and _is_at(stream, path):
                _sign(stream)
                return stream, _past(who, work, time.monotonic() - start, shown)
            if not held:
                who = _holder(stream)
                status = os.fstat(stream.fileno())
        except BaseException:
            stream.close()
            raise
        stream.close()
        if held:  # the file that was locked is gone: its holder has just released it
            continue
        now = time.monotonic()
        if sign != (status.st_ino, status.st_mtime_ns):
            sign, seen = (status.st_ino, status.st_mtime_ns), now
        if not shown and now - start >= min(_SHOWN_SECONDS, quiet, most):
            shown = True
            on_wait(f"waiting for {who}, which {work}")
        for limit, since, problem in (
            (quiet, seen, f"has shown no sign of life for {quiet:,.0f} s"),
            (most, start, f"was not done after {most:,.0f} s"),
        ):
            if now - since >= limit:
                text = f"{who}, which {work}, {problem}; this process went on without waiting"
                on_wait(text)
                return None, text
        time.sleep(_POLL_SECONDS)


def _past(who: str, work: str, seconds: float, shown: bool) -> str:
    return f"waited {seconds:,.0f} s for {who}, which {work}" if shown else ""


def _lock(stream: BinaryIO) -> bool:
    """Lock an open file; return False where another process has."""
    if sys.platform == "win32":
        stream.seek(_LOCKED_BYTE)
        try:
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(stream: BinaryIO, path: Path) -> bool:
    """Return whether the path still refers to the open file."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _sign(stream: BinaryIO) -> None:
    """Write the holder's process id and machine, for waiting processes."""
    stream.truncate(0)
    stream.write(f"{os.getpid()} {platform.node()}".encode())
    stream.flush()


def _holder(stream: BinaryIO) -> str:
    stream.seek(0)
    number, _, machine = stream.read(1000).decode(errors="replace").partition(" ")
    if not number.isdigit():
        return "another process"  # it has not signed yet
    return f"process {number}" + ("" if machine == platform.node() else f" on {machine}")


def _touch(path: Path, done: threading.Event) -> None:
    while not done.wait(_TOUCH_SECONDS):
        with suppress(OSError):
            os.utime(path)


def _release(stream: BinaryIO, path: Path) -> None:
    """Delete the file, then unlock it: processes that have it open detect the deletion."""
    if sys.platform == "win32":  # where an open file cannot be deleted
        stream.close()
        with suppress(OSError):  # another process waits for it
            path.unlink()
        return
    with suppress(OSError):
        path.unlink()
    with suppress(OSError):
        fcntl.flock(stream, fcntl.LOCK_UN)  # for a forked child that has it open as well
    stream.close()
