"""Strategy: the same architecture with random weights, to measure the gain from transfer."""

import copy
import threading
import time
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pytest_datasize.curve.seeds import Purpose, stream
from pytest_datasize.embedding.backbone import Backbone, Features
from pytest_datasize.embedding.timm_layers import is_drop_path
from pytest_datasize.embedding.views import views
from pytest_datasize.errors import BackboneError
from pytest_datasize.trials.networks.activations import compute
from pytest_datasize.trials.networks.training import Network, Rows, Trainer
from pytest_datasize.trials.operating_points import Flags
from pytest_datasize.trials.recipe import FROM_SCRATCH, Recipe
from pytest_datasize.trials.work import (
    Ledger,
    Stop,
    Trial,
    Trials,
    Work,
    spread,
    whole_repeats,
    workers,
)

_STREAMS = (Purpose.VALIDATION_SPLIT, Purpose.SCRATCH_TRAINING, Purpose.SCRATCH_WEIGHTS)
_MOMENTUM = 0.1  # minimum for BatchNorm's statistics: few steps must suffice to learn them


def run(work: Work, span: tuple[int, int]) -> Trials:
    """Train all trials of some repeats.

    Parameters
    ----------
    work
        The plan and all that its trials need. Options: ``augment``, ``recipe``.
    span
        First repeat to run, and the one after the last.
    """
    ledger = Ledger(work, span)
    if not ledger.pending:
        return ledger.trials({})
    recipe: Recipe = work.options.get("recipe") or FROM_SCRATCH
    start = time.perf_counter()
    pixels = work.made.get("from_scratch") or compute(
        work.image_sets,
        views(work.backbone, work.options.get("augment", False)),
        nn.Identity(),
        work.device,
        lambda done, total: work.on_progress("decoding images", done, total),
    )
    work.made["from_scratch"] = pixels
    seconds = {"decode": time.perf_counter() - start}
    flags = Flags.of(work)
    trainer = Trainer(pixels, work.objective, recipe, work.device)
    lock = threading.Lock()
    n_features: list[int] = []  # the same in every trial

    def train(trial: Trial, stop: Stop) -> NDArray[np.floating]:
        size, number, repeat = trial
        streams = [stream(work.seed, purpose, size, number) for purpose in _STREAMS]
        fit, watch = flags.split(repeat.training(size), recipe.validation, streams[0])
        with lock:  # initial weights are drawn from torch's one generator
            model = untrained(work.backbone, int(streams[2].integers(2**63)))
            if not n_features:
                n_features.append(width(model, work.backbone.image_size))
        network = Network(model, n_features[0], work.objective.outputs).to(work.device)
        network = network.to(memory_format=torch.channels_last)
        worker = replace(trainer, stop=stop.is_set)
        worker.fit(
            network,
            list(network.parameters()),
            Rows(fit, watch, repeat.test),
            streams[1],
            rate=recipe.rate,
            epochs=recipe.epochs,
            patience=recipe.patience,
            training_mode=True,
        )
        predicted = worker.probabilities(network, repeat.test)
        if not flags.points:
            return predicted
        return flags.with_flags(predicted, watch, worker.probabilities(network, watch), fit)

    start = time.perf_counter()
    done = ledger.resumed
    with spread(train, whole_repeats(ledger), workers(work.device)) as trained:
        for (size, number, _), outcome in trained:
            ledger.add(size, number, outcome)
            done += 1
            work.on_progress("training from scratch", done, ledger.total)
    seconds["from_scratch"] = time.perf_counter() - start
    return ledger.trials(seconds, trainer.portions.notes())


@torch.inference_mode()
def width(model: nn.Module, side: int) -> int:
    """Return the number of features of a model."""
    first = next(model.parameters(), torch.empty(0))
    return int(model.eval()(torch.zeros(1, 3, side, side, device=first.device)).shape[1])


def untrained(backbone: Backbone, seed: int) -> Features:
    """Build a backbone's architecture with random weights; torch's generator stays as it was.

    Dropout inside the model is switched off: it would draw from the generator of all threads.

    Raises
    ------
    BackboneError
        A module that was given has layers which do not say how they start.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU
        if isinstance(backbone.given, nn.Module):
            inner = copy.deepcopy(backbone.given).cpu()  # a GPU's generator draws other numbers
            for path, module in inner.named_modules():
                _reset(backbone.name, path, module)
        else:
            from pytest_datasize.embedding.timm_models import architecture  # imports timm

            inner = architecture(str(backbone.given), backbone.image_size)
    for module in inner.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        elif is_drop_path(module):
            module.drop_prob = 0.0  # type: ignore[assignment]
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = max(module.momentum or 0.0, _MOMENTUM)
    # else BatchNorm would learn from the images that are scored before the first epoch
    return Features(inner.requires_grad_(True)).eval()


def _reset(name: str, path: str, module: nn.Module) -> None:
    reset = getattr(module, "reset_parameters", None)
    if callable(reset):
        reset()
    elif any(True for _ in module.parameters(recurse=False)):
        raise BackboneError(
            f"strategy='from_scratch': layer {path or 'at the top'!r} of backbone {name} is a "
            f"{type(module).__name__} without reset_parameters(), so no one knows how it starts. "
            "Give it that method, or name a timm model instead of a module."
        )
