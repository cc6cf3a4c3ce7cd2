"""Resize and crop images as most backbones need it, with Pillow only: torch is not imported."""

from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True)
class PlainCrop:
    """Resize the shorter side of an image, then crop its middle.

    Attributes
    ----------
    short
        Length of the shorter side after resizing, in pixels.
    side
        Side of the square that is cropped, at most ``short``.
    resample
        How Pillow resizes.

    Examples
    --------
    >>> PlainCrop(8, 6, Image.Resampling.BICUBIC)(Image.new("RGB", (20, 10))).size
    (6, 6)
    """

    short: int
    side: int
    resample: int

    def __call__(self, picture: Image.Image) -> Image.Image:
        """Return the square, with the rounding of torchvision."""
        width, height = picture.size
        if width <= height:
            size = self.short, int(self.short * height / width)
        else:
            size = int(self.short * width / height), self.short
        if size != picture.size:
            picture = picture.resize(size, self.resample)
        left, top = (round((length - self.side) / 2.0) for length in size)
        return picture.crop((left, top, left + self.side, top + self.side))
