"""Count every image once: copies are no evidence, and a tested copy of a training image lies."""

from dataclasses import replace

import numpy as np

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.image_set import ImageSet, Loaded


def unique(loaded: Loaded) -> Loaded:
    """Leave out exact copies, and put the images in an order that their names do not change.

    Of copies with one label the first stays; copies with different labels all go, since no one
    knows which label is right; a test image that is also in the pool goes from the test images.

    Parameters
    ----------
    loaded
        Images, and test images where they are given apart, with :attr:`ImageSet.digests` set.

    Returns
    -------
    Loaded
        In the order of the digests, with a note for whatever was left out.

    Raises
    ------
    DatasetError
        Nothing is left; a class is left without images.
    """
    images, test = loaded
    rows, notes = _first_of_each(images)
    kept = _part(images, rows, notes)
    if test is None:
        return Loaded(kept)
    rows, notes = _first_of_each(test)
    known = set(images.digests)
    fresh = [row for row in rows if test.digests[row] not in known]
    if len(fresh) < len(rows):
        notes += (f"{len(rows) - len(fresh)} test images are also in the pool and were left out",)
    tested = _part(test, fresh, notes)
    return Loaded(replace(kept, notes=(*kept.notes, *tested.notes)), tested)


def _first_of_each(images: ImageSet) -> tuple[list[int], tuple[str, ...]]:
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(images.digests):
        rows.setdefault(name, []).append(row)
    first, copies, contested = [], 0, []
    for same in rows.values():
        if len({int(images.labels[row]) for row in same}) > 1:
            contested.append(" = ".join(images.name(row) for row in same[:3]))
        else:
            first.append(same[0])
            copies += len(same) - 1
    notes: tuple[str, ...] = ()
    if copies:
        notes += (f"{copies} exact copies in {images.source} were counted once",)
    if contested:
        shown = "; ".join(contested[:3]) + (" ..." if len(contested) > 3 else "")
        notes += (f"{len(contested)} images stand under two labels and were left out: {shown}",)
    return first, notes


def _part(images: ImageSet, rows: list[int], notes: tuple[str, ...]) -> ImageSet:
    rows = sorted(rows, key=lambda row: images.digests[row])
    labels = images.labels[np.array(rows, dtype=np.int64)]
    counts = np.bincount(labels, minlength=len(images.classes))
    if not counts.all():
        name = images.classes[int(counts.argmin())]
        raise DatasetError(f"{images.source}: no image of class {name!r} is left; {notes[-1]}.")
    return replace(
        images,
        labels=labels,
        read=lambda index: images.read(rows[index]),
        name=lambda index: images.name(rows[index]),
        stamp=lambda index: images.stamp(rows[index]),
        notes=(*images.notes, *notes),
        digests=tuple(images.digests[row] for row in rows),
    )
