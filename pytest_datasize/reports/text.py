"""Text that comes from data (names of classes and files) made safe to show and to send."""


def printable(text: str) -> str:
    r"""Neutralise what could drive a terminal: every control character but the line break.

    Examples
    --------
    >>> printable("cat\x1b[31m\ndog")
    'cat?[31m\ndog'
    """
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)


def sendable(text: str) -> str:
    r"""Escape what UTF-8 cannot write: file names may be any bytes.

    Examples
    --------
    >>> sendable("na\udcefve")
    'na\\udcefve'
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
