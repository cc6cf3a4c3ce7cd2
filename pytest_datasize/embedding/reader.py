"""Decode and crop images for the backbone, and compute their content hashes."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pytest_datasize.curve.seeds import FIXED_NOISE
from pytest_datasize.embedding.preprocessing import TensorCrop
from pytest_datasize.images.content_hash import known_contents
from pytest_datasize.images.decode import content_of, decode
from pytest_datasize.images.decoding import Decoders, Picture, Place
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.images.perceptual_hash import remember, squares_of
from pytest_datasize.images.plain_crop import PlainCrop
from pytest_datasize.images.undecodable import UndecodableError, describe
from pytest_datasize.store import Store


class Decoded(NamedTuple):
    """An image decoded for the backbone.

    Attributes
    ----------
    row
        Which one.
    content
        Hash of its pixels.
    pixels
        uint8, (3, S, S); None where it cannot be used.
    problem
        Why it cannot be decoded.
    squares
        Grey squares for its perceptual hash; empty if the hash is cached.
    """

    row: int
    content: str
    pixels: Tensor | None
    problem: str = ""
    squares: bytes = b""


def decoded(
    images: ImageSet, index: int, crop: Callable[[Image.Image], Tensor], hashed: bool = False
) -> Decoded:
    """Decode one image of a set; its row is its index there.

    Parameters
    ----------
    images, index
        Which one.
    crop
        8-bit RGB image → uint8 tensor of shape (3, S, S).
    hashed
        Whether its perceptual hash is needed.
    """
    try:
        picture = decode(images.read(index), images.max_pixels, images.depth)
        squares = squares_of(picture) if hashed else b""
        return Decoded(index, content_of(picture), crop(picture), squares=squares)
    except UndecodableError as problem:
        return Decoded(index, "", None, describe(images.name(index), problem))


def plain_crop(crop: Callable[[Image.Image], Tensor]) -> PlainCrop | None:
    """Return the same crop without torchvision; None if there is none that gives the same bits.

    Examples
    --------
    >>> from torchvision import transforms
    >>> crop = [transforms.Resize(256), transforms.CenterCrop(224)]
    >>> plain_crop(transforms.Compose([*crop, transforms.PILToTensor()]))
    PlainCrop(short=256, side=224, resample=<Resampling.BILINEAR: 2>)
    """
    if isinstance(crop, TensorCrop):
        return crop.plain
    steps: Sequence[Any] = getattr(crop, "transforms", ())
    if [type(step).__name__ for step in steps[:2]] != ["Resize", "CenterCrop"] or len(steps) > 3:
        return None
    short, side = steps[0].size, steps[1].size[0]
    how = getattr(Image.Resampling, steps[0].interpolation.name, None)
    if not isinstance(short, int) or side > short or how is None:
        return None
    found = PlainCrop(short, side, how)
    for shape in ((37, 61, 3), (2 * short + 1, short + 2, 3)):
        noise = np.random.default_rng(FIXED_NOISE).integers(256, size=shape, dtype=np.uint8)
        picture = Image.fromarray(noise)
        if not np.array_equal(crop(picture).permute(1, 2, 0).numpy(), np.asarray(found(picture))):
            return None
    return found


class Reader:
    """Reads the images of some sets, one set after the other, and records their content hashes.

    Attributes
    ----------
    contents
        Content hash of each image; None until computed.
    unreadable
        Problems of the images that cannot be used.
    """

    def __init__(
        self,
        image_sets: Sequence[ImageSet],
        crop: Callable[[Image.Image], Tensor],
        store: Store,
    ) -> None:
        self._sets = tuple(image_sets)
        self._places = [
            (part, index) for part, images in enumerate(image_sets) for index in range(len(images))
        ]
        self._crop, self._store = crop, store
        self._decoders: Decoders | None = None
        self._plain: PlainCrop | None = None  # with which they crop
        self.contents = [c for images in image_sets for c in known_contents(images, store)]
        self.unreadable: list[str] = []
        self._learnt: dict[str, str] = {}
        self._squares: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self._places)

    def start_decoders(self, number: int) -> None:
        """Start processes that decode for the reading threads, once they are ready."""
        if self._decoders is None:
            self._plain = plain_crop(self._crop)
            self._decoders = Decoders(self._sets, number, self._plain)

    def close(self) -> None:
        """End the processes; no thread may be reading."""
        if self._decoders is not None:
            self._decoders.close()

    def read(self, rows: Sequence[int]) -> list[Decoded]:
        """Decode some images; threads may do so at the same time."""
        places = [Place(*self._places[row], self.contents[row] is None) for row in rows]
        found = self._decoders.decode(places) if self._decoders else None
        return [
            self._read(row, picture)
            for row, picture in zip(rows, found or [None] * len(rows), strict=True)
        ]

    def learn(self, one: Decoded) -> bool:
        """Record an image's content hash or its problem; return whether it can be used."""
        if one.problem:
            self.unreadable.append(one.problem)
            return False
        if self.contents[one.row] is None:
            self.contents[one.row] = one.content
            part, index = self._places[one.row]
            if stamp := self._sets[part].stamps[index]:
                self._learnt[stamp] = one.content
            if one.squares:
                self._squares[one.content] = one.squares
        return True

    def remember(self, least: int = 1) -> None:
        """Write new content hashes to the store, in batches."""
        if len(self._learnt) >= least:
            self._store.remember(self._learnt)
            self._learnt = {}
        if len(self._squares) >= least:
            remember(self._store, self._squares)
            self._squares = {}

    def _read(self, row: int, picture: Picture | None) -> Decoded:
        """Crop an image that a process has decoded; decode any other here."""
        (part, index), known = self._places[row], self.contents[row]
        images = self._sets[part]
        if picture is None:
            one = decoded(images, index, self._crop, hashed=known is None)
        else:
            pixels = (
                torch.from_numpy(picture.pixels).permute(2, 0, 1)
                if self._plain
                else self._crop(Image.fromarray(picture.pixels))
            )
            one = Decoded(row, picture.content, pixels, squares=picture.squares)
        if not one.problem and known not in (None, one.content):
            # differs from the hash of its stamp or of the plan
            changed = UndecodableError("changed while the gate ran; run again when it is whole")
            return Decoded(row, "", None, describe(images.name(index), changed))
        return one._replace(row=row)
