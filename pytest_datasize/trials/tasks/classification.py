"""Heads of classification: a softmax over the classes."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pytest_datasize.embedding.features import Features
from pytest_datasize.trials.heads.head_batch import FittedHead, HeadTask
from pytest_datasize.trials.heads.heads import fit_heads
from pytest_datasize.trials.operating_points import fold_groups
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
    labels = torch.from_numpy(truth).to(work.device)
    return fit_heads(
        features,
        labels,
        tasks,
        work.n_classes,
        on_progress=on_progress,
        on_head=on_head,
        fold_groups=fold_groups(work, len(truth)),
    )
