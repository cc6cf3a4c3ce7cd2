"""Estimate the run time of a study from one timed batch of each repeated step."""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pytest_datasize.embedding.backbone import Backbone
from pytest_datasize.embedding.dense import dense
from pytest_datasize.embedding.device import torch_threads
from pytest_datasize.embedding.embedder import Embedder, batch_of, first_of
from pytest_datasize.embedding.reader import decoded
from pytest_datasize.embedding.stages import with_stages
from pytest_datasize.embedding.threads import n_threads
from pytest_datasize.embedding.views import VIEWS
from pytest_datasize.images.crops import crops
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.requirement.registries import TORCH
from pytest_datasize.store import Store
from pytest_datasize.trials.budget import Cost
from pytest_datasize.trials.networks.cut import cut, trained_parameters
from pytest_datasize.trials.networks.memory import autocast
from pytest_datasize.trials.recipe import FINE_TUNING, FROM_SCRATCH, Recipe

_STEP = 64  # images of a timed training step at most, which needs more memory than a look


def estimate(
    strategy: str,
    backbone: Backbone,
    device: torch.device,
    image_sets: Sequence[ImageSet],
    options: Mapping[str, Any],
) -> Cost:
    """Estimate the cost of a study on this machine; a few batches are run for it.

    Parameters
    ----------
    strategy, options
        Plan and options, as passed to a strategy.
    backbone, device
        With which model, where.
    image_sets
        The images; a few are decoded for it.
    """
    if strategy == "own_training":
        return Cost(0, 0.0, 0, known=False)
    task = image_sets[0].task
    if task == "detection":  # the objects are embedded
        image_sets = [crops(images) for images in image_sets]
    elif task == "segmentation":
        backbone, _ = dense(backbone)
    looks = sum(map(len, image_sets)) * (1 + VIEWS * bool(options.get("augment")))
    first = first_of(image_sets)
    if strategy == "feature_extraction":
        seconds, width = _look(_embedder(backbone, device, options), first)
        return Cost(looks, looks * seconds, 2 * looks * width)
    recipe: Recipe = options.get("recipe") or (
        FROM_SCRATCH if strategy == "from_scratch" else FINE_TUNING
    )
    if strategy == "from_scratch":
        pixels = 3 * backbone.image_size**2
        step, epoch = _step(backbone.model, None, _images(backbone, device), device)
        once = looks * _decoding(first, backbone)
        return Cost(looks, once, 2 * looks * pixels, recipe, step, epoch)
    if options.get("unfreeze") is not None:
        recipe = replace(recipe, unfreeze=options["unfreeze"])
    found = cut(backbone, recipe.unfreeze)
    lower = Embedder(replace(backbone, model=found.trunk), device, "float32")
    trunk, width = _look(lower, first)
    with torch.inference_mode():
        activations = found.trunk.to(device)(_images(backbone, device))
    step, epoch = _step(found.top, found.trainable, activations.clone(), device)
    if recipe.patience is not None:
        head = step / 3  # the frozen top
    else:
        staged = _embedder(with_stages(backbone, own=False), device, options)
        head, _ = _look(staged, first)
    once = looks * (trunk + head)
    return Cost(looks, once, 2 * looks * width, recipe, step, epoch)


def _embedder(backbone: Backbone, device: torch.device, options: Mapping[str, Any]) -> Embedder:
    precision, runtime = options.get("precision", "auto"), options.get("runtime", TORCH)
    return Embedder(backbone, device, precision, runtime=runtime)


def _images(backbone: Backbone, device: torch.device) -> Tensor:
    size = min(_STEP, batch_of(device, backbone.image_size))
    images = torch.zeros(size, 3, backbone.image_size, backbone.image_size, device=device)
    return images.contiguous(memory_format=torch.channels_last)


def _timed(work: Callable[[], Tensor], device: torch.device) -> float:
    """Seconds of one call, divided by how many run side by side."""
    with torch_threads(1):
        float(work().sum())  # waits for the device
        start = time.perf_counter()
        float(work().sum())
        seconds = time.perf_counter() - start
    return seconds / (n_threads() if device.type == "cpu" else 1)


def _look(embedder: Embedder, first: ImageSet) -> tuple[float, int]:
    """Seconds per image until it is embedded, and numbers per image in what comes out."""
    embedder.settle(first, Store())
    embedder.ready()
    crop, device = embedder.backbone.crop, embedder.device
    read = [decoded(first, row, crop).pixels for row in range(len(first))]
    pixels = [one for one in read if one is not None]
    batch = [pixels[k % len(pixels)] for k in range(embedder.batch_size)]
    forward = _timed(lambda: embedder.forward(batch), device) / len(batch)
    decoding = _decoding(first, embedder.backbone)
    # a GPU calculates while the threads decode
    seconds = decoding + forward if device.type == "cpu" else max(decoding, forward)
    return seconds, embedder.forward(batch[:1]).numel()


def _decoding(first: ImageSet, backbone: Backbone) -> float:
    """Seconds per image until its pixels are there, divided by how many are read side by side."""
    start = time.perf_counter()
    for row in range(len(first)):
        decoded(first, row, backbone.crop)
    return (time.perf_counter() - start) / len(first) / n_threads()


def _step(
    top: nn.Module, trainable: tuple[str, ...] | None, inputs: Tensor, device: torch.device
) -> tuple[float, float]:
    """Seconds of a training step per image, and of keeping the weights."""
    network = copy.deepcopy(top).to(device).to(memory_format=torch.channels_last)
    chosen = (
        list(network.parameters()) if trainable is None else trained_parameters(network, trainable)
    )
    for parameter in chosen:
        parameter.requires_grad_(True)
    optimiser = torch.optim.Adam(chosen, lr=0.0, fused=device.type != "mps")

    def step() -> Tensor:
        with autocast(device):
            features: Tensor = network(inputs).float()
        loss = functional.mse_loss(features, torch.zeros_like(features))
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return loss.detach()

    seconds = _timed(step, device) / len(inputs)
    start = time.perf_counter()
    copy.deepcopy(network.state_dict())
    return seconds, time.perf_counter() - start
