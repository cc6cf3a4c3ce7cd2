"""Targets: a mask of class numbers per image."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.image_set import Chosen
from pytest_datasize.images.targets.mask_readers import (
    COLOUR,
    VOID,
    Greys,
    Joined,
    Mapped,
    Mask,
    Numbered,
)
from pytest_datasize.images.targets.names import matched, refuse_unknown
from pytest_datasize.images.targets.protocol import Rows, Shown, Targets, rarest
from pytest_datasize.images.undecodable import UndecodableError

MOST_CLASSES: Final = 256
"""More different values in masks mean that these are no class numbers."""


class Summary(NamedTuple):
    """What is kept of a mask: its values, the pixels of each, and a hash."""

    values: tuple[int, ...]
    pixels: tuple[int, ...]
    digest: str


def summaries(
    read: Callable[[int], NDArray[Any]], number: int, source: str = "masks"
) -> list[Summary]:
    """Read all masks once.

    Raises
    ------
    DatasetError
        They have more values than there can be classes.
    """
    found = []
    seen: set[int] = set()
    for index in range(number):
        mask = read(index)
        values, pixels = np.unique(mask, return_counts=True)
        seen.update(values.tolist())
        if len(seen) > MOST_CLASSES:
            raise DatasetError(
                f"{source}: the masks have more than {MOST_CLASSES} different values. Expected "
                "class numbers: save masks without loss (PNG), not as JPEG, and without smoothed "
                "borders."
            )
        digest = hashlib.sha256(f"{mask.shape}".encode() + mask.tobytes()).hexdigest()
        found.append(Summary(tuple(values.tolist()), tuple(pixels.tolist()), digest))
    return found


@dataclass(frozen=True, eq=False)
class Masks:
    """Masks of N images, read one at a time; of each only its areas are kept.

    Attributes
    ----------
    names
        The C classes.
    read
        Index → the mask of an image, int64 (H, W) of class numbers, :data:`VOID` for none.
    areas
        Pixels of each class in each image, int64 (N, C).
    digests
        Hash of each mask.
    void
        Value of pixels that are not judged; None without any.

    Examples
    --------
    >>> masks = Masks.of([np.array([[0, 1], [1, 1]]), np.array([[0, 0], [0, 255]])].__getitem__, 2)
    >>> masks.names, masks.areas.tolist()
    (('0', '1'), [[1, 3], [3, 0]])
    >>> masks.void, masks.read(1).tolist()
    (255, [[0, 0], [0, -1]])
    """

    names: tuple[str, ...]
    read: Callable[[int], Mask]
    areas: NDArray[np.int64]
    digests: tuple[str, ...]
    void: int | None = None
    task: ClassVar[str] = "segmentation"

    @classmethod
    def of(
        cls,
        read: Callable[[int], NDArray[Any]],
        number: int,
        names: Mapping[int, str] | None = None,
        void: int | None = None,
        source: str = "masks",
        known: "Sequence[Summary] | None" = None,
    ) -> "Masks":
        """Read all masks once, to know their classes and areas.

        Parameters
        ----------
        read
            Index → mask of whole numbers, (H, W).
        number
            Number of masks.
        names
            Value → name of its class; None for the values themselves.
        void
            Value of pixels that are not judged; None for -1, or for 255 where there are several
            other values, as in Pascal VOC. Beside 0 alone it is a class.
        source
            Description for messages.
        known
            What is known of the masks from before; they are then not read.

        Raises
        ------
        DatasetError
            The values are no class numbers.
        """
        if known is None:
            known = summaries(read, number, source)
        seen = {value for one in known for value in one.values}
        colours = {value for value in seen if value >= COLOUR}
        if colours and all(_grey(value) is not None for value in colours):
            read = Greys(read)
            known = [
                one._replace(values=tuple(map(_plain, one.values))) for one in known
            ]  # a mask has either colours or numbers, so no value occurs twice
            seen = set(map(_plain, seen))
        elif colours and names is None:
            names = {v: f"#{v - COLOUR:06x}" if v >= COLOUR else str(v) for v in seen}
        counts = [dict(zip(one.values, one.pixels, strict=True)) for one in known]
        digests = [one.digest for one in known]
        if void is None and VOID in seen:
            void = VOID
        if void is None and 255 in seen and len(seen) > 2 and 255 not in (names or ()):
            void = 255
        values = sorted(seen - {void})
        if names is not None and (unknown := [value for value in values if value not in names]):
            raise DatasetError(
                f"{source}: the masks have the value {unknown[0]}, which no class has "
                f"({', '.join(f'{value} {name}' for value, name in names.items())})."
            )
        areas = np.array([[count.get(v, 0) for v in values] for count in counts], dtype=np.int64)
        own = tuple(str(value) if names is None else names[value] for value in values)
        reader = Numbered(read, np.array(values, dtype=np.int64))
        areas = areas.reshape(number, len(values))
        return cls(own, reader, areas, tuple(digests), void if void in seen else None)

    def __len__(self) -> int:
        return len(self.areas)

    def part(self, rows: Rows) -> "Masks":
        """Return the masks of the given rows."""
        return replace(
            self,
            read=Chosen(self.read, rows),
            areas=self.areas[rows],
            digests=tuple(self.digests[row] for row in rows.tolist()),
        )

    def joined(self, others: Sequence[Targets]) -> "Masks":
        """Return all masks, classes matched by name."""
        parts = [self, *(one for one in others if isinstance(one, Masks))]
        void = next((one.void for one in parts if one.void is not None), None)
        parts = [one._with_void(void) for one in parts]
        names, columns = matched(parts)
        moved = [one._renamed(names, own) for one, own in zip(parts, columns, strict=True)]
        return Masks(
            names,
            Joined([(one.read, len(one)) for one in moved]),
            np.concatenate([one.areas for one in moved]),
            tuple(digest for one in moved for digest in one.digests),
            void,
        )

    def _with_void(self, void: int | None) -> "Masks":
        """Return masks in which the value that is void in another part is void, too.

        A part whose masks have only 0 and 255 does not show by itself that 255 is no class.
        """
        if void is None or self.void is not None or str(void) not in self.names:
            return self
        names = tuple(name for name in self.names if name != str(void))
        own = [names.index(name) if name != str(void) else VOID for name in self.names]
        return replace(self._renamed(names, own), void=void)

    def _renamed(self, names: tuple[str, ...], own: Sequence[int]) -> "Masks":
        """Express the masks in other names; ``own`` has the new number of each class, or VOID."""
        areas = np.zeros((len(self), len(names)), dtype=np.int64)
        kept = [number for number in range(len(self.names)) if own[number] != VOID]
        areas[:, [own[number] for number in kept]] = self.areas[:, kept]
        read = Mapped(self.read, np.array([*own, VOID], dtype=np.int64))  # VOID is the last
        return Masks(names, read, areas, self.digests, self.void)

    def settled(self, source: str) -> "Masks":
        """Refuse masks of one class; leave out classes without pixels."""
        used = np.flatnonzero(self.areas.sum(axis=0))
        if len(used) < 2:
            raise DatasetError(
                f"{source}: all pixels of all masks are of one class; a score needs at least two."
            )
        own = np.full(len(self.names), VOID, dtype=np.int64)
        own[used] = np.arange(len(used))
        return self._renamed(tuple(self.names[index] for index in used), own.tolist())

    def aligned(self, pool: Targets, source: str) -> "Masks":
        """Express the masks in the classes of the pool."""
        assert isinstance(pool, Masks)
        if pool.void is not None and self.void is None:
            self = self._with_void(pool.void)
        used = np.flatnonzero(self.areas.sum(axis=0))
        refuse_unknown([self.names[index] for index in used], pool.names, source, "class")
        own = np.full(len(self.names), VOID, dtype=np.int64)
        own[used] = [pool.names.index(self.names[index]) for index in used]
        return self._renamed(pool.names, own.tolist())

    @property
    def membership(self) -> Shown:
        """Whether an image shows a class, (N, C)."""
        return self.areas > 0

    @property
    def strata(self) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """The stratum of an image is the rarest class that it shows."""
        return rarest(self.membership, self.names, "(void)")

    def identity(self, row: int) -> str:
        """Return the hash of a mask."""
        return self.digests[row]

    @property
    def amounts(self) -> Mapping[str, int]:
        """Class → number of pixels."""
        return dict(zip(self.names, self.areas.sum(axis=0).tolist(), strict=True))

    @property
    def truth(self) -> Shown:
        """Whether an image shows a class: pixels are counted with the scores."""
        return self.membership

    def target(self, row: int, size: tuple[int, int]) -> Mask:
        """Return the mask of an image, int64 (H, W); -1 for pixels that are not judged.

        Raises
        ------
        UndecodableError
            It has another size than the image.
        """
        mask = self.read(row)
        if mask.shape != size[::-1]:
            raise UndecodableError(
                f"{size[0]} x {size[1]} pixels, but its mask has {mask.shape[1]} x "
                f"{mask.shape[0]}. Is it the mask of another image, or of this one before it was "
                "resized, or turned by its EXIF orientation?"
            )
        return mask


def _grey(value: int) -> int | None:
    """Return the level of a colour that is grey; None for any other."""
    level = value & 255
    return level if value == COLOUR + level * 0x010101 else None


def _plain(value: int) -> int:
    return value & 255 if value >= COLOUR else value
