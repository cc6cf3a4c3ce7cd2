"""Strategy: the backbone stays frozen, every trial trains a fresh softmax head (linear probe)."""

import time

import numpy as np
import torch

from pytest_datasize.transfer.device import n_threads, torch_threads
from pytest_datasize.transfer.embedding import embed
from pytest_datasize.transfer.heads import HeadTask, fit_heads
from pytest_datasize.transfer.trials import Ledger, Trials, Work
from pytest_datasize.transfer.views import views


def run(work: Work, span: tuple[int, int]) -> Trials:
    """Embed all images once, then train the heads of all trials together.

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
            seed=_inner_seed(work.seed, repeat_number),
            views=len(firsts),
        )
        for size, repeat_number, repeat in trials
    ]
    n_pool = len(work.image_sets[0])
    labels = np.concatenate([work.labels, *[work.labels[:n_pool]] * (len(firsts) - 1)])
    with torch_threads(n_threads()):
        heads = fit_heads(
            features,
            torch.from_numpy(labels).to(work.device),
            tasks,
            work.n_classes,
            on_progress=lambda done: work.on_progress("training heads", done, len(tasks)),
        )
    for (size, repeat_number, _), head in zip(trials, heads, strict=True):
        ledger.add(size, repeat_number, head.probabilities)
    loose = sum(not head.converged for head in heads)
    return ledger.trials(
        {"decode_and_embed": seconds, "heads": time.perf_counter() - start},
        (f"{loose} of {len(heads)} heads did not converge",) if loose else (),
    )


def _embedded(work: Work) -> tuple[torch.Tensor, list[int], float]:
    """Embed all images, and the augmented views of those that may be trained on.

    Returns the features, the first row of each view, and the seconds it took.
    """
    parts, firsts, seconds, rows = [], [], 0.0, 0
    for number, view in enumerate(views(work.backbone, work.options.get("augment", False))):
        found = embed(
            work.image_sets[:1] if number else work.image_sets,
            view,
            work.device,
            work.cache,
            lambda done, total: work.on_progress("embedding images", done, total),
        )
        parts.append(found.features)
        firsts.append(rows)
        rows += len(found.features)
        seconds += found.seconds
    return torch.cat(parts), firsts, seconds


def _inner_seed(seed: int, repeat: int) -> int:
    return int(np.random.SeedSequence([seed, 2, repeat]).generate_state(1)[0])
