"""Masks and boxes from outlines: polygons and run lengths, as annotation tools write them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pytest_datasize.errors import DatasetError

BACKGROUND: Final = "background"
"""Class of the pixels outside all outlines, number 0 of the masks made here."""


class Outline(NamedTuple):
    """One object of an image.

    Attributes
    ----------
    number
        Number of its class, from 1.
    polygons
        Corners of its parts, each (n, 2) as x, y.
    runs
        In place of polygons: lengths of runs of 0 and 1 in turn, column by column.
    """

    number: int
    polygons: tuple[NDArray[np.float64], ...] = ()
    runs: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Outlined:
    """Masks of images, drawn from outlines when they are read.

    Attributes
    ----------
    outlines
        Per image: its objects; a later one covers an earlier one.
    sizes
        Per image: (width, height).
    shares
        Whether corners are shares of width and height.
    """

    outlines: Sequence[Sequence[Outline]]
    sizes: Sequence[tuple[int, int]]
    shares: bool = False

    def __call__(self, index: int) -> NDArray[np.int64]:
        """Draw the mask of an image, (H, W); 0 is the background.

        Examples
        --------
        >>> square = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 1.0], [0.0, 1.0]])
        >>> Outlined([[Outline(1, (square,))]], [(4, 2)])(0).tolist()
        [[1, 1, 0, 0], [0, 0, 0, 0]]
        """
        width, height = self.sizes[index]
        mask = np.zeros((height, width), dtype=np.int64)
        for outline in self.outlines[index]:
            inside = (
                _run_lengths(outline.runs, width, height)
                if outline.runs
                else _drawn(outline.polygons, width, height, self.shares)
            )
            mask[inside] = outline.number
        return mask


def _drawn(
    polygons: Sequence[NDArray[np.float64]], width: int, height: int, shares: bool
) -> NDArray[np.bool_]:
    """Fill polygons: a pixel is inside where its centre is."""
    picture = Image.new("1", (width, height))
    draw = ImageDraw.Draw(picture)
    for polygon in polygons:
        corners = polygon * (width, height) if shares else polygon
        # Pillow fills the pixels of the outline, too; corners count at pixel centres here
        inner = np.clip(np.round(corners - 0.5 + _towards(corners)), -1e6, 1e6)
        draw.polygon([(float(x), float(y)) for x, y in inner], fill=1)
    return np.asarray(picture, dtype=np.bool_)


def _towards(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a step of less than half a pixel towards the middle, which settles ties."""
    middle = (corners.min(axis=0) + corners.max(axis=0)) / 2
    found: NDArray[np.float64] = np.sign(middle - corners) * 1e-3
    return found


def _run_lengths(runs: Sequence[int], width: int, height: int) -> NDArray[np.bool_]:
    """Decode run lengths, which go down the columns and begin with zeros."""
    if sum(runs) != width * height:  # a file can claim any length
        raise DatasetError(
            f"run lengths of a mask add up to {sum(runs):,} pixels; expected {width} x {height}."
        )
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(width, height).T


def outline_of(number: int, segmentation: Any, where: str, size: tuple[int, int]) -> Outline | None:
    """Return the outline of COCO's ``segmentation``: polygons or run lengths; None if empty.

    Parameters
    ----------
    number
        Number of the class.
    segmentation
        What the annotation holds.
    where
        Description for messages.
    size
        Width and height of the image.

    Raises
    ------
    DatasetError
        It is neither, or of an image of another size.
    """
    if isinstance(segmentation, Mapping) and "counts" in segmentation:
        said = segmentation.get("size")
        if said is not None and said != [size[1], size[0]]:
            raise DatasetError(
                f"{where}: the size of its run lengths is {str(said)[:40]}, height and width; the "
                f"image has {[size[1], size[0]]}."
            )
        counts = segmentation["counts"]
        runs = _unpacked(counts) if isinstance(counts, str) else counts
        if not isinstance(runs, list) or not all(isinstance(n, int) and n >= 0 for n in runs):
            raise DatasetError(f"{where}: run lengths of a mask are no whole numbers from 0.")
        return Outline(number, runs=tuple(runs))
    if isinstance(segmentation, list):
        try:
            parts = [np.asarray(part, dtype=np.float64).reshape(-1, 2) for part in segmentation]
        except (ValueError, TypeError):
            parts = [np.full((3, 2), np.nan)]
        if any(len(part) < 3 or not np.isfinite(part).all() for part in parts):
            raise DatasetError(
                f"{where}: a polygon is not at least three corners x, y of finite numbers."
            )
        return Outline(number, tuple(parts)) if parts else None
    raise DatasetError(f"{where}: `segmentation` is a {type(segmentation).__name__}.")


def _unpacked(text: str) -> list[int]:
    """Decode COCO's compressed run lengths: six bits a letter, differences to the run before last.

    Examples
    --------
    >>> _unpacked("52203")
    [5, 2, 2, 2, 5]
    """
    runs: list[int] = []
    at = 0
    while at < len(text):
        value, shift, more = 0, 0, True
        while more:
            if at >= len(text):
                return [-1]  # cut off
            bits = ord(text[at]) - 48
            value |= (bits & 0x1F) << shift
            more = bool(bits & 0x20)
            at += 1
            shift += 5
            if not more and bits & 0x10:
                value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    return runs
