"""From file bytes or a pixel array to an 8-bit RGB image: depth, alpha and orientation, once."""

import hashlib
import io
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from pytest_datasize.images.image_set import Raw

_LFS_HEADER = b"version https://git-lfs"


class UndecodableError(ValueError):
    """An image that cannot be shown to the model; the text is the reason."""


def decode(raw: Raw) -> Image.Image:
    """Return the image as 8-bit RGB, upright, transparency over white.

    Parameters
    ----------
    raw
        Bytes of an encoded image file, or an (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) array
        of uint8, uint16 or of floats in [0, 1].

    Raises
    ------
    UndecodableError
        With the reason, and the remedy where there is one.
    """
    refuse_empty(raw)
    try:
        picture = _from_array(raw) if isinstance(raw, np.ndarray) else _from_file(raw)
        return to_rgb(picture)
    except UndecodableError:
        raise
    except Exception as problem:  # decoders raise whatever their format makes them raise
        raise UndecodableError(f"{type(problem).__name__}: {problem}") from None


def content_of(picture: Image.Image) -> str:
    """Name a decoded image by its pixels, 32 hexadecimal digits.

    Two files with the same pixels are one image, whatever their format and metadata.
    """
    content = hashlib.sha256(f"{picture.mode}{picture.size}".encode())
    content.update(picture.tobytes())
    return content.hexdigest()[:32]


def refuse_empty(raw: Raw) -> None:
    """Raise :class:`UndecodableError` for a file that holds no image at all."""
    if isinstance(raw, np.ndarray):
        if 0 in raw.shape:
            raise UndecodableError(f"shape {raw.shape}: no pixels")
    elif not raw:
        raise UndecodableError("empty file")
    elif raw.startswith(_LFS_HEADER):
        raise UndecodableError("git-LFS pointer, the image itself is not here; run `git lfs pull`")


def _from_file(content: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(content))
    picture.load()
    return ImageOps.exif_transpose(picture)


def _from_array(pixels: np.ndarray[Any, Any]) -> Image.Image:
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)):
        raise UndecodableError(f"shape {pixels.shape}; expected (H, W) or (H, W, 1, 3 or 4)")
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * 255
    elif pixels.dtype.kind == "f":
        if not np.isfinite(pixels).all():
            raise UndecodableError("some pixels are not finite numbers")
        if pixels.min() < 0 or pixels.max() > 1:
            raise UndecodableError(
                f"float pixels from {pixels.min():.3g} to {pixels.max():.3g}; expected "
                "0 to 1, or uint8 (leave Normalize out: the backbone brings its own)"
            )
        pixels = np.round(pixels * 255).astype(np.uint8)
    elif pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    elif pixels.dtype != np.uint8:
        raise UndecodableError(f"{pixels.dtype} pixels; expected uint8, uint16 or floats in 0..1")
    return Image.fromarray(np.ascontiguousarray(pixels))


def to_rgb(picture: Image.Image) -> Image.Image:
    """Return any image that Pillow can hold as 8-bit RGB, transparency over white."""
    if picture.mode in ("I;16", "I;16B", "I;16L", "I"):
        # 16-bit greyscale: Pillow's own conversion would clip at 255 instead of scaling
        deep = np.asarray(picture).astype(np.int64)
        if deep.min() < 0 or deep.max() > 0xFFFF:
            raise UndecodableError(f"pixels from {deep.min()} to {deep.max()}; expected 16 bits")
        shift = 0 if picture.mode == "I" and deep.max() <= 0xFF else 8
        picture = Image.fromarray((deep >> shift).astype(np.uint8))
    elif picture.mode == "F":
        raise UndecodableError("floating-point image file; store it with 8 or 16 bits")
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        over = picture.convert("RGBA")
        white = Image.new("RGBA", over.size, "white")
        picture = Image.alpha_composite(white, over)
    return picture if picture.mode == "RGB" else picture.convert("RGB")
