"""Choose the strength of regularisation of every label of each trial, by itself."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from pytest_datasize.trials.heads.softmax_regression import Problem, minimise
from pytest_datasize.trials.heads.strength import (
    BYTES,
    FEW,
    FIRST,
    GPU_BYTES,
    ITERATIONS,
    TOLERANCE,
    Search,
)


def choose_strengths(
    problem: Problem, held: Tensor, votes: Tensor, levels: Tensor, ridge: Tensor
) -> tuple[Tensor, Tensor]:
    """Find the strength with the least held-out log-loss, for each of L labels of B trials.

    As :func:`pytest_datasize.trials.heads.strength.choose_strength`, with a search of its own for
    each label: a rare one needs another strength than a frequent one.

    Parameters
    ----------
    problem
        Rows of the trials, and whether they show the labels.
    held, votes, levels, ridge
        As in :func:`pytest_datasize.trials.heads.strength.choose_strength`.

    Returns
    -------
    tuple of Tensor
        Index of the chosen strengths, int64 [B, L], and the mean weights of their fits,
        [B, 1, L, D].
    """
    b, _, n_labels, _ = problem.target.shape
    first = int((levels / FIRST).log().abs().argmin())
    whole = held.shape[2] <= FEW
    searches = [[Search(len(levels), first, whole) for _ in range(n_labels)] for _ in range(b)]
    weight = functional.normalize((~held).to(ridge.dtype), p=1.0, dim=-1)  # [B, K, n]
    best = ridge.new_zeros(b, 1, n_labels, ridge.shape[1])
    tried = [[first] * n_labels for _ in range(b)]
    while True:
        asked = [[search.next() for search in row] for row in searches]
        trials = [row for row in range(b) if any(i is not None for i in asked[row])]
        if not trials:
            break
        for row in trials:  # labels that are done are fitted once more, which costs little
            tried[row] = [
                old if new is None else new for old, new in zip(tried[row], asked[row], strict=True)
            ]
        chosen = slice(None) if len(trials) == b else torch.tensor(trials).to(held.device)
        loss, fitted = _held_out_loss(
            Problem(*(part[chosen] for part in problem)),
            weight[chosen],
            votes[chosen],
            levels[torch.tensor([tried[row] for row in trials]).to(levels.device)],
            ridge[chosen],
        )
        for place, (row, values) in enumerate(zip(trials, loss.tolist(), strict=True)):
            for label, (index, value) in enumerate(zip(asked[row], values, strict=True)):
                if index is not None and searches[row][label].add(index, value):
                    best[row, 0, label] = fitted[place, label]
    chosen_of = [[search.best for search in row] for row in searches]
    return torch.tensor(chosen_of).to(held.device), best


def _held_out_loss(
    problem: Problem, weight: Tensor, votes: Tensor, strength: Tensor, ridge: Tensor
) -> tuple[Tensor, Tensor]:
    """Fit each trial's K splits of each label at one strength; sum the loss of rows that vote.

    Returns the losses, [B, L], and the mean weights of the splits, [B, L, D].
    """
    b, _, n_labels, n = problem.target.shape
    k, d = votes.shape[1], ridge.shape[1]
    limit = BYTES if ridge.device.type == "cpu" else GPU_BYTES
    step = max(1, limit // (4 * b * n * k))
    losses, means = ridge.new_empty(b, n_labels), ridge.new_empty(b, n_labels, d)
    for first in range(0, n_labels, step):
        part = slice(first, min(first + step, n_labels))
        some = part.stop - first
        shape = (b, 1, some * k, n)
        target = problem.target[:, :, part, None].expand(-1, -1, -1, k, -1).reshape(shape)
        weights = weight[:, None, None].expand(-1, -1, some, -1, -1).reshape(shape)
        penalty = (strength[:, part, None] * ridge[:, None])[:, None, :, None]
        fit = minimise(
            Problem(problem.rows, target, problem.second),
            weights,
            penalty.expand(-1, -1, -1, k, -1).reshape(b, 1, some * k, d),
            TOLERANCE,
            ITERATIONS,
            logistic=True,
        )
        lost = functional.softplus(fit.logits) - fit.logits * target
        losses[:, part] = (lost.view(b, some, k, n) * votes[:, None]).sum((2, 3))
        means[:, part] = fit.weights.view(b, some, k, d).mean(2)
    return losses, means
