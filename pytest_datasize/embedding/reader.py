"""Decode and crop images for the backbone, and compute their content hashes."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from PIL import Image
from torch import Tensor

from pytest_datasize.images.content_hash import known_contents
from pytest_datasize.images.decode import content_of, decode
from pytest_datasize.images.decoding import Decoders, Picture, Place
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.images.perceptual_hash import remember, squares_of
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
        self.contents = [c for images in image_sets for c in known_contents(images, store)]
        self.unreadable: list[str] = []
        self._learnt: dict[str, str] = {}
        self._squares: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self._places)

    def hire(self, number: int) -> None:
        """Let processes decode for the threads that read, once they have started."""
        if self._decoders is None:
            self._decoders = Decoders(self._sets, number)

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
            pixels = self._crop(Image.fromarray(picture.pixels))
            one = Decoded(row, picture.content, pixels, squares=picture.squares)
        if not one.problem and known not in (None, one.content):
            # differs from the hash of its stamp or of the plan
            changed = UndecodableError("changed while the gate ran; run again when it is whole")
            return Decoded(row, "", None, describe(images.name(index), changed))
        return one._replace(row=row)
