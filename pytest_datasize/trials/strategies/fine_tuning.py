"""Strategy: the head on frozen features first, then the top of the backbone at a lower rate.

The frozen trunk sees every image (and every augmented view) once; what it gives is kept, and only
the unfrozen part is trained from it. BatchNorm layers keep their statistics and stay frozen. A
part of each training subsample is watched for early stopping, and the best weights that were seen
are scored, those of the head on frozen features among them.
"""

import copy
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pytest_datasize.curve.seeds import Purpose, seed_of, stream
from pytest_datasize.embedding.device import torch_threads
from pytest_datasize.embedding.views import views
from pytest_datasize.trials.heads.head_batch import head_weights
from pytest_datasize.trials.heads.heads import HeadTask, fit_heads
from pytest_datasize.trials.networks.activations import Activations, compute
from pytest_datasize.trials.networks.cut import Cut, cut, trained_parameters
from pytest_datasize.trials.networks.training import Network, Rows, Trainer, split
from pytest_datasize.trials.recipe import FINE_TUNING, Recipe
from pytest_datasize.trials.work import (
    Key,
    Ledger,
    Stop,
    Trial,
    Trials,
    Work,
    spread,
    whole_repeats,
    workers,
)


def run(work: Work, span: tuple[int, int]) -> Trials:
    """Train all trials of some repeats.

    Parameters
    ----------
    work
        The plan and all that its trials need. Options: ``unfreeze`` (final stages to train),
        ``augment``, and ``recipe`` (a :class:`Recipe`).
    span
        First repeat to run, and the one after the last.
    """
    ledger = Ledger(work, span)
    if not ledger.pending:
        return ledger.trials({})
    recipe: Recipe = work.options.get("recipe") or FINE_TUNING
    if work.options.get("unfreeze") is not None:
        recipe = replace(recipe, unfreeze=work.options["unfreeze"])
    found = cut(work.backbone, recipe.unfreeze)
    start = time.perf_counter()
    # no reference cycle with the study: activation files are deleted with the last reference
    study = work.made.get("fine_tuning") or _Study.prepare(replace(work, made={}), recipe, found)
    work.made["fine_tuning"] = study
    seconds = {"decode_and_trunk": time.perf_counter() - start}
    start = time.perf_counter()
    study.heads(ledger.pending)
    seconds["heads"] = time.perf_counter() - start
    start = time.perf_counter()
    done, order = ledger.resumed, whole_repeats(ledger)
    for (size, number, _), outcome in spread(study.train, order, workers(work.device)):
        ledger.add(size, number, outcome)
        done += 1
        work.on_progress("fine-tuning", done, ledger.total)
    seconds["fine_tuning"] = time.perf_counter() - start
    said = (*notes(work.backbone.name, found), *study.trainer.portions.notes())
    return ledger.trials(seconds, said)


def notes(name: str, found: Cut) -> tuple[str, ...]:
    """Describe how much of the backbone was trained, and whether a frozen trunk saved work."""
    trained = f"{found.unfrozen} of {found.stages} stages of {name} were unfrozen"
    if found.whole:
        return (f"{trained}; it cannot be cut and trained whole: {found.whole}",)
    return (trained,)


@dataclass
class _Study:
    """State shared by the trials of one study."""

    work: Work
    recipe: Recipe
    cut: Cut
    trainer: Trainer
    features: Activations
    labels: Tensor
    first: dict[Key, tuple[Tensor, Tensor, float]]
    lock: threading.Lock

    @classmethod
    def prepare(cls, work: Work, recipe: Recipe, found: Cut) -> "_Study":
        """Compute every view's activations, and its embeddings with the frozen top."""
        seen = views(work.backbone, work.options.get("augment", False))
        activations = compute(
            work.image_sets,
            seen,
            found.trunk,
            work.device,
            lambda done, total: work.on_progress("frozen layers", done, total),
        )
        labels = torch.from_numpy(work.labels)
        trainer = Trainer(activations, labels, recipe, work.device)
        found.top.to(work.device).to(memory_format=torch.channels_last)
        features = _features(trainer, found.top)
        return cls(work, recipe, found, trainer, features, labels, {}, threading.Lock())

    def rows(self, trial: Trial) -> Rows:
        """Split the trial's training subsample; the same split for every recipe."""
        size, number, repeat = trial
        generator = stream(self.work.seed, Purpose.VALIDATION_SPLIT, size, number)
        train, validation = split(
            repeat.order[:size], self.work.labels, self.recipe.validation, generator
        )
        return Rows(train, validation, repeat.test)

    def heads(self, trials: Sequence[Trial]) -> None:
        """Fit the regularised head of every trial on frozen features, where the recipe says so."""
        if self.recipe.head_rate is not None:
            return
        plain = torch.from_numpy(self.features.values[: len(self.labels)])
        features = plain.to(self.work.device)
        labels = self.labels.to(self.work.device)
        rows = {trial[:2]: self.rows(trial) for trial in trials}
        tasks = [
            HeadTask(
                part.train,
                part.validation,
                seed_of(self.work.seed, Purpose.FINE_TUNING_FOLDS, *key),
            )
            for key, part in rows.items()
        ]
        threads = workers(self.work.device) or 1
        with torch_threads(threads):
            fitted = fit_heads(
                features,
                labels,
                tasks,
                self.work.n_classes,
                on_progress=lambda done: self.work.on_progress("training heads", done, len(tasks)),
            )
        keyed = {key: head.strength for key, head in zip(rows, fitted, strict=True)}

        def weights(key: Key, _: Stop) -> tuple[Tensor, Tensor, float]:
            part, n_classes = rows[key].train, self.work.n_classes
            return head_weights(features, labels, part, keyed[key], n_classes)

        for key, found in spread(weights, list(rows), workers(self.work.device)):
            self.first[key] = found

    def train(self, trial: Trial, stop: Stop) -> NDArray[np.floating]:
        """Train one trial and return the probabilities of its test images."""
        size, number, _ = trial
        rows, recipe = self.rows(trial), self.recipe
        with self.lock:  # copying a traced module compiles it, which is not thread-safe
            top = copy.deepcopy(self.cut.top)
        network = Network(top, self.features.shape[0], self.work.n_classes).to(self.work.device)
        trainer = replace(self.trainer, stop=stop.is_set)
        decay = self._start(network.head, trial, rows, trainer)
        trainer.fit(
            network,
            [*network.head.parameters(), *trained_parameters(top, self.cut.trainable)],
            rows,
            stream(self.work.seed, Purpose.FINE_TUNING, size, number),
            rate=recipe.rate,
            epochs=recipe.epochs,
            patience=recipe.patience,
            decay=decay,
        )
        return trainer.probabilities(network, rows.test)

    def _start(self, head: nn.Linear, trial: Trial, rows: Rows, trainer: Trainer) -> float:
        """Train the head on frozen features; return the strength of its penalty."""
        size, number, _ = trial
        if self.recipe.head_rate is None:
            weight, bias, decay = self.first[size, number]
            with torch.no_grad():
                head.weight.copy_(weight)
                head.bias.copy_(bias)
            return decay
        alone = Network(nn.Identity(), head.in_features, head.out_features).to(self.work.device)
        replace(trainer, activations=self.features).fit(
            alone,
            list(alone.head.parameters()),
            rows,
            stream(self.work.seed, Purpose.HEAD_TRAINING, size, number),
            rate=self.recipe.head_rate,
            epochs=self.recipe.head_epochs,
            patience=self.recipe.head_patience,
        )
        head.load_state_dict(alone.head.state_dict())
        return 0.0


def _features(trainer: Trainer, top: nn.Module) -> Activations:
    """Compute the frozen top's output for all activations once."""
    source = trainer.activations
    total = len(source.values)

    @torch.inference_mode()
    def chunk(first: int, _: Stop) -> NDArray[np.floating]:
        rows = np.arange(first, min(first + 64, total))
        found: NDArray[np.floating] = top(source.batch(rows, trainer.device)).float().cpu().numpy()
        return found

    kept: Activations | None = None
    for first, rows in spread(chunk, range(0, total, 64), workers(trainer.device)):
        kept = kept or Activations(total, rows.shape[1:], source.firsts)
        kept.values[first : first + len(rows)] = np.clip(rows, -65504, 65504)
    assert kept is not None  # a plan has images
    return kept
