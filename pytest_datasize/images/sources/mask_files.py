"""Read masks from image files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.decode import decode_values
from pytest_datasize.images.image_set import one_line
from pytest_datasize.images.sources.files import content
from pytest_datasize.images.targets.masks import MOST_CLASSES, Masks
from pytest_datasize.images.undecodable import UndecodableError


@dataclass(frozen=True, eq=False)
class MaskFiles:
    """Masks in files of their own.

    Attributes
    ----------
    paths
        One file per image.
    """

    paths: Sequence[Path]

    def __call__(self, index: int) -> NDArray[Any]:
        """Return a mask's values, int64 (H, W).

        Raises
        ------
        DatasetError
            The file is no mask.
        """
        path = self.paths[index]
        try:
            return decode_values(content(path))
        except UndecodableError as problem:
            raise DatasetError(f"mask {one_line(str(path))}: {problem}") from None


def read_mask_files(
    paths: Sequence[Path], source: str, names: Mapping[int, str] | None = None
) -> Masks:
    """Read the masks of files; colours are named by their hexadecimal code.

    Raises
    ------
    DatasetError
        A file is no mask.
    """
    masks = Masks.of(MaskFiles(paths), len(paths), names, source=source)
    values = [int(name) if name.isdigit() else 0 for name in masks.names]
    if names is None and max(values, default=0) >= MOST_CLASSES:
        colours = tuple(f"#{value:06x}" for value in values)
        masks = Masks(colours, masks.read, masks.areas, masks.digests, masks.void)
    return masks


def check_sizes(images: Sequence[tuple[int, int]], masks: Masks, source: str) -> None:
    """Raise DatasetError if a mask has another size than its image, (width, height)."""
    areas: NDArray[np.int64] = masks.areas.sum(axis=1)
    for row, ((width, height), area) in enumerate(zip(images, areas.tolist(), strict=True)):
        if area > width * height:
            raise DatasetError(
                f"{source}: mask {row} has {area:,} pixels, its image {width} x {height}."
            )
