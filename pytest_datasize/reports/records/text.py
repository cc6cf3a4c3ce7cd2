"""Sanitise text that comes from data (names of classes and files), to show or to send it."""

import re
from collections.abc import Callable
from typing import Any, TypeVar, cast

_T = TypeVar("_T")


def printable(text: str) -> str:
    r"""Neutralise characters that could control a terminal or the log of a CI system.

    These are all control characters but the line break, and the commands of CI systems: GitHub's
    ``::`` where a line begins, and ``##[``, ``##vso[`` and ``##teamcity[`` anywhere. The joiners
    that Persian, Hindi and other scripts, and emoji, need between letters are kept.

    Examples
    --------
    >>> printable("cat\x1b[31m\ndog\n::error::x ##[group] ##vso[task]")
    'cat?[31m\ndog\n: :error::x # #[group] # #vso[task]'
    """
    plain = "".join(
        letter if letter.isprintable() or letter == "\n" or _joins(text, place) else "?"
        for place, letter in enumerate(text)
    )
    lines = [
        f"{line[: len(line) - len(start)]}: {start[1:]}" if start.startswith("::") else line
        for line in plain.split("\n")
        for start in (line.lstrip(),)
    ]
    return _COMMAND.sub("# #", "\n".join(lines))


_COMMAND = re.compile(r"##(?=[a-zA-Z]*\[)")
_JOINERS = "\u200c\u200d"


def _joins(text: str, place: int) -> bool:
    """Whether a character is a joiner between two that are shown."""
    if text[place] not in _JOINERS:
        return False
    around = text[place - 1 : place] + text[place + 1 : place + 2]
    return len(around) == 2 and all(letter.isprintable() and letter != " " for letter in around)


def one_line(text: str, width: int | None = None) -> str:
    r"""Sanitise like :func:`printable`, and put on one line.

    A line break in a log can start a command of the CI that reads it. Names longer than `width`
    are shortened in the middle, since names in one data set often begin alike.

    Examples
    --------
    >>> one_line("cat\n::error::dog")
    'cat?::error::dog'
    >>> one_line("a" * 300 + "b", width=11)
    'aaaa...aaab'
    """
    line = printable(text.replace("\n", "?"))
    if width is None or len(line) <= width:
        return line
    kept = width - 3
    return f"{line[: kept - kept // 2]}...{line[len(line) - kept // 2 :]}"


def each_text(value: _T, change: Callable[[str], str]) -> _T:
    """Apply a function to every text in plain data, names of keys included.

    Examples
    --------
    >>> each_text({"a": ["b", 1]}, str.upper)
    {'A': ['B', 1]}
    """

    def changed(inner: Any) -> Any:
        if isinstance(inner, str):
            return change(inner)
        if isinstance(inner, dict):
            return {change(key): changed(entry) for key, entry in inner.items()}
        return [changed(entry) for entry in inner] if isinstance(inner, list) else inner

    return cast(_T, changed(value))


def first_line(text: str) -> str:
    """Return the first line that is not empty, else an empty text."""
    return next((line for line in text.splitlines() if line.strip()), "")


def problem_text(problem: BaseException) -> str:
    r"""Describe an exception on one line; many have no text, or several lines.

    Examples
    --------
    >>> problem_text(ValueError("no such class\nat all")), problem_text(KeyError())
    ('ValueError: no such class', 'KeyError')
    """
    said = first_line(str(problem))
    return one_line(f"{type(problem).__name__}: {said}" if said else type(problem).__name__)


def sendable(text: str) -> str:
    r"""Escape characters that UTF-8 cannot encode: file names may be any bytes.

    Examples
    --------
    >>> sendable("na\udcefve")
    'na\\udcefve'
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
