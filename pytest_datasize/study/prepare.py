"""Prepare the inputs of trials: embeddings and known outcomes."""

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.embedding.device import trained_in
from pytest_datasize.embedding.embed import Embeddings, embed
from pytest_datasize.embedding.embedder import Embedder, Space
from pytest_datasize.embedding.features import Features
from pytest_datasize.images.groups import numbers
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.requirement.registries import TORCH
from pytest_datasize.store import Store
from pytest_datasize.study.context import StudyContext
from pytest_datasize.trials.plan import Plan
from pytest_datasize.trials.work import Outcome, Work, pack, unpack

_LONG_HEADS = 1_000_000
"""Images times classes from which heads are cached one by one: all of them take a minute or more,
and their outcomes less space than the embeddings."""


def embedded(
    context: StudyContext, image_sets: tuple[ImageSet, ...], space: Space | None = None
) -> Embeddings:
    """Embed images with the backbone of a study, in a given embedding space if there is one."""
    backbone = context.backbone.loaded
    return embed(
        image_sets,
        Embedder(backbone, context.device, context.options["precision"], space, context.runtime),
        context.store,
        lambda done, total: context.on_progress("embedding images", done, total),
        # workers chose the space and wrote their embeddings into the shared store
        keep=context.store if backbone.named or space else Store(),
    )


def work_of(
    context: StudyContext,
    sets: tuple[ImageSet, ...],
    plan: Plan,
    space: Space | None,
    features: Features | None,
    groups: NDArray[np.int64] | None = None,
) -> Work:
    """Collect the inputs of a plan's trials, and their known outcomes.

    Parameters
    ----------
    context
        The study.
    sets
        The pool, followed by the test images if they are given separately.
    plan
        Training images of each trial.
    space, features
        The embedding space and the embeddings; None without embeddings.
    groups
        Group of every image, if these sets do not have the groups of the study.
    """
    device = context.device
    # most heads are cheaper than a cache lookup; longer training is cached per trial
    cheap = features is not None and len(sets[0]) * len(sets[0].classes) < _LONG_HEADS
    key = None if cheap else context.trials_key()
    kept = context.store.trials(key) if key else {}

    def on_trial(size: int, repeat: int, outcome: Outcome) -> None:
        if key:
            context.store.put_trial(key, size, repeat, pack(outcome))
        context.on_trial(size, repeat, outcome)

    return Work(
        plan=plan,
        image_sets=sets,
        labels=np.concatenate([part.labels for part in sets]),
        n_classes=sets[0].truth.shape[1] if sets[0].targets else len(sets[0].classes),
        backbone=context.backbone.loaded,
        device=device,
        store=context.store,
        precision=space.precision if space else trained_in(device, context.options["strategy"]),
        runtime=space.runtime if space else TORCH,
        seed=context.options["seed"],
        on_progress=context.on_progress,
        features=features,
        options=context.training(),
        groups=numbers(*sets) if groups is None else groups,
        finished={**{at: unpack(value) for at, value in kept.items()}, **context.finished},
        on_trial=on_trial,
    )
