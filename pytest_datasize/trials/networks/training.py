"""Train one network on stored activations: minibatches, early stopping, best weights restored.

A network trains in evaluation mode where BatchNorm keeps its statistics, so that nothing in it
draws from torch's global generator; what is random here comes from a generator of the trial. A
trial therefore gives the same bits in any thread and beside any other.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pytest_datasize.embedding.device import repeatable_attention, sent
from pytest_datasize.trials.networks.activations import Activations
from pytest_datasize.trials.networks.memory import Portions, autocast
from pytest_datasize.trials.networks.objective import Classes, Objective
from pytest_datasize.trials.recipe import Recipe

_SCORING_BATCH = 64
_WARM_UP = 0.1  # share of the steps in which the rate rises


class Network(nn.Module):
    """The trained network: (part of) a backbone, dropout, and a linear head.

    Parameters
    ----------
    top
        Activations → (N, D) embeddings.
    n_features, n_classes
        D, and the number of classes.
    """

    def __init__(self, top: nn.Module, n_features: int, n_classes: int) -> None:
        super().__init__()
        self.top = top
        # torch's own initialisation would draw from its global generator
        self.head: nn.Linear = nn.utils.skip_init(  # type: ignore[no-untyped-call]
            nn.Linear, n_features, n_classes
        )
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, activations: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return logits; ``keep`` (N, D) multiplies the features (dropout)."""
        features = self.top(activations)
        logits: Tensor = self.head(features if keep is None else features * keep)
        return logits


@dataclass(frozen=True)
class Rows:
    """Images of one trial, as rows of the data set.

    Attributes
    ----------
    train, validation, test
        Rows to train on, for early stopping, and to score.
    """

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


class InterruptedTrialError(Exception):
    """Training was interrupted."""


@dataclass(frozen=True)
class Trainer:
    """Trains the networks of one study.

    Attributes
    ----------
    activations
        All views of all images; a step takes one view of each of its images, at random.
    objective
        What is learned, for the labels of all images.
    recipe
        How to train.
    device
        Where.
    stop
        Called before each step; true ends training with :class:`InterruptedTrialError`.
    portions
        How many images go through the network at a time.
    """

    activations: Activations
    objective: Objective
    recipe: Recipe
    device: torch.device
    stop: Callable[[], bool] = lambda: False
    portions: Portions = field(default_factory=Portions)

    def fit(
        self,
        network: Network,
        parameters: Sequence[nn.Parameter],
        rows: Rows,
        generator: np.random.Generator,
        *,
        rate: float,
        epochs: int,
        patience: int | None,
        training_mode: bool = False,
    ) -> int:
        """Train some parameters; the network then holds the best weights that were seen.

        Parameters
        ----------
        network, parameters
            What is trained, and which of its parameters.
        rows
            The trial's images.
        generator
            Of batches, views and dropout.
        rate, epochs, patience
            Adam's rate; most epochs; epochs without a gain after which to stop, None for never.
        training_mode
            Whether BatchNorm learns statistics (from scratch) or keeps them.

        Returns
        -------
        int
            Epoch whose weights were kept; 0 for those before the first.
        """
        optimiser = self._optimiser(network, parameters, rate)
        first = kept = self._look(network, rows.validation, 0)
        for epoch in range(1, epochs + 1):
            network.train(training_mode)
            for batch in self._batches(rows.train, generator):
                self._step(network, optimiser, batch, generator)
            network.eval()
            look = self._look(network, rows.validation, epoch)
            if look.value < kept.value or (training_mode and kept is first):
                kept = look
            elif patience is not None and epoch - kept.epoch >= patience:
                break
        network.load_state_dict(kept.weights)
        network.eval()
        return kept.epoch

    def cycle(
        self,
        network: Network,
        parameters: Sequence[nn.Parameter],
        rows: NDArray[np.int64],
        generator: np.random.Generator,
        epochs: int,
    ) -> None:
        """Train some parameters for some epochs, in one cycle of the rate.

        The rate rises linearly and then falls to zero along half a cosine, so that the last
        weights are good ones and no images are needed to choose an epoch (Smith & Topin 2019,
        "Super-convergence: Very Fast Training of Neural Networks Using Large Learning Rates").

        Parameters
        ----------
        network, parameters
            What is trained, and which of its parameters.
        rows
            Images to train on.
        generator
            Of batches, views and dropout.
        epochs
            Number of epochs.
        """
        optimiser = self._optimiser(network, parameters, self.recipe.rate)
        network.eval()
        batches = [batch for _ in range(epochs) for batch in self._batches(rows, generator)]
        for step, batch in enumerate(batches):
            optimiser.param_groups[0]["lr"] = self.recipe.rate * cycle_share(step, len(batches))
            self._step(network, optimiser, batch, generator)

    def _optimiser(
        self, network: Network, parameters: Sequence[nn.Parameter], rate: float
    ) -> torch.optim.Optimizer:
        """Make Adam for some parameters of a network; the others are frozen."""
        network.requires_grad_(False)
        for parameter in parameters:
            parameter.requires_grad_(True)
        return torch.optim.Adam(parameters, lr=rate, fused=self.device.type != "mps")

    @torch.inference_mode()
    def probabilities(self, network: Network, rows: NDArray[np.int64]) -> NDArray[np.floating]:
        """Return the outcome of plain images, such as class probabilities, (len(rows), C)."""
        return self.objective.outcome(self._logits(network, rows))

    def _logits(self, network: Network, rows: NDArray[np.int64]) -> Tensor:
        parts: list[Tensor] = []

        def score(portion: NDArray[np.int64]) -> None:
            with autocast(self.device):
                parts.append(network(self.activations.batch(portion, self.device)).float())

        for first in range(0, len(rows), _SCORING_BATCH):
            undo = partial(parts.__delitem__, slice(len(parts), None))
            self.portions.run(rows[first : first + _SCORING_BATCH], score, undo)
        return torch.cat(parts)

    @torch.inference_mode()
    def _look(self, network: Network, rows: NDArray[np.int64], epoch: int) -> "_Look":
        """Score the validation images of early stopping."""
        logits = self._logits(network, rows).cpu()
        value = float(self.objective.losses(logits, rows).double().mean())
        if not np.isfinite(value):
            value = float("inf")
        elif self.recipe.monitor == "auc" and isinstance(self.objective, Classes):
            labels = torch.from_numpy(self.objective.labels[rows])
            value = -_auc(torch.softmax(logits, 1), labels)
        return _Look(epoch, value, copy.deepcopy(network.state_dict()))

    def _batches(
        self, rows: NDArray[np.int64], generator: np.random.Generator
    ) -> list[NDArray[np.int64]]:
        """One epoch, every image once: batches of (image, row of its view), (n, 2)."""
        size = min(self.recipe.batch, len(rows))
        passes = max(1, -(-self.recipe.least_steps * size // len(rows)))
        firsts = self.activations.firsts
        batches = []
        for _ in range(passes):
            order = generator.permutation(rows)
            view = generator.integers(len(firsts), size=len(order)) if len(firsts) > 1 else 0
            pairs = np.stack([order, order + firsts[view]], axis=1)
            # of nearly equal size, so that no step has a single image
            batches += np.array_split(pairs, -(-len(order) // size))
        return batches

    def _step(
        self,
        network: Network,
        optimiser: torch.optim.Optimizer,
        batch: NDArray[np.int64],
        generator: np.random.Generator,
    ) -> None:
        if self.stop():
            raise InterruptedTrialError
        keep = None
        if share := self.recipe.dropout:
            drawn = generator.random((len(batch), network.head.in_features)) >= share
            keep = torch.from_numpy(drawn / np.float32(1.0 - share)).float()

        def learn(places: NDArray[np.int64]) -> None:
            images, rows = batch[places].T
            kept = None if keep is None else sent(keep[torch.from_numpy(places)], self.device)
            with autocast(self.device), repeatable_attention(self.device):
                logits = network(self.activations.batch(rows, self.device), kept)
            loss = self.objective.losses(logits.float(), images).sum() / len(batch)
            loss.backward()  # type: ignore[no-untyped-call]

        optimiser.zero_grad(set_to_none=True)
        self.portions.run(np.arange(len(batch)), learn, optimiser.zero_grad)
        optimiser.step()


@dataclass(frozen=True)
class _Look:
    """A network as it was after an epoch, with its score on the validation images."""

    epoch: int
    value: float
    weights: dict[str, Any]


def cycle_share(step: int, steps: int) -> float:
    """Return a step's share of the highest rate.

    Examples
    --------
    >>> [round(cycle_share(step, 20), 2) for step in (0, 1, 2, 11, 19)]
    [0.5, 1.0, 1.0, 0.5, 0.01]
    """
    rising = max(1, round(_WARM_UP * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 + 0.5 * math.cos(math.pi * (step - rising) / (steps - rising))


def _auc(probabilities: Tensor, labels: Tensor) -> float:
    """Area under the ROC curve over all decisions pooled, as Keras' AUC for one-hot labels."""
    from scipy.stats import rankdata

    own = functional.one_hot(labels, probabilities.shape[1]).bool().flatten().numpy()
    ranks = rankdata(probabilities.flatten().numpy())
    n, m = own.sum(), (~own).sum()
    return float((ranks[own].sum() - n * (n + 1) / 2) / (n * m))


def split(
    rows: NDArray[np.int64], labels: NDArray[np.int64], share: float, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split a training subsample into training and early-stopping images, by class.

    Every class keeps at least one training image; with two, one is for early stopping.

    Examples
    --------
    >>> rows, labels = np.arange(10), np.array([0, 1] * 5)
    >>> fit, watch = split(rows, labels, 0.2, np.random.default_rng(0))
    >>> len(fit), sorted(labels[watch].tolist())
    (8, [0, 1])
    """
    held = []
    shuffled = generator.permutation(rows)  # once: the order of the classes must not matter
    for label in np.unique(labels[rows]):
        members = shuffled[labels[shuffled] == label]
        count = min(len(members) - 1, max(1, round(share * len(members))))
        held.append(members[:count])
    watch = np.sort(np.concatenate(held))
    return rows[~np.isin(rows, watch)], watch


def split_groups(
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    share: float,
    generator: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split a training subsample as :func:`split` does, but into whole groups.

    Groups are held out in random order until every class has enough images for early stopping.
    Every class keeps a group to train on; a class with a single group has none held out.

    Examples
    --------
    >>> rows, labels = np.arange(12), np.repeat([0, 1], 6)
    >>> fit, watch = split_groups(rows, labels, rows // 2, 0.2, np.random.default_rng(0))
    >>> len(fit), len(set(watch.tolist())), set(fit // 2) & set(watch // 2)
    (8, 4, set())
    """
    found, first, place = np.unique(groups[rows], return_index=True, return_inverse=True)
    place = np.argsort(np.argsort(first))[place]  # names of groups decide nothing
    n_classes = int(labels.max()) + 1
    counts = np.zeros((len(found), n_classes), dtype=np.int64)
    np.add.at(counts, (place, labels[rows]), 1)
    left, held = counts.sum(axis=0), np.zeros(n_classes, dtype=np.int64)
    wanted = np.where(left > 0, np.maximum(1, np.round(share * left)), 0)
    chosen = np.zeros(len(found), dtype=np.bool_)
    for group in generator.permutation(len(found)).tolist():
        own = counts[group] > 0
        if (held < wanted)[own].any() and (left > counts[group])[own].all():
            chosen[group] = True
            left = left - counts[group]
            held = held + counts[group]
    return rows[~chosen[place]], np.sort(rows[chosen[place]])
