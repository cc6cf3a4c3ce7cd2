"""Strategy: the backbone stays frozen, every trial trains a fresh softmax head (linear probe)."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.ndarrays import FloatArray
from pytest_datasize.plan import Plan
from pytest_datasize.transfer.backbone import Backbone
from pytest_datasize.transfer.device import n_threads, torch_threads
from pytest_datasize.transfer.embedding import Cache, embed
from pytest_datasize.transfer.heads import HeadTask, fit_heads

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Trials:
    """The outcome of every trial of some repeats of a plan.

    Attributes
    ----------
    probabilities
        Per size, per repeat: class probabilities of the repeat's test images, (n_test, C).
    seconds
        Stage → wall time in seconds.
    notes
        What a reader of the report should know.
    """

    probabilities: tuple[tuple[FloatArray, ...], ...]
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()


def run(
    plan: Plan,
    span: tuple[int, int],
    image_sets: list[ImageSet],
    labels: np.ndarray[Any, np.dtype[np.int64]],
    n_classes: int,
    backbone: Backbone,
    device: torch.device,
    cache: Cache,
    seed: int,
    on_progress: Progress,
) -> Trials:
    """Embed all images once, then train the heads of all trials together.

    Parameters
    ----------
    plan
        Rows of the joined image sets to train and to test on.
    span
        First repeat to run, and the one after the last.
    image_sets, labels, n_classes
        The images, and the int64 labels of all of them in order.
    backbone, device, cache
        See :func:`pytest_datasize.transfer.embedding.embed`.
    seed
        Seeds the inner splits that choose the strength of regularisation.
    on_progress
        Called with (stage, done, in all).
    """
    embeddings = embed(
        image_sets,
        backbone,
        device,
        cache,
        lambda done, total: on_progress("embedding images", done, total),
    )
    start = time.perf_counter()
    trials = plan.trials(*span)
    tasks = [
        HeadTask(repeat.order[:size], repeat.test, seed=_inner_seed(seed, repeat_number))
        for size, repeat_number, repeat in trials
    ]
    with torch_threads(n_threads()):
        heads = fit_heads(
            embeddings.features,
            torch.from_numpy(labels).to(device),
            tasks,
            n_classes,
            on_progress=lambda done: on_progress("training heads", done, len(tasks)),
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
