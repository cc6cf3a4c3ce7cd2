"""Targets: boxes with classes per image, perhaps none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.targets.names import matched, refuse_unknown
from pytest_datasize.images.targets.protocol import Rows, Shown, Targets, rarest
from pytest_datasize.images.undecodable import UndecodableError

_LEAST_PIXELS: Final = 1.5
"""Corners that are all below this are shares of the image's sides, with some rounding."""


@dataclass(frozen=True, eq=False)
class Boxes:
    """Objects of N images.

    Attributes
    ----------
    names
        The C classes.
    starts
        First object of each image, and the number M of all objects, int64 (N + 1,).
    corners
        x0, y0, x1, y1 of each object, float64 (M, 4): in pixels, or as shares of the sides.
    labels
        Class of each object, int64 (M,).
    shares
        Whether corners are shares of the image's width and height, as in YOLO files.
    dropped
        Number of boxes without an area, which were left out.
    sizes
        Width and height of each image as its annotations say, int64 (N, 2); 0 where they do not.

    Examples
    --------
    >>> boxes = Boxes.of([[("cat", (0, 0, 8, 8))], []])
    >>> boxes.names, len(boxes), boxes.amounts, boxes.of_image(0)[0].tolist()
    (('cat',), 2, {'cat': 1}, [[0.0, 0.0, 8.0, 8.0]])
    """

    names: tuple[str, ...]
    starts: NDArray[np.int64]
    corners: NDArray[np.float64]
    labels: NDArray[np.int64]
    shares: bool = False
    dropped: int = 0
    sizes: NDArray[np.int64] | None = None
    task: ClassVar[str] = "detection"

    @classmethod
    def of(
        cls,
        objects: Sequence[Sequence[tuple[Any, Sequence[float]]]],
        shares: bool = False,
        sizes: Sequence[tuple[int, int] | None] | None = None,
    ) -> "Boxes":
        """Make boxes from (class, corners) pairs of each image; those without area are left out."""
        given = sum(map(len, objects))
        said = [size or (0, 0) for size in sizes or ()]
        objects = [
            [(name, box) for name, box in image if box[0] < box[2] and box[1] < box[3]]
            for image in objects
        ]
        names = tuple(sorted({str(name) for image in objects for name, _ in image}))
        number = {name: index for index, name in enumerate(names)}
        return cls(
            names,
            np.concatenate([[0], np.cumsum([len(image) for image in objects])]).astype(np.int64),
            np.array([box for image in objects for _, box in image], np.float64).reshape(-1, 4),
            np.array([number[str(name)] for image in objects for name, _ in image], np.int64),
            shares,
            given - sum(map(len, objects)),
            np.array(said, np.int64).reshape(-1, 2) if said else None,
        )

    def __len__(self) -> int:
        return len(self.starts) - 1

    def objects(self, rows: Rows) -> NDArray[np.int64]:
        """Return the numbers of all objects of some images, image after image."""
        spans = [np.arange(self.starts[row], self.starts[row + 1]) for row in rows.tolist()]
        return np.concatenate([*spans, np.empty(0, dtype=np.int64)])

    def of_image(self, row: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return corners (n, 4) and classes (n,) of the objects of one image."""
        span = slice(self.starts[row], self.starts[row + 1])
        return self.corners[span], self.labels[span]

    @property
    def image_of(self) -> NDArray[np.int64]:
        """Image of each object, (M,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def part(self, rows: Rows) -> "Boxes":
        """Return the objects of the given images."""
        chosen = self.objects(rows)
        counts = np.diff(self.starts)[rows]
        return replace(
            self,
            starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            corners=self.corners[chosen],
            labels=self.labels[chosen],
            sizes=None if self.sizes is None else self.sizes[rows],
        )

    def joined(self, others: Sequence[Targets]) -> "Boxes":
        """Return the objects of all images, classes matched by name."""
        parts = [self, *(one for one in others if isinstance(one, Boxes))]
        names, columns = matched(parts)
        firsts = np.cumsum([0, *(len(one.labels) for one in parts)])
        ends = [one.starts[1:] + first for one, first in zip(parts, firsts, strict=False)]
        labels = [
            np.array(own, np.int64)[one.labels]
            for one, own in zip(parts, columns, strict=True)
            if len(one.labels)
        ]
        return Boxes(
            names,
            np.concatenate([[0], *ends]).astype(np.int64),
            np.concatenate([one.corners for one in parts]),
            np.concatenate([*labels, np.empty(0, np.int64)]),
            self.shares,
            sum(one.dropped for one in parts),
            np.concatenate([one._sizes for one in parts]),
        )

    @property
    def _sizes(self) -> NDArray[np.int64]:
        return np.zeros((len(self), 2), np.int64) if self.sizes is None else self.sizes

    def settled(self, source: str) -> "Boxes":
        """Refuse boxes from which nothing can be learned; leave out classes without objects."""
        counts = np.bincount(self.labels, minlength=len(self.names))
        used = np.flatnonzero(counts)
        if not len(used):
            raise DatasetError(
                f"{source}: there are no objects; nothing can be learned."
                + (f" {self.dropped:,} boxes have no area." if self.dropped else "")
            )
        if not self.shares and self.corners.max() < _LEAST_PIXELS:
            raise DatasetError(
                f"{source}: no corner of a box is above 1, so the boxes look like shares of the "
                "image's sides; expected pixels. Multiply them by width and height."
            )
        number = np.full(len(self.names), -1, dtype=np.int64)
        number[used] = np.arange(len(used))
        names = tuple(self.names[index] for index in used)
        return replace(self, names=names, labels=number[self.labels])._in_order()

    def aligned(self, pool: Targets, source: str) -> "Boxes":
        """Express the objects in the classes of the pool."""
        used = np.unique(self.labels)
        own = [self.names[index] for index in used]
        refuse_unknown(own, pool.names, source, "class")
        number = np.full(len(self.names), -1, dtype=np.int64)
        number[used] = [pool.names.index(name) for name in own]
        return replace(self, names=pool.names, labels=number[self.labels])._in_order()

    def _in_order(self) -> "Boxes":
        """Sort the objects of each image, so that their order in a file changes no result."""
        order = np.lexsort((*self.corners.T[::-1], self.labels, self.image_of))
        return replace(self, corners=self.corners[order], labels=self.labels[order])

    @property
    def membership(self) -> Shown:
        """Whether an image shows an object of a class, (N, C)."""
        shown = np.zeros((len(self), len(self.names)), dtype=np.bool_)
        shown[self.image_of, self.labels] = True
        return shown

    @property
    def strata(self) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """The stratum of an image is the rarest class that it shows."""
        return rarest(self.membership, self.names, "(no object)")

    def identity(self, row: int) -> list[Any]:
        """Return classes and corners of the objects of an image, sorted."""
        corners, labels = self.of_image(row)
        pairs = zip(labels.tolist(), corners.tolist(), strict=True)
        return sorted([self.names[label], *box] for label, box in pairs)

    @property
    def amounts(self) -> Mapping[str, int]:
        """Class → number of objects."""
        counts = np.bincount(self.labels, minlength=len(self.names)).tolist()
        return dict(zip(self.names, counts, strict=True))

    @property
    def truth(self) -> Shown:
        """Whether an image shows a class: the objects themselves are counted with the scores."""
        return self.membership

    def pixels(self, row: int, size: tuple[int, int]) -> NDArray[np.float64]:
        """Return the corners of an image of (width, height) pixels, in pixels and inside it."""
        corners, _ = self.of_image(row)
        sides = np.array([*size, *size], dtype=np.float64)
        return np.clip(corners * sides if self.shares else corners, 0.0, sides)

    def refuse_size(self, row: int, size: tuple[int, int]) -> None:
        """Raise UndecodableError if annotations are those of an image of another size."""
        said = tuple(self._sizes[row].tolist())
        if min(said) > 0 and said != size:
            raise UndecodableError(
                f"it has {size[0]} x {size[1]} pixels, its annotations say {said[0]} x {said[1]}. "
                "Was it resized, or is it turned by its EXIF orientation?"
            )

    def refuse_outside(self, row: int, number: int, size: tuple[int, int]) -> NoReturn:
        """Raise UndecodableError for an object of an image that nothing is left of inside it."""
        given = [round(value, 3) for value in self.of_image(row)[0][number].tolist()]
        raise UndecodableError(
            f"the box {given} lies outside the image of {size[0]} x {size[1]} "
            "pixels; are the boxes those of an image of another size, or turned by its EXIF "
            "orientation?"
        )

    def target(self, row: int, size: tuple[int, int]) -> dict[str, Any]:
        """Return ``boxes``, float32 (n, 4) as x0, y0, x1, y1 in pixels, and ``labels``, (n,).

        Raises
        ------
        UndecodableError
            A box lies outside the image, or the annotations are those of another size.
        """
        self.refuse_size(row, size)
        boxes = self.pixels(row, size).astype(np.float32)
        empty = (boxes[:, 0] >= boxes[:, 2]) | (boxes[:, 1] >= boxes[:, 3])
        for number in np.flatnonzero(empty).tolist():
            self.refuse_outside(row, number, size)
        return {"boxes": boxes, "labels": self.of_image(row)[1].copy()}
