"""Many softmax heads on frozen embeddings, trained together to convergence.

A learning curve needs about a hundred heads (sizes x repeats), each with a strength of
regularisation of its own: thousands of multinomial logistic regressions on rows of one matrix.
What makes them cheap, and none of it changes the solution:

* *One rotation for all.* The penalty does not see a rotation of the features, so all images are
  turned once into their principal axes. Directions without variance (dead channels) fall away,
  and every trial's Hessian becomes nearly diagonal, so that its diagonal is a good preconditioner.
* *Row space.* A trial of few rows needs no such rotation: it moves into its own principal axes,
  n columns instead of D.
* *Conjugate gradients, one Newton step along each direction.* Logits are linear in the step, so
  an iteration is two matrix products, for all strengths and inner splits of a trial at once.
* *Threads take trials, not slices of a product.* Nothing waits at a barrier on a busy machine,
  and a result is the same bits with any number of threads.

Features are divided by one number per trial, not each by its own deviation, the usual recipe:
that recipe blows up the nearly dead channels of a backbone and cost 0.4 to 9 points of accuracy
on the images this was tuned on, at every size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from pytest_datasize.transfer.features import Features
from pytest_datasize.transfer.principal_axes import (
    PrincipalAxes,
    eigh,
    row_space,
    sample,
    with_ones,
)
from pytest_datasize.transfer.softmax_regression import Problem, minimise

__all__ = [
    "DEFAULT_STRENGTH",
    "STRENGTHS",
    "FittedHead",
    "HeadTask",
    "fit_heads",
    "head_weights",
]

STRENGTHS: tuple[float, ...] = tuple(10.0 ** (k / 2) for k in range(4, -7, -1))
"""Default grid: half decades from 100 down to 0.001."""

DEFAULT_STRENGTH = 10.0
"""Strength where the rarest class has one training image, so that nothing can be held out."""

_FOLDS, _REPEATS = 5, 5  # inner cross-validation: folds and repeats, at most
_HELD_OUT = 256  # held-out rows that vote on the strength; 600 chose no better
_SEARCH = (5e-2, 60)  # tolerance and most iterations while strengths are compared
_FINAL = (1e-3, 1000)  # the same in each round of the fit that is returned
_ROUNDS = (1, 1, 1, 8, 8, 8)  # line steps: stricter where three rounds have not settled a fit
_FLAT = 1e-10  # training rows with this share of the pool's variance count as all the same
_BLOCK = 4096  # rows squared, or scored, at a time
_CPU_BATCH_BYTES = 4 << 20  # rows and logits trained in one batch: about a CPU's cache, ...
_GPU_BATCH_BYTES = 2 << 30  # ... but as much as keeps a GPU busy
_SEARCH_BYTES = 12 << 20  # logits of the strengths that are compared at the same time
_WORK_BYTES = 3 << 29  # trials at work on a CPU at the same time, together


_T = TypeVar("_T")
_R = TypeVar("_R")


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
    """

    train: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]
    seed: int
    views: int = 1


@dataclass(frozen=True, eq=False)
class FittedHead:
    """Outcome of one trial.

    Attributes
    ----------
    probabilities : ndarray of float32, shape [m, C]
        Class probabilities of the test rows.
    strength : float
        Chosen L2 strength ``s``: the head minimises ``mean log-loss + s/2 |W|^2`` (bias free) on
        features divided by the root of their mean variance in the training rows. In scikit-learn's
        terms ``C = 1 / (s n)``.
    converged : bool
        Whether the gradient fell to the tolerance; False only after longer, stricter retries.
    iterations : int
        Iterations of the final fit, the search for the strength not counted.
    """

    probabilities: npt.NDArray[np.float32]
    strength: float
    converged: bool
    iterations: int


def fit_heads(
    features: Features,
    labels: Tensor,
    tasks: Sequence[HeadTask],
    n_classes: int,
    *,
    strengths: Sequence[float] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> list[FittedHead]:
    """Fit one regularised softmax head per task.

    The strength of each head is the one with the least held-out log-loss in a repeated stratified
    k-fold split of its own training rows (k = 5, or the size of the rarest class if smaller).

    Parameters
    ----------
    features : Features, float16, bfloat16 or float32, shape [N, D]
        Embeddings on any device, a tensor for one; the arithmetic is float32 on that device.
    labels : Tensor, int64, shape [N]
        Classes, 0 to `n_classes` - 1.
    tasks : sequence of HeadTask
        Trials, of any mix of sizes. A head depends on its own task and on `features` alone, not
        on the other tasks or their order.
    n_classes : int
        Number of classes C, at least 2.
    strengths : sequence of float, optional
        Positive strengths to choose from; a single one is used as it is. Default `STRENGTHS`.
    on_progress : callable, optional
        Called in the calling thread with the number of heads finished so far.

    Returns
    -------
    list of FittedHead
        In the order of `tasks`.

    Raises
    ------
    ValueError
        If a strength is not positive, a label is out of range, lengths differ, or a feature is
        not finite.

    Notes
    -----
    Memory beyond `features`: at most 1 GiB for the rotated features and, on a CPU, at most 1.5 GiB
    for the trials at work (or one trial, if a single one needs more). Of a large pool only the
    rows of the tasks are touched, and a sample that the principal axes are taken from.

    The global random state is neither read nor changed. On a CPU ``torch.get_num_threads()``
    trials are at work at the same time, each in one thread.

    Examples
    --------
    >>> x = torch.tensor([[0.0], [0.1], [0.9], [1.0], [0.2], [0.8]])
    >>> y = torch.tensor([0, 0, 1, 1, 0, 1])
    >>> task = HeadTask(train=np.arange(4), test=np.array([4, 5]), seed=0)
    >>> [head] = fit_heads(x, y, [task], n_classes=2)
    >>> head.converged, head.probabilities.argmax(1).tolist()
    (True, [0, 1])
    """
    grid = sorted(STRENGTHS if strengths is None else map(float, strengths), reverse=True)
    if not grid or not min(grid) > 0:
        raise ValueError(f"strengths must be positive numbers, got {strengths!r}")
    if len(labels) != len(features):
        raise ValueError(f"{len(features)} rows of features, but {len(labels)} labels")
    truth = labels.cpu().numpy()
    if n_classes < 2 or (len(truth) and not 0 <= truth.min() <= truth.max() < n_classes):
        raise ValueError(f"labels must be 0 to n_classes - 1 and n_classes >= 2, got {n_classes}")
    if not tasks:
        return []
    splits = [_inner_splits(truth[task.train], task.seed, task.views) for task in tasks]
    n_fits = [max(1, len(split)) * len(grid) for split in splits]
    sizes = [
        4 * len(task.train) * (min(len(task.train), features.shape[1]) + 5 * n_classes * fits)
        for task, fits in zip(tasks, n_fits, strict=True)
    ]
    on_cpu = features.device.type == "cpu"
    batches = list(_batches(tasks, splits, sizes, _CPU_BATCH_BYTES if on_cpu else _GPU_BATCH_BYTES))
    # a trial at work holds its rows and logits, and about three more of these
    logits = [12 * len(t.train) * n_classes * n for t, n in zip(tasks, n_fits, strict=True)]
    most = max(map(sum, zip(sizes, logits, strict=True)))
    threads = min(torch.get_num_threads(), max(1, _WORK_BYTES // most)) if on_cpu else 0

    floor = _FLAT * float(sample(features).var(0, correction=0).sum())
    axes: Future[PrincipalAxes] = Future()

    def fit(batch: list[int]) -> list[FittedHead]:
        if not batch:  # comes first; those that need it wait
            _promise(axes, features)
            return []
        chosen = [tasks[i] for i in batch], [splits[i] for i in batch]
        pool = features if _narrow(len(chosen[0][0].train), features) else axes.result()
        return _fit_batch(pool, labels, *chosen, grid, n_classes, features.shape[1], floor)

    narrow = [batch for batch in batches if _narrow(len(tasks[batch[0]].train), features)]
    wide = [batch for batch in batches if batch not in narrow]
    batches = [*([[]] if wide else []), *narrow, *wide]
    heads: dict[int, FittedHead] = {}
    for batch, fitted in zip(batches, _spread(fit, batches, threads), strict=True):
        heads.update(zip(batch, fitted, strict=True))
        if on_progress is not None:
            on_progress(len(heads))
    return [heads[i] for i in range(len(tasks))]


@torch.inference_mode()
def head_weights(
    features: Tensor,
    labels: Tensor,
    rows: npt.NDArray[np.int64],
    strength: float,
    n_classes: int,
) -> tuple[Tensor, Tensor, float]:
    """Fit one head of a known strength, as weights for the features as they are.

    Parameters
    ----------
    features : Tensor, shape [N, D]
        Embeddings.
    labels : Tensor, int64, shape [N]
        Classes.
    rows : ndarray of int64, shape [n]
        Rows to train on.
    strength : float
        As :attr:`FittedHead.strength`.
    n_classes : int
        Number of classes C.

    Returns
    -------
    weight : Tensor, float32, shape [C, D]
    bias : Tensor, float32, shape [C]
    penalty : float
        Strength in units of the features: the head minimises ``mean log-loss + penalty/2 |W|^2``.
    """
    index = torch.from_numpy(rows).to(features.device)
    chosen = features[index].float()
    centre = chosen.mean(0)
    chosen = chosen - centre
    penalty = strength * max(float(chosen.square().mean()), 1e-30)
    if wide := 2 * len(rows) < chosen.shape[1]:  # then the fit needs no more axes than rows
        values, vectors = eigh((chosen @ chosen.T).cpu())
        root = values.clamp_min(max(1e-6 * float(values[-1]), 1e-30)).sqrt()
        axes = chosen.T @ (vectors / root).to(chosen.device)
        chosen = (vectors * root).to(chosen.device)
    padded = with_ones(chosen)[None]
    target = functional.one_hot(labels[index], n_classes).to(padded.dtype).T[None, :, None]
    problem = Problem(padded, target.contiguous(), padded.square().mean(1))
    ridge = padded.new_full((1, 1, 1, padded.shape[2]), penalty)
    ridge[..., -1] = 0.0
    equal = padded.new_full((1, 1, 1, len(rows)), 1.0 / len(rows))
    weights = minimise(problem, equal, ridge, *_FINAL).weights[0, :, 0]
    weight = weights[:, :-1] @ axes.T if wide else weights[:, :-1]
    return weight, weights[:, -1] - weight @ centre, penalty


def _spread(function: Callable[[_T], _R], items: Sequence[_T], threads: int) -> Iterator[_R]:
    """`map` over that many threads of one core each, in order; 0 is the calling thread."""

    def call(item: _T) -> _R:
        with torch.inference_mode():  # is a matter of the thread
            return function(item)

    if threads == 0:
        yield from map(call, items)
        return
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from pool.map(call, items)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # the workers set it for threads yet to come, too


def _promise(axes: Future[PrincipalAxes], features: Features) -> None:
    try:
        axes.set_result(PrincipalAxes(features))
    except BaseException as problem:
        axes.set_exception(problem)
        raise


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


def _narrow(n: int, features: Features) -> bool:
    """Whether a trial has so few rows that to turn it alone costs less than more columns."""
    return 4 * n < features.shape[1]


def _batches(
    tasks: Sequence[HeadTask],
    splits: Sequence[npt.NDArray[np.bool_]],
    sizes: Sequence[int],
    limit: int,
) -> Iterator[list[int]]:
    """Batch tasks of one shape, as indices, the largest first: no thread ends long after."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, (task, split) in enumerate(zip(tasks, splits, strict=True)):
        key = (sizes[i], len(task.train), len(task.test), len(split), task.views)
        groups.setdefault(key, []).append(i)
    for shape, members in sorted(groups.items(), reverse=True):
        step = max(1, limit // shape[0])
        yield from (members[first : first + step] for first in range(0, len(members), step))


def _inner_splits(
    labels: npt.NDArray[np.int64], seed: int, views: int = 1
) -> npt.NDArray[np.bool_]:
    """Held-out rows of repeated stratified k-fold splits, bool [K, n].

    Few rows are split again and again and many rows only once or twice, until `_HELD_OUT` rows
    have voted: the noise of the choice, and its cost, are about the same at every size.
    """
    if views > 1:
        return np.tile(_inner_splits(labels[: len(labels) // views], seed), (1, views))
    n = len(labels)
    counts = np.bincount(labels)
    folds = min(_FOLDS, int(counts[counts > 0].min()))
    if folds < 2:
        return np.zeros((0, n), dtype=np.bool_)
    rng = np.random.default_rng(seed)
    wanted = min(_REPEATS * folds, -(-_HELD_OUT * folds // n))
    held: list[npt.NDArray[np.bool_]] = []
    while len(held) < wanted:
        order = rng.permutation(n)
        order = order[np.argsort(labels[order], kind="stable")]  # class by class
        fold = np.empty(n, dtype=np.int64)
        fold[order] = np.arange(n) % folds
        held += [fold == k for k in range(folds)]
    return np.stack(held[:wanted])


def _fit_batch(
    pool: Features | PrincipalAxes,
    labels: Tensor,
    tasks: Sequence[HeadTask],
    splits: Sequence[npt.NDArray[np.bool_]],
    grid: Sequence[float],
    n_classes: int,
    n_features: int,
    floor: float,
) -> list[FittedHead]:
    """Choose the strength of B trials of one shape, fit them and score their test rows."""
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
    target = functional.one_hot(labels[train], n_classes).to(rows.dtype)
    target = target.transpose(1, 2)[:, :, None].contiguous()
    problem = Problem(rows, target, second)
    # Strength times the trial's mean variance is the same as scaling its features.
    ridge = (variance / n_features)[:, None].repeat(1, rows.shape[2])
    ridge[:, -1] = 0.0  # the bias
    levels = rows.new_tensor(grid)
    k, s = held.shape[1], len(grid)

    start = None
    if s == 1 or k == 0:
        index = (levels / DEFAULT_STRENGTH).log().abs().argmin().expand(b)
    else:
        weight = functional.normalize((~held).to(rows.dtype), p=1.0, dim=-1)
        weight = weight.repeat_interleave(s, 1)[:, None]
        penalty = (levels[:, None] * ridge[:, None]).repeat(1, k, 1)[:, None]
        votes = held.repeat_interleave(s, 1)
        votes[..., n // tasks[0].views :] = False  # of the held-out rows only plain ones vote
        loss, fitted = rows.new_empty(b, k * s), rows.new_empty(b, n_classes, k * s, rows.shape[2])
        most = _SEARCH_BYTES if device.type == "cpu" else _GPU_BATCH_BYTES
        step = max(1, most // (4 * b * n * n_classes))
        for part in torch.split(torch.arange(k * s, device=device), step):
            fit = minimise(problem, weight[:, :, part], penalty[:, :, part], *_SEARCH)
            lost = torch.logsumexp(fit.logits, 1) - (fit.logits * target).sum(1)
            loss[:, part] = (lost * votes[:, part]).sum(-1)
            fitted[:, :, part] = fit.weights
        index = loss.view(b, k, s).sum(1).argmin(-1)  # the grid falls: a tie goes to the stronger
        mean = fitted.view(b, n_classes, k, s, -1).mean(2)
        start = mean.take_along_dim(index[:, None, None, None], 2)

    penalty = (levels[index, None] * ridge)[:, None, None]
    weight = rows.new_full((b, 1, 1, n), 1.0 / n)
    used = torch.zeros_like(index)
    for line_steps in _ROUNDS:
        fit = minimise(problem, weight, penalty, *_FINAL, start=start, line_steps=line_steps)
        used += fit.iterations[:, 0]
        start = fit.weights  # for another round
        if not fit.iterations.any():  # none has moved under a preconditioner taken where it stands
            break
    # test rows are taken last, a block at a time: of a large pool they weigh as much as the fits
    scores = torch.cat([fit.weights[:, :, 0] @ some.transpose(1, 2) for some in asked], dim=2)
    probabilities = torch.softmax(scores, 1).transpose(1, 2).contiguous().cpu().numpy()
    converged = fit.converged[:, 0].tolist()
    outcome = zip(probabilities, index.tolist(), converged, used.tolist(), strict=True)
    return [FittedHead(p, grid[i], done, steps) for p, i, done, steps in outcome]
