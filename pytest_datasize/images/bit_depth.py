"""Decide how many bits the pixels of deep images use: cameras store 10 or 12 bits in 16-bit files.

Scaled from 16 bits, such images are nearly black. The number is decided once for a whole data set,
so that all its images are scaled alike, from a sample that is the same every time.
"""

from dataclasses import replace

import numpy as np

from pytest_datasize.images.image_set import Finding, ImageSet, Raw
from pytest_datasize.images.sampling import spread
from pytest_datasize.images.undecodable import UndecodableError

FULL = 16
"""Bits that are assumed if the pixels do not say otherwise."""

_DEPTHS = (10, 12, 14)
_LOOKED_AT = 8
_SAMPLED = 32
_PNG = b"\x89PNG\r\n\x1a\n"
_DEEP = (b"II*\0", b"MM\0*", b"P5", b"\0\0\0\x0cjP")
"""First bytes of TIFF, PGM and JPEG 2000, which may hold 16 bits."""


def with_depth(images: ImageSet) -> ImageSet:
    """Return the images with the number of bits that their deepest pixels use.

    A finding tells it where it is less than the files could hold.
    """
    if not len(images):
        return images
    rows = spread(len(images), _SAMPLED)
    if not any(_may_be_deep(images, row) for row in rows[:: _SAMPLED // _LOOKED_AT]):
        return images
    tops = [top for row in rows if (top := _top(images, row)) is not None]
    most = max(tops, default=0)
    depth = next((bits for bits in _DEPTHS if most < 1 << bits), FULL)
    if not tops or most < 256 or depth == FULL:
        return images
    text = (
        f"deep images use {depth} of 16 bits (pixels up to {most:,} in {len(tops)} images): scaled "
        f"from {depth} bits"
    )
    finding = Finding("layout", text)
    return replace(images, depth=depth, findings=(*images.findings, finding))


def _may_be_deep(images: ImageSet, row: int) -> bool:
    raw = _read(images, row)
    if isinstance(raw, np.ndarray):
        return bool(raw.dtype == np.uint16)
    if raw is None:
        return False
    if raw.startswith(_PNG):
        return len(raw) > 24 and raw[24] == FULL
    return raw.startswith(_DEEP)


def _top(images: ImageSet, row: int) -> int | None:
    """Return the largest pixel of a deep image; None for any other."""
    raw = _read(images, row)
    if isinstance(raw, np.ndarray):
        return int(raw.max()) if raw.dtype == np.uint16 and raw.size else None
    if raw is None:
        return None
    from pytest_datasize.images.decode import deep_pixels

    found = deep_pixels(raw, images.max_pixels)
    return None if found is None else int(found.max())


def _read(images: ImageSet, row: int) -> Raw | None:
    try:
        return images.read(row)
    except UndecodableError:
        return None  # named when all images are read
