"""Types of command-line arguments that several commands have; a wrong one says what is expected."""

from argparse import ArgumentTypeError
from math import isfinite


def share(text: str) -> float:
    """Read a number between 0 and 1, such as a score.

    Examples
    --------
    >>> share("0.9")
    0.9
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise ArgumentTypeError(f"{text}: expected a number above 0 and below 1, such as 0.9")
    return value


def increase(text: str) -> float:
    """Read by which share something may rise.

    Examples
    --------
    >>> increase("0"), increase("1.5")
    (0.0, 1.5)
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (isfinite(value) and value >= 0):
        raise ArgumentTypeError(f"{text}: expected a number from 0, such as 0.2 for 20 %")
    return value


def whole_number(text: str) -> int:
    """Read a whole number from 1.

    Examples
    --------
    >>> whole_number("5,000")
    5000
    """
    try:
        value = int(text.replace(",", "").replace("_", ""))
    except ValueError:
        value = 0
    if value < 1:
        raise ArgumentTypeError(f"{text}: expected a whole number from 1, such as 5000")
    return value
