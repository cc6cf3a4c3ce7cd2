"""Count every image once: copies are no evidence, and a tested copy of a training image lies."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.decode import UndecodableError, refuse_empty
from pytest_datasize.images.image_set import ImageSet, Loaded, digest

MOST_NAMED = 200


def unique(
    loaded: Loaded,
    threads: int = 1,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Loaded:
    """Leave out exact copies, and name every image by its content.

    Of copies with one label the first stays; copies with different labels all go, since no one
    knows which label is right; a test image that is also in the pool goes from the test images.

    Parameters
    ----------
    loaded
        Images, and test images where they are given apart.
    threads
        Threads that read.
    on_progress
        Called with (images read, images in all).

    Returns
    -------
    Loaded
        With :attr:`ImageSet.digests` set, and a note for whatever was left out.

    Raises
    ------
    DatasetError
        Files are empty or are git-LFS pointers; nothing is left; a class is left without images.
    """
    images, test = loaded
    total = len(images) + (len(test) if test else 0)
    pool_digests = _digests(images, threads, lambda done: on_progress(done, total))
    rows, notes = _first_of_each(images, pool_digests)
    kept = _part(images, pool_digests, rows, notes)
    if test is None:
        return Loaded(kept)
    test_digests = _digests(test, threads, lambda done: on_progress(len(images) + done, total))
    rows, notes = _first_of_each(test, test_digests)
    known = set(pool_digests)
    fresh = [row for row in rows if test_digests[row] not in known]
    if len(fresh) < len(rows):
        notes += (f"{len(rows) - len(fresh)} test images are also in the pool and were left out",)
    tested = _part(test, test_digests, fresh, notes)
    return Loaded(replace(kept, notes=(*kept.notes, *tested.notes)), tested)


def _digests(images: ImageSet, threads: int, on_done: Callable[[int], None]) -> list[str]:
    unreadable: list[str] = []
    found: list[str] = []

    def one(row: int) -> str:
        raw = images.read(row)
        try:
            refuse_empty(raw)
        except UndecodableError as problem:
            unreadable.append(f"{images.name(row)}: {problem}")
        return digest(raw)

    with ThreadPoolExecutor(threads) as pool:
        try:
            for done, name in enumerate(pool.map(one, range(len(images))), 1):
                found.append(name)
                on_done(done)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if unreadable:
        raise DatasetError(unreadable_text(sorted(unreadable), len(images)))
    return found


def _first_of_each(images: ImageSet, digests: list[str]) -> tuple[list[int], tuple[str, ...]]:
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(digests):
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


def _part(
    images: ImageSet, digests: list[str], rows: list[int], notes: tuple[str, ...]
) -> ImageSet:
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
        digests=tuple(digests[row] for row in rows),
    )


def unreadable_text(unreadable: list[str], total: int) -> str:
    """Name the images that cannot be used."""
    shown = [f"  {line}" for line in unreadable[:MOST_NAMED]]
    if len(unreadable) > MOST_NAMED:
        shown.append(f"  and {len(unreadable) - MOST_NAMED} more")
    return "\n".join(
        [
            f"{len(unreadable)} of {total} images cannot be read; mend or remove them, "
            "since available must mean usable:",
            *shown,
        ]
    )
