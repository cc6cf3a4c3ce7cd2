"""What a gate counts: images, or groups such as patients. Pure Python."""

from typing import Final

IMAGE: Final = "image"
GROUP: Final = "group"

UNITS: Final = (IMAGE, GROUP)
"""Values of the option ``unit``."""


def plural(unit: str) -> str:
    """Return the word for several units.

    Examples
    --------
    >>> plural(GROUP)
    'groups'
    """
    return f"{unit}s"


def each(per_group: float) -> str:
    """Write the mean number of images of a group.

    Examples
    --------
    >>> each(15.21), each(4.0), each(1234.5), each(1.25)
    ('15', '4', '1,234', '1.2')
    """
    return f"{per_group:,.0f}" if per_group >= 9.95 else f"{per_group:.1f}".removesuffix(".0")
