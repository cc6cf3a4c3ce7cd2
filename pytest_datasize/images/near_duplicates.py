"""Images that are nearly the same, by what the backbone sees in them: re-saved or retouched copies.

How near two images must be depends on the data: on textiles of three kinds the nearest *different*
image has a cosine similarity of 0.989, on clothes one of 0.835. So the limit is relative: an image
is a near-duplicate of another where its cosine distance is below a quarter of the median distance
between an image of the pool and its nearest neighbour there. With the default backbone that flags
none of 2,000 different textiles and 0.13 % of 8,000 pieces of clothing (some of which are the same
piece); of textiles saved again as JPEG of quality 90 it finds 92 %, made 5 % brighter 99 %, and of
photographs mirrored 81 %. It does not find strong compression or rescaling: it says which images
are surely copies, not which surely are none. Where over half of the images have a near-duplicate
(frames of videos) that is what is usual, and only ``group`` tells what belongs together.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.image_set import Finding, ImageSet, Loaded
from pytest_datasize.images.unique import MOST_NAMED
from pytest_datasize.ndarrays import FloatArray, IntArray

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


def limit(pool: FloatArray) -> float:
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
    rows = np.unique(np.linspace(0, len(pool) - 1, _SAMPLE).astype(np.int64))
    _, distances = _nearest(_unit(pool[rows]), _unit(pool), own=rows)
    return SHARE_OF_NEIGHBOURS * float(np.median(distances))


def pairs(images: FloatArray, pool: FloatArray, within: float | None = None) -> list[Pair]:
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


def comparable(loaded: Loaded, width: int) -> bool:
    """Whether the images are few enough, and their embeddings wide enough, to tell."""
    images, test = loaded
    few = len(images) * len(test if test else images) <= MOST_PAIRS
    return few and width >= LEAST_FEATURES


def keep_apart(loaded: Loaded, features: FloatArray) -> tuple[Loaded, IntArray]:
    """Let no image be tested on that is nearly the same as one that is trained on.

    Test images given apart are left out where the pool has a near-duplicate. Otherwise
    near-duplicates within the pool become groups, which never straddle a split.

    Parameters
    ----------
    loaded
        The pool, and test images where they are given apart, copies counted once.
    features
        Embeddings of the pool and, after it, of the test images, (N, D).

    Returns
    -------
    loaded, rows
        With a finding where there was anything to tell, and the rows of ``features`` that stay.

    Raises
    ------
    DatasetError
        No test image of a class is left.
    """
    images, test = loaded
    rows, n = np.arange(len(features)), len(images)
    if test is None:
        return Loaded(_together(images, features)), rows
    found = pairs(features[n:], features[:n])
    if not found:
        return loaded, rows
    names = tuple(f"{test.name(p.row)} ~ {images.name(p.twin)}" for p in found[:MOST_NAMED])
    text = (
        f"{len(found)} test images are nearly the same as one of the pool and were left out: "
        + "; ".join(names[:3])
    )
    kept = np.setdiff1d(np.arange(len(test)), [pair.row for pair in found])
    tested = test.part(kept)
    if gone := [name for name, count in tested.class_counts.items() if not count]:
        raise DatasetError(f"{test.source}: no test image of class {gone[0]!r} is left; {text}.")
    finding = Finding("near_duplicates", text, len(found), names)
    pool = replace(images, findings=(*images.findings, finding))
    return Loaded(pool, tested), np.concatenate([rows[:n], n + kept])


def _together(images: ImageSet, features: FloatArray) -> ImageSet:
    """Put near-duplicates, and whatever groups they are of, into one group."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    unit = _unit(features)
    allowed = limit(features)
    first, second = [], []
    for rows in _blocks(len(unit), len(unit)):
        near_row, near_column = np.nonzero(1.0 - unit[rows] @ unit.T < allowed)
        near_row += rows[0]
        upper = near_column > near_row
        first.append(near_row[upper])
        second.append(near_column[upper])
    one, other = np.concatenate(first), np.concatenate(second)
    if not one.size:
        return images
    old = np.arange(len(images)) if images.groups is None else images.groups
    n_old = int(old.max()) + 1
    links = coo_array((np.ones(len(one)), (old[one], old[other])), shape=(n_old, n_old))
    _, merged = connected_components(links, directed=False)
    groups = merged[old].astype(np.int64)
    shown = zip(one[:MOST_NAMED], other[:MOST_NAMED], strict=True)
    named = [f"{images.name(int(a))} ~ {images.name(int(b))}" for a, b in shown]
    text = (
        f"{len(one)} pairs of images in {images.source} are nearly the same; they are kept on one "
        f"side of every split: {'; '.join(named[:3])}"
    )
    return replace(
        images,
        findings=(*images.findings, Finding("alike", text, len(one), tuple(named))),
        groups=groups,
        group_names=tuple(f"group {number}" for number in range(int(groups.max()) + 1)),
    )


def _unit(features: FloatArray) -> FloatArray:
    wide = np.asarray(features, dtype=np.float32)
    length: FloatArray = np.linalg.norm(wide, axis=1, keepdims=True)
    scaled: FloatArray = wide / np.maximum(length, np.float32(1e-12))
    return scaled


def _nearest(
    images: FloatArray, pool: FloatArray, own: IntArray | None = None
) -> tuple[IntArray, FloatArray]:
    """Row and cosine distance of the nearest image of the pool, other than the image itself."""
    twins = np.empty(len(images), dtype=np.int64)
    distances: FloatArray = np.empty(len(images), dtype=np.float64)
    for rows in _blocks(len(images), len(pool)):
        similarity = images[rows] @ pool.T
        if own is not None:
            similarity[np.arange(len(rows)), own[rows]] = -np.inf
        twins[rows] = similarity.argmax(axis=1)
        distances[rows] = np.maximum(1.0 - similarity.max(axis=1), 0.0)
    return twins, distances


def _blocks(rows: int, columns: int) -> list[IntArray]:
    step = max(1, _CELLS // max(columns, 1))
    return [np.arange(start, min(start + step, rows)) for start in range(0, rows, step)]
