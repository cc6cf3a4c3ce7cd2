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


def per_group_text(per_group: float) -> str:
    """Write a mean number of images per group.

    Examples
    --------
    >>> [per_group_text(n) for n in (15.21, 4.0, 1234.5, 1.25)]
    ['15', '4', '1,234', '1.2']
    """
    return f"{per_group:,.0f}" if per_group >= 9.95 else f"{per_group:.1f}".removesuffix(".0")
