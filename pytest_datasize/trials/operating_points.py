"""Flag the test images of a trial at operating points: thresholds from its own training images.

A threshold is chosen from predictions for images of the trial's training subsample, by models that
were not trained on them, and never from test images. The images that it flags are a further column
of the trial's outcome, after those of the classes: stored, sent by workers and scored like them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.requirement.tasks import TASKS, function_of
from pytest_datasize.requirement.units import GROUP
from pytest_datasize.requirement.validators import CLASS
from pytest_datasize.trials.networks.training import split, split_groups
from pytest_datasize.trials.order import WITH_REPLACEMENT
from pytest_datasize.trials.work import Work


@dataclass(frozen=True)
class Flags:
    """The operating points of a study.

    Attributes
    ----------
    points
        Metric → its class and what is required of the threshold.
    names
        All classes.
    truth
        True labels of all images, as the metrics of the task take them.
    task
        Name of the task.
    labels
        Classes, or strata, of all images.
    groups
        Group of every image; None if each is a group of its own, or if neither operating points
        nor whole groups are asked for.
    """

    points: Mapping[str, Mapping[str, Any]]
    names: tuple[str, ...]
    truth: NDArray[Any]
    task: str
    labels: NDArray[np.int64]
    groups: NDArray[np.int64] | None

    @classmethod
    def of(cls, work: Work) -> "Flags":
        """Return the operating points of some work; there may be none."""
        points = work.options.get("operating_points") or {}
        names, task, labels = work.image_sets[0].names, work.task, work.labels
        if not points and work.plan.unit != GROUP:
            return cls(points, names, np.empty(0), task, labels, None)
        drawn_again = work.options["sampling"] == WITH_REPLACEMENT
        groups = work.groups
        if groups is None and drawn_again:
            groups = np.arange(len(labels))
        return cls(points, names, work.truth, task, labels, groups)

    def split(
        self, rows: NDArray[np.int64], share: float, generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Split a training subsample into images to train on, and images to hold out.

        With operating points, and where groups are the unit, whole groups are held out: predictions
        for images of patients whom the network was trained on would be too optimistic.
        """
        if self.groups is None:
            return split(rows, self.labels, share, generator)
        fit, watch = split_groups(rows, self.labels, self.groups, share, generator)
        if not len(watch):  # networks need some; no threshold is chosen from these
            return split(rows, self.labels, share, generator)
        return fit, watch

    def with_flags(
        self,
        predicted: NDArray[np.floating],
        rows: NDArray[np.int64],
        held: NDArray[np.floating] | None,
        trained: NDArray[np.int64] | None = None,
    ) -> NDArray[np.floating]:
        """Return predictions with a column for each point: 1 where an image is flagged.

        Parameters
        ----------
        predicted
            Predictions for the test images, (m, C).
        rows
            Training images, n rows.
        held
            Predictions for these by models that were not trained on them, (n, C); None if there
            are none: then no image is flagged, or all are, whichever is worse.
        trained
            Images that the model was trained on: those of their groups choose no threshold.
        """
        if not self.points:
            return predicted
        if self.groups is not None and trained is not None and held is not None:
            apart = ~np.isin(self.groups[rows], self.groups[trained])
            rows, held = rows[apart], held[apart]
        columns = [predicted]
        for metric, point in self.points.items():
            entry, index = TASKS[self.task].metrics[metric], self.names.index(point[CLASS])
            choose = function_of(entry)
            if held is None:
                threshold = choose(np.zeros(0, np.bool_), np.zeros(0), point[entry.given])
            else:
                truth = self.truth[rows]
                shown = truth[:, index] if truth.ndim == 2 else truth == index
                threshold = choose(shown, held[:, index], point[entry.given])
            columns.append((predicted[:, index, None] >= threshold).astype(predicted.dtype))
        return np.concatenate(columns, axis=1)


def fold_groups(work: Work, n_rows: int) -> NDArray[np.int64] | None:
    """Return the group of each row of features, views included; None without operating points.

    An image that is drawn more than once (``sampling="replacement"``) is a group, too.
    """
    if not work.options.get("operating_points"):
        return None
    groups = work.groups
    if groups is None:
        groups = np.arange(len(work.labels))
    n_pool = len(work.image_sets[0])
    more = (n_rows - len(groups)) // n_pool
    return np.concatenate([groups, *[groups[:n_pool]] * more])


def separated(
    outcomes: Sequence[Sequence[Any]], number: int
) -> tuple[list[list[Any]], list[list[Any]]]:
    """Separate the outcomes of trials into predictions and flags, the last `number` columns."""
    if not number:
        return [list(repeats) for repeats in outcomes], []
    return (
        [[outcome[:, :-number] for outcome in repeats] for repeats in outcomes],
        [[outcome[:, -number:] for outcome in repeats] for repeats in outcomes],
    )
