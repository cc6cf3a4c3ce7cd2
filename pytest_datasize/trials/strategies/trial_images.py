"""Provide the images of one trial, decoded and labelled, to a user's training loop."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.decode import decode
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.images.pickling import refuse_unpicklable
from pytest_datasize.images.undecodable import UndecodableError

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


class Pictures:
    """All images of a study, decoded on demand; shared by its trials.

    Parameters
    ----------
    image_sets
        The pool, and after it the test images where given separately.
    """

    def __init__(self, image_sets: Sequence[ImageSet]) -> None:
        self._sets = tuple(image_sets)
        self._ends = list(accumulate(map(len, image_sets)))
        self._resized: dict[int, tuple[Pixels, np.ndarray[Any, np.dtype[np.bool_]]]] = {}
        self._lock = Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the images without the decoded images cached in this process."""
        return Pictures, (self._sets,)

    def picture(self, row: int) -> Image.Image:
        """Return an image as 8-bit RGB.

        Raises
        ------
        DatasetError
            It cannot be decoded.
        """
        images, index = self._place(row)
        try:
            return decode(images.read(index), images.max_pixels, images.depth)
        except UndecodableError as problem:
            raise DatasetError(f"{images.name(index)}: {problem}") from None

    def target(self, row: int, size: tuple[int, int]) -> Any:
        """Return the target of an image of (width, height); None for a class.

        Raises
        ------
        DatasetError
            It is that of an image of another size.
        """
        images, index = self._place(row)
        if images.targets is None:
            return None
        try:
            return images.targets.target(index, size)
        except UndecodableError as problem:
            raise DatasetError(f"{images.name(index)}: {problem}") from None

    def _place(self, row: int) -> tuple[ImageSet, int]:
        number = bisect_right(self._ends, row)
        return self._sets[number], row - (self._ends[number - 1] if number else 0)

    def resized(self, rows: NDArray[np.int64], side: int) -> Pixels:
        """Return images as (n, side, side, 3), each decoded once for all trials."""
        with self._lock:
            if side not in self._resized:
                shape = (self._ends[-1], side, side, 3)
                self._resized[side] = np.empty(shape, np.uint8), np.zeros(shape[0], np.bool_)
            kept, known = self._resized[side]
            for row in rows[~known[rows]]:
                kept[row] = np.asarray(self.picture(int(row)).resize((side, side)))
                known[row] = True
            return kept[rows]


@dataclass(frozen=True)
class TrialImages:
    """Labelled images of one trial: a sequence of (image, label), and a map-style torch Dataset.

    The label of an item is what the task has: a class number; a bool array (L,) of a set of labels;
    a number, or an array (K,); ``{"boxes": float32 (n, 4), "labels": int64 (n,)}`` with x0, y0, x1,
    y1 in pixels; or a mask, int64 (H, W), with -1 where it is not judged.

    They can be pickled, so that a DataLoader may read them in workers that are spawned.

    Attributes
    ----------
    labels
        int64 array of shape (n,): indices into ``classes``. Of other tasks, what an array can hold:
        bool (n, L) for sets of labels, float64 (n,) or (n, K) for numbers, and for boxes and masks
        whether an image shows a class, bool (n, C).
    classes
        Names of the classes or labels.
    transform
        Applied to the PIL image of every item; None gives uint8 arrays (H, W, 3).

    Examples
    --------
    >>> pixels = np.zeros((3, 8, 8), dtype=np.uint8)
    >>> source = ImageSet("x", ("a", "b"), np.array([0, 1, 1]), lambda i: pixels[i], str)
    >>> train = TrialImages(np.array([0, 1]), ("a", "b"), Pictures([source]), np.array([2, 0]))
    >>> train[0][0].shape, train.pixels(4).shape, len(train), [label for _, label in train]
    ((8, 8, 3), (2, 4, 4, 3), 2, [0, 1])
    """

    labels: NDArray[Any]
    classes: tuple[str, ...]
    _pictures: Pictures = field(repr=False)
    _rows: NDArray[np.int64] = field(repr=False)
    transform: Callable[[Image.Image], Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        if self.transform is not None:
            refuse_unpicklable(self.transform, f"the transform {self.transform!r}")
        return self.__dict__

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        row = int(self._rows[index])
        picture = self._pictures.picture(row)
        image = np.asarray(picture) if self.transform is None else self.transform(picture)
        target = self._pictures.target(row, picture.size)
        return image, int(self.labels[index]) if target is None else target

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return (self[index] for index in range(len(self)))

    def pixels(self, side: int) -> Pixels:
        """Return all images at once, resized: uint8 (n, side, side, 3).

        They are decoded once for all trials, and kept in memory at that size.
        """
        return self._pictures.resized(self._rows, side)

    def with_transform(self, transform: Callable[[Image.Image], Any]) -> "TrialImages":
        """Return the same images, each item (transform(PIL image), label)."""
        return TrialImages(self.labels, self.classes, self._pictures, self._rows, transform)
