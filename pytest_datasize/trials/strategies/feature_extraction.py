"""Strategy: the backbone stays frozen, every trial trains a fresh softmax head (linear probe)."""

import time

import numpy as np
import torch

from pytest_datasize.curve.seeds import Purpose, seed_of
from pytest_datasize.embedding.device import torch_threads
from pytest_datasize.embedding.embed import embed
from pytest_datasize.embedding.embedder import Embedder
from pytest_datasize.embedding.features import Features, StoredFeatures, joined
from pytest_datasize.embedding.threads import n_threads
from pytest_datasize.embedding.views import views
from pytest_datasize.store import Store
from pytest_datasize.trials.heads.heads import HeadTask, fit_heads
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
    features, firsts, seconds = _embedded(work)
    start = time.perf_counter()
    tasks = [
        HeadTask(
            np.concatenate([repeat.order[:size] + first for first in firsts]),
            repeat.test,
            seed=seed_of(work.seed, Purpose.HEAD_FOLDS, repeat_number),
            views=len(firsts),
        )
        for size, repeat_number, repeat in trials
    ]
    n_pool = len(work.image_sets[0])
    labels = np.concatenate([work.labels, *[work.labels[:n_pool]] * (len(firsts) - 1)])
    with torch_threads(n_threads()):
        heads = fit_heads(
            main_axes(features, work.backbone.widths),
            torch.from_numpy(labels).to(work.device),
            tasks,
            work.n_classes,
            on_progress=lambda done: work.on_progress("training heads", done, len(tasks)),
        )
    for (size, repeat_number, _), head in zip(trials, heads, strict=True):
        ledger.add(size, repeat_number, head.probabilities)
    return ledger.trials(
        {"decode_and_embed": seconds, "heads": time.perf_counter() - start},
        unconverged=sum(not head.converged for head in heads),
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
            Embedder(view, work.device, work.precision),
            store,
            lambda done, total: work.on_progress("embedding views", done, total),
            bound=bound,
        )
        parts.append(found.features)
        firsts.append(rows)
        rows += len(found.features)
        seconds += found.seconds
    return joined(parts), firsts, seconds
