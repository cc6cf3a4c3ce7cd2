"""Order the images of a pool, or its groups, so that every prefix is a subsample."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.curve.seeds import Purpose
from pytest_datasize.images.groups import main_class
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.trials.shuffle import Shuffle, as_shares, in_order

LEAST_PER_CLASS = 2

WITH_REPLACEMENT = "replacement"
"""Sampling by independent draws, in which an image can occur several times."""


def ordered(
    parts: Sequence[NDArray[np.int64]],
    test: NDArray[np.int64],
    sampling: str,
    shuffle: Shuffle,
    repeat: int,
    groups: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Shuffle the pool such that every prefix has the requested class shares.

    Each image gets a position in [0, 1): the r-th of its class's m images stands at
    (r + 1/2) / m when stratified, at r when balanced; ties are broken at random. The first
    two of every class come before all others, so that no trial lacks a class.

    With groups, the images of a class follow group after group, and all classes take the groups
    in one order: a prefix then holds as few groups as its images can come from.
    """
    keys = shuffle.keys(Purpose.ORDER, repeat)
    ties = shuffle.keys(Purpose.TIES, repeat)
    if sampling == WITH_REPLACEMENT:
        everything = np.setdiff1d(np.concatenate(parts), test, assume_unique=True)
        return with_replacement(in_order(everything, keys), shuffle, repeat)
    rows, positions = [], []
    if groups is not None:
        turn = shuffle.of_groups(groups).keys(Purpose.ORDER, repeat)
    for part in parts:
        pool = in_order(np.setdiff1d(part, test, assume_unique=True), keys)
        if groups is not None:
            pool = pool[np.argsort(turn[groups[pool]], kind="stable")]
        rank = np.arange(len(pool), dtype=np.float64)
        if sampling == "balanced":
            position = rank
        else:
            position = (rank + 0.5) / len(pool)
            position[:LEAST_PER_CLASS] = rank[:LEAST_PER_CLASS] * 1e-9
        rows.append(pool)
        positions.append(position)
    joined = np.concatenate(rows)
    return joined[np.lexsort((ties[joined], np.concatenate(positions)))].astype(np.int64)


def all_shown_first(order: NDArray[np.int64], shown: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Move images to the front such that two of them show each name, the rarest name first."""
    found = shown[order]
    chosen: dict[int, None] = {}
    counts = np.zeros(shown.shape[1], dtype=np.int64)
    for name in np.argsort(found.sum(axis=0), kind="stable").tolist():
        for place in np.flatnonzero(found[:, name]).tolist():
            if counts[name] >= LEAST_PER_CLASS:
                break
            if place not in chosen:
                chosen[place] = None
                counts += found[place]
    front = np.sort(np.array([*chosen], dtype=np.int64))
    return np.concatenate([order[front], np.delete(order, front)])


def groups_ordered(
    images: ImageSet,
    groups: NDArray[np.int64],
    held_out: NDArray[np.int64],
    sampling: str,
    shuffle: Shuffle,
    repeat: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Shuffle the groups of a pool such that every prefix has about the requested class shares.

    A group counts for the class of most of its images. Groups that show every class twice (or once,
    if only one group has it) come first, so that no trial lacks a class: again and again, the next
    group in the order that shows a lacking class is moved to the front.

    Parameters
    ----------
    images
        The labelled images.
    groups
        Group of each image, (N,).
    held_out
        Rows whose groups are left out.
    sampling, shuffle, repeat
        As for :func:`ordered`.

    Returns
    -------
    order
        Rows of the pool, whole group after whole group.
    ends
        Number of images in the first 1, 2, ... groups.
    least
        Number of groups that show every class twice.
    """
    _, numbers = np.unique(groups, return_inverse=True)
    sizes = np.bincount(numbers)
    keys = shuffle.keys(Purpose.ORDER, repeat)
    of_class = main_class(images.labels, numbers, keys)
    parts = [np.flatnonzero(of_class == label) for label in range(len(images.classes))]
    tested = np.unique(numbers[held_out])
    order = ordered(parts, tested, sampling, shuffle.of_groups(numbers), repeat)
    rows, names = np.nonzero(images.membership)
    shown = np.zeros((len(sizes), len(images.names)), dtype=np.bool_)
    shown[numbers[rows], names] = True
    order, least = _classes_first(order, shown)
    by_group = np.split(np.lexsort((keys, numbers)), np.cumsum(sizes)[:-1])
    return np.concatenate([by_group[group] for group in order]), np.cumsum(sizes[order]), least


def _classes_first(
    order: NDArray[np.int64], shown: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], int]:
    """Move groups that show every class to the front; return the order and their number."""
    wanted = np.minimum(shown[order].sum(axis=0), LEAST_PER_CLASS)
    counts = np.zeros(shown.shape[1], dtype=np.int64)
    front = []
    for place, group in enumerate(order.tolist()):
        lacking = counts < wanted
        if not lacking.any():
            break
        if shown[group, lacking].any():
            front.append(place)
            counts += shown[group]
    return np.concatenate([order[front], np.delete(order, front)]), len(front)


def with_replacement(pool: NDArray[np.int64], shuffle: Shuffle, repeat: int) -> NDArray[np.int64]:
    """Draw as many images as there are, each independently of all others."""
    shares = as_shares(shuffle.keys(Purpose.REPLACEMENT, repeat))[pool]
    drawn: NDArray[np.int64] = pool[(shares * len(pool)).astype(np.int64)]
    return drawn
