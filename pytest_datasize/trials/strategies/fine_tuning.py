"""Strategy: the top of the backbone is trained, too, beside a head on frozen features.

The frozen trunk sees every image (and every augmented view) once; what it gives is kept, and only
the unfrozen part is trained from it. BatchNorm layers keep their statistics and stay frozen. The
default recipe trains for a fixed number of steps and combines the network with the regularised
head on the features of all stages. Validation images give the weight of both: where few images let
no network learn, the head decides alone. A recipe with early stopping trains the head by steps,
then head and top at a lower rate, and the best weights that were seen are scored.
"""

import copy
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pytest_datasize.curve.seeds import Purpose, seed_of, stream
from pytest_datasize.embedding.embed import embed
from pytest_datasize.embedding.embedder import Embedder
from pytest_datasize.embedding.stages import with_stages
from pytest_datasize.embedding.views import views
from pytest_datasize.requirement.registries import TORCH
from pytest_datasize.store import Store
from pytest_datasize.trials.heads.heads import FittedHead
from pytest_datasize.trials.networks.activations import Activations, compute
from pytest_datasize.trials.networks.cut import Cut, cut, trained_parameters
from pytest_datasize.trials.networks.memory import autocast
from pytest_datasize.trials.networks.training import Network, Rows, Trainer
from pytest_datasize.trials.operating_points import Flags
from pytest_datasize.trials.recipe import FINE_TUNING, Recipe
from pytest_datasize.trials.strategies.feature_extraction import heads_of
from pytest_datasize.trials.tasks.head_data import Heads
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

_MOST_HELD_OUT = 2.0
"""Share of a subsample held out, over that of the recipe, above which the head decides alone.

One image of each class is held out at least. Of two in each class that is half: neither head nor
network are then what they would be with the whole subsample, and weights from them misled by 9
points (20 digits)."""


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
    study = work.made.get("fine_tuning") or TuningStudy.prepare(
        replace(work, made={}), recipe, found
    )
    work.made["fine_tuning"] = study
    seconds = {"decode_and_trunk": time.perf_counter() - start}
    start = time.perf_counter()
    study.heads(ledger.pending)
    seconds["heads"] = time.perf_counter() - start
    start = time.perf_counter()
    done, order = ledger.resumed, whole_repeats(ledger)
    with spread(study.train, order, workers(work.device)) as trained:
        for (size, number, _), outcome in trained:
            ledger.add(size, number, outcome)
            done += 1
            work.on_progress("fine-tuning", done, ledger.total)
    seconds["fine_tuning"] = time.perf_counter() - start
    said = (*notes(work.backbone.name, found), *study.trainer.portions.notes())
    if study.head:
        said = (*said, *study.head.notes)
    heads = [head for pair in study.first.values() for head in pair]
    unconverged = sum(not head.converged for head in heads)
    return ledger.trials(seconds, said, unconverged)


def notes(name: str, found: Cut) -> tuple[str, ...]:
    """Describe how much of the backbone was trained, and whether a frozen trunk saved work."""
    trained = f"{found.unfrozen} of {found.stages} stages of {name} were unfrozen"
    if found.whole:
        return (f"{trained}; it cannot be cut and trained whole: {found.whole}",)
    return (trained,)


@dataclass
class TuningStudy:
    """State shared by the trials of one study.

    Attributes
    ----------
    work, recipe, cut, trainer
        What is trained, and how.
    width
        Number of features of the last layer.
    frozen
        Embeddings of all views by the frozen top, where the head is trained on them by steps.
    head
        Features of all stages, where a head on them is combined with the network.
    first
        Trial → that head, scored on the validation images, and on the test images.
    flags
        Operating points; their thresholds come from the validation images.
    lock
        Held while a traced module is copied.
    """

    work: Work
    recipe: Recipe
    cut: Cut
    trainer: Trainer
    width: int
    frozen: Activations | None
    head: Heads | None
    first: dict[Key, tuple[FittedHead, FittedHead]]
    flags: Flags
    lock: threading.Lock

    @classmethod
    def prepare(cls, work: Work, recipe: Recipe, found: Cut) -> "TuningStudy":
        """Compute every view's activations, and the features of the head."""
        activations = compute(
            work.image_sets,
            views(work.backbone, work.options.get("augment", False)),
            found.trunk,
            work.device,
            lambda done, total: work.on_progress("frozen layers", done, total),
        )
        trainer = Trainer(activations, work.objective, recipe, work.device)
        found.top.to(work.device).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            width = found.top(activations.batch(np.arange(1), work.device)).shape[1]
        frozen = None if recipe.patience is None else _features(trainer, found.top)
        head = _of_stages(work) if recipe.patience is None else None
        flags, lock = Flags.of(work), threading.Lock()
        return cls(work, recipe, found, trainer, width, frozen, head, {}, flags, lock)

    def rows(self, trial: Trial) -> Rows:
        """Split the trial's training subsample; the same split for every recipe."""
        size, number, repeat = trial
        order = repeat.training(size)
        generator = stream(self.work.seed, Purpose.VALIDATION_SPLIT, size, number)
        train, validation = self.flags.split(order, self.recipe.validation, generator)
        return Rows(train, validation, repeat.test)

    def heads(self, trials: Sequence[Trial]) -> None:
        """Fit the regularised heads of every trial, where the recipe says so.

        One is trained without the validation images, to be compared with the network on them, and
        one on all images of the subsample, which is scored.
        """
        if self.head is None:
            return
        asked = []
        for trial in trials:
            size, number, repeat = trial
            rows = self.rows(trial)
            seed = seed_of(self.work.seed, Purpose.HEAD_FOLDS, number)
            asked.append((rows.train, rows.validation, seed))
            asked.append((repeat.training(size), repeat.test, seed))
        found = self.head.fit(asked)
        for trial, *pair in zip(trials, found[::2], found[1::2], strict=True):
            self.first[trial[:2]] = pair[0], pair[1]

    def train(self, trial: Trial, stop: Stop) -> NDArray[np.floating]:
        """Train one trial and return the probabilities of its test images."""
        size, number, repeat = trial
        rows, recipe = self.rows(trial), self.recipe
        held = len(rows.validation) / (len(rows.train) + len(rows.validation))
        if recipe.patience is None and held > _MOST_HELD_OUT * recipe.validation:
            alone = self.first[size, number][1]
            return self.flags.with_flags(alone.probabilities, repeat.training(size), alone.held)
        with self.lock:  # copying a traced module compiles it, which is not thread-safe
            top = copy.deepcopy(self.cut.top)
        network = Network(top, self.width, self.trainer.objective.outputs).to(self.work.device)
        trainer = replace(self.trainer, stop=stop.is_set)
        generator = stream(self.work.seed, Purpose.FINE_TUNING, size, number)
        parameters = [*network.head.parameters(), *trained_parameters(top, self.cut.trainable)]
        if recipe.patience is None:
            heads = self.first[size, number]
            return self._in_cycles(trainer, network, parameters, rows, generator, heads)
        self._start(network.head, trial, rows, trainer)
        trainer.fit(
            network,
            parameters,
            rows,
            generator,
            rate=recipe.rate,
            epochs=recipe.epochs,
            patience=recipe.patience,
        )
        predicted = trainer.probabilities(network, rows.test)
        if not self.flags.points:
            return predicted
        watched = trainer.probabilities(network, rows.validation)
        return self.flags.with_flags(predicted, rows.validation, watched, rows.train)

    def _in_cycles(
        self,
        trainer: Trainer,
        network: Network,
        parameters: Sequence[nn.Parameter],
        rows: Rows,
        generator: np.random.Generator,
        heads: tuple[FittedHead, FittedHead],
    ) -> NDArray[np.floating]:
        """Train in cycles of doubled length while the last one surely helped; pool with the head.

        Restarts of the rate with longer and longer cycles (Loshchilov & Hutter 2017, "SGDR:
        Stochastic Gradient Descent with Warm Restarts"): a domain near to that of the backbone
        gains little from training and ends after the first, a far one goes on.
        """
        judged, scored = (head.probabilities for head in heads)
        objective = trainer.objective
        losses = objective.outcome_losses(judged, rows.validation)
        best: NDArray[np.floating] = scored
        watched: NDArray[np.floating] = judged  # the best model's predictions for validation images
        for cycle in range(self.recipe.cycles):
            epochs = self.recipe.epochs * 2**cycle
            trainer.cycle(network, parameters, rows.train, generator, epochs)
            validation = trainer.probabilities(network, rows.validation)
            weights = objective.weights(validation, judged, rows.validation)
            pooled = objective.pooled(validation, judged, weights)
            now = objective.outcome_losses(pooled, rows.validation)
            gains = losses - now
            helped = float(gains.mean()) > float(gains.std()) / len(gains) ** 0.5
            if helped or cycle == 0:  # the weights of the first are cautious by themselves
                best = objective.pooled(trainer.probabilities(network, rows.test), scored, weights)
                watched = pooled
            if not helped:
                break
            losses = now
        return self.flags.with_flags(best, rows.validation, watched, rows.train)

    def _start(self, head: nn.Linear, trial: Trial, rows: Rows, trainer: Trainer) -> None:
        """Train the head on frozen features."""
        assert self.frozen is not None
        size, number, _ = trial
        alone = Network(nn.Identity(), head.in_features, head.out_features).to(self.work.device)
        replace(trainer, activations=self.frozen).fit(
            alone,
            list(alone.head.parameters()),
            rows,
            stream(self.work.seed, Purpose.HEAD_TRAINING, size, number),
            rate=self.recipe.head_rate,
            epochs=self.recipe.head_epochs,
            patience=self.recipe.head_patience,
        )
        head.load_state_dict(alone.head.state_dict())


def _of_stages(work: Work) -> Heads:
    """Embed the images for the head, with the features of all stages.

    The embeddings are those of ``feature_extraction`` with ``features="stages"``: they are cached,
    and where that strategy ran before, they are only read.
    """
    backbone = with_stages(work.backbone, own=False)
    found = embed(
        work.image_sets,
        Embedder(
            backbone,
            work.device,
            work.options.get("precision", "auto"),
            runtime=work.options.get("runtime", TORCH),
        ),
        work.store if backbone.named else Store(),
        lambda done, total: work.on_progress("embedding images", done, total),
    )
    heads = heads_of(replace(work, backbone=backbone, features=found.features))
    return replace(heads, notes=(backbone.note,)) if backbone.note else heads  # type: ignore


def _features(trainer: Trainer, top: nn.Module) -> Activations:
    """Compute the frozen top's output for all activations once."""
    source = trainer.activations
    total = len(source.values)

    @torch.inference_mode()
    def chunk(first: int, _: Stop) -> NDArray[np.floating]:
        parts: list[NDArray[np.floating]] = []

        def embed(rows: NDArray[np.int64]) -> None:
            with autocast(trainer.device):  # as the network computes them when it is scored
                features = top(source.batch(rows, trainer.device))
            parts.append(features.float().cpu().numpy())

        trainer.portions.run(np.arange(first, min(first + 64, total)), embed, parts.clear)
        return np.concatenate(parts)

    kept: Activations | None = None
    with spread(chunk, range(0, total, 64), workers(trainer.device)) as chunks:
        for first, rows in chunks:
            kept = kept or Activations(total, rows.shape[1:], source.firsts)
            kept.values[first : first + len(rows)] = np.clip(rows, -65504, 65504)
    assert kept is not None  # a plan has images
    return kept.keep_on(trainer.device)
