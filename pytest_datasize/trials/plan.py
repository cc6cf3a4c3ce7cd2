"""Plan which images each trial trains and tests on: sizes, repeats, nested subsamples, seeds.

Pure numpy. Each repeat shuffles the images by keys (:mod:`pytest_datasize.trials.shuffle`)
that derive from their content: adding repeats changes no earlier one, neither names nor the order
of files or classes decide what is drawn, and a changed image changes no other image's place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.curve.seeds import Purpose
from pytest_datasize.errors import DatasetError
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.requirement.tasks import TASKS
from pytest_datasize.trials.group_splits import GroupSplits
from pytest_datasize.trials.shuffle import Shuffle, as_shares, in_order

N_SIZES = 8
FEW_PER_CLASS = 5  # the smallest default size; two per class is the least a size may have
LEAST_PER_CLASS = 2

MOST_TRAINED = 100_000
"""Largest default size: of a larger pool the curve is extrapolated to the full pool."""

WITH_REPLACEMENT = "replacement"
"""Sampling by independent draws, in which an image can occur several times."""

MOST_TESTED = 20_000
"""Most test images of a repeat: the standard error of a share is then at most 0.4 points."""


@dataclass(frozen=True)
class Repeat:
    """One seeded permutation of the pool, and the images held out from it.

    Attributes
    ----------
    order
        int64 array of shape (largest size,): rows of the pool; the subsample of size n is the
        prefix of length n, so that subsamples are nested. No image comes twice unless it is drawn
        with replacement.
    test
        int64 array of shape (n_test,): rows that score every trial of this repeat.
    """

    order: NDArray[np.int64]
    test: NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """All trials of a study: every repeat at every size.

    Attributes
    ----------
    sizes
        Training sizes, ascending; the largest is at most ``available``.
    repeats
        The seeded permutations with their test images.
    available
        Number of images that may be trained on, once the test images are set aside; where groups
        make the repeats differ, in the repeat that has the fewest.
    n_test
        Test images behind one score; where groups make the repeats differ, rounded down.
    whole_differs
        Whether the largest training set of every repeat is another one: each holds other images
        out, or draws with replacement.
    """

    sizes: tuple[int, ...]
    repeats: tuple[Repeat, ...]
    available: int
    n_test: int
    whole_differs: bool

    def trials(self, start: int = 0, stop: int | None = None) -> list[tuple[int, int, Repeat]]:
        """Every model to train, as (size, number of the repeat, repeat), the smallest first.

        Of the repeats from ``start`` up to ``stop`` (all of them by default).
        With a fixed test set all repeats have one pool, and the whole of it, drawn without
        replacement, is the same training set whatever its order: that size is trained once.
        """
        return [
            (size, number, repeat)
            for size in self.sizes
            for number, repeat in list(enumerate(self.repeats))[start:stop]
            if self.whole_differs or number == 0 or size < self.available
        ]


def draw(
    images: ImageSet,
    *,
    n_fixed_test: int = 0,
    sizes: Sequence[int | float] | None = None,
    repeats: int = 10,
    test_fraction: float = 0.2,
    sampling: str = "stratified",
    seed: int = 0,
) -> Plan:
    """Draw the plan.

    Images of one group (``images.groups``) never stand on both sides of a split. Whole groups are
    set aside, and subsamples are filled group after group in random order, as data are collected:
    a small subsample has few groups.

    Without a test set of its own (``n_fixed_test`` = 0) every repeat sets a stratified part
    aside. The parts of 1 / ``test_fraction`` consecutive repeats do not overlap, as in repeated
    k-fold cross-validation: test luck is then averaged over (nearly) the whole data set instead
    of over a few draws.

    Parameters
    ----------
    images
        The labelled images.
    n_fixed_test
        Number of test images given separately; they are the rows after those of ``images``.
    sizes
        Training sizes as whole numbers, or as shares of the pool; None for about eight
        geometric ones, up to the whole pool or :data:`MOST_TRAINED`.
    repeats
        Repeats per size.
    test_fraction
        Share held out in each repeat, in (0, 1); at most :data:`MOST_TESTED` images in all.
    sampling
        ``stratified`` (class shares as in the pool), ``balanced`` (equal until a class is
        used up) or ``replacement`` (independent draws from the pool, so that images come
        several times and a rare class may be missing).
    seed
        Seed of all random streams.

    Raises
    ------
    DatasetError
        A class has too few images, or a size is not possible with the pool.
    """
    test_fraction = min(test_fraction, MOST_TESTED / max(len(images), 1))
    if images.groups is not None or _of_sets(images):
        groups = np.arange(len(images)) if images.groups is None else images.groups
        return _grouped(images, groups, n_fixed_test, sizes, repeats, test_fraction, sampling, seed)
    labels = images.labels
    used = [*range(len(images.classes))]
    if images.targets is not None:  # of whose strata some may have no images
        used = np.unique(labels).tolist()
    parts = [np.flatnonzero(labels == label) for label in used]
    held_out = [0 if n_fixed_test else max(1, round(len(p) * test_fraction)) for p in parts]
    names = [images.classes[label] for label in used]
    for name, part, test in zip(names, parts, held_out, strict=True):
        if len(part) - test < LEAST_PER_CLASS:
            raise DatasetError(
                f"{images.source}: {TASKS[images.task].label} {name!r} has {len(part)} images; at "
                f"least {LEAST_PER_CLASS + max(test, 0)} are needed to train on {LEAST_PER_CLASS}"
                + ("." if n_fixed_test else f" and test on {test}.")
            )
    available = len(labels) - sum(held_out)
    chosen = _sizes(sizes, available, len(used), images.source)
    shuffle = Shuffle(images, seed)
    drawn = []
    for repeat in range(repeats):
        rows = (
            np.arange(len(labels), len(labels) + n_fixed_test)
            if n_fixed_test
            else _test_rows(parts, held_out, test_fraction, repeat, shuffle)
        )
        order = _order(parts, rows, sampling, shuffle, repeat)
        if chosen[-1] < available:  # of a huge pool, do not keep rows that no trial uses
            order = order[: chosen[-1]].copy()
        drawn.append(Repeat(order, rows))
    n_test = len(drawn[0].test)
    differs = not n_fixed_test or sampling == WITH_REPLACEMENT
    return Plan(chosen, tuple(drawn), available, n_test, differs)


def _grouped(
    images: ImageSet,
    groups: NDArray[np.int64],
    n_fixed_test: int,
    sizes: Sequence[int | float] | None,
    repeats: int,
    test_fraction: float,
    sampling: str,
    seed: int,
) -> Plan:
    """Draw the plan with whole groups on either side of every split.

    Images with sets of labels, each a group of its own, are drawn in the same way.
    """
    labels, n_classes = images.labels, len(images.classes)
    shown, sets = images.membership, _of_sets(images)
    label = TASKS[images.task].label
    parts = [np.flatnonzero(labels == label) for label in range(n_classes)]
    rows = np.arange(len(labels), len(labels) + n_fixed_test)
    shuffle = Shuffle(images, seed)
    splits = GroupSplits(images, groups, test_fraction, shuffle) if not n_fixed_test else None
    drawn = []
    for repeat in range(repeats):
        test = splits.test(repeat) if splits else rows
        left = shown.sum(axis=0) - (shown[test].sum(axis=0) if splits else 0)
        for name, number in zip(images.names, left.tolist(), strict=True):
            if number < LEAST_PER_CLASS:
                whole = "whole groups" if images.groups is not None else "images"
                raise DatasetError(
                    f"{images.source}: with {whole} set aside for testing, {label} {name!r} is "
                    f"left with {number} images to train on; at least {LEAST_PER_CLASS} are "
                    f"needed. Collect more {whole.removeprefix('whole ')} of it, or set a smaller "
                    "test_fraction."
                )
        order = _order(parts, test, sampling, shuffle, repeat, groups)
        drawn.append(Repeat(_all_shown_first(order, shown) if sets else order, test))
    available = min(len(repeat.order) for repeat in drawn)
    drawn = [Repeat(repeat.order[:available], repeat.test) for repeat in drawn]
    chosen = _sizes(sizes, available, len(images.names), images.source)
    n_test = sum(len(repeat.test) for repeat in drawn) // len(drawn)
    differs = not n_fixed_test or sampling == WITH_REPLACEMENT
    return Plan(chosen, tuple(drawn), available, n_test, differs)


def _of_sets(images: ImageSet) -> bool:
    """Whether an image may count for several names, or for none."""
    return images.targets is not None and bool((images.membership.sum(axis=1) != 1).any())


def _all_shown_first(order: NDArray[np.int64], shown: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Move images to the front such that every name is shown by two of them, the rarest first."""
    ordered = shown[order]
    chosen: dict[int, None] = {}
    counts = np.zeros(shown.shape[1], dtype=np.int64)
    for name in np.argsort(ordered.sum(axis=0), kind="stable").tolist():
        for place in np.flatnonzero(ordered[:, name]).tolist():
            if counts[name] >= LEAST_PER_CLASS:
                break
            if place not in chosen:
                chosen[place] = None
                counts += ordered[place]
    front = np.sort(np.array([*chosen], dtype=np.int64))
    return np.concatenate([order[front], np.delete(order, front)])


def _sizes(
    asked: Sequence[int | float] | None, available: int, n_classes: int, source: str
) -> tuple[int, ...]:
    least = LEAST_PER_CLASS * n_classes
    if asked is None:
        first = max(least, min(FEW_PER_CLASS * n_classes, available // N_SIZES))
        last = min(available, max(MOST_TRAINED, least * N_SIZES))
        found = tuple(sorted({round(n) for n in np.geomspace(first, last, N_SIZES)}))
        if first > last or len(found) < 3:  # labels overlap: there may be more than images
            raise DatasetError(
                f"{source}: {available} images to train on are too few for a learning curve "
                f"over {n_classes} classes; at least {least + 2} are needed."
            )
        return found
    sizes = sorted({round(n * available) if isinstance(n, float) else n for n in asked})
    wrong = [n for n in sizes if not least <= n <= available]
    if wrong or len(sizes) < 3:
        what = f"{wrong[0]} is outside" if wrong else f"{sizes} are fewer than 3 sizes within"
        raise DatasetError(
            f"sizes: {what} {least} ({LEAST_PER_CLASS} per class) to {available} (all images of "
            f"{source} that can be trained on)."
        )
    return tuple(sizes)


def _test_rows(
    parts: Sequence[NDArray[np.int64]],
    held_out: Sequence[int],
    fraction: float,
    repeat: int,
    shuffle: Shuffle,
) -> NDArray[np.int64]:
    """Return the next stratified part of a shuffle, which is used for 1/fraction repeats."""
    folds = max(1, floor(1 / fraction + 1e-9))
    block, fold = divmod(repeat, folds)
    keys = shuffle.keys(Purpose.TEST_SPLIT, block)
    chosen = []
    for part, size in zip(parts, held_out, strict=True):
        shuffled = in_order(part, keys)
        chosen.append(np.take(shuffled, np.arange(fold * size, (fold + 1) * size), mode="wrap"))
    return np.sort(np.concatenate(chosen))


def _order(
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
        return _with_replacement(in_order(everything, keys), shuffle, repeat)
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


def _with_replacement(pool: NDArray[np.int64], shuffle: Shuffle, repeat: int) -> NDArray[np.int64]:
    """Draw as many images as there are, each independently of all others."""
    shares = as_shares(shuffle.keys(Purpose.REPLACEMENT, repeat))[pool]
    drawn: NDArray[np.int64] = pool[(shares * len(pool)).astype(np.int64)]
    return drawn
