"""Strategy: the backbone stays frozen, every trial trains a fresh softmax head (linear probe)."""

import time

import numpy as np
import torch

from pytest_datasize.ndarrays import FloatArray
from pytest_datasize.transfer.device import n_threads, torch_threads
from pytest_datasize.transfer.embedding import embed
from pytest_datasize.transfer.heads import HeadTask, fit_heads
from pytest_datasize.transfer.trials import Trials, Work


def run(work: Work, span: tuple[int, int]) -> Trials:
    """Embed all images once, then train the heads of all trials together.

    Parameters
    ----------
    work
        The plan and all that its trials need; its seed draws the inner splits that choose the
        strength of regularisation.
    span
        First repeat to run, and the one after the last.
    """
    plan = work.plan
    embeddings = embed(
        work.image_sets,
        work.backbone,
        work.device,
        work.cache,
        lambda done, total: work.on_progress("embedding images", done, total),
    )
    start = time.perf_counter()
    trials = plan.trials(*span)
    tasks = [
        HeadTask(repeat.order[:size], repeat.test, seed=_inner_seed(work.seed, repeat_number))
        for size, repeat_number, repeat in trials
    ]
    with torch_threads(n_threads()):
        heads = fit_heads(
            embeddings.features,
            torch.from_numpy(work.labels).to(work.device),
            tasks,
            work.n_classes,
            on_progress=lambda done: work.on_progress("training heads", done, len(tasks)),
        )
    by_size: dict[int, list[FloatArray]] = {size: [] for size in plan.sizes}
    for (size, _, _), head in zip(trials, heads, strict=True):
        by_size[size].append(head.probabilities)
    loose = sum(not head.converged for head in heads)
    return Trials(
        probabilities=tuple(tuple(outcomes) for outcomes in by_size.values()),
        seconds={
            "decode_and_embed": embeddings.seconds,
            "heads": time.perf_counter() - start,
        },
        notes=(f"{loose} of {len(heads)} heads did not converge",) if loose else (),
    )


def _inner_seed(seed: int, repeat: int) -> int:
    return int(np.random.SeedSequence([seed, 2, repeat]).generate_state(1)[0])
