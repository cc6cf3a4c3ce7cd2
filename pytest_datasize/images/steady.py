"""Refuse images that look different when they are read again.

Files have stamps that change with them. Objects have none: a Dataset may draw random numbers, turn
an image each time, or read what another program writes. Its first reading counts, and every later
one is compared with it, so a verdict is never computed from two versions of an image.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.image_set import Raw
from pytest_datasize.images.sampling import spread

READ_TWICE = 24
"""Images that are read twice before anything else: they show a flip of every fourth image with
99.9 %, and of one image in five with 99 %. What is rarer is found when it is met."""

LABELS_COMPARED = 90
"""Items whose label is compared with the declared one: finds 5 % deviations with 99 %."""


@dataclass(frozen=True, eq=False)
class SteadyRead:
    """Reads images, and compares each with how it looked before.

    Attributes
    ----------
    function
        Index → the image before decoding.
    name
        Index → its name for messages.
    number
        How many images there are.
    """

    function: Callable[[int], Raw]
    name: Callable[[int], str]
    number: int
    _seen: NDArray[np.uint64] = field(init=False, repr=False)  # 0: not read yet

    def __post_init__(self) -> None:
        object.__setattr__(self, "_seen", np.zeros(self.number, np.uint64))

    def __call__(self, index: int) -> Raw:
        """Return an image.

        Raises
        ------
        DatasetError
            It is not the same as when it was read before.
        """
        raw = self.function(index)
        found, before = _hash(raw), self._seen[index]
        if before and found != before:
            raise DatasetError(
                f"{self.name(index)} looks different each time it is read. Leave random transforms "
                "out, and do not change the images meanwhile: a verdict must be the same on every "
                "run."
            )
        self._seen[index] = found
        return raw

    def __reduce__(self) -> tuple[Any, ...]:  # the same bytes, whatever was read before
        return SteadyRead, (self.function, self.name, self.number)


def _hash(raw: Raw) -> np.uint64:
    content = hashlib.blake2b(digest_size=8)
    if isinstance(raw, np.ndarray):
        content.update(f"{raw.dtype}{raw.shape}".encode())
        content.update(np.ascontiguousarray(raw).tobytes())
    else:
        content.update(raw)
    return np.uint64(int.from_bytes(content.digest(), "little") or 1)


def steady(read: Callable[[int], Raw], name: Callable[[int], str], number: int) -> SteadyRead:
    """Read some images twice, the second time in the opposite order, and return the checked reader.

    Parameters
    ----------
    read, name, number
        As of :class:`SteadyRead`.

    Raises
    ------
    DatasetError
        One looks different the second time.
    """
    checked = SteadyRead(read, name, number)
    chosen = spread(number, READ_TWICE)
    for index in (*chosen, *reversed(chosen)):
        checked(index)
    return checked
