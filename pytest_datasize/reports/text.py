"""Text that comes from data (names of classes and files) made safe to show and to send."""


def printable(text: str) -> str:
    r"""Neutralise what could drive a terminal or the log of a CI system.

    Every control character but the line break, and what GitHub takes for a workflow command: ``::``
    where a line begins, ``##[`` anywhere.

    Examples
    --------
    >>> printable("cat\x1b[31m\ndog\n::error::x ##[group]")
    'cat?[31m\ndog\n: :error::x # #[group]'
    """
    plain = "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)
    lines = [
        f"{line[: len(line) - len(start)]}: {start[1:]}" if start.startswith("::") else line
        for line in plain.split("\n")
        for start in (line.lstrip(),)
    ]
    return "\n".join(lines).replace("##[", "# #[")


def word(text: str) -> str:
    r"""Neutralise a name, which may not break the line that it stands in either.

    Examples
    --------
    >>> word("cat\ndog")
    'cat?dog'
    """
    return printable(text.replace("\n", "?"))


def sendable(text: str) -> str:
    r"""Escape what UTF-8 cannot write: file names may be any bytes.

    Examples
    --------
    >>> sendable("na\udcefve")
    'na\\udcefve'
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
