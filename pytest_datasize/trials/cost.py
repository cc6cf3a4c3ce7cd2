"""Estimate the run time of a study from one timed batch of each repeated step."""

import copy
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pytest_datasize.embedding.backbone import Backbone
from pytest_datasize.embedding.device import torch_threads
from pytest_datasize.embedding.embedder import CPU_BATCH, GPU_BATCH, Embedder, first_of
from pytest_datasize.embedding.reader import decoded
from pytest_datasize.embedding.stages import with_stages
from pytest_datasize.embedding.threads import n_threads
from pytest_datasize.embedding.views import VIEWS
from pytest_datasize.errors import RequirementError
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.requirement.registries import TORCH
from pytest_datasize.store import Store
from pytest_datasize.trials.networks.cut import cut, trained_parameters
from pytest_datasize.trials.networks.memory import autocast
from pytest_datasize.trials.plan import Plan
from pytest_datasize.trials.recipe import FINE_TUNING, FROM_SCRATCH, Recipe
from pytest_datasize.trials.work import Key

STOPPED_AFTER = 0.5
"""Approximate share of a recipe's maximum epochs that run where early stopping ends them."""

CYCLES_RUN = 1.5
"""Approximate epochs that run, as a multiple of those of the first cycle, where more may follow."""


@dataclass(frozen=True)
class Cost:
    """An estimate.

    Attributes
    ----------
    forwards
        Images that pass (part of) the network once, before training.
    once
        Seconds before the first trial, for steps that every image needs once.
    stored
        Bytes of stored embeddings or activations.
    recipe
        How a trial is trained by gradients; None where it is not.
    step
        Seconds that the gradient of one image takes.
    epoch
        Additional seconds per epoch, for saving weights.
    known
        Whether an estimate exists; a user's trainer has none.
    """

    forwards: int
    once: float
    stored: int
    recipe: Recipe | None = None
    step: float = 0.0
    epoch: float = 0.0
    known: bool = True

    def backwards(self, plan: Plan) -> int:
        """Gradients of images in a whole plan."""
        return round(sum(self._learnt(size) for size, _, _ in plan.trials()))

    def seconds(self, plan: Plan, known: Container[Key] = ()) -> float:
        """Seconds of a whole plan, without the trials that are known."""
        left = [size for size, number, _ in plan.trials() if (size, number) not in known]
        return sum(self._trial(size, plan.n_test) for size in left) + (self.once if left else 0.0)

    def _learnt(self, size: int) -> float:
        """Gradients of one trial; few images are passed several times an epoch."""
        if self.recipe is None:
            return 0.0
        fit = max(1, round(size * (1 - self.recipe.validation)))
        batch = min(self.recipe.batch, fit)
        passes = max(1, -(-self.recipe.least_steps * batch // fit))
        return self._epochs(self.recipe) * passes * fit

    @staticmethod
    def _epochs(recipe: Recipe) -> float:
        if recipe.patience is None:
            return recipe.epochs * (CYCLES_RUN if recipe.cycles > 1 else 1.0)
        return recipe.epochs * STOPPED_AFTER

    def _trial(self, size: int, n_test: int) -> float:
        if self.recipe is None:
            return 0.0
        epochs = self._epochs(self.recipe)
        looks = 1.0 if self.recipe.patience is None else epochs
        scored = looks * size * self.recipe.validation + n_test
        # a gradient takes about as long as three forward passes
        return self.step * (self._learnt(size) + scored / 3) + self.epoch * (looks - 1)


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


def trim_to_budget(plan: Plan, cost: Cost, budget: float | None) -> tuple[Plan, str]:
    """Remove repeats, then the largest sizes, until a plan fits a budget.

    Never fewer than two repeats and three sizes, which a fit needs.

    Parameters
    ----------
    plan
        The full plan.
    cost
        Its cost.
    budget
        Seconds; None removes nothing.

    Returns
    -------
    Plan
        The plan that fits the budget.
    str
        What was removed, and the expected time; empty if nothing was removed.

    Raises
    ------
    RequirementError
        There is a budget, but no cost estimate.
    """
    if budget is None:
        return plan, ""
    if not cost.known:
        raise RequirementError(
            f"budget={budget:g} s: no one knows how long the trainer takes. Set repeats and "
            "sizes instead."
        )
    left = plan
    while cost.seconds(left) > budget and len(left.repeats) > 2:
        left = replace(left, repeats=left.repeats[:-1])
    while cost.seconds(left) > budget and len(left.sizes) > 3:
        left = replace(left, sizes=left.sizes[:-1])
    if left is plan and cost.seconds(plan) <= budget:
        return plan, ""
    lost = []
    if len(left.repeats) < len(plan.repeats):
        lost.append(f"{len(left.repeats)} of {len(plan.repeats)} repeats")
    if len(left.sizes) < len(plan.sizes):
        lost.append(f"sizes up to {left.sizes[-1]:,} instead of {plan.sizes[-1]:,}")
    expected = cost.seconds(left)
    over = "" if expected <= budget else "; a fit needs no less, so the budget is exceeded"
    what = ", ".join(lost) or "nothing could be left out"
    return left, f"budget of {budget:.0f} s: {what}; about {expected:.0f} s expected{over}"


def _images(backbone: Backbone, device: torch.device) -> Tensor:
    size = CPU_BATCH if device.type == "cpu" else GPU_BATCH
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
