"""Heads of numbers: a ridge regression for each."""

from pytest_datasize.trials.heads.head_batch import FittedHead
from pytest_datasize.trials.heads.ridge import fit_ridge
from pytest_datasize.trials.tasks.head_data import HeadData, HeadRows
from pytest_datasize.trials.work import Work


def prepare(work: Work) -> HeadData:
    """Prepare the features of the heads."""
    return HeadData.of(work, _fit)


def _fit(rows: HeadRows) -> list[FittedHead]:
    return fit_ridge(
        rows.features,
        rows.truth,
        rows.tasks,
        on_progress=rows.on_progress,
        on_head=rows.on_head,
    )
