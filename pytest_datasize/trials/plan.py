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
from pytest_datasize.requirement.units import GROUP, IMAGE
from pytest_datasize.trials.group_splits import GroupSplits
from pytest_datasize.trials.order import (
    LEAST_PER_CLASS,
    WITH_REPLACEMENT,
    all_shown_first,
    groups_ordered,
    ordered,
)
from pytest_datasize.trials.shuffle import Shuffle, in_order

N_SIZES = 8
FEW_PER_CLASS = 5  # the smallest default size; two per class is the least a size may have
LEAST_GROUPS = 2  # from a single group nothing can be said about others

MOST_TRAINED = 100_000
"""Largest default size: of a larger pool the curve is extrapolated to the full pool."""

MOST_TESTED = 20_000
"""Most test images of a repeat: the standard error of a share is then at most 0.4 points."""


@dataclass(frozen=True)
class Repeat:
    """One seeded permutation of the pool, and the images held out from it.

    Attributes
    ----------
    order
        int64 array of shape (images of the largest size,): rows of the pool; every subsample is a
        prefix, so that they are nested. No image comes twice unless it is drawn with replacement.
    test
        int64 array of shape (n_test,): rows that score every trial of this repeat.
    ends
        Number of images in the first 1, 2, ... groups of the order, if sizes count groups; None
        if they count images.
    """

    order: NDArray[np.int64]
    test: NDArray[np.int64]
    ends: NDArray[np.int64] | None = None

    def images(self, size: int) -> int:
        """Return the number of images of the subsample of a size."""
        return size if self.ends is None else int(self.ends[size - 1])

    def training(self, size: int) -> NDArray[np.int64]:
        """Return the rows of the subsample of a size."""
        return self.order[: self.images(size)]

    def up_to(self, size: int) -> "Repeat":
        """Return the repeat without what subsamples up to a size do not use."""
        ends = None if self.ends is None else self.ends[:size].copy()
        return Repeat(self.training(size).copy(), self.test, ends)


@dataclass(frozen=True)
class Plan:
    """All trials of a study: every repeat at every size.

    Attributes
    ----------
    sizes
        Training sizes in images, or in whole groups; ascending, the largest at most ``available``.
    repeats
        The seeded permutations with their test images.
    available
        Number of images (or groups) that may be trained on, once the test images are set aside;
        where groups make the repeats differ, in the repeat that has the fewest.
    n_test
        Test images behind one score; where groups make the repeats differ, rounded down.
    whole_differs
        Whether the largest training set of every repeat is another one: each holds other images
        out, or draws with replacement.
    groups
        Group of every image of the pool, (N,), if sizes and ``available`` count groups; None if
        they count images.
    """

    sizes: tuple[int, ...]
    repeats: tuple[Repeat, ...]
    available: int
    n_test: int
    whole_differs: bool
    groups: NDArray[np.int64] | None = None

    @property
    def unit(self) -> str:
        """What is counted, one of :data:`pytest_datasize.requirement.units.UNITS`."""
        return IMAGE if self.groups is None else GROUP

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
    unit: str = IMAGE,
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
    unit
        What sizes count: images, or groups (``images.groups`` must be known).

    Raises
    ------
    DatasetError
        A class has too few images or groups, or a size is not possible with the pool.
    """
    test_fraction = min(test_fraction, MOST_TESTED / max(len(images), 1))
    if images.groups is not None or _of_sets(images):
        groups = np.arange(len(images)) if images.groups is None else images.groups
        return _grouped(
            images, groups, n_fixed_test, sizes, repeats, test_fraction, sampling, seed, unit
        )
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
        order = ordered(parts, rows, sampling, shuffle, repeat)
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
    unit: str,
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
    drawn, fewest = [], LEAST_GROUPS
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
        if unit == GROUP:
            held_out = test if splits else rows[:0]
            order, ends, least = groups_ordered(images, groups, held_out, sampling, shuffle, repeat)
            drawn.append(Repeat(order, test, ends))
            fewest = max(fewest, least)
            continue
        order = ordered(parts, test, sampling, shuffle, repeat, groups)
        drawn.append(Repeat(all_shown_first(order, shown) if sets else order, test))
    if unit == GROUP:
        available = min(len(repeat.ends) for repeat in drawn if repeat.ends is not None)
        per_group = len(images) / len(np.unique(groups))
        chosen = _sizes_in_groups(sizes, available, fewest, per_group, images)
    else:
        available = min(len(repeat.order) for repeat in drawn)
        chosen = _sizes(sizes, available, len(images.names), images.source)
    drawn = [repeat.up_to(available if unit == IMAGE else chosen[-1]) for repeat in drawn]
    n_test = sum(len(repeat.test) for repeat in drawn) // len(drawn)
    differs = not n_fixed_test or sampling == WITH_REPLACEMENT
    counted = groups if unit == GROUP else None
    return Plan(chosen, tuple(drawn), available, n_test, differs, counted)


def _of_sets(images: ImageSet) -> bool:
    """Whether an image may count for several names, or for none."""
    return images.targets is not None and bool((images.membership.sum(axis=1) != 1).any())


def _sizes(
    asked: Sequence[int | float] | None, available: int, n_classes: int, source: str
) -> tuple[int, ...]:
    least = LEAST_PER_CLASS * n_classes
    if asked is None:
        found = _geometric(least, n_classes, available, MOST_TRAINED)
        if len(found) < 3:  # labels overlap: there may be more than images
            raise DatasetError(
                f"{source}: {available} images to train on are too few for a learning curve "
                f"over {n_classes} classes; at least {least + 2} are needed."
            )
        return found
    why = f"{LEAST_PER_CLASS} per class"
    return _asked(asked, least, why, available, f"all images of {source}")


def _sizes_in_groups(
    asked: Sequence[int | float] | None,
    available: int,
    least: int,
    per_group: float,
    images: ImageSet,
) -> tuple[int, ...]:
    """Return the training sizes in groups; at least as many groups as show every class."""
    label = TASKS[images.task].label
    if asked is None:
        most = int(MOST_TRAINED / per_group)
        found = _geometric(least, len(images.names), available, most)
        if len(found) < 3:
            raise DatasetError(
                f"{images.source}: {available} groups to train on, without those that are held "
                f"out, are too few for a learning curve; at least {least + 2} are needed: {least} "
                f"show every {label} twice, and two more are for larger sizes."
            )
        return found
    why = f"the groups that show every {label} twice"
    return _asked(asked, least, why, available, f"all groups of {images.source}")


def _geometric(least: int, n_classes: int, available: int, most: int) -> tuple[int, ...]:
    """Return about eight sizes from the first to the last; fewer than 3 where there are none."""
    first = max(least, min(FEW_PER_CLASS * n_classes, available // N_SIZES))
    last = min(available, max(most, least * N_SIZES))
    if first > last:
        return ()
    return tuple(sorted({round(n) for n in np.geomspace(first, last, N_SIZES)}))


def _asked(
    asked: Sequence[int | float], least: int, why: str, available: int, everything: str
) -> tuple[int, ...]:
    """Return the sizes that were asked for, shares converted; all must be possible."""
    given = {round(n * available) if isinstance(n, float) else n: n for n in asked}
    sizes = sorted(given)
    wrong = [n for n in sizes if not least <= n <= available]
    if wrong or len(sizes) < 3:
        what = f"{sizes} are fewer than 3 sizes within"
        if wrong:
            first = given[wrong[0]]
            share = f" (the share {first:g} of the pool)" if isinstance(first, float) else ""
            what = f"{wrong[0]}{share} is outside"
        raise DatasetError(
            f"sizes: {what} {least} ({why}) to {available} ({everything} that can be trained on)."
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
