"""Decode file bytes or a pixel array to an upright 8-bit RGB image without transparency."""

import hashlib
import io
import warnings
from functools import cache
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageOps

from pytest_datasize.images.image_set import MAX_PIXELS, Raw
from pytest_datasize.images.targets.mask_readers import COLOUR
from pytest_datasize.images.undecodable import UndecodableError

_LFS_HEADER = b"version https://git-lfs"

# In the order they are tried; TGA has no mark of its own and comes last. Not all that Pillow knows:
# some of the others run a foreign program (EPS), and few people test any of them.
_FORMATS = (
    *("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "DIB", "PPM", "JPEG2000", "AVIF", "HEIF"),
    *("ICO", "PCX", "SGI", "QOI", "TGA"),
)
WARNING_FILTERS = Lock()
"""Held while the filters of warnings are changed, which all threads share."""


def decode(raw: Raw, max_pixels: int = MAX_PIXELS, depth: int = 16) -> Image.Image:
    """Return the image as upright 8-bit RGB on white; of several frames, the first.

    Parameters
    ----------
    raw
        Bytes of an encoded image file, or an (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) array
        of uint8, uint16 or of floats in [0, 1].
    max_pixels
        Largest width x height of a file that is decoded; a small file may claim any size.
    depth
        Bits that the pixels of 16-bit images use, from 9 to 16; they are scaled to 8.

    Raises
    ------
    UndecodableError
        With the reason, and the remedy where there is one.

    Examples
    --------
    >>> decode(np.zeros((2, 3), np.uint8)).size
    (3, 2)
    """
    refuse_empty(raw)
    try:
        if isinstance(raw, np.ndarray):
            return to_rgb(_from_array(raw, depth))
        try:
            return to_rgb(_from_file(raw, max_pixels), depth)
        except Warning:  # the user's filters make errors of Pillow's warnings, such as odd EXIF
            with WARNING_FILTERS, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return to_rgb(_from_file(raw, max_pixels), depth)
    except UndecodableError:
        raise
    except MemoryError:
        raise UndecodableError("not enough memory to decode it") from None
    except Exception as problem:  # decoders raise errors of many types
        raise UndecodableError(f"{type(problem).__name__}: {problem}") from None


def decode_values(raw: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray[Any, Any]:
    """Decode a mask: the values of its pixels as they are, int64 (H, W).

    A palette gives its numbers. Three channels are one number, 65,536 red + 256 green + blue, added
    to ``COLOUR``: whether colours or greys are meant, only all masks of a data set show.

    Raises
    ------
    UndecodableError
        The file is not an image of whole numbers.
    """
    refuse_empty(raw)
    try:
        if _opened(raw).format == "JPEG":
            raise UndecodableError("JPEG changes the values of pixels; save masks as PNG")
        picture = _from_file(raw, max_pixels)
        if picture.mode in ("RGBA", "LA"):
            picture = picture.convert(picture.mode[:-1])
        array = np.asarray(picture)
    except UndecodableError:
        raise
    except MemoryError:
        raise UndecodableError("not enough memory to decode it") from None
    except Exception as problem:
        raise UndecodableError(f"{type(problem).__name__}: {problem}") from None
    if array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8:
        array = COLOUR + array.astype(np.int64) @ np.array([65_536, 256, 1])
    if array.ndim != 2 or array.dtype.kind not in "biu":
        raise UndecodableError(f"mode {picture.mode}; expected a mask of class numbers or colours")
    return array.astype(np.int64)


def size_of(raw: Raw) -> tuple[int, int]:
    """Return (width, height) of an image as it is shown; of a file, from its header.

    Raises
    ------
    UndecodableError
        The file is not an image.
    """
    refuse_empty(raw)
    if isinstance(raw, np.ndarray):
        return raw.shape[1], raw.shape[0]
    picture = _opened(raw)
    width, height = picture.size
    try:
        turned = picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except Exception:  # damaged EXIF data beside good pixels
        turned = False
    return (height, width) if turned else (width, height)


def content_of(picture: Image.Image) -> str:
    """Return the hash of a decoded image's pixels, 32 hexadecimal digits.

    Two files with the same pixels have the same hash, whatever their format and metadata.
    """
    content = hashlib.sha256(f"{picture.mode}{picture.size}".encode())
    content.update(picture.tobytes())
    return content.hexdigest()[:32]


def refuse_empty(raw: Raw) -> None:
    """Raise :class:`UndecodableError` for a file that contains no image."""
    if isinstance(raw, np.ndarray):
        if 0 in raw.shape:
            raise UndecodableError(f"shape {raw.shape}: no pixels")
    elif not raw:
        raise UndecodableError("empty file")
    elif raw.startswith(_LFS_HEADER):
        raise UndecodableError("git-LFS pointer, the image itself is not here; run `git lfs pull`")


@cache
def _readers() -> tuple[tuple[Any, Any], ...]:
    """Return Pillow's readers of the formats above, as (open, detect)."""
    Image.init()
    found = {name: Image.OPEN[name] for name in _FORMATS if name in Image.OPEN}
    try:
        from pillow_heif import HeifImageFile

        found["HEIF"] = (HeifImageFile, lambda start: start[4:8] == b"ftyp")
    except ImportError:
        pass
    return tuple(found.values())


def _from_file(content: bytes, max_pixels: int) -> Image.Image:
    picture = _opened(content)
    width, height = picture.size
    if width * height > max_pixels:
        raise UndecodableError(
            f"{width:,} x {height:,} pixels are more than max_pixels={max_pixels:,}; "
            "set that option higher if the image is what it should be"
        )
    picture.load()
    try:
        return ImageOps.exif_transpose(picture)
    except (SyntaxError, ValueError, KeyError, TypeError, IndexError, OSError):
        return picture  # damaged EXIF data beside good pixels


def _opened(content: bytes) -> Image.Image:
    """Open an image file by its content; bypass Pillow's size limit, which is global."""
    problem: Exception | None = None
    for factory, recognises in _readers():
        try:
            if recognises is not None:
                answer = recognises(content[:16])
                if not answer or isinstance(answer, str):
                    continue
            picture: Image.Image = factory(io.BytesIO(content), "")
        except Warning:
            raise
        except (SyntaxError, IndexError, TypeError, KeyError, OverflowError) as found:
            problem = problem or found
        except Exception as found:
            problem = found
            break
        else:
            return picture
    raise UndecodableError(_why_unknown(content, problem))


def _why_unknown(content: bytes, problem: Exception | None) -> str:
    if content[4:8] == b"ftyp":
        kind = "AVIF" if content[8:12] in (b"avif", b"avis") else "HEIC"
        return f"{kind} image that this installation cannot read; pip install pytest-datasize[heif]"
    start = content[:200].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page saved under the name of an image; fetch the image again"
    if start.startswith((b"<svg", b"<?xml")):
        return "SVG or XML, not pixels; store it as PNG"
    if b"\noid sha256:" in content[:400]:
        return "a pointer file, the image itself is not here; run `git lfs pull`"
    if start.startswith((b"outs:", b"md5:")):
        return "a DVC file, the image itself is not here; run `dvc pull`"
    reason = f" ({type(problem).__name__}: {problem})" if problem else ""
    return f"not an image of a known format, or damaged{reason}"


def _from_array(pixels: np.ndarray[Any, Any], depth: int = 16) -> Image.Image:
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
        pixels = _scaled(pixels, depth)
    elif pixels.dtype != np.uint8:
        raise UndecodableError(f"{pixels.dtype} pixels; expected uint8, uint16 or floats in 0..1")
    return Image.fromarray(np.ascontiguousarray(pixels))


def to_rgb(picture: Image.Image, depth: int = 16) -> Image.Image:
    """Return any image that Pillow can hold as 8-bit RGB, transparency over white."""
    if picture.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I"):
        # 16-bit greyscale: Pillow's own conversion would clip at 255 instead of scaling
        deep = np.asarray(picture).astype(np.int64)
        if deep.min() < 0 or deep.max() > 0xFFFF:
            raise UndecodableError(f"pixels from {deep.min()} to {deep.max()}; expected 16 bits")
        shallow = picture.mode == "I" and deep.max() <= 0xFF
        picture = Image.fromarray(deep.astype(np.uint8) if shallow else _scaled(deep, depth))
    elif picture.mode == "F":
        raise UndecodableError("floating-point image file; store it with 8 or 16 bits")
    elif picture.mode == "LAB":
        return _from_lab(picture)
    if picture.mode in ("La", "RGBa"):
        picture = picture.convert("LA" if picture.mode == "La" else "RGBA")
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        over = picture.convert("RGBA")
        white = Image.new("RGBA", over.size, "white")
        picture = Image.alpha_composite(white, over)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def deep_pixels(content: bytes, max_pixels: int) -> np.ndarray[Any, Any] | None:
    """Return the pixels of a 16-bit greyscale file; None for any other, or a damaged one."""
    try:
        picture = _opened(content)
        width, height = picture.size
        if not picture.mode.startswith("I;16") or width * height > max_pixels:
            return None
        return np.asarray(picture)
    except Exception:  # named when all images are decoded
        return None


def _scaled(pixels: np.ndarray[Any, Any], depth: int) -> np.ndarray[Any, Any]:
    """Scale pixels of so many bits to 8."""
    if pixels.size and pixels.max() >> depth:
        raise UndecodableError(
            f"pixels up to {pixels.max():,}, more than the {depth} bits that the other images use; "
            "store all images with the same number of bits"
        )
    return np.asarray(pixels >> (depth - 8)).astype(np.uint8)


def _from_lab(picture: Image.Image) -> Image.Image:
    lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(picture, lab, rgb, outputMode="RGB")
    if converted is None:
        raise UndecodableError("LAB colours that cannot be converted; store the image as RGB")
    return converted
