"""The objects of images as images of their own: what lies in each box, with a margin."""

import threading
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from pytest_datasize.images.decode import decode
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.images.targets.boxes import Boxes

MARGIN: Final = 0.2
"""Share of a box's longer side that is added on each side: objects are recognised in context."""


def crops(images: ImageSet) -> ImageSet:
    """Return the objects of images with boxes, one image per object, in the order of the images.

    A crop is square, as far as the image goes: the box's longer side with a margin.
    """
    boxes = images.targets
    assert isinstance(boxes, Boxes)
    of = _Crops(images, boxes, boxes.image_of)
    return ImageSet(
        source=f"objects in {images.source}",
        classes=boxes.names,
        labels=boxes.labels,
        read=of.read,
        name=of.name,
        stamp=of.stamp,
        max_pixels=images.max_pixels,
    )


@dataclass(frozen=True, eq=False)
class _Crops:
    """Crops by the number of the object."""

    images: ImageSet
    boxes: Boxes
    image_of: np.ndarray[Any, np.dtype[np.int64]]
    _last: threading.local = field(default_factory=threading.local)

    def read(self, index: int) -> np.ndarray[Any, Any]:
        """Return the pixels of an object, (h, w, 3); the last image of a thread stays decoded."""
        row = int(self.image_of[index])
        if getattr(self._last, "row", None) != row:
            images = self.images
            picture = decode(images.read(row), images.max_pixels, images.depth)
            self.boxes.refuse_size(row, picture.size)
            self._last.row, self._last.pixels = row, np.asarray(picture)
        pixels: np.ndarray[Any, Any] = self._last.pixels
        height, width = pixels.shape[:2]
        number = index - int(self.boxes.starts[row])
        x0, y0, x1, y1 = self.boxes.pixels(row, (width, height))[number].tolist()
        if x0 >= x1 or y0 >= y1:
            self.boxes.refuse_outside(row, number, (width, height))
        half = max(x1 - x0, y1 - y0, 1.0) * (0.5 + MARGIN)
        middle_x, middle_y = (x0 + x1) / 2, (y0 + y1) / 2
        left, right = (round(min(max(v, 0), width)) for v in (middle_x - half, middle_x + half))
        top, bottom = (round(min(max(v, 0), height)) for v in (middle_y - half, middle_y + half))
        left, top = min(left, width - 1), min(top, height - 1)
        return pixels[top : max(bottom, top + 1), left : max(right, left + 1)].copy()

    def name(self, index: int) -> str:
        """Return the name of the image and the number of the object in it."""
        row = int(self.image_of[index])
        return f"object {index - int(self.boxes.starts[row])} of {self.images.name(row)}"

    def stamp(self, index: int) -> str | None:
        """Return the stamp of the image and the box."""
        row = int(self.image_of[index])
        stamp = self.images.stamp(row)
        box = self.boxes.corners[index].tolist()
        return stamp and f"{stamp}|crop {MARGIN} {self.boxes.shares} {box}"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_last"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _last=threading.local())
