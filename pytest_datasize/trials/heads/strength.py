"""Choose the strength of regularisation of each trial, with few of the grid's fits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from pytest_datasize.trials.heads.softmax_regression import Problem, gradient_at_zero, minimise

TOLERANCE: Final = 5e-2
"""Of a fit while strengths are compared. Every one starts at zero, so that a weak penalty that does
not repay its iterations loses, as with early stopping; started from the fits before, strengths at
the weak end won with few images and scored less on images held out."""

ITERATIONS: Final = 60
"""At most, for a fit while strengths are compared."""

FIRST: Final = 0.1
"""Strength tried first: about the middle of those that are chosen with many images."""

FEW: Final = 128
"""Up to so many training rows all strengths are tried: such fits take no time, and their losses may
have several valleys."""

BYTES: Final = 12 << 20  # logits of the splits that a CPU fits at the same time
GPU_BYTES: Final = 2 << 30


@dataclass
class Search:
    """Search of one trial: which strength is tried next.

    The grid is descending, so a lower index is a stronger penalty, and a tie selects that one.

    Parameters
    ----------
    n_strengths
        Length of the grid, S.
    first
        Index that is tried first.
    whole
        Whether to try all strengths.

    Examples
    --------
    >>> search = Search(n_strengths=11, first=4)
    >>> while (index := search.next()) is not None:
    ...     better = search.add(index, loss=abs(index - 7))
    >>> search.best, sorted(search.loss)
    (7, [2, 4, 6, 7, 8])
    """

    n_strengths: int
    first: int
    whole: bool = False
    loss: dict[int, float] = field(default_factory=dict)
    best: int = -1
    _refined: bool = False

    def add(self, index: int, loss: float) -> bool:
        """Add the loss of a strength; return whether it is the best one so far."""
        least = self.loss.get(self.best, math.inf)
        self.loss[index] = loss
        better = self.best < 0 or loss < least or (loss == least and index < self.best)
        if better:
            self.best = index
        return better

    def next(self) -> int | None:
        """Return the index to try next; None where the search is over."""
        if not self.loss:
            return self.first
        if self.whole:
            return next((i for i in range(self.n_strengths) if i not in self.loss), None)
        last, best = self.n_strengths - 1, self.best
        stride = 2 if self.n_strengths > 4 else 1
        below = max((i for i in self.loss if i < best), default=None)
        above = min((i for i in self.loss if i > best), default=None)
        # stronger ones first: among the weakest there may be a second valley, of fits that have
        # not converged
        if below is None and best > 0:
            return max(best - stride, 0)
        if above is None and best < last:
            return min(best + stride, last)
        sides = [(self.loss[i], (i + best) // 2) for i in (below, above) if i is not None]
        between = [(loss, i) for loss, i in sides if i not in self.loss]
        if self._refined or not between:
            return None
        self._refined = True
        return min(between)[1]


def choose_strength(
    problem: Problem, held: Tensor, votes: Tensor, levels: Tensor, ridge: Tensor
) -> tuple[Tensor, Tensor]:
    """Find the strength with the least held-out log-loss of each of B trials.

    The loss of the same splits is a smooth function of the strength with one minimum, so not all
    strengths are tried: from `FIRST` the search walks downhill two steps of the grid at a time,
    then looks between the best strength and the better one of its neighbours; but see `FEW`.

    Parameters
    ----------
    problem
        Rows of the trials.
    held
        Held-out rows of the K inner splits, bool [B, K, n].
    votes
        The held-out rows whose loss counts, bool [B, K, n].
    levels
        Strengths, descending, [S].
    ridge
        What a strength is multiplied by for each column, [B, D].

    Returns
    -------
    tuple of Tensor
        Index of the chosen strength, int64 [B], and the mean weights of its fits, [B, C, 1, D].
    """
    first = int((levels / FIRST).log().abs().argmin())
    whole = held.shape[2] <= FEW
    searches = [Search(len(levels), first, whole) for _ in range(len(held))]
    weight = functional.normalize((~held).to(ridge.dtype), p=1.0, dim=-1)[:, None]
    at_zero = gradient_at_zero(problem, weight)
    best: Tensor | None = None  # weights, [B, C, K, D]
    while True:
        steps = [(b, i) for b, search in enumerate(searches) if (i := search.next()) is not None]
        if not steps:
            break
        everyone = len(steps) == len(searches)
        # all trials without a copy of their rows
        trials = slice(None) if everyone else torch.tensor([b for b, _ in steps]).to(held.device)
        loss, fitted = _held_out_loss(
            Problem(*(part[trials] for part in problem)),
            weight[trials],
            votes[trials],
            levels[torch.tensor([i for _, i in steps]).to(levels.device)],
            ridge[trials],
            at_zero[trials],
        )
        best = fitted.clone() if best is None else best
        for row, ((b, i), value) in enumerate(zip(steps, loss.tolist(), strict=True)):
            if searches[b].add(i, value):
                best[b] = fitted[row]
    assert best is not None
    index = torch.tensor([search.best for search in searches]).to(held.device)
    return index, best.mean(2, keepdim=True)


def _held_out_loss(
    problem: Problem,
    weight: Tensor,
    votes: Tensor,
    strength: Tensor,
    ridge: Tensor,
    at_zero: Tensor,
) -> tuple[Tensor, Tensor]:
    """Fit each trial's K splits at one strength; sum the loss of the rows that vote."""
    b, c, _, n = problem.target.shape
    k = votes.shape[1]
    penalty = (strength[:, None] * ridge)[:, None, None].expand(-1, -1, k, -1)
    step = max(1, (BYTES if ridge.device.type == "cpu" else GPU_BYTES) // (4 * b * n * c))
    loss, fitted = ridge.new_zeros(b), ridge.new_empty(b, c, k, ridge.shape[1])
    for first in range(0, k, step):
        part = slice(first, first + step)
        fit = minimise(
            problem,
            weight[:, :, part],
            penalty[:, :, part],
            TOLERANCE,
            ITERATIONS,
            at_zero=at_zero[:, :, part],
        )
        lost = torch.logsumexp(fit.logits, 1) - (fit.logits * problem.target).sum(1)
        loss += (lost * votes[:, part]).sum((1, 2))
        fitted[:, :, part] = fit.weights
    return loss, fitted
