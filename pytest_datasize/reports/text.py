"""Text that comes from data (names of classes and files) made safe to show and to send."""

from typing import Any


def printable(text: str) -> str:
    r"""Neutralise what could drive a terminal: every control character but the line break.

    Examples
    --------
    >>> printable("cat\x1b[31m\ndog")
    'cat?[31m\ndog'
    """
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)


def one_line(text: str, width: int | None = None) -> str:
    r"""Like :func:`printable`, and on one line: a name must not begin a line of its own.

    A line break in a log can start a command of the CI that reads it. Names longer than `width`
    lose their middle, since names in one data set often begin alike.

    Examples
    --------
    >>> one_line("cat\n::error::dog")
    'cat?::error::dog'
    >>> one_line("a" * 300 + "b", width=11)
    'aaaa...aaab'
    """
    line = "".join(letter if letter.isprintable() else "?" for letter in text)
    if width is None or len(line) <= width:
        return line
    kept = width - 3
    return f"{line[: kept - kept // 2]}...{line[len(line) - kept // 2 :]}"


def each_text(value: Any, change: Any) -> Any:
    """Apply a function to every text in plain data, names of keys included.

    Examples
    --------
    >>> each_text({"a": ["b", 1]}, str.upper)
    {'A': ['B', 1]}
    """
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(key): each_text(inner, change) for key, inner in value.items()}
    return [each_text(inner, change) for inner in value] if isinstance(value, list) else value


def sendable(text: str) -> str:
    r"""Escape what UTF-8 cannot write: file names may be any bytes.

    Examples
    --------
    >>> sendable("na\udcefve")
    'na\\udcefve'
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
