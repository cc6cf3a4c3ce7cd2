"""Split whole groups into test parts: stratified and disjoint as far as possible."""

from math import floor

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.curve.seeds import Purpose
from pytest_datasize.errors import DatasetError
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.requirement.tasks import TASKS
from pytest_datasize.trials.shuffle import Keys, Shuffle, as_shares


class GroupSplits:
    """Divides the groups of a data set into test parts of about the requested share.

    As without groups, 1 / ``fraction`` consecutive repeats test on different images. Every part
    has images of every class; a class of few groups lends one to several parts. Images with sets
    of labels are divided in the same way, each as a group of its own: the greedy form of iterative
    stratification (Sechidis et al. 2011, "On the stratification of multi-label data"), rare labels
    first.

    Parameters
    ----------
    images
        Labelled images.
    groups
        Group of each image, (N,).
    fraction
        Share of the images that every part should have, in (0, 1).
    shuffle
        Shuffles the images.

    Raises
    ------
    DatasetError
        A class has a single group: it cannot be trained and tested on.
    """

    def __init__(
        self, images: ImageSet, groups: NDArray[np.int64], fraction: float, shuffle: Shuffle
    ) -> None:
        self._used, self._numbers = np.unique(groups, return_inverse=True)
        shown = images.membership
        if (shown.sum(axis=1) != 1).any():
            shown = np.column_stack([shown, np.ones(len(images), dtype=np.bool_)])  # of equal size
        rows, names = np.nonzero(shown)
        self._counts = np.zeros((len(self._used), shown.shape[1]))
        np.add.at(self._counts, (self._numbers[rows], names), 1)
        alone = np.flatnonzero((self._counts > 0).sum(axis=0) < 2)
        if alone.size and len(self._used) == len(images):
            name = images.names[alone[0]]
            raise DatasetError(
                f"{images.source}: {TASKS[images.task].label} {name!r} is in "
                f"{int((self._counts[:, alone[0]] > 0).sum())} images; at least 3 are needed, to "
                "train on 2 and test on 1."
            )
        if alone.size:
            what = f"{TASKS[images.task].label} {images.names[alone[0]]!r}"
            raise DatasetError(
                f"{images.source}: all images of {what} are of one group, which cannot be trained "
                f"and tested on; at least 2 groups of every {TASKS[images.task].label} are needed."
            )
        self._fraction, self._shuffle = fraction, shuffle.of_groups(self._numbers)
        self._folds = max(1, floor(1 / fraction + 1e-9))
        self._blocks: dict[int, NDArray[np.int64]] = {}

    def test(self, repeat: int) -> NDArray[np.int64]:
        """Return the rows that a repeat is tested on, ascending."""
        block, fold = divmod(repeat, self._folds)
        if block not in self._blocks:
            self._blocks[block] = self._dealt(self._shuffle.keys(Purpose.GROUP_SPLIT, block))
        chosen = self._blocks[block] == fold
        lending = self._shuffle.keys(Purpose.GROUP_LENDING, block, fold)
        while (lacking := np.flatnonzero(~self._counts[chosen].any(axis=0))).size:
            having = np.flatnonzero((self._counts[:, lacking[0]] > 0) & ~chosen)
            chosen[having[np.argmin(lending[having])]] = True
        return np.flatnonzero(chosen[self._numbers])

    def _dealt(self, keys: Keys) -> NDArray[np.int64]:
        """Assign every group to the part that it brings nearest to its share of every class."""
        share: NDArray[np.floating] = self._counts / self._counts.sum(axis=0)
        rest = max(1.0 - self._folds * self._fraction, 0.0)
        targets = np.array([self._fraction] * self._folds + [rest] * (rest > 1e-9))
        filled = np.zeros((len(targets), share.shape[1]))
        dealt = np.empty(len(share), dtype=np.int64)
        # largest groups first, since small ones balance the rest; weights are random
        order = np.argsort(-share.max(axis=1) * (0.5 + 0.5 * as_shares(keys)), kind="stable")
        for group in order.tolist():
            before = filled - targets[:, None]
            cost = ((2 * before + share[group]) * share[group]).sum(axis=1)
            fitting = np.flatnonzero(cost <= cost.min() + 1e-12)
            part = fitting[int(keys[group] % np.uint64(len(fitting)))]
            filled[part] += share[group]
            dealt[group] = part
        return dealt
