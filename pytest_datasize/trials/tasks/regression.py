"""Heads of numbers: a ridge regression for each."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.embedding.features import Features
from pytest_datasize.trials.heads.head_batch import FittedHead, HeadTask
from pytest_datasize.trials.heads.ridge import fit_ridge
from pytest_datasize.trials.tasks.head_data import HeadData, OnHead
from pytest_datasize.trials.work import Work


def prepare(work: Work) -> HeadData:
    """Prepare the features of the heads."""
    return HeadData.of(work, _fit)


def _fit(
    work: Work,
    features: Features,
    truth: NDArray[Any],
    strata: NDArray[np.int64],
    tasks: Sequence[HeadTask],
    on_progress: Callable[[int], None],
    on_head: OnHead | None,
) -> list[FittedHead]:
    return fit_ridge(features, truth, tasks, on_progress=on_progress, on_head=on_head)
