"""Ages and sizes as people type and read them."""

import argparse
import re

_AGES = {"h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_SIZES = {
    "b": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", 1)},
}
_NUMBER = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", re.IGNORECASE)


def age(text: str) -> float:
    """Read an age, in seconds.

    Raises
    ------
    argparse.ArgumentTypeError
        It is none.

    Examples
    --------
    >>> age("90d") == 90 * 24 * 3600, age("12h"), age("2 w") == age("14d")
    (True, 43200.0, True)
    """
    number, unit = _parts(text)
    if unit not in _AGES:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a number and h, d or w (hours, days, weeks), such as 90d"
        )
    return number * _AGES[unit]


def size(text: str) -> int:
    """Read a size, in bytes.

    Raises
    ------
    argparse.ArgumentTypeError
        It is none.

    Examples
    --------
    >>> size("5GB"), size("1.5 MB"), size("2GiB")
    (5000000000, 1500000, 2147483648)
    """
    number, unit = _parts(text)
    if unit not in _SIZES:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a number and kB, MB, GB, TB (thousands) or KiB, MiB, GiB, TiB, "
            "such as 5GB"
        )
    return int(number * _SIZES[unit])


def _parts(text: str) -> tuple[float, str]:
    found = _NUMBER.fullmatch(text)
    return (float(found[1]), found[2].lower()) if found else (0.0, "")


def in_bytes(number: int) -> str:
    """Write a size with three digits at least.

    Examples
    --------
    >>> in_bytes(12), in_bytes(1_234), in_bytes(5_000_000_000), in_bytes(999_999)
    ('12 B', '1.23 kB', '5.00 GB', '1.00 MB')
    """
    value, units = float(number), ["TB", "GB", "MB", "kB", "B"]
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop()
    if units[-1] == "B":
        return f"{number} B"
    return f"{value:.{2 - (value >= 9.995) - (value >= 99.95)}f} {units[-1]}"


def counted(number: int, what: str) -> str:
    """Write a number with its noun.

    Examples
    --------
    >>> counted(1, "file"), counted(1200, "file")
    ('1 file', '1,200 files')
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"
