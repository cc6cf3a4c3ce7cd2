"""Images that are nearly the same, by what the backbone sees or by what a perceptual hash keeps.

How near two images must be depends on the data: on textiles of three kinds the nearest *different*
image has a cosine similarity of 0.989, on clothes one of 0.835. So the limit is relative: an image
is a near-duplicate of another where the cosine distance of their embeddings is below a quarter of
the median distance between an image of the pool and its nearest neighbour there, or where their
perceptual hashes say so (:mod:`pytest_datasize.images.perceptual_hash`). The hash sees the whole
image and finds what was saved again, brightened, shrunk, mirrored or turned, also where no
embeddings are made; the embedding finds some that were shifted or cropped. Neither finds all of
those: this says which images are surely copies, not which surely are none.
``benchmarks/copies.py`` counts both. Where over half of the images have a near-duplicate (frames of
videos) that is what is usual, and only ``group`` tells what belongs together.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.errors import DatasetError
from pytest_datasize.images import perceptual_hash
from pytest_datasize.images.duplicates import MOST_NAMED
from pytest_datasize.images.image_set import Finding, ImageSet, Loaded
from pytest_datasize.images.perceptual_hash import ByteArray

SHARE_OF_NEIGHBOURS = 0.25
"""Distance of a near-duplicate, in median distances between nearest neighbours."""

_LEAST_POOL = 20  # fewer neighbours say nothing of what is usual
_SAMPLE = 2000  # rows that the median is taken over
_CELLS = 1 << 24  # of one block of the matrix of similarities

MOST_PAIRS = 400_000_000
"""Pairs of images that are compared at most: of 20,000 images all with all, in seconds."""

LEAST_FEATURES = 64
"""Width of embeddings from which on near means alike: in few dimensions, chance brings it."""


class Pair(NamedTuple):
    """Two images that are nearly the same.

    Attributes
    ----------
    row
        Row of the image that was asked about.
    twin
        Row of the nearest image of the pool.
    distance
        Cosine distance between their embeddings, in [0, 2].
    """

    row: int
    twin: int
    distance: float


def limit(pool: NDArray[np.floating]) -> float:
    """Return the distance below which two images count as nearly the same.

    Parameters
    ----------
    pool
        Embeddings of the images of the pool, (N, D).

    Examples
    --------
    >>> round(limit(np.eye(40)), 3)
    0.25
    """
    if len(pool) < _LEAST_POOL:
        return 0.0
    rows = _sampled(len(pool))
    _, distances = _nearest(_unit(pool[rows]), _unit(pool), own=rows)
    return SHARE_OF_NEIGHBOURS * float(np.median(distances))


def pairs(
    images: NDArray[np.floating], pool: NDArray[np.floating], within: float | None = None
) -> list[Pair]:
    """Find the images that are nearly the same as one of the pool.

    Parameters
    ----------
    images
        Embeddings of the images in question, (M, D).
    pool
        Embeddings of the pool, (N, D).
    within
        Distance below which they are nearly the same; None for :func:`limit`.

    Examples
    --------
    >>> pool = np.eye(40)
    >>> [(pair.row, pair.twin) for pair in pairs(pool[:2] + [[0.01], [1]], pool)]
    [(0, 0)]
    """
    allowed = limit(pool) if within is None else within
    twins, distances = _nearest(_unit(images), _unit(pool))
    return [
        Pair(int(row), int(twins[row]), float(distances[row]))
        for row in np.flatnonzero(distances < allowed)
    ]


def comparable(loaded: Loaded) -> bool:
    """Whether the images are few enough to compare all with all."""
    images, test = loaded
    return len(images) * max(len(images), len(test) if test else 0) <= MOST_PAIRS


def keep_apart(
    loaded: Loaded, features: NDArray[np.floating] | None, hashes: ByteArray | None = None
) -> tuple[Loaded, NDArray[np.int64]]:
    """Let no image be tested on that is nearly the same as one that is trained on.

    Test images given apart are left out where the pool has a near-duplicate. Otherwise
    near-duplicates within the pool become groups, which never straddle a split.

    Parameters
    ----------
    loaded
        The pool, and test images where they are given apart, copies counted once.
    features
        Embeddings of the pool and, after it, of the test images, (N, D); None where there are
        none. With fewer than :data:`LEAST_FEATURES` features they say nothing.
    hashes
        Perceptual hashes of the same images, (N, 32); None where there are none.

    Returns
    -------
    loaded, rows
        With :attr:`ImageSet.near`, a finding where there was anything to tell, and the rows of
        the images that stay.

    Raises
    ------
    DatasetError
        No test image of a class is left.
    """
    images, test = loaded
    n = len(images)
    rows = np.arange(n + (len(test) if test else 0))
    if features is not None and features.shape[1] < LEAST_FEATURES:
        features = None
    links, within = _links(
        None if features is None else features[:n], None if hashes is None else hashes[:n]
    )
    images = replace(images, near=_components(n, links))
    if test is None:
        return Loaded(_together(images, links)), rows
    twins = _twins(features, hashes, n, within)
    if not twins:
        return Loaded(images, test), rows
    names = tuple(f"{test.name(a)} ~ {images.name(b)}" for a, b in [*twins.items()][:MOST_NAMED])
    text = (
        f"{len(twins)} test images are nearly the same as one of the pool and were left out: "
        + "; ".join(names[:3])
    )
    kept = np.setdiff1d(np.arange(len(test)), list(twins))
    tested = test.part(kept)
    if gone := [name for name, count in tested.class_counts.items() if not count]:
        raise DatasetError(f"{test.source}: no test image of class {gone[0]!r} is left; {text}.")
    finding = Finding("near_duplicates", text, len(twins), names)
    pool = replace(images, findings=(*images.findings, finding))
    return Loaded(pool, tested), np.concatenate([rows[:n], n + kept])


class _Within(NamedTuple):
    """From which on images are no near-duplicates: cosine distance, and bits."""

    distance: float
    bits: int


def _links(
    features: NDArray[np.floating] | None, hashes: ByteArray | None
) -> tuple[NDArray[np.int64], _Within]:
    """Return the pairs of rows of the pool that are nearly the same, (P, 2), and the limits."""
    found = [np.empty((0, 2), dtype=np.int64)]
    distance, bits = 0.0, 0
    if features is not None and len(features) >= _LEAST_POOL:
        unit = _unit(features)
        _, distances = _nearest(unit, unit, own=np.arange(len(unit)))
        distance = SHARE_OF_NEIGHBOURS * float(np.median(distances[_sampled(len(unit))]))
        rows = np.flatnonzero(distances < distance)
        for block in _blocks(len(rows), len(rows)):
            one, other = np.nonzero(1.0 - unit[rows[block]] @ unit[rows].T < distance)
            found += [np.stack([rows[block[one]], rows[other]], axis=1)]
    if hashes is not None:
        bits = perceptual_hash.limit(hashes)
        found += [perceptual_hash.copies(hashes, hashes, bits)]
    pairs = np.concatenate(found)
    upper = pairs[pairs[:, 0] < pairs[:, 1]]
    return np.unique(upper, axis=0) if len(upper) else upper, _Within(distance, bits)


def _twins(
    features: NDArray[np.floating] | None, hashes: ByteArray | None, n: int, within: _Within
) -> dict[int, int]:
    """Return test image → an image of the pool that is nearly the same, by row."""
    found: dict[int, int] = {}
    if hashes is not None:
        near = perceptual_hash.copies(hashes[n:], hashes[:n], within.bits)
        found = dict(reversed(near.tolist()))
    if features is not None:
        found.update((p.row, p.twin) for p in pairs(features[n:], features[:n], within.distance))
    return dict(sorted(found.items()))


def _components(n: int, links: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number images such that those that are linked, however indirectly, have one number."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(links):
        return np.arange(n)
    graph = coo_array((np.ones(len(links)), (links[:, 0], links[:, 1])), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _together(images: ImageSet, links: NDArray[np.int64]) -> ImageSet:
    """Put near-duplicates, and whatever groups they are of, into one group."""
    if not len(links):
        return images
    old = np.arange(len(images)) if images.groups is None else images.groups
    groups = _components(int(old.max()) + 1, old[links])[old]
    named = [f"{images.name(int(a))} ~ {images.name(int(b))}" for a, b in links[:MOST_NAMED]]
    text = (
        f"{len(links)} pairs of images in {images.source} are nearly the same; they are kept on "
        f"one side of every split: {'; '.join(named[:3])}"
    )
    return replace(
        images,
        findings=(*images.findings, Finding("alike", text, len(links), tuple(named))),
        groups=groups,
        group_names=tuple(f"group {number}" for number in range(int(groups.max()) + 1)),
    )


def _sampled(n: int) -> NDArray[np.int64]:
    """Rows that the median is taken over."""
    return np.unique(np.linspace(0, n - 1, _SAMPLE).astype(np.int64))


def _unit(features: NDArray[np.floating]) -> NDArray[np.floating]:
    wide = np.asarray(features, dtype=np.float32)
    length: NDArray[np.floating] = np.linalg.norm(wide, axis=1, keepdims=True)
    scaled: NDArray[np.floating] = wide / np.maximum(length, np.float32(1e-12))
    return scaled


def _nearest(
    images: NDArray[np.floating],
    pool: NDArray[np.floating],
    own: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
    """Row and cosine distance of the nearest image of the pool, other than the image itself."""
    twins = np.empty(len(images), dtype=np.int64)
    distances: NDArray[np.floating] = np.empty(len(images), dtype=np.float64)
    for rows in _blocks(len(images), len(pool)):
        similarity = images[rows] @ pool.T
        if own is not None:
            similarity[np.arange(len(rows)), own[rows]] = -np.inf
        twins[rows] = similarity.argmax(axis=1)
        distances[rows] = np.maximum(1.0 - similarity.max(axis=1), 0.0)
    return twins, distances


def _blocks(rows: int, columns: int) -> list[NDArray[np.int64]]:
    step = max(1, _CELLS // max(columns, 1))
    return [np.arange(start, min(start + step, rows)) for start in range(0, rows, step)]
