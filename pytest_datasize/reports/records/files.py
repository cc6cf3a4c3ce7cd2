"""Write report files atomically, and check before training that they can be written."""

import os
import secrets
from pathlib import Path


def check_writable(path: Path) -> None:
    """Check that :func:`write_text` can write a file, without leaving anything behind.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    missing = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        existed = path.exists()
        with path.open("a"):
            pass
        if not existed:
            path.unlink()
        if _replaceable(path):  # the name with a suffix may be too long, the folder read-only
            _temporary(Path(os.path.realpath(path))).unlink()
    finally:
        for folder in missing:
            if folder.exists() and not any(folder.iterdir()):
                folder.rmdir()


def write_text(path: Path, text: str) -> None:
    """Write a file atomically: a concurrent reader sees the old content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not _replaceable(path):
        path.write_text(text, encoding="utf-8", newline="\n")
        return
    path = Path(os.path.realpath(path))  # a link stays: the file that it leads to is replaced
    temporary = _temporary(path)
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        if path.exists():
            temporary.chmod(path.stat().st_mode & 0o777)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _replaceable(path: Path) -> bool:
    """Whether a file can be replaced by another; a device or a pipe must be written to instead."""
    return path.is_file() or not path.exists()


def _temporary(path: Path) -> Path:
    """Create a file beside another under a name that nobody can foresee or has linked."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return temporary
