"""What an image shows, in 255 bits that saving again, brightening or mirroring hardly change.

The signs of the lowest 16 x 16 frequencies of the image as 32 x 32 grey squares (Zauner 2010,
"Implementation and Benchmarking of Perceptual Image Hash Functions", with four times the bits and
the sign for the median). A mirrored or turned image has the same frequencies but for their signs
and their order, so that its hash follows from that of the image, and copies made by augmentation
are found at no cost.

How near is near depends on the data, as with embeddings: photographs of one part in one pose share
most of their bits. So a pair counts where it differs in less than a quarter of the bits that an
image and its tenth nearest neighbour usually differ in, and in no more than :data:`MOST_BITS`. The
tenth, so that a pool of which every image was written out several times does not pass for normal.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.decode import decode
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.images.undecodable import UndecodableError, told
from pytest_datasize.requirement.versions import DECODING, text_of
from pytest_datasize.store import Store

ByteArray = np.ndarray[Any, np.dtype[np.uint8]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]

MOST_BITS: Final = 24
"""Bits of 255 that a copy may differ in; of 2,000 different textiles no two differ in under 84."""

SHARE_OF_NEIGHBOURS: Final = 0.25
"""Bits that a copy may differ in, as a share of what near neighbours usually do."""

_NEIGHBOUR: Final = 10

_SIDE: Final = 32
_BITS: Final = 16
_FLAT: Final = 2.0
"""Spread of grey levels of 255 below which an image shows too little to be told from another."""

_LEAST_POOL: Final = 20
_SAMPLE: Final = 500
_CELLS: Final = 1 << 23
_FORMAT: Final = "perceptual hash 1"

_frequency = np.arange(_BITS)
_COSINES: Final = np.cos(
    np.pi * (np.arange(_SIDE) + 0.5) * _frequency[:, None] / _SIDE, dtype=np.float32
)
_DOWN, _ACROSS = np.meshgrid(_frequency, _frequency, indexing="ij")
_STILL: Final = np.flatnonzero((_DOWN % 2 == 0) & (_ACROSS % 2 == 0) & (_DOWN + _ACROSS > 0))
"""Bits that no mirror changes: they find the pairs, the others tell whether they are copies."""

_MIRRORS: Final = np.packbits(
    np.stack(
        [
            np.zeros_like(_DOWN),
            _ACROSS % 2,  # left and right
            _DOWN % 2,  # top and bottom
            (_DOWN + _ACROSS) % 2,  # both: half a turn
        ]
    ).reshape(4, -1),
    axis=1,
)
_TURNED: Final = np.arange(_BITS**2).reshape(_BITS, _BITS).T.ravel()
_ONES: Final = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(
    axis=1, dtype=np.uint8
)


def squares_of(picture: Image.Image) -> bytes:
    """Return an image as 32 x 32 grey squares, 1,024 bytes: what its hash is made of."""
    # coarser and faster ways of shrinking would see a mirrored image differently
    small = picture.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return small.convert("L").tobytes()


def hashes_of(squares: list[bytes]) -> ByteArray:
    """Return the hashes of images, shape (N, 32).

    The first bit, which stands for the mean brightness, says whether there is anything to see.

    Examples
    --------
    >>> ramp = Image.linear_gradient("L")
    >>> some = hashes_of([squares_of(ramp), squares_of(ramp.point(lambda v: v // 2))])
    >>> bool((some[0] == some[1]).all())
    True
    """
    grey = np.frombuffer(b"".join(squares), np.uint8).reshape(-1, _SIDE, _SIDE).astype(np.float32)
    signs = _COSINES @ grey @ _COSINES.T > 0.5
    signs[:, 0, 0] = grey.std(axis=(1, 2)) >= _FLAT
    return np.packbits(signs.reshape(len(grey), -1), axis=1)


def _space() -> str:
    """Return the name under which stores keep hashes; pictures are resized by their decoder."""
    return f"{_FORMAT}|{text_of(DECODING)}"


def remember(store: Store, squares: Mapping[str, bytes]) -> None:
    """Keep the hashes of images whose contents and squares are known."""
    _, known = _fetch(store, list(squares))
    new = [name for name, there in zip(squares, known, strict=True) if not there]
    if new:
        made = hashes_of([squares[name] for name in new])
        store.rows(_space()).add(new, made.view(np.float16))


def perceptual_hashes(images: ImageSet, store: Store, threads: int = 1) -> ByteArray:
    """Return the hashes of images whose contents are known, shape (N, 32).

    Images that were decoded before have theirs in the store; others are decoded here.

    Raises
    ------
    DatasetError
        An image cannot be read any more.
    """
    hashes, known = _fetch(store, images.digests)
    if not known.all():
        missing = np.flatnonzero(~known)
        with ThreadPoolExecutor(threads) as pool:
            squares = list(pool.map(lambda row: _squares(images, int(row)), missing))
        remember(store, {images.digests[r]: s for r, s in zip(missing, squares, strict=True)})
        hashes[missing] = hashes_of(squares)
    return hashes


def trust(store: Store, contents: Sequence[str]) -> None:
    """Count hashes that a worker of this session has kept as its own."""
    store.rows(_space()).trust(contents)


def _fetch(store: Store, contents: Sequence[str]) -> tuple[ByteArray, BoolArray]:
    """Return the stored hashes, and which there are; they lie beside the embeddings, as bits."""
    rows = store.rows(_space())
    if rows.width is None:
        store.set_width(_space(), _BITS)
    found = np.empty((len(contents), _BITS), dtype=np.float16)
    known = rows.fetch(contents, found)
    return found.view(np.uint8), known


def _squares(images: ImageSet, row: int) -> bytes:
    try:
        return squares_of(decode(images.read(row), images.max_pixels))
    except UndecodableError as problem:
        raise DatasetError(told(images.name(row), problem)) from None


def limit(pool: ByteArray) -> int:
    """Return the number of bits from which on two images are no copies.

    Parameters
    ----------
    pool
        Hashes of the images of the pool, (N, 32).
    """
    if len(pool) < _LEAST_POOL:
        return 0
    rows = np.unique(np.linspace(0, len(pool) - 1, _SAMPLE).astype(np.int64))
    signs = _signs(pool)
    alike = signs[rows] @ signs.T
    alike[np.arange(len(rows)), rows] = -np.inf
    alike.partition(len(pool) - _NEIGHBOUR, axis=1)
    differing = (_BITS**2 - alike[:, len(pool) - _NEIGHBOUR]) / 2
    return min(MOST_BITS + 1, int(np.ceil(SHARE_OF_NEIGHBOURS * float(np.median(differing)))))


def copies(images: ByteArray, pool: ByteArray, within: int | None = None) -> NDArray[np.int64]:
    """Find the pairs that show the same, mirrored or turned or as it is.

    Parameters
    ----------
    images, pool
        Hashes, (M, 32) and (N, 32).
    within
        Bits from which on a pair is none; None for :func:`limit`.

    Returns
    -------
    ndarray of int64, shape (P, 2)
        Rows of both.
    """
    allowed = limit(pool) if within is None else within
    seen = _told_apart(images), _told_apart(pool)
    if not allowed or not all(map(len, seen)):
        return np.empty((0, 2), dtype=np.int64)
    found = [
        np.stack([seen[0][one], seen[1][other]], axis=1)
        for turned in (pool[seen[1]], _turned(pool[seen[1]]))
        for one, other in _pairs(images[seen[0]], turned, allowed)
    ]
    return np.unique(np.concatenate(found), axis=0)


def _told_apart(hashes: ByteArray) -> NDArray[np.int64]:
    """Rows of the images that show anything."""
    return np.flatnonzero(hashes[:, 0] & 0x80)


def _pairs(
    images: ByteArray, pool: ByteArray, allowed: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield rows of pairs that differ in less bits than allowed, mirrored as may be."""
    known, asked = _signs(pool)[:, _STILL], _signs(images)[:, _STILL]
    least = len(_STILL) - 2 * (allowed // 2)  # a quarter of the bits, and the steadiest
    step = max(1, _CELLS // len(pool))
    for start in range(0, len(images), step):
        one, other = np.nonzero(asked[start : start + step] @ known.T >= least)
        one += start
        differing = images[one] ^ pool[other]
        fewest = np.min([_ONES[differing ^ mirror].sum(axis=1) for mirror in _MIRRORS], axis=0)
        near = fewest < allowed
        yield one[near], other[near]


def _signs(hashes: ByteArray) -> NDArray[np.floating]:
    return np.unpackbits(hashes, axis=1).astype(np.float32) * 2.0 - 1.0


def _turned(hashes: ByteArray) -> ByteArray:
    """Hashes of the images mirrored along their diagonal."""
    return np.packbits(np.unpackbits(hashes, axis=1)[:, _TURNED], axis=1)
