"""Define the suffixes of image files; does not import Pillow, which only reading needs."""

SUFFIXES = frozenset(
    f".{end}"
    for end in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "apng", "webp", "tif", "tiff", "gif", "bmp", "dib"),
        *("pbm", "pgm", "ppm", "pnm", "pfm", "jp2", "j2k", "jpc", "jpf", "jpx", "j2c", "ico"),
        *("pcx", "bw", "rgb", "rgba", "sgi", "qoi", "tga", "icb", "vda", "vst"),
        *("avif", "avifs", "heic", "heif", "hif"),  # also where a plugin must be installed to read
    )
)
"""Suffixes of the formats that are decoded; a file with one must not be skipped silently."""
