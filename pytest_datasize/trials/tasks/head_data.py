"""What heads on the embeddings of whole images are trained on, whatever their task."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pytest_datasize.embedding.device import torch_threads
from pytest_datasize.embedding.embed import embed
from pytest_datasize.embedding.embedder import Embedder
from pytest_datasize.embedding.features import Features, StoredFeatures, joined
from pytest_datasize.embedding.threads import n_threads
from pytest_datasize.embedding.views import views
from pytest_datasize.requirement.registries import AUTO
from pytest_datasize.store import Store
from pytest_datasize.trials.heads.head_batch import FittedHead, HeadTask
from pytest_datasize.trials.heads.main_axes import main_axes
from pytest_datasize.trials.work import Work

SMALL_HEADS = 10**8
"""Images times features times classes up to which ``device="auto"`` fits heads on the CPU.

On a CPU the heads of 2,000 images of 3 classes take less time than a GPU needs to start, and their
bits do not depend on other heads in the batch.
"""

Asked: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64], int]
"""Images to train on, images to score, and the seed of the inner splits."""

OnHead: TypeAlias = Callable[[int, FittedHead], None]
"""Called with the number of a head and the head, as soon as it is fitted."""


class Heads(Protocol):
    """Fits the heads of one study.

    Attributes
    ----------
    seconds
        Time that embedding took here, beside that of the study.
    notes
        Notes for the report.
    arithmetic
        Precision and runtime of the backbone, in words; empty for those of the work.
    """

    seconds: float
    notes: tuple[str, ...]
    arithmetic: str

    def fit(self, asked: Sequence[Asked], on_head: OnHead | None = None) -> list[FittedHead]:
        """Fit heads; their ``probabilities`` are outcomes of trials, one row per scored image."""
        ...


class HeadRows(NamedTuple):
    """Rows of features, and the heads to fit on them.

    Attributes
    ----------
    work
        Number of classes, and the device.
    features
        Features of all images and views, (R, D).
    truth, strata
        Labels and stratum of each row.
    tasks
        The heads.
    on_progress, on_head
        See :func:`pytest_datasize.trials.heads.heads.fit_heads`.
    """

    work: Work
    features: Features
    truth: NDArray[Any]
    strata: NDArray[np.int64]
    tasks: Sequence[HeadTask]
    on_progress: Callable[[int], None]
    on_head: OnHead | None


FitRows: TypeAlias = Callable[[HeadRows], list[FittedHead]]
"""Fits heads on rows of features."""


@dataclass(frozen=True)
class HeadData:
    """Features of all images and views, and how heads are fitted on them.

    Attributes
    ----------
    work
        The plan and the labels.
    columns
        Features of all images and views as the heads see them.
    firsts
        First row of each view.
    fit_rows
        Fits heads of the task.
    seconds
        Time that augmented views took.
    """

    work: Work
    columns: Features
    firsts: list[int]
    fit_rows: FitRows
    seconds: float
    notes: tuple[str, ...] = ()
    arithmetic: str = ""

    @classmethod
    def of(cls, work: Work, fit_rows: FitRows) -> "HeadData":
        """Embed the augmented views, and reduce the features of several stages."""
        features, firsts, seconds = _embedded(work)
        chooses = work.options.get("device") == AUTO and isinstance(features, Tensor)
        if chooses and np.prod(features.shape) * work.n_classes <= SMALL_HEADS:
            features = features[:].cpu()
        return cls(work, main_axes(features, work.backbone.widths), firsts, fit_rows, seconds)

    def fit(self, asked: Sequence[Asked], on_head: OnHead | None = None) -> list[FittedHead]:
        """Fit heads, each of (images to train on, images to score, seed of the inner splits)."""
        work = self.work
        tasks = [
            HeadTask(
                np.concatenate([train + first for first in self.firsts]),
                scored,
                seed=seed,
                views=len(self.firsts),
                groups=work.groups_of(train),
            )
            for train, scored, seed in asked
        ]
        n_pool, more = len(work.image_sets[0]), len(self.firsts) - 1
        truth, strata = work.truth, work.labels
        with torch_threads(n_threads()):
            return self.fit_rows(
                HeadRows(
                    work,
                    self.columns,
                    np.concatenate([truth, *[truth[:n_pool]] * more]),
                    np.concatenate([strata, *[strata[:n_pool]] * more]),
                    tasks,
                    lambda done: work.on_progress("training heads", done, len(tasks)),
                    on_head,
                )
            )


def _embedded(work: Work) -> tuple[Features, list[int], float]:
    """Embed all images, and the augmented views of those that may be trained on.

    Returns the features, the first row of each view, and the seconds it took.
    """
    assert work.features is not None
    augment = work.options.get("augment", False)
    if augment is False:
        return work.features, [0], 0.0
    parts, firsts, seconds, rows = [work.features], [0], 0.0, len(work.features)
    bound = 0 if isinstance(work.features, StoredFeatures) else None
    # a user's transform cannot be distinguished from another in the next session
    store = work.store if augment is True and work.backbone.named else Store()
    for view in views(work.backbone, augment)[1:]:
        found = embed(
            work.image_sets[:1],
            Embedder(view, work.device, work.precision, runtime=work.runtime),
            store,
            lambda done, total: work.on_progress("embedding views", done, total),
            bound=bound,
        )
        parts.append(found.features)
        firsts.append(rows)
        rows += len(found.features)
        seconds += found.seconds
    return joined(parts), firsts, seconds
