"""Make thumbnails that are embedded in reports, so that a report needs no image files."""

import base64
import io
from typing import Final

from pytest_datasize.images.decode import decode
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.images.undecodable import UndecodableError

SIDE: Final = 72
MOST_BYTES: Final = 4096


def thumbnail(images: ImageSet, row: int) -> str | None:
    """Return an image as a JPEG data URI of a few kilobytes; None if that cannot be done."""
    try:
        picture = decode(images.read(row), images.max_pixels, images.depth)
    except (UndecodableError, OSError):  # the file has changed or gone since the study ran
        return None
    picture.thumbnail((SIDE, SIDE))
    for quality in (70, 40, 15):
        with io.BytesIO() as stream:
            picture.save(stream, "JPEG", quality=quality)
            if stream.tell() <= MOST_BYTES:
                text = base64.b64encode(stream.getvalue()).decode("ascii")
                return f"data:image/jpeg;base64,{text}"
    return None
