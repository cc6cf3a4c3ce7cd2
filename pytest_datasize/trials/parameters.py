"""Count the parameters that a strategy trains, to relate them to the number of images."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from pytest_datasize.trials.networks.cut import cut, trained_parameters
from pytest_datasize.trials.recipe import FINE_TUNING, Recipe
from pytest_datasize.trials.work import Work


def parameters(work: Work) -> dict[str, int] | None:
    """Return how many parameters are trained, and how many there are with the frozen ones.

    None for a user's trainer: its parameters are unknown.
    """
    strategy, options = work.options["strategy"], work.options
    if strategy == "own_training":
        return None
    model = work.backbone.model
    total = _number(model.parameters())
    trained = 0
    if strategy == "from_scratch":
        trained = total
    elif strategy == "fine_tuning":
        recipe: Recipe = options.get("recipe") or FINE_TUNING
        unfreeze = options.get("unfreeze")
        found = cut(work.backbone, recipe.unfreeze if unfreeze is None else unfreeze)
        trained = _number(trained_parameters(found.top, found.trainable))
    features = work.features
    width = features.shape[1] if features is not None else _width(model, work.backbone.image_size)
    head = (width + 1) * work.n_classes
    return {"trained": trained + head, "in_all": total + head}


def _number(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


@torch.inference_mode()
def _width(model: Any, side: int) -> int:
    first = next(model.parameters(), torch.zeros(1))
    return int(
        model(torch.zeros(1, 3, side, side, device=first.device, dtype=first.dtype)).shape[1]
    )
