"""Decoding, on really encoded files as cameras and people leave them."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from pytest_datasize.images.decode import _FORMATS, decode
from pytest_datasize.images.sources.suffixes import SUFFIXES
from pytest_datasize.images.undecodable import UndecodableError


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


GRADIENT = Image.fromarray(
    np.stack([np.tile(np.arange(0, 240, 10, dtype=np.uint8), (16, 1))] * 3, axis=2)
)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM"])
def test_formats(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    assert (np.asarray(decode(encoded(GRADIENT, kind, **options))) == np.asarray(GRADIENT)).all()


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_jpeg(options):
    found = np.asarray(decode(encoded(GRADIENT, "JPEG", quality=95, **options)), int)
    assert np.abs(found - np.asarray(GRADIENT, int)).max() < 12


def test_modes_become_rgb():
    for mode in ("L", "P", "CMYK", "1"):
        kind = "TIFF" if mode == "CMYK" else "PNG"
        assert decode(encoded(GRADIENT.convert(mode), kind)).mode == "RGB"


def test_transparency_is_over_white():
    clear = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    assert decode(encoded(clear, "PNG")).getpixel((0, 0)) == (255, 255, 255)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([200, 0, 0] * 256)
    assert decode(encoded(palette, "PNG", transparency=0)).getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bits_are_scaled_not_clipped():
    deep = Image.fromarray(np.full((4, 4), 0x8000, np.uint16))
    assert decode(encoded(deep, "PNG")).getpixel((0, 0)) == (128, 128, 128)


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees
    assert decode(encoded(GRADIENT, "JPEG", exif=exif)).size == (16, 24)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "empty file"),
        (b"not an image", "not an image of a known format"),
        (encoded(GRADIENT, "PNG")[:60], "Error"),
        (encoded(GRADIENT, "JPEG")[:-40], "(?i)truncated"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "git lfs pull"),
        (np.full((4, 4), -2.0), "leave Normalize out"),
        (np.zeros((4, 4), np.int64), "int64 pixels"),
        (np.zeros((4, 4, 2), np.uint8), "shape"),
    ],
)
def test_what_cannot_be_decoded_says_why(raw, says):
    with pytest.raises(UndecodableError, match=says):
        decode(raw)


def png_of_depth_16(pixels: np.ndarray, transparent: tuple[int, ...] = ()) -> bytes:
    """Encode (H, W, 1, 2, 3 or 4) of 16 bits by hand: Pillow writes only grey ones."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    height, width, channels = pixels.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in pixels)
    clear = chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + (clear if transparent else b"")
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_of_16_bits_a_channel(channels):
    pixels = np.full((3, 4, channels), 0x8040, np.uint16)
    if channels in (2, 4):
        pixels[..., -1] = 0xFFFF
    assert decode(png_of_depth_16(pixels)).getpixel((1, 1)) == (128, 128, 128)


def test_a_transparent_colour_of_16_bits():
    pixels = np.full((3, 4, 3), 0x8040, np.uint16)
    assert decode(png_of_depth_16(pixels, (1, 2, 3))).mode == "RGB"


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_of_16_bits(order):
    deep = Image.fromarray(np.full((4, 5), 0x8040, order + "u2"))
    assert decode(encoded(deep, "TIFF")).getpixel((1, 1)) == (128, 128, 128)


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_of_48_bits(order):
    """Encoded by hand, one strip, three channels of 16 bits."""
    pixels = np.zeros((2, 2, 3), f"{order}u2")
    pixels[:] = (0xFF00, 0x8000, 0x1000)
    data = pixels.tobytes()
    bits = struct.pack(f"{order}3H", 16, 16, 16)
    tags = [
        (256, 3, 1, 2), (257, 3, 1, 2), (258, 3, 3, 8), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 1, 14), (277, 3, 1, 3), (278, 3, 1, 2), (279, 4, 1, len(data)),
    ]  # fmt: skip
    content = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 14 + len(data))
    content += bits + data + struct.pack(f"{order}H", len(tags))
    for tag, kind, count, value in tags:
        short = kind == 3 and count == 1
        content += struct.pack(f"{order}HHI", tag, kind, count)
        content += struct.pack(f"{order}HH", value, 0) if short else struct.pack(f"{order}I", value)
    found = decode(content + struct.pack(f"{order}I", 0)).getpixel((0, 0))
    assert found == (255, 128, 16)


def test_adobe_cmyk_jpeg_is_not_inverted():
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # red
    red, green, blue = decode(encoded(ink, "JPEG", quality=95)).getpixel((8, 8))
    assert red > 230
    assert max(green, blue) < 30


def test_lab_colours():
    profile = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    lab = ImageCms.applyTransform(Image.new("RGB", (4, 4), (200, 30, 40)), profile)
    found = decode(encoded(lab, "TIFF")).getpixel((0, 0))
    assert np.abs(np.subtract(found, (200, 30, 40))).max() <= 3


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first_counts(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert decode(content).getpixel((3, 3)) == (255, 0, 0)


def test_half_transparent_grey_is_over_white():
    assert decode(encoded(Image.new("LA", (2, 2), (0, 127)), "PNG")).getpixel((0, 0)) == (128,) * 3


def test_a_transparent_palette_entry_and_black_and_white():
    assert decode(encoded(Image.new("1", (4, 4), 1), "TIFF")).getpixel((0, 0)) == (255,) * 3
    grey = Image.new("L", (4, 4), 7)
    assert decode(encoded(grey, "PNG", transparency=7)).getpixel((0, 0)) == (255,) * 3
    colour = Image.new("RGB", (4, 4), (7, 8, 9))
    content = encoded(colour, "PNG", transparency=(7, 8, 9))
    assert decode(content).getpixel((0, 0)) == (255,) * 3


@pytest.mark.parametrize("turned", range(1, 9))
def test_all_eight_orientations(turned):
    """What a viewer shows: written turned, read upright."""
    upright = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40).convert("RGB")
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[turned]
    stored = upright if undo is None else upright.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = turned
    found = decode(encoded(stored, "PNG", exif=exif))
    assert (np.asarray(found) == np.asarray(upright)).all()


def test_damaged_exif_data_beside_good_pixels():
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker" * 20
    content = encoded(GRADIENT, "JPEG", exif=exif)
    broken = content.replace(b"makermaker", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 1)
    place = content.index(b"MM\x00*") if b"MM\x00*" in content else content.index(b"II*\x00")
    wild = content[: place + 8] + b"\xff" * 20 + content[place + 28 :]
    for one in (broken, wild):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert decode(one).mode == "RGB"


def test_the_limit_of_pixels_is_an_option():
    content = encoded(Image.new("1", (300, 400)), "PNG")
    assert decode(content, 300 * 400).size == (300, 400)
    with pytest.raises(UndecodableError, match="300 x 400 pixels are more than max_pixels=119,999"):
        decode(content, 300 * 400 - 1)


def test_a_small_file_that_claims_to_be_huge_is_refused_before_it_is_decoded():
    bomb = bytearray(png_of_depth_16(np.zeros((1, 1, 1), np.uint16)))
    bomb[16:24] = struct.pack(">II", 60_000, 60_000)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bytes(bomb[12:29])))
    with pytest.raises(UndecodableError, match="60,000 x 60,000 pixels are more than max_pixels"):
        decode(bytes(bomb))


def test_a_higher_limit_than_pillows_own_holds(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(encoded(Image.new("L", (100, 100)), "PNG")).size == (100, 100)


def test_avif_where_pillow_can():
    try:
        content = encoded(GRADIENT, "AVIF", quality=95)
    except (KeyError, OSError):
        pytest.skip("this Pillow cannot write AVIF")
    assert np.abs(np.asarray(decode(content), int) - np.asarray(GRADIENT, int)).max() < 20


def heic() -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    pillow_heif.from_pillow(GRADIENT.resize((96, 64))).save(stream, quality=95)
    return stream.getvalue()


def test_heic_with_its_plugin_and_without(monkeypatch):
    import sys

    from pytest_datasize.images.decode import _readers

    content = heic()
    assert decode(content).size == (96, 64)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    _readers.cache_clear()
    with pytest.raises(UndecodableError, match=r"HEIC .* pip install pytest-datasize\[heif\]"):
        decode(content)
    _readers.cache_clear()


def test_no_foreign_program_is_run():
    stream = io.BytesIO()
    GRADIENT.save(stream, "EPS")
    with pytest.raises(UndecodableError, match="not an image of a known format"):
        decode(stream.getvalue())
    assert not {".eps", ".pdf", ".wmf"} & SUFFIXES


def test_every_suffix_of_a_format_that_is_decoded_is_known():
    Image.init()
    decoded = {end for end, kind in Image.registered_extensions().items() if kind in _FORMATS}
    assert decoded <= SUFFIXES
    assert ".heic" in SUFFIXES


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"<!DOCTYPE html><html>404</html>", "a web page"),
        (b"<svg xmlns='x'></svg>", "SVG"),
        (b"outs:\n- md5: 1\n  path: a.jpg\n", "dvc pull"),
        (b"\0" * 500, "not an image of a known format"),
    ],
)
def test_what_often_bears_the_name_of_an_image(content, says):
    with pytest.raises(UndecodableError, match=says):
        decode(content)
