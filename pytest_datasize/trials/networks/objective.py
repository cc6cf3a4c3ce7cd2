"""What a network learns in each task: its loss, its outcome, and how it is pooled with a head."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pytest_datasize.embedding.device import sent
from pytest_datasize.requirement.tasks import CLASSIFICATION
from pytest_datasize.trials.networks import pool

Values = NDArray[Any]


class Objective(Protocol):
    """The loss of one task, for all images of a study."""

    @property
    def outputs(self) -> int:
        """Number of outputs of a network."""
        ...

    def losses(self, logits: Tensor, rows: NDArray[np.int64]) -> Tensor:
        """Return the loss of each image, (n,), on the device of the logits."""
        ...

    def outcome(self, logits: Tensor) -> NDArray[np.floating]:
        """Return what the metrics take, (n, outputs) in double precision."""
        ...

    def outcome_losses(self, outcome: Values, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the loss of each image from outcomes, (n,)."""
        ...

    def weights(self, network: Values, head: Values, rows: NDArray[np.int64]) -> Values:
        """Return the weights of a network and a head, from images that neither was trained on."""
        ...

    def pooled(self, network: Values, head: Values, weights: Values) -> NDArray[np.float64]:
        """Return the combined outcome."""
        ...


@dataclass(frozen=True)
class Classes:
    """One class per image: cross-entropy.

    Attributes
    ----------
    labels
        int64 (N,).
    outputs
        Number of classes.
    """

    labels: NDArray[np.int64]
    outputs: int

    def losses(self, logits: Tensor, rows: NDArray[np.int64]) -> Tensor:
        """Return the log-losses."""
        labels = sent(torch.from_numpy(self.labels[rows]), logits.device)
        return functional.cross_entropy(logits, labels, reduction="none")

    def outcome(self, logits: Tensor) -> NDArray[np.floating]:
        """Return class probabilities."""
        found: NDArray[np.floating] = torch.softmax(logits, 1).cpu().double().numpy()
        return found

    def outcome_losses(self, outcome: Values, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the log-losses."""
        return pool.log_losses(outcome, self.labels[rows])

    def weights(self, network: Values, head: Values, rows: NDArray[np.int64]) -> Values:
        """Return the weights of least log-loss."""
        return pool.pool_weights(network, head, self.labels[rows])

    def pooled(self, network: Values, head: Values, weights: Values) -> NDArray[np.float64]:
        """Return the logarithmic opinion pool."""
        return pool.pool(network, head, weights)


@dataclass(frozen=True)
class Sets:
    """A set of labels per image: binary cross-entropy, averaged over the labels.

    Attributes
    ----------
    shown
        Whether an image shows a label, bool (N, L).
    """

    shown: NDArray[np.bool_]

    @property
    def outputs(self) -> int:
        """Number of labels."""
        return int(self.shown.shape[1])

    def losses(self, logits: Tensor, rows: NDArray[np.int64]) -> Tensor:
        """Return the log-losses, averaged over labels."""
        shown = sent(torch.from_numpy(self.shown[rows]), logits.device).to(logits)
        return functional.binary_cross_entropy_with_logits(logits, shown, reduction="none").mean(1)

    def outcome(self, logits: Tensor) -> NDArray[np.floating]:
        """Return the probability of each label."""
        found: NDArray[np.floating] = torch.sigmoid(logits).cpu().double().numpy()
        return found

    def outcome_losses(self, outcome: Values, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the log-losses, averaged over labels."""
        labels = self.shown[rows].ravel().astype(np.int64)
        losses = pool.log_losses(_either(outcome), labels)
        found: NDArray[np.float64] = losses.reshape(outcome.shape).mean(axis=1)
        return found

    def weights(self, network: Values, head: Values, rows: NDArray[np.int64]) -> Values:
        """Return the weights of least log-loss over the decisions on all labels."""
        labels = self.shown[rows].ravel().astype(np.int64)
        return pool.pool_weights(_either(network), _either(head), labels)

    def pooled(self, network: Values, head: Values, weights: Values) -> NDArray[np.float64]:
        """Return the logarithmic opinion pool of each decision."""
        found = pool.pool(_either(network), _either(head), weights)[:, 1]
        return found.reshape(network.shape)


def _either(probabilities: Values) -> Values:
    """Return each label's probabilities as two classes, (n L, 2)."""
    flat = probabilities.ravel()
    found: Values = np.stack([1.0 - flat, flat], axis=1)
    return found


@dataclass(frozen=True)
class Numbers:
    """Numbers: squared error in units of their standard deviation.

    Attributes
    ----------
    values
        float64 (N, K).
    centre, scale
        Mean and standard deviation of the pool, (K,): the outputs of a network are standardised.
    """

    values: NDArray[np.float64]
    centre: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def of(cls, values: NDArray[np.float64], n_pool: int) -> "Numbers":
        """Standardise by the images of the pool."""
        pool_values = values[:n_pool]
        return cls(values, pool_values.mean(axis=0), pool_values.std(axis=0))

    @property
    def outputs(self) -> int:
        """Number of numbers."""
        return int(self.values.shape[1])

    def losses(self, logits: Tensor, rows: NDArray[np.int64]) -> Tensor:
        """Return half the squared errors, averaged over numbers."""
        target = torch.from_numpy((self.values[rows] - self.centre) / self.scale)
        target = sent(target.to(logits.dtype), logits.device)
        return (logits - target).square().mean(1) / 2

    def outcome(self, logits: Tensor) -> NDArray[np.floating]:
        """Return numbers in their own unit."""
        found: NDArray[np.floating] = logits.cpu().double().numpy() * self.scale + self.centre
        return found

    def outcome_losses(self, outcome: Values, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return half the squared errors, averaged over numbers."""
        errors = (outcome - self.values[rows]) / self.scale
        found: NDArray[np.float64] = (errors**2).mean(axis=1) / 2
        return found

    def weights(self, network: Values, head: Values, rows: NDArray[np.int64]) -> Values:
        """Return the weights of least squared error, in units of the head's own error."""
        truth = self.values[rows]
        if not len(rows):
            return np.array([0.0, 1.0])
        error = ((head - truth) ** 2).mean(axis=0).clip(1e-12 * self.scale**2)
        parts = [((p - self.centre) / np.sqrt(error)).ravel() for p in (network, head)]
        target = ((truth - self.centre) / np.sqrt(error)).ravel()
        return pool.linear_weights(np.stack(parts, axis=1), target)

    def pooled(self, network: Values, head: Values, weights: Values) -> NDArray[np.float64]:
        """Return the weighted sum."""
        found: NDArray[np.float64] = self.centre + (
            weights[0] * (network - self.centre) + weights[1] * (head - self.centre)
        )
        return found


def objective_of(task: str, truth: Values, n_classes: int, n_pool: int) -> Objective:
    """Return what networks learn in a task.

    Parameters
    ----------
    task
        ``classification``, ``multilabel`` or ``regression``.
    truth
        True labels of all images, as the metrics of the task take them.
    n_classes
        Number of classes.
    n_pool
        Number of images that may be trained on: the first.
    """
    if task == CLASSIFICATION:
        return Classes(truth, n_classes)
    if task == "multilabel":
        return Sets(truth)
    return Numbers.of(truth, n_pool)
