"""Inspect every image before training: decoding errors, blank images, sizes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.decode import content_of, decode, refuse_empty
from pytest_datasize.images.duplicates import MOST_NAMED
from pytest_datasize.images.image_set import Finding, ImageSet, Loaded, few
from pytest_datasize.images.undecodable import UndecodableError, describe

CONSTANT_SPREAD = 2
"""Range of grey levels, of 255, that lossy encoding alone can add to a uniform image."""

SIZE_RATIO = 8
"""Long sides that differ by a larger factor suggest different recording conditions."""


class Look(NamedTuple):
    """Result of inspecting one image.

    Attributes
    ----------
    problem, empty
        Why it cannot be decoded, empty if it can; whether the file contains no image.
    digest
        Hash of its decoded pixels, independent of the file format.
    side
        Long side in pixels.
    constant
        Whether all its pixels have one colour.
    """

    problem: str = ""
    empty: bool = False
    digest: str = ""
    side: int = 0
    constant: bool = False


def looked(
    loaded: Loaded,
    threads: int = 1,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Loaded:
    """Decode every image, compute its content hash, and leave out undecodable images.

    Parameters
    ----------
    loaded
        Images, and test images where given separately.
    threads
        Threads that decode.
    on_progress
        Called with (images seen, images in all).

    Returns
    -------
    Loaded
        With :attr:`ImageSet.digests` set, and a finding for everything left out or unusual.

    Raises
    ------
    DatasetError
        A class is left without images.
    """
    images, test = loaded
    total = len(images) + (len(test) if test else 0)
    seen = look(images, threads, lambda done: on_progress(done, total))
    images, pool_looks = _readable(images, seen)
    findings = _odd(images, pool_looks)
    test_looks: list[Look] = []
    if test is not None:
        start = len(loaded.images)
        seen = look(test, threads, lambda done: on_progress(start + done, total))
        test, test_looks = _readable(test, seen)
        findings += (*test.findings, *_odd(test, test_looks))
        test = replace(test, findings=())
    return Loaded(replace(images, findings=(*images.findings, *findings)), test)


def look(
    images: ImageSet, threads: int, on_done: Callable[[int], None] = lambda done: None
) -> list[Look]:
    """Inspect every image of a set."""
    found = []
    with ThreadPoolExecutor(threads) as pool:
        try:
            for done, one in enumerate(pool.map(lambda r: _one(images, r), range(len(images))), 1):
                found.append(one)
                on_done(done)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return found


def _one(images: ImageSet, row: int) -> Look:
    try:
        raw = images.read(row)
        try:
            refuse_empty(raw)
        except UndecodableError as problem:
            return Look(f"{images.name(row)}: {problem}", empty=True)
        picture = decode(raw, images.max_pixels, images.depth)
    except UndecodableError as problem:
        return Look(describe(images.name(row), problem))
    extremes = [high - low for low, high in picture.getextrema()]  # type: ignore[misc]
    return Look(
        digest=content_of(picture),
        side=max(picture.size),
        constant=max(extremes) <= CONSTANT_SPREAD,
    )


def _readable(images: ImageSet, looks: list[Look]) -> tuple[ImageSet, list[Look]]:
    findings = images.findings
    for check, what, empty in (
        ("empty_files", "hold no image", True),
        ("unreadable", "cannot be read", False),
    ):
        bad = [one.problem for one in looks if one.problem and one.empty is empty]
        if bad:
            text = f"{len(bad)} of {len(images)} images {what}: {bad[0]}"
            findings += (Finding(check, text, len(bad), tuple(sorted(bad)[:MOST_NAMED])),)
    rows = [row for row, one in enumerate(looks) if not one.problem]
    names = tuple(looks[row].digest for row in rows)
    kept = replace(images.part(rows), findings=findings, digests=names)
    gone = [name for name, n in kept.class_counts.items() if not n]
    if gone:
        reasons = "; ".join(f.text for f in findings if f.check in ("empty_files", "unreadable"))
        raise DatasetError(f"{images.source}: no image of class {gone[0]!r} can be read. {reasons}")
    return kept, [looks[row] for row in rows]


def _odd(images: ImageSet, looks: list[Look]) -> tuple[Finding, ...]:
    found: tuple[Finding, ...] = ()
    blank = [images.name(row) for row, one in enumerate(looks) if one.constant]
    if blank:
        text = f"{len(blank)} images in {images.source} are of one colour all over: {few(blank)}"
        found += (Finding("constant", text, len(blank), tuple(blank[:MOST_NAMED])),)
    sides = [one.side for one in looks]
    low, high = min(sides), max(sides)
    if high > SIZE_RATIO * low:
        names = images.name(sides.index(low)), images.name(sides.index(high))
        text = f"long sides range from {low:,} pixels ({names[0]}) to {high:,} ({names[1]})"
        found += (Finding("sizes", text, 2, names),)
    return found
