"""Count every image once: copies are no evidence, and a tested copy of a training image lies."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.decode import UndecodableError, UnreadableError, refuse_empty
from pytest_datasize.images.image_set import Finding, ImageSet, Loaded, Raw, digest

MOST_NAMED = 200
_POINTER = "run `git lfs pull`"


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
    test_digests: list[str] = []
    if test is not None:
        test_digests = _digests(test, threads, lambda done: on_progress(len(images) + done, total))
    pool, tested = once(loaded, pool_digests, test_digests)
    return Loaded(_unchanging(pool), tested and _unchanging(tested))


def once(loaded: Loaded, pool_digests: list[str], test_digests: list[str]) -> Loaded:
    """Leave out copies, where a digest names the content of every image.

    Raises
    ------
    DatasetError
        A class is left without images.
    """
    return once_with_rows(loaded, pool_digests, test_digests)[0]


def once_with_rows(
    loaded: Loaded, pool_digests: list[str], test_digests: list[str]
) -> tuple[Loaded, list[int], list[int]]:
    """Like :func:`once`, and the rows of the pool and of the test images that stay."""
    images, test = loaded
    rows, findings = _first_of_each(images, pool_digests)
    kept = _part(images, pool_digests, rows, findings)
    if test is None:
        return Loaded(kept), rows, []
    test_rows, findings = _first_of_each(test, test_digests)
    known = set(pool_digests)
    fresh = [row for row in test_rows if test_digests[row] not in known]
    if leaked := len(test_rows) - len(fresh):
        gone = sorted(set(test_rows) - set(fresh))[:MOST_NAMED]
        text = f"{leaked} test images are also in the pool and were left out"
        findings += (Finding("test_leak", text, leaked, tuple(test.name(row) for row in gone)),)
    tested = _part(test, test_digests, fresh, findings)
    pool = replace(kept, findings=(*kept.findings, *tested.findings))
    return Loaded(pool, replace(tested, findings=())), rows, fresh


def _unchanging(images: ImageSet) -> ImageSet:
    """Refuse an image that is not what it was when it was counted."""

    def read(index: int) -> Raw:
        raw = images.read(index)
        if digest(raw) != images.digests[index]:
            raise DatasetError(
                f"{images.name(index)} changed while the gate ran. Run again when nothing writes "
                "to the data set."
            )
        return raw

    return replace(images, read=read)


def _digests(images: ImageSet, threads: int, on_done: Callable[[int], None]) -> list[str]:
    unreadable: list[str] = []
    found: list[str] = []

    def one(row: int) -> str:
        try:
            raw = images.read(row)
            refuse_empty(raw)
        except UnreadableError as problem:
            unreadable.append(str(problem))
        except UndecodableError as problem:
            unreadable.append(f"{images.name(row)}: {problem}")
        else:
            return digest(raw)
        return ""

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


def _first_of_each(images: ImageSet, digests: list[str]) -> tuple[list[int], tuple[Finding, ...]]:
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(digests):
        rows.setdefault(name, []).append(row)
    first, copies, contested = [], [], []
    for same in rows.values():
        if len({int(images.labels[row]) for row in same}) > 1:
            contested.append(" = ".join(images.name(row) for row in same[:3]))
        else:
            first.append(same[0])
            copies += [f"{images.name(row)} = {images.name(same[0])}" for row in same[1:]]
    findings: tuple[Finding, ...] = ()
    if copies:
        text = f"{len(copies)} exact copies in {images.source} were counted once"
        findings += (Finding("duplicates", text, len(copies), tuple(copies[:MOST_NAMED])),)
    if contested:
        shown = "; ".join(contested[:3]) + (" ..." if len(contested) > 3 else "")
        text = f"{len(contested)} images stand under two labels and were left out: {shown}"
        named = tuple(contested[:MOST_NAMED])
        findings += (Finding("conflicting_labels", text, len(contested), named),)
    return first, findings


def _part(
    images: ImageSet, digests: list[str], rows: list[int], findings: tuple[Finding, ...]
) -> ImageSet:
    kept = images.part(rows)
    if gone := [name for name, n in kept.class_counts.items() if not n]:
        raise DatasetError(
            f"{images.source}: no image of class {gone[0]!r} is left; {findings[-1].text}."
        )
    return replace(
        kept,
        findings=(*images.findings, *findings),
        digests=kept.digests or tuple(digests[row] for row in rows),
    )


def unreadable_text(unreadable: list[str], total: int) -> str:
    """Name the images that cannot be used."""
    shown = [f"  {line}" for line in unreadable[:MOST_NAMED]]
    if len(unreadable) > MOST_NAMED:
        shown.append(f"  and {len(unreadable) - MOST_NAMED} more")
    what = "cannot be read; mend or remove them, since available must mean usable"
    if all(line.endswith(_POINTER) for line in unreadable):
        what = "are git-LFS pointers to images that are not here; run `git lfs pull`"
    return "\n".join([f"{len(unreadable)} of {total} images {what}:", *shown])
