"""Readers of masks: functions of the number of an image, which can be pickled."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

VOID: Final = -1
"""Class of pixels that are not judged, such as borders of objects in Pascal VOC."""

COLOUR: Final = 1 << 24
"""Added to the values of pixels that are colours, 65,536 red + 256 green + blue."""

Mask = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Greys:
    """Masks of greys that some files hold as three equal channels."""

    read: Callable[[int], NDArray[Any]]

    def __call__(self, index: int) -> NDArray[Any]:
        """Return the mask of an image."""
        mask = self.read(index)
        return np.where(mask >= COLOUR, mask & 255, mask)


@dataclass(frozen=True, eq=False)
class Numbered:
    """Masks of values, read as class numbers."""

    read: Callable[[int], NDArray[Any]]
    values: NDArray[np.int64]

    def __call__(self, index: int) -> Mask:
        """Return the mask of an image."""
        mask = self.read(index).astype(np.int64)
        place = np.searchsorted(self.values, mask).clip(0, len(self.values) - 1)
        return np.where(self.values[place] == mask, place, VOID)


@dataclass(frozen=True, eq=False)
class Mapped:
    """Masks whose class numbers are replaced by others."""

    read: Callable[[int], Mask]
    number: NDArray[np.int64]

    def __call__(self, index: int) -> Mask:
        """Return the mask of an image."""
        mask: Mask = self.number[self.read(index)]
        return mask


@dataclass(frozen=True, eq=False)
class Joined:
    """Masks of several sets, one set after the other."""

    parts: Sequence[tuple[Callable[[int], Mask], int]]

    def __call__(self, index: int) -> Mask:
        """Return the mask of an image."""
        for read, number in self.parts:
            if index < number:
                return read(index)
            index -= number
        raise IndexError(index)
