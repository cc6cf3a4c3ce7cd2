"""Estimate the cost of a study, or load the estimate that was made before: then without torch.

An estimate times a few batches, so that it needs the model. It is no result, and is stored for this
machine only: for the same images, options, versions and number of threads.
"""

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from pytest_datasize.embedding.threads import n_threads
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.store import key_of
from pytest_datasize.study.context import StudyContext
from pytest_datasize.trials.budget import Cost
from pytest_datasize.trials.recipe import Recipe

_KIND = "cost"


class Setting(NamedTuple):
    """With what a cost was estimated: model, device, and side of the input in pixels."""

    backbone: str
    device: str
    image_size: int


def estimated(context: StudyContext, sets: Sequence[ImageSet]) -> tuple[Setting, Cost]:
    """Return the cost of a study on this machine, and with what it was estimated.

    Parameters
    ----------
    context
        The study.
    sets
        The pool, followed by the test images if they are given separately.

    Raises
    ------
    BackboneError
        The backbone cannot be loaded.
    """
    key = _key(context)
    found = context.store.get(_KIND, key) if key else None
    if found is None:
        found = _estimate(context, sets)
        if key := _key(context):  # now that the weights are known
            context.store.put(_KIND, key, found)
    cost = found["cost"]
    recipe = cost["recipe"] and Recipe(**cost["recipe"])
    return Setting(*found["setting"]), Cost(**{**cost, "recipe": recipe})


def _key(context: StudyContext) -> str | None:
    """Return the cache key; None if the model is not known without loading it."""
    trials = context.trials_key()
    machine = platform.node(), n_threads(), os.environ.get("CUDA_VISIBLE_DEVICES")
    return trials and key_of([trials, machine])


def _estimate(context: StudyContext, sets: Sequence[ImageSet]) -> dict[str, Any]:
    from pytest_datasize.embedding import device as devices
    from pytest_datasize.trials.cost import estimate

    backbone, strategy = context.backbone.loaded, context.options["strategy"]
    cost = estimate(strategy, backbone, context.device, sets, context.training())
    setting = Setting(backbone.name, devices.describe(context.device), backbone.image_size)
    return {"setting": setting, "cost": asdict(cost)}
