"""Strategy: the backbone stays frozen, every trial trains a fresh softmax head (linear probe)."""

import time

import numpy as np
import torch

from pytest_datasize.ndarrays import FloatArray
from pytest_datasize.threads import n_threads
from pytest_datasize.transfer.device import torch_threads
from pytest_datasize.transfer.embedding import embed
from pytest_datasize.transfer.heads import HeadTask, fit_heads
from pytest_datasize.transfer.trials import Trials, Work

EMBEDS = True
"""Every image goes through the frozen backbone, so that its content is known from there."""


def run(work: Work, span: tuple[int, int]) -> Trials:
    """Train the heads of all trials together, on embeddings that the store holds by now.

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
        work.store,
        precision=work.precision,
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
