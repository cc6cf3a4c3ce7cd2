"""Writing a report: found out before hours of training, and never seen half written."""

from pathlib import Path


def check_writable(path: Path) -> None:
    """Find out whether a file can be written, and leave nothing behind.

    Raises
    ------
    OSError
        It cannot.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    existed = path.exists()
    with path.open("a"):
        pass
    if not existed:
        path.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a file at once: whoever reads it meanwhile sees the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    temporary.replace(path)
