"""Combine the parts of a data set that is already split into a pool and test images."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.factors import joined_factors
from pytest_datasize.images.image_set import Finding, ImageSet, Loaded, Raw, one_line

TRAIN = ("train", "training")
VALIDATION = ("val", "valid", "validation", "dev")
TEST = ("test", "testing")
NAMES = (*TRAIN, *VALIDATION, *TEST)


def kind(name: str) -> str | None:
    """Return ``train``, ``val`` or ``test`` for the name of a part; None for any other.

    Examples
    --------
    >>> kind("Validation"), kind("train2017"), kind("cat")
    ('val', 'train', None)
    """
    plain = name.strip().lower().rstrip("0123456789")
    for short, names in (("train", TRAIN), ("val", VALIDATION), ("test", TEST)):
        if plain in names:
            return short
    return None


def split(parts: Mapping[str, ImageSet], source: str) -> Loaded:
    """Convert named parts to a pool and its test images.

    ``test`` (or, without one, ``val``) is tested on; a ``val`` beside a ``test`` joins the pool.

    Raises
    ------
    DatasetError
        A part has another name, or there is none to train on.
    """
    found: dict[str, list[ImageSet]] = {}
    for name, images in parts.items():
        found.setdefault(kind(name) or "", []).append(images)
    if "" in found or "train" not in found:
        raise DatasetError(
            f"{source}: found the parts {', '.join(map(one_line, sorted(parts)))}. Expected train, "
            "and val or test beside it."
        )
    held_out = found.get("test") or found.get("val")
    if held_out is None:
        return Loaded(joined(found["train"], source))
    pool = found["train"] + (found.get("val", []) if "test" in found else [])
    part = "test" if "test" in found else "val"
    trained = "train and val" if len(found) == 3 else "train"
    layout = Finding("layout", f"already split: tested on {part}, trained on {trained}")
    images = joined(pool, source)
    return Loaded(
        replace(images, findings=(*images.findings, layout)), joined(held_out, f"{source}, {part}")
    )


def by_part(images: ImageSet, names: Sequence[Any]) -> Loaded:
    """Split images by the name of the part that each belongs to.

    Raises
    ------
    DatasetError
        An image has no part, or the parts are not train, val and test.
    """
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise DatasetError(
                f"{images.source}: {images.name(row)} has no split (found {name!r}). Fill it in, "
                "or leave the column out for a split of our own."
            )
        rows.setdefault(name, []).append(row)
    findings = images.findings
    parts = {name: replace(compact(images.part(of)), findings=()) for name, of in rows.items()}
    loaded = split(parts, images.source)
    pool = replace(loaded.images, findings=(*findings, *loaded.images.findings))
    return Loaded(pool, loaded.test)


def compact(images: ImageSet) -> ImageSet:
    """Leave out the classes that no image has; targets do so once all images are known."""
    if images.targets is not None:
        return images
    used, labels = np.unique(images.labels, return_inverse=True)
    classes = tuple(images.classes[label] for label in used)
    return replace(images, classes=classes, labels=labels.astype(np.int64))


def joined(sets: Sequence[ImageSet], source: str) -> ImageSet:
    """Put images of several sets one after the other, their classes matched by name."""
    if len(sets) == 1:
        return replace(sets[0], source=source)
    classes = tuple(sorted({name for images in sets for name in images.classes}))
    row = _Joined(sets, list(accumulate(map(len, sets))))
    labels = [
        np.array([classes.index(name) for name in images.classes], np.int64)[images.labels]
        for images in sets
    ]
    group_names: tuple[str, ...] = ()
    groups = None
    if all(images.groups is not None for images in sets):
        group_names = tuple(sorted({name for images in sets for name in images.group_names}))
        number = {name: index for index, name in enumerate(group_names)}
        groups = np.concatenate(
            [
                np.array([number[name] for name in images.group_names], np.int64)[images.groups]
                for images in sets
            ]
        )
    targets = [images.targets for images in sets if images.targets is not None]
    if targets and len(targets) < len(sets):
        tasks = dict.fromkeys(images.task for images in sets)
        raise DatasetError(f"{source}: its parts have labels for {' and for '.join(tasks)}.")
    return ImageSet(
        source=source,
        targets=targets[0].joined(targets[1:]) if targets else None,
        classes=classes,
        labels=np.concatenate(labels),
        read=row.read,
        name=row.name,
        findings=tuple(dict.fromkeys(f for images in sets for f in images.findings)),
        stamp=row.stamp,
        key=row.key,
        groups=groups,
        group_names=group_names,
        factors=joined_factors(sets),
    )


@dataclass(frozen=True, eq=False)
class _Joined:
    """Rows of several sets, one set after the other; each ends before the row in ``ends``."""

    sets: Sequence[ImageSet]
    ends: list[int]

    def read(self, index: int) -> Raw:
        images, row = self._place(index)
        return images.read(row)

    def name(self, index: int) -> str:
        images, row = self._place(index)
        return images.name(row)

    def stamp(self, index: int) -> str | None:
        images, row = self._place(index)
        return images.stamp(row)

    def key(self, index: int) -> str:
        images, row = self._place(index)
        return (images.key or images.name)(row)

    def _place(self, index: int) -> tuple[ImageSet, int]:
        number = bisect_right(self.ends, index)
        return self.sets[number], index - (self.ends[number - 1] if number else 0)
