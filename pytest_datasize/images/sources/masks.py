"""Source: a folder of images beside a folder of masks, whose files have the images' names."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.image_set import ImageSet, Loaded, Reading, one_line
from pytest_datasize.images.sources.files import (
    Boundary,
    Files,
    Found,
    holds_an_image,
    of_files,
    others_finding,
)
from pytest_datasize.images.sources.manifest import left_out
from pytest_datasize.images.sources.mask_files import read_mask_files
from pytest_datasize.images.sources.parts import kind, split
from pytest_datasize.images.targets.read import Described, of_targets

IMAGES: Final = ("images", "image", "imgs", "img", "jpegimages", "inputs", "rgb")
MASKS: Final = (
    "masks",
    "mask",
    "segmentationclass",
    "segmentations",
    "segmentation",
    "ground_truth",
    "groundtruth",
    "gt",
    "annotations",
    "labels",
)
"""Names of the folders, in any case."""

_ENDING: Final = re.compile(
    r"[-_. ]?(masks?|gt|seg(mentation)?|labels?|labelids|annotation)$", re.I
)


class _Pair(NamedTuple):
    """A folder of images, and that of their masks."""

    images: Path
    masks: Path


def accepts(value: Any) -> bool:
    """Whether a folder holds images/ and masks/, itself or in its parts."""
    return isinstance(value, Path) and value.is_dir() and bool(_pairs(value))


def load(value: Path, reading: Reading) -> Loaded:
    """Match masks to images by their names; ``cat.jpg`` has ``cat.png`` or ``cat_mask.png``.

    A mask holds class numbers, or one colour for each class. The data set may be divided:
    ``train/images`` and ``train/masks``, or ``images/train`` and ``masks/train``.

    Raises
    ------
    DatasetError
        No image has a mask, several masks have the name of one image, or a mask holds no classes.
    """
    root = Path(value)
    boundary = Boundary(root, reading.allow_outside)
    pairs = _pairs(root)
    if not pairs:
        raise DatasetError(
            f"dataset {root}: no masks in it. Expected a folder of images ({', '.join(IMAGES)}) "
            f"beside one of masks ({', '.join(MASKS)})."
        )
    source = f"images and masks in {root}"
    found = {name: _read(pair, boundary, source, reading) for name, pair in pairs.items()}
    if len(found) == 1:
        return Loaded(next(iter(found.values())))
    return split(found, source)


def _pairs(root: Path) -> dict[str, _Pair]:
    """Return part → folders; the whole data set is the part with an empty name."""
    whole = _pair(root)
    if whole is not None:
        parts = [path for path in _folders(whole.images) if kind(path.name)]
        inner = {path.name: _Pair(path, whole.masks / path.name) for path in parts}
        if inner and all(pair.masks.is_dir() for pair in inner.values()):
            return inner
        return {"": whole}
    found = {path.name: _pair(path) for path in _folders(root) if kind(path.name)}
    pairs = {name: pair for name, pair in found.items() if pair is not None}
    return pairs if len(pairs) == len(found) else {}


def _pair(folder: Path) -> _Pair | None:
    by_name = {path.name.lower(): path for path in _folders(folder)}
    images = next((by_name[name] for name in IMAGES if name in by_name), None)
    masks = [by_name[name] for name in MASKS if name in by_name]
    of_images = next((path for path in masks if path.is_dir() and holds_an_image(path)), None)
    if images is None or of_images is None or not holds_an_image(images):
        return None
    return _Pair(images, of_images)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _read(pair: _Pair, boundary: Boundary, source: str, reading: Reading) -> ImageSet:
    images, masks = Found(pair.images, boundary), Found(pair.masks, boundary)
    by_name: dict[str, Path] = {}
    several: dict[str, tuple[Path, Path]] = {}
    for path in masks.images:
        for name in _names(path.relative_to(pair.masks)):
            other = by_name.setdefault(name, path)
            if other != path:
                several.setdefault(name, (other, path))
    paths, chosen, without = [], [], []
    for path in images.images:
        name = str(path.relative_to(pair.images).with_suffix(""))
        if name in several:
            first, second = (one_line(str(mask)) for mask in several[name])
            raise DatasetError(f"{source}: {first} and {second} are masks of one image. Keep one.")
        if name in by_name:
            paths.append(path)
            chosen.append(by_name[name])
        else:
            without.append(str(path))
    used = set(chosen)
    alone = [str(path) for path in masks.images if path not in used]
    findings = (
        *others_finding(images.others),
        *left_out(alone, source, "masks of images that are not there", "missing_files"),
        *left_out(without, source, "images without a mask", "missing_labels"),
    )

    def describe() -> Described:
        return of_targets(read_mask_files(chosen, source, reading.store), reading.task)

    return of_files(source, Files(paths, base=boundary.root), describe, findings)


def _names(mask: Path) -> Iterator[str]:
    """Yield the names of images that a mask may belong to.

    Examples
    --------
    >>> [*_names(Path("a/cat_mask.png"))]
    ['a/cat_mask', 'a/cat']
    """
    plain = str(mask.with_suffix(""))
    yield plain
    shorter = _ENDING.sub("", plain)
    if shorter != plain:
        yield shorter
