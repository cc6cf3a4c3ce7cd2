"""Detect near-duplicates by perceptual hashes, and keep them on one side of every split.

The groups depend on the image set only, not on the study: strategies that are compared must
train and test on the same images, and only some of them have embeddings. The hash finds what was
saved again, brightened, shrunk, mirrored, turned or cropped around the middle
(:mod:`pytest_datasize.images.perceptual_hash`; ``benchmarks/copies.py`` counts how many). It does
not find all copies: a match is almost certain, a missing match is not. Where
over half of the images have a near-duplicate (frames of videos) that is what is usual, and only
``group`` says what belongs together.

Results are cached, so an unchanged image set needs neither hashes nor decoding.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.duplicates import MOST_NAMED
from pytest_datasize.images.image_set import Finding, ImageSet, Loaded
from pytest_datasize.store import Store, key_of

if TYPE_CHECKING:
    from pytest_datasize.images.perceptual_hash import ByteArray

_VERSION: Final = 1
"""Version of the definition of near-duplicates: results of other versions are not used."""

_KIND: Final = "near_duplicates"


class NearDuplicates(NamedTuple):
    """Near-duplicates within the pool, and between test images and pool.

    Attributes
    ----------
    groups
        Groups of two rows of the pool or more, ascending, that are linked however indirectly.
    twins
        (row of a test image, row of the image of the pool that is nearest to it), ascending.
    searched
        ``all`` pairs, ``some`` where thousands look so alike that not all likely pairs were
        compared, ``few`` where too few images say what is usual, and ``alike`` where looking the
        same is usual: nothing is searched in the last two cases.
    """

    groups: tuple[tuple[int, ...], ...] = ()
    twins: tuple[tuple[int, int], ...] = ()
    searched: Literal["all", "some", "few", "alike"] = "all"


def find(pool: "ByteArray", test: "ByteArray | None" = None) -> NearDuplicates:
    """Find near-duplicates.

    Parameters
    ----------
    pool, test
        Hashes of the images of the pool, (N, 5, 32), and of test images, (M, 5, 32).

    Examples
    --------
    >>> hashes = np.random.default_rng(0).integers(0, 256, (40, 5, 32), dtype=np.uint8) | 0x80
    >>> hashes[7] = hashes[3]
    >>> find(hashes).groups
    ((3, 7),)
    """
    from pytest_datasize.images.hash_search import LEAST_POOL, HashIndex, usual_limit

    whole = np.ascontiguousarray(pool[:, 0])
    within = usual_limit(whole)
    if not within:
        return NearDuplicates(searched="few" if len(pool) < LEAST_POOL else "alike")
    index = HashIndex(whole, within)
    labels = np.arange(len(pool))
    for window in range(pool.shape[1]):
        for found in index.matches(np.ascontiguousarray(pool[:, window]), labels):
            _join(labels, found.asked, found.known)
    partly, twins = index.partly, []
    if test is not None:
        none = np.iinfo(np.int64).max
        nearest = np.full(len(test), none)
        for window in range(test.shape[1]):
            for found in index.matches(np.ascontiguousarray(test[:, window])):
                np.minimum.at(nearest, found.asked, found.bits * len(pool) + found.known)
        other = HashIndex(np.ascontiguousarray(test[:, 0]), within)
        for window in range(1, pool.shape[1]):
            for found in other.matches(np.ascontiguousarray(pool[:, window])):
                np.minimum.at(nearest, found.known, found.bits * len(pool) + found.asked)
        rows = np.flatnonzero(nearest < none)
        twins = [*zip(rows.tolist(), (nearest[rows] % len(pool)).tolist(), strict=True)]
        partly = index.partly + other.partly
    return NearDuplicates(_groups(labels), tuple(twins), "some" if partly else "all")


def find_stored(loaded: Loaded, store: Store, threads: int = 1) -> NearDuplicates:
    """Find near-duplicates, or load them from the store for images searched before.

    Parameters
    ----------
    loaded
        The pool, and test images where they are given separately, with their contents known.
    store
        Cache of hashes and search results.
    threads
        Threads that decode images whose hashes are not known.

    Raises
    ------
    DatasetError
        An image cannot be read any more.
    """
    parts = [part for part in loaded if part is not None]
    key = key_of([_VERSION, *(part.digests for part in parts)])
    if found := store.get(_KIND, key):
        return _from_json(found)
    from pytest_datasize.images.perceptual_hash import perceptual_hashes

    result = find(*(perceptual_hashes(part, store, threads) for part in parts))
    store.put(_KIND, key, result._asdict())
    return result


def separated(loaded: Loaded, found: NearDuplicates) -> Loaded:
    """Keep near-duplicates of training images out of the test set.

    Test images given separately are left out where the pool has a near-duplicate. Otherwise
    near-duplicates within the pool become groups, which are never divided by a split.

    Parameters
    ----------
    loaded
        The pool, and test images where they are given separately, copies counted once.
    found
        Near-duplicates among them.

    Returns
    -------
    Loaded
        With :attr:`ImageSet.near`, and findings for near-duplicates and for a skipped search.

    Raises
    ------
    DatasetError
        No test image of a class is left.
    """
    images, test = loaded
    near = _numbered(len(images), found.groups)
    findings = _not_searched(images, found)
    images = replace(images, near=near, findings=(*images.findings, *findings))
    if test is None:
        return Loaded(_together(images, found.groups) if found.groups else images)
    if not found.twins:
        return Loaded(images, test)
    named = tuple(f"{test.name(a)} ~ {images.name(b)}" for a, b in found.twins[:MOST_NAMED])
    text = (
        f"{len(found.twins)} test images are nearly the same as one of the pool and were left out: "
        + "; ".join(named[:3])
    )
    kept = test.part(np.setdiff1d(np.arange(len(test)), [row for row, _ in found.twins]))
    if gone := [name for name, count in kept.class_counts.items() if not count]:
        raise DatasetError(f"{test.source}: no test image of class {gone[0]!r} is left; {text}.")
    finding = Finding("near_duplicates", text, len(found.twins), named)
    return Loaded(replace(images, findings=(*images.findings, finding)), kept)


def _not_searched(images: ImageSet, found: NearDuplicates) -> tuple[Finding, ...]:
    """Report that the search was skipped or partial, so near-duplicates can remain."""
    if found.searched == "all":
        return ()
    group = "`group` can say what belongs together"
    text = {
        "few": f"near-duplicates were not looked for: {len(images)} images are too few to know by "
        "how much different ones usually differ",
        "alike": "near-duplicates were not looked for: most images have ten or more that look the "
        f"same; {group}",
        "some": "near-duplicates were looked for in part: thousands of images look so alike that "
        f"not all pairs were compared; {group}",
    }[found.searched]
    return (Finding("alike", text),)  # a note, also where test images are given


def _together(images: ImageSet, near: tuple[tuple[int, ...], ...]) -> ImageSet:
    """Merge near-duplicates, with the whole groups they belong to, into one group."""
    old = np.arange(len(images)) if images.groups is None else images.groups
    joined = np.arange(int(old.max()) + 1)
    first = np.repeat([rows[0] for rows in near], [len(rows) for rows in near])
    _join(joined, old[first], old[np.concatenate(near)])
    groups = np.unique(joined[old], return_inverse=True)[1]
    number = sum(map(len, near))
    pairs = [(rows[0], row) for rows in near for row in rows[1:]][:MOST_NAMED]
    named = tuple(f"{images.name(one)} ~ {images.name(other)}" for one, other in pairs)
    text = (
        f"{number} images in {images.source} are nearly the same as another, in {len(near)} groups "
        f"that are kept on one side of every split: {'; '.join(named[:3])}"
    )
    return replace(
        images,
        findings=(*images.findings, Finding("alike", text, number, named)),
        groups=groups.astype(np.int64),
        group_names=tuple(f"group {number}" for number in range(int(groups.max()) + 1)),
    )


def _join(labels: NDArray[np.int64], one: NDArray[np.int64], other: NDArray[np.int64]) -> None:
    """Give linked images, and all that have their numbers, the lowest of their numbers."""
    links = np.sort(np.stack([labels[one], labels[other]], axis=1), axis=1)
    links = np.unique(links[links[:, 0] < links[:, 1]], axis=0)
    if not len(links):
        return
    new = np.arange(len(labels))

    def root(number: int) -> int:
        while new[number] != number:
            new[number] = new[new[number]]
            number = int(new[number])
        return number

    for low, high in links.tolist():
        first, second = sorted((root(low), root(high)))
        new[second] = first
    for number in np.unique(links).tolist():
        new[number] = root(number)
    labels[:] = new[labels]


def _groups(labels: NDArray[np.int64]) -> tuple[tuple[int, ...], ...]:
    order = np.argsort(labels, kind="stable")
    _, starts, sizes = np.unique(labels[order], return_index=True, return_counts=True)
    several = np.flatnonzero(sizes > 1)
    return tuple(tuple(order[starts[g] : starts[g] + sizes[g]].tolist()) for g in several)


def _numbered(n: int, groups: tuple[tuple[int, ...], ...]) -> NDArray[np.int64]:
    """Number n images such that those of a group have one number."""
    numbers = np.arange(n)
    for rows in groups:
        numbers[list(rows)] = rows[0]
    return np.unique(numbers, return_inverse=True)[1].astype(np.int64)


def _from_json(plain: dict[str, Any]) -> NearDuplicates:
    groups, twins = ([tuple(rows) for rows in plain[name]] for name in ("groups", "twins"))
    return NearDuplicates(tuple(groups), tuple(twins), plain["searched"])
