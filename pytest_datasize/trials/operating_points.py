"""Flag the test images of a trial at operating points: thresholds from its own training images.

A threshold is chosen from predictions for images of the trial's training subsample, by models that
were not trained on them, and never from test images. What it flags is kept as further columns of
the trial's outcome, one for each point, after those of the classes: stored, sent by workers and
scored like them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.requirement.tasks import TASKS
from pytest_datasize.requirement.validators import CLASS
from pytest_datasize.trials.work import Work


@dataclass(frozen=True)
class Flags:
    """The operating points of a study.

    Attributes
    ----------
    points
        Metric → its class and what the threshold must give.
    names
        All classes.
    truth
        True labels of all images, as the metrics of the task take them.
    task
        Name of the task.
    """

    points: Mapping[str, Mapping[str, Any]]
    names: tuple[str, ...]
    truth: NDArray[Any]
    task: str

    @classmethod
    def of(cls, work: Work) -> "Flags":
        """Return the operating points of some work; there may be none."""
        points = work.options.get("operating_points") or {}
        truth = work.truth if points else np.empty(0)
        return cls(points, work.image_sets[0].names, truth, work.task)

    def added(
        self,
        predicted: NDArray[np.floating],
        rows: NDArray[np.int64],
        held: NDArray[np.floating] | None,
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
        """
        if not self.points:
            return predicted
        columns = [predicted]
        for metric, point in self.points.items():
            entry, index = TASKS[self.task].metrics[metric], self.names.index(point[CLASS])
            choose = function_of(entry.function)
            if held is None:
                threshold = choose(np.zeros(0, np.bool_), np.zeros(0), point[entry.given])
            else:
                truth = self.truth[rows]
                shown = truth[:, index] if truth.ndim == 2 else truth == index
                threshold = choose(shown, held[:, index], point[entry.given])
            columns.append((predicted[:, index, None] >= threshold).astype(predicted.dtype))
        return np.concatenate(columns, axis=1)


def function_of(name: str) -> Any:
    """Return the function of a name ``module:function``."""
    module, _, function = name.partition(":")
    return getattr(import_module(module), function)


def separated(
    outcomes: Sequence[Sequence[Any]], number: int
) -> tuple[list[list[Any]], list[list[Any]]]:
    """Separate the outcomes of trials into predictions, and what is flagged at so many points."""
    if not number:
        return [list(repeats) for repeats in outcomes], []
    return (
        [[outcome[:, :-number] for outcome in repeats] for repeats in outcomes],
        [[outcome[:, -number:] for outcome in repeats] for repeats in outcomes],
    )
