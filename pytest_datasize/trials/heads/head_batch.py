"""Train one batch of heads: choose each penalty strength, fit to convergence, score test rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from pytest_datasize.embedding.features import Features
from pytest_datasize.trials.heads.label_strength import choose_strengths
from pytest_datasize.trials.heads.principal_axes import PrincipalAxes, row_space
from pytest_datasize.trials.heads.softmax_regression import Problem, minimise, probabilities
from pytest_datasize.trials.heads.strength import (
    BYTES,
    GPU_BYTES,
    choose_strength,
)

DEFAULT_STRENGTH = 10.0
"""Strength where the rarest class has one training image, so that nothing can be held out."""

_FINAL = (1e-3, 1000)  # the same in each round of the fit that is returned
_ROUNDS = (1, 1, 1, 8, 8, 8)  # line steps: stricter where three rounds have not settled a fit
_BLOCK = 4096  # rows squared, or scored, at a time
GPU_BATCH_BYTES = 2 << 30  # rows and logits in one batch: as much as keeps a GPU busy


@dataclass(frozen=True, eq=False)
class HeadTask:
    """One trial: the rows a head is trained on and the rows it is scored on.

    Attributes
    ----------
    train, test : ndarray of int64, shapes [n] and [m]
        Row indices into the features.
    seed : int
        Seed of the inner splits that choose the strength.
    views : int
        Views of every training image: `train` holds the plain rows of all images first, then as
        many rows of a further view of the same images in the same order, and so on. All views of
        an image fall on one side of every inner split, and only plain rows vote on the strength.
    groups : ndarray of int64, shape [n / views], optional
        Group of every image: those of one group fall on one side of every inner split. Without
        them near-copies would favour a penalty that is too weak.
    """

    train: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]
    seed: int
    views: int = 1
    groups: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True, eq=False)
class FittedHead:
    """Outcome of one trial.

    Attributes
    ----------
    probabilities : ndarray of float32, shape [m, C]
        Class probabilities of the test rows, or of each label; logits where these are asked for.
    strength : float
        Chosen L2 strength ``s``: the head minimises ``mean log-loss + s/2 |W|^2`` (bias free) on
        features divided by the root of their mean variance in the training rows. In scikit-learn's
        terms ``C = 1 / (s n)``. Of a head with several labels the geometric mean of theirs.
    converged : bool
        Whether the gradient fell to the tolerance; False only after longer, stricter retries.
    iterations : int
        Iterations of the final fit, the search for the strength not counted.
    held : ndarray of float32, shape [n, C], or None
        The same as `probabilities` for the plain training rows, each the mean of heads that were
        fitted without its fold; None where it is not asked for, or nothing can be held out.
    """

    probabilities: npt.NDArray[Any]
    strength: float
    converged: bool
    iterations: int
    held: npt.NDArray[Any] | None = None


def fit_batch(
    pool: Features | PrincipalAxes,
    labels: Tensor,
    tasks: Sequence[HeadTask],
    splits: Sequence[npt.NDArray[np.bool_]],
    grid: Sequence[float],
    n_classes: int,
    n_features: int,
    floor: float,
    logits: bool = False,
    folds: Sequence[npt.NDArray[np.bool_] | None] = (),
) -> list[FittedHead]:
    """Choose the strength of B trials of one shape, fit them and score their test rows.

    With `folds`, splits that hold out every row equally often, their training rows are scored too.
    """
    logistic = labels.ndim == 2
    device = labels.device
    train = torch.from_numpy(np.stack([task.train for task in tasks])).to(device)
    test = torch.from_numpy(np.stack([task.test for task in tasks])).to(device)
    held = torch.from_numpy(np.stack(splits)).to(device)
    if isinstance(pool, PrincipalAxes):
        rows = pool.take(train)
        asked: Iterator[Tensor] = map(pool.take, torch.split(test, _BLOCK, dim=1))
    else:
        rows, others = row_space(pool[train].float(), pool[test].float(), max(floor, 1e-30))
        asked = iter([others])
    second = _mean_square(rows)
    variance = (second - rows.mean(1).square())[:, :-1].sum(-1).clamp_min(floor).clamp_min(1e-30)
    b = len(rows)
    n = rows.shape[1]
    if logistic:
        target = labels[train].to(rows.dtype).transpose(1, 2)[:, None].contiguous()
    else:
        target = functional.one_hot(labels[train], n_classes).to(rows.dtype)
        target = target.transpose(1, 2)[:, :, None].contiguous()
    problem = Problem(rows, target, second)
    # Strength times the trial's mean variance is the same as scaling its features.
    ridge = (variance / n_features)[:, None].repeat(1, rows.shape[2])
    ridge[:, -1] = 0.0  # the bias
    levels = rows.new_tensor(grid)
    start = None
    fits = n_classes if logistic else 1  # of one trial
    if len(grid) == 1 or held.shape[1] == 0:
        index = (levels / DEFAULT_STRENGTH).log().abs().argmin().expand(b, fits)
    else:
        votes = held.clone()
        votes[..., n // tasks[0].views :] = False  # only rows without augmentation count
        if logistic:
            index, start = choose_strengths(problem, held, votes, levels, ridge)
        else:
            index, start = choose_strength(problem, held, votes, levels, ridge)
            index = index[:, None]

    penalty = (levels[index][..., None] * ridge[:, None])[:, None]  # [B, 1, fits, D]
    weight = rows.new_full((b, 1, 1, n), 1.0 / n).expand(-1, -1, fits, -1)
    used = torch.zeros(b, dtype=torch.int64, device=device)
    for line_steps in _ROUNDS:
        fit = minimise(
            problem,
            weight,
            penalty,
            *_FINAL,
            start=start,
            line_steps=line_steps,
            logistic=logistic,
        )
        used += fit.iterations.amax(1)
        start = fit.weights  # for another round
        # stop when no fit moved with a preconditioner computed at its own weights
        if not fit.iterations.any():
            break
    # test rows are read last, in blocks: of a large pool they need as much memory as the fits
    weights = fit.weights[:, 0] if logistic else fit.weights[:, :, 0]  # [B, C, D]
    scores = torch.cat([weights @ some.transpose(1, 2) for some in asked], dim=2)
    found = scores if logits else probabilities(scores, logistic)
    predicted = found.transpose(1, 2).contiguous().cpu().numpy()
    strengths = [
        grid[row[0]]
        if len(row) == 1
        else math.exp(math.fsum(math.log(grid[i]) for i in row) / len(row))
        for row in index.tolist()
    ]
    converged = fit.converged.all(1).tolist()
    held_out: Sequence[npt.NDArray[Any] | None] = [None] * b
    every = [fold for fold in folds if fold is not None and len(fold)]
    if every:
        without = torch.from_numpy(np.stack(every)).to(device)
        plain = n // tasks[0].views
        held_out = _out_of_fold(problem, without, penalty, logistic, plain)
    outcome = zip(predicted, strengths, converged, used.tolist(), held_out, strict=True)
    return [FittedHead(p, s, done, steps, own) for p, s, done, steps, own in outcome]


def _out_of_fold(
    problem: Problem, folds: Tensor, penalty: Tensor, logistic: bool, plain: int
) -> list[npt.NDArray[Any]]:
    """Score the first rows of B trials by fits without their folds, a few folds at a time.

    The fits start at zero, since the weights of all rows depend on the rows that are left out.

    Parameters
    ----------
    problem
        Rows of the trials.
    folds
        Rows that K fits leave out, bool [B, K, n]; every row as often as any other.
    penalty
        The chosen penalty, [B, 1, F, D]: F fits of one trial are its labels, or a single softmax.
    logistic
        Whether each label has a fit of its own.
    plain
        Rows to score: those without augmentation.
    """
    b, k, n = folds.shape
    many, n_classes = penalty.shape[2], problem.target.shape[1]
    limit = BYTES if folds.device.type == "cpu" else GPU_BYTES
    step = max(1, limit // (4 * b * n * many * n_classes))
    total = problem.rows.new_zeros(b, many if logistic else n_classes, n)
    for first in range(0, k, step):
        part = folds[:, first : first + step]
        some = part.shape[1]
        weight = functional.normalize((~part).to(total.dtype), p=1.0, dim=-1)
        shape = b, 1, some * many, n
        weights = weight[:, None, :, None].expand(-1, -1, -1, many, -1).reshape(shape)

        def repeated(values: Tensor, times: int = some) -> Tensor:
            wide = values[:, :, None].expand(-1, -1, times, -1, -1)
            return wide.reshape(b, values.shape[1], times * many, values.shape[3])

        target = repeated(problem.target) if logistic else problem.target
        fit = minimise(
            Problem(problem.rows, target, problem.second),
            weights,
            repeated(penalty),
            *_FINAL,
            logistic=logistic,
        )
        found = probabilities(fit.logits, logistic).view(b, -1, some, many, n)
        held = part[:, None, :, None].to(found.dtype)
        mean = (found * held).sum(2)  # [B, C, F, n]
        total += mean[:, 0] if logistic else mean[:, :, 0]
    total /= folds.sum(1)[:, None]
    return list(total[..., :plain].transpose(1, 2).contiguous().cpu().numpy())


def _mean_square(rows: Tensor) -> Tensor:
    """Mean square of each column (B, n, D) → (B, D), without a second copy of many rows."""
    n = rows.shape[1]
    if n <= _BLOCK:
        return rows.square().mean(1)
    total = torch.zeros_like(rows[:, 0])
    squares = rows[:, :_BLOCK].square()  # one buffer for all: the next would not fit in its place
    for block in torch.split(rows, _BLOCK, dim=1):
        total += torch.square(block, out=squares[:, : block.shape[1]]).sum(1)
    return total / n
