"""Compute perceptual hashes, which re-encoding, brightening or mirroring hardly change.

The signs of the lowest 16 x 16 frequencies of the image as 32 x 32 grey squares (Zauner 2010,
"Implementation and Benchmarking of Perceptual Image Hash Functions", with four times the bits and
the sign for the median). An image has five such hashes: of the whole, and of windows around its
middle that leave out 3 to 10.5 % of both sides. A copy that was cropped has, as a whole, nearly the
hash of one of the windows of its original.

All arithmetic uses integers, so that every machine computes the same bits: the groups that
follow from them are part of cache keys and of lock files.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.decode import decode
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.images.undecodable import UndecodableError, describe
from pytest_datasize.requirement.versions import DECODING, text_of
from pytest_datasize.store import Store

ByteArray = np.ndarray[Any, np.dtype[np.uint8]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]

WINDOWS: Final = (1.0, 0.97, 0.945, 0.92, 0.895)
"""Shares of both sides that are hashed, around the middle: a copy that was cropped by up to about
11 % differs from one of them by 1.5 % of its side at most, which turns some 20 bits."""

SIDE: Final = 16
"""Frequencies along each side; a hash has their square in bits, the first of which is no sign."""

_SQUARES: Final = 32
_FLAT: Final = 2
"""Standard deviation of grey levels, of 255, below which an image has too little contrast."""

_SCALE: Final = 4096  # of the cosines: sums of products stay whole numbers below 2**53
_FORMAT: Final = "perceptual hash 2"
_BATCH: Final = 256


def _cosines(share: float) -> NDArray[np.float64]:
    """Cosines of a window, over all 32 squares: between them the image is interpolated (cubic)."""
    frequency, place = np.arange(SIDE)[:, None], np.arange(_SQUARES)
    cosines: NDArray[np.float64] = np.cos(np.pi * (place + 0.5) * frequency / _SQUARES)
    taken = np.zeros((_SQUARES, _SQUARES))
    for row, at in enumerate((place + 0.5 - _SQUARES / 2) * share + _SQUARES / 2 - 0.5):
        first = int(np.floor(at))
        t = at - first
        weights = (
            -t + 2 * t**2 - t**3,
            2 - 5 * t**2 + 3 * t**3,
            t + 4 * t**2 - 3 * t**3,
            t**3 - t**2,
        )
        for square, weight in zip(range(first - 1, first + 3), weights, strict=True):
            taken[row, min(max(square, 0), _SQUARES - 1)] += weight / 2
    return np.rint(_SCALE * cosines @ taken)


_COSINES: Final = tuple(map(_cosines, WINDOWS))
_MARGINS: Final = tuple(round((1 - share) / 2 * _SQUARES) for share in WINDOWS)


def squares_of(picture: Image.Image) -> bytes:
    """Return an image as 32 x 32 grey squares, 1,024 bytes: what its hashes are made of."""
    # coarser and faster ways of shrinking would see a mirrored image differently
    small = picture.resize((_SQUARES, _SQUARES), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return small.convert("L").tobytes()


def hashes_of(squares: Sequence[bytes]) -> ByteArray:
    """Return the hashes of images and of their :data:`WINDOWS`, shape (N, 5, 32).

    The first bit, which would be the sign of the mean brightness, is set if the image has enough
    contrast.

    Examples
    --------
    >>> ramp = Image.linear_gradient("L")
    >>> some = hashes_of([squares_of(ramp), squares_of(ramp.point(lambda v: v // 2))])
    >>> some.shape, int(np.unpackbits(some[0] ^ some[1]).sum()) < 20  # of 1,280 bits
    ((2, 5, 32), True)
    """
    grey = np.frombuffer(b"".join(squares), np.uint8).reshape(-1, _SQUARES, _SQUARES)
    wide = grey.astype(np.float64)
    hashes = np.empty((len(grey), len(WINDOWS), SIDE**2 // 8), dtype=np.uint8)
    for number, (cosines, margin) in enumerate(zip(_COSINES, _MARGINS, strict=True)):
        signs = cosines @ wide @ cosines.T > _SCALE**2 // 2
        signs[:, 0, 0] = _shows(grey[:, margin : _SQUARES - margin, margin : _SQUARES - margin])
        hashes[:, number] = np.packbits(signs.reshape(len(grey), -1), axis=1)
    return hashes


def _shows(grey: ByteArray) -> BoolArray:
    """Whether the standard deviation of the grey levels is large enough, in whole numbers."""
    levels = grey.reshape(len(grey), -1).astype(np.int64)
    n = levels.shape[1]
    spread: BoolArray = n * (levels**2).sum(axis=1) - levels.sum(axis=1) ** 2 >= (_FLAT * n) ** 2
    return spread


def _space() -> str:
    """Return the name under which stores keep hashes; pictures are resized by their decoder."""
    return f"{_FORMAT}, {text_of(DECODING)}"


def remember(store: Store, squares: Mapping[str, bytes]) -> None:
    """Store the hashes of images, from their content hashes and grey squares."""
    _, known = _fetch(store, list(squares))
    new = [name for name, there in zip(squares, known, strict=True) if not there]
    if new:
        made = hashes_of([squares[name] for name in new])
        store.rows(_space()).add(new, made.reshape(len(new), -1).view(np.float16))


def perceptual_hashes(images: ImageSet, store: Store, threads: int = 1) -> ByteArray:
    """Return the hashes of images whose contents are known, shape (N, 5, 32).

    Images that were decoded before have theirs in the store; others are decoded here.

    Raises
    ------
    DatasetError
        An image cannot be read any more.
    """
    hashes, known = _fetch(store, images.digests)
    missing = np.flatnonzero(~known)
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(missing), _BATCH):
            rows = missing[start : start + _BATCH]
            squares = list(pool.map(lambda row: _squares(images, int(row)), rows))
            remember(store, {images.digests[r]: s for r, s in zip(rows, squares, strict=True)})
            hashes[rows] = hashes_of(squares)
    return hashes


def trust(store: Store, contents: Sequence[str]) -> None:
    """Use hashes that a worker of this session has stored, even with ``refresh``."""
    store.rows(_space()).trust(contents)


def _fetch(store: Store, contents: Sequence[str]) -> tuple[ByteArray, BoolArray]:
    """Return the stored hashes and which were found; they are stored beside the embeddings."""
    width = len(WINDOWS) * SIDE**2 // 16
    rows = store.rows(_space())
    if rows.width is None:
        store.set_width(_space(), width)
    found = np.empty((len(contents), width), dtype=np.float16)
    known = rows.fetch(contents, found)
    shape = (len(contents), len(WINDOWS), 2 * width // len(WINDOWS))
    return found.view(np.uint8).reshape(shape), known


def _squares(images: ImageSet, row: int) -> bytes:
    try:
        return squares_of(decode(images.read(row), images.max_pixels, images.depth))
    except UndecodableError as problem:
        raise DatasetError(describe(images.name(row), problem)) from None
