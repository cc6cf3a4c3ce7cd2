"""Are planted copies, leaked test images and near-copies found? Counted on real images.

    python benchmarks/copies.py --images DIR            a folder with one folder per class
    python benchmarks/copies.py --fashion-mnist DIR     the folder with the four idx.gz files

Of the images (of many, 2,000 are drawn) 150 are planted again: as they are, saved again, brighter,
mirrored, cropped and so on; once in the pool, where they must become groups with their originals,
and once among test images given separately, where they must be left out. `others` are images
without a planted twin that were flagged: some may be copies in the data itself.
"""

from __future__ import annotations

import argparse
import gzip
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from pytest_datasize.embedding.threads import n_threads
from pytest_datasize.images.content_hash import read_contents
from pytest_datasize.images.duplicates import unique
from pytest_datasize.images.image_set import ImageSet, Loaded
from pytest_datasize.images.near_duplicates import find_stored, separated
from pytest_datasize.store import Store

IMAGES = 2000
PLANTED = 150

Change = Callable[[Image.Image], Image.Image]


def saved(quality: int) -> Change:
    """As JPEG, and read again."""

    def change(picture: Image.Image) -> Image.Image:
        with io.BytesIO() as stream:
            picture.save(stream, "JPEG", quality=quality)
            return Image.open(io.BytesIO(stream.getvalue())).convert("RGB")

    return change


def cropped(share: float) -> Change:
    """Without a frame that takes a share of both sides."""

    def change(picture: Image.Image) -> Image.Image:
        across, down = (max(1, round(share * side / 2)) for side in picture.size)
        return picture.crop((across, down, picture.width - across, picture.height - down))

    return change


def halved(picture: Image.Image) -> Image.Image:
    """Half as wide and high."""
    return picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.LANCZOS)


CHANGES: dict[str, Change] = {
    "exactly the same": lambda picture: picture,
    "JPEG, quality 90": saved(90),
    "JPEG, quality 75": saved(75),
    "JPEG, quality 50": saved(50),
    "5 % brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.05),
    "20 % brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.2),
    "20 % more contrast": lambda picture: ImageEnhance.Contrast(picture).enhance(1.2),
    "mirrored": ImageOps.mirror,
    "upside down": ImageOps.flip,
    "turned by 90 degrees": lambda picture: picture.transpose(Image.Transpose.ROTATE_90),
    "half the side": halved,
    "4 % cropped": cropped(0.04),
    "10 % cropped": cropped(0.1),
}


def folder_images(folder: Path) -> tuple[list[Image.Image], Any]:
    """Read a folder with one folder per class."""
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    rows = np.random.default_rng(0).permutation(len(found))[:IMAGES]
    paths = [found[row] for row in rows]
    names = sorted({path.parent.name for path in paths})
    labels = np.array([names.index(path.parent.name) for path in paths])
    return [Image.open(path).convert("RGB") for path in paths], labels


def fashion(folder: Path) -> tuple[list[Image.Image], Any]:
    """Read 2,000 images of Fashion-MNIST."""

    def idx(name: str, offset: int) -> Any:
        return np.frombuffer(gzip.open(folder / name).read(), np.uint8, offset=offset)

    pixels = idx("train-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    labels = idx("train-labels-idx1-ubyte.gz", 8).astype(np.int64)
    rows = np.random.default_rng(0).permutation(len(pixels))[:IMAGES]
    return [Image.fromarray(pixels[row]).convert("RGB") for row in rows], labels[rows]


def image_set(pictures: list[Image.Image], labels: Any, names: list[str]) -> ImageSet:
    """Images in memory."""
    arrays = [np.asarray(picture) for picture in pictures]
    classes = tuple(map(str, range(int(labels.max()) + 1)))
    return ImageSet("benchmark", classes, labels, arrays.__getitem__, names.__getitem__)


def found(store: Store, images: ImageSet, test: ImageSet | None = None) -> set[str]:
    """Return who is left of a pair in the same place.

    Of a pool, one image of each group of near-duplicates stays; of test images, those that have
    no near-duplicate in the pool.
    """
    parts = [
        replace(part, digests=read_contents(part, store, n_threads()))
        for part in (images, test)
        if part
    ]
    once = unique(Loaded(*parts))
    return _left(separated(once, find_stored(once, store, n_threads())))


def _left(loaded: Loaded) -> set[str]:
    images, test = loaded
    if test is not None:
        return {test.name(row) for row in range(len(test))}
    assert images.near is not None
    # the original first, so that of a pair the copy is the one that goes
    rows = sorted(range(len(images)), key=lambda row: images.name(row).startswith("copy"))
    first: dict[int, str] = {}
    for row in rows:
        first.setdefault(int(images.near[row]), images.name(row))
    return set(first.values())


def tables(pictures: list[Image.Image], labels: Any) -> None:
    """Plant every change, and count."""
    store = Store()
    order = np.random.default_rng(1).permutation(len(pictures))
    twins, fresh, rest = np.split(order, [PLANTED, 2 * PLANTED])
    print(f"{len(pictures):,} images, {PLANTED} planted again; found")
    print(f"{'':22}{'in the pool':>18}{'others':>8}{'among test images':>20}{'others':>8}")

    def chosen(rows: Any, kind: str, change: Change = CHANGES["exactly the same"]) -> ImageSet:
        return image_set(
            [change(pictures[row]) for row in rows], labels[rows], [f"{kind} {row}" for row in rows]
        )

    for name, change in CHANGES.items():
        cells: list[int] = []
        copies = chosen(twins, "copy", change)
        for images, test, given in (
            (joined(chosen(order, "image"), copies), None, order),
            (
                chosen(np.concatenate([twins, rest]), "image"),
                joined(chosen(fresh, "image"), copies),
                fresh,
            ),
        ):
            left = found(store, images, test)
            hits = sum(f"copy {row}" not in left for row in twins)
            # of an exact pair the original may be the one that was left out
            gone = sum(f"image {row}" not in left for row in given)
            swapped = sum(f"copy {row}" in left and f"image {row}" not in left for row in twins)
            cells += [hits + swapped * (test is None), gone - swapped * (test is None)]
        print("{:22}{:>18}{:>8}{:>20}{:>8}".format(name, *cells), flush=True)


def joined(one: ImageSet, other: ImageSet) -> ImageSet:
    """One set after the other."""
    n = len(one)
    return ImageSet(
        one.source,
        one.classes,
        np.concatenate([one.labels, other.labels]),
        lambda row: one.read(row) if row < n else other.read(row - n),
        lambda row: one.name(row) if row < n else other.name(row - n),
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, metavar="DIR")
    parser.add_argument("--fashion-mnist", type=Path, metavar="DIR")
    options = parser.parse_args()
    if options.images:
        tables(*folder_images(options.images))
    if options.fashion_mnist:
        tables(*fashion(options.fashion_mnist))


if __name__ == "__main__":
    main()
