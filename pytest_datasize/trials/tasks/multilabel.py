"""Heads of sets of labels: a logistic regression for each label."""

import torch

from pytest_datasize.trials.heads.head_batch import FittedHead
from pytest_datasize.trials.heads.heads import fit_heads
from pytest_datasize.trials.operating_points import fold_groups
from pytest_datasize.trials.tasks.head_data import HeadData, HeadRows
from pytest_datasize.trials.work import Work


def prepare(work: Work) -> HeadData:
    """Prepare the features of the heads."""
    return HeadData.of(work, _fit)


def _fit(rows: HeadRows) -> list[FittedHead]:
    return fit_heads(
        rows.features,
        torch.from_numpy(rows.truth).to(rows.features.device),
        rows.tasks,
        rows.truth.shape[1],
        on_progress=rows.on_progress,
        on_head=rows.on_head,
        strata=rows.strata,
        fold_groups=fold_groups(rows.work, len(rows.truth)),
    )
