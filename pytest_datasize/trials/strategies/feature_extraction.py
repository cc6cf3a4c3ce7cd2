"""Strategy: the backbone stays frozen, every trial trains a fresh softmax head (linear probe)."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pytest_datasize.curve.seeds import Purpose, seed_of
from pytest_datasize.embedding.device import torch_threads
from pytest_datasize.embedding.embed import embed
from pytest_datasize.embedding.embedder import Embedder
from pytest_datasize.embedding.features import Features, StoredFeatures, joined
from pytest_datasize.embedding.threads import n_threads
from pytest_datasize.embedding.views import views
from pytest_datasize.store import Store
from pytest_datasize.trials.heads.heads import FittedHead, HeadTask, fit_heads
from pytest_datasize.trials.heads.main_axes import main_axes
from pytest_datasize.trials.work import Ledger, Trials, Work


def run(work: Work, span: tuple[int, int]) -> Trials:
    """Train the heads of all trials together, on the embeddings of the work.

    Parameters
    ----------
    work
        The plan and all that its trials need; its seed draws the inner splits that choose the
        strength of regularisation. Option ``augment``: train on augmented views, too.
    span
        First repeat to run, and the one after the last.
    """
    ledger = Ledger(work, span)
    trials = ledger.pending
    if not trials:
        return ledger.trials({})
    data = HeadData.of(work)
    start = time.perf_counter()

    def keep(i: int, head: FittedHead) -> None:
        size, number, _ = trials[i]
        ledger.add(size, number, head.probabilities)

    found = data.fit(
        [
            (repeat.order[:size], repeat.test, seed_of(work.seed, Purpose.HEAD_FOLDS, number))
            for size, number, repeat in trials
        ],
        keep,
    )
    return ledger.trials(
        {"decode_and_embed": data.seconds, "heads": time.perf_counter() - start},
        unconverged=sum(not head.converged for head in found),
    )


@dataclass(frozen=True)
class HeadData:
    """What the heads of a study are trained on.

    Attributes
    ----------
    work
        The plan and the labels.
    columns
        Features of all images and views as the heads see them.
    firsts
        First row of each view.
    seconds
        Time that augmented views took.
    """

    work: Work
    columns: Features
    firsts: list[int]
    seconds: float

    @classmethod
    def of(cls, work: Work) -> "HeadData":
        """Embed the augmented views, and reduce the features of several stages."""
        features, firsts, seconds = _embedded(work)
        return cls(work, main_axes(features, work.backbone.widths), firsts, seconds)

    def fit(
        self,
        asked: Sequence[tuple[NDArray[np.int64], NDArray[np.int64], int]],
        on_head: Callable[[int, FittedHead], None] | None = None,
    ) -> list[FittedHead]:
        """Fit heads, each of (images to train on, images to score, seed of the inner splits)."""
        work = self.work
        tasks = [
            HeadTask(
                np.concatenate([train + first for first in self.firsts]),
                scored,
                seed=seed,
                views=len(self.firsts),
            )
            for train, scored, seed in asked
        ]
        n_pool = len(work.image_sets[0])
        labels = [work.labels, *[work.labels[:n_pool]] * (len(self.firsts) - 1)]
        with torch_threads(n_threads()):
            return fit_heads(
                self.columns,
                torch.from_numpy(np.concatenate(labels)).to(work.device),
                tasks,
                work.n_classes,
                on_progress=lambda done: work.on_progress("training heads", done, len(tasks)),
                on_head=on_head,
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
