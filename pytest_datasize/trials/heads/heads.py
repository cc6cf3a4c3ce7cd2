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
from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pytest_datasize.embedding.device import free_memory, out_of_memory
from pytest_datasize.embedding.features import Features
from pytest_datasize.images.groups import main_class
from pytest_datasize.trials.heads.head_batch import GPU_BATCH_BYTES, FittedHead, HeadTask, fit_batch
from pytest_datasize.trials.heads.principal_axes import PrincipalAxes, sample

__all__ = ["STRENGTHS", "FittedHead", "HeadTask", "fit_heads"]

STRENGTHS: tuple[float, ...] = tuple(10.0 ** (k / 2) for k in range(4, -7, -1))
"""Default grid: half decades from 100 down to 0.001."""

_FOLDS, _REPEATS = 5, 5  # inner cross-validation: folds and repeats, at most
_HELD_OUT = 128  # held-out rows used to choose the strength; 256 and 600 chose no better
_FLAT = 1e-10  # training rows with this share of the pool's variance count as constant
_CPU_BATCH_BYTES = 4 << 20  # rows and logits trained in one batch: about a CPU's cache
_WORK_BYTES = 3 << 29  # memory of all parallel trials on a CPU


_T = TypeVar("_T")
_R = TypeVar("_R")


def fit_heads(
    features: Features,
    labels: Tensor,
    tasks: Sequence[HeadTask],
    n_classes: int,
    *,
    strengths: Sequence[float] | None = None,
    on_progress: Callable[[int], None] | None = None,
    on_head: Callable[[int, FittedHead], None] | None = None,
    strata: npt.NDArray[np.int64] | None = None,
    logits: bool = False,
    fold_groups: npt.NDArray[np.int64] | None = None,
) -> list[FittedHead]:
    """Fit one regularised softmax head per task.

    The strength of each head is the one with the least held-out log-loss in a repeated stratified
    k-fold split of its own training rows (k = 5, or the size of the rarest class if smaller).

    Parameters
    ----------
    features : Features, float16, bfloat16 or float32, shape [N, D]
        Embeddings on any device, a tensor for one; the arithmetic is float32 on that device.
    labels : Tensor, int64 of shape [N], or bool of shape [N, C]
        Classes, 0 to `n_classes` - 1; or which of C labels a row shows: then a head has one
        logistic regression for each label, with a strength of its own.
    tasks : sequence of HeadTask
        Trials, of any mix of sizes. A head depends on its own task and on `features` alone, not
        on the other tasks or their order.
    n_classes : int
        Number of classes C, at least 2.
    strengths : sequence of float, optional
        Positive strengths to choose from; a single one is used as it is. Default `STRENGTHS`.
    on_progress : callable, optional
        Called in the calling thread with the number of heads finished so far.
    on_head : callable, optional
        Called in the calling thread with the index of a task and its head, as soon as it is fitted:
        the caller can store it before an interruption.
    strata : ndarray of int64, shape [N], optional
        Strata of the inner splits; needed with several labels, else the classes.
    logits : bool
        Whether to return logits instead of probabilities.
    fold_groups : ndarray of int64, shape [N], optional
        Group of every row. If given, every training row is also predicted by heads of the chosen
        strength that were fitted without its fold. All rows of a group are in one fold. If no two
        rows share a group, the folds are those that chose the strength, in complete repeats.

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
    several = labels.ndim == 2
    if several and (strata is None or labels.shape[1] != n_classes):
        raise ValueError(
            f"labels of shape {tuple(labels.shape)} need strata and {n_classes} columns"
        )
    truth = labels.cpu().numpy() if strata is None else strata
    wrong = len(labels) and not (several or 0 <= labels.min() <= labels.max() < n_classes)
    if wrong or (n_classes < 2 and not several):
        raise ValueError(f"labels must be 0 to n_classes - 1 and n_classes >= 2, got {n_classes}")
    if not tasks:
        return []
    splits = [
        _inner_splits(_with_many(own) if several else own, task.seed, task.views, task.groups)
        for task in tasks
        for own in (truth[task.train],)
    ]
    folds = [
        None
        if fold_groups is None
        else _complete_splits(
            _with_many(own) if several else own,
            fold_groups[task.train],
            task.seed,
            task.views,
            classes=not several,
        )
        for task in tasks
        for own in (truth[task.train],)
    ]
    n_fits = [max(1, len(split)) * len(grid) for split in splits]
    sizes = [
        4 * len(task.train) * (min(len(task.train), features.shape[1]) + 5 * n_classes * fits)
        for task, fits in zip(tasks, n_fits, strict=True)
    ]
    on_cpu = features.device.type == "cpu"
    n_folds = [0 if fold is None else len(fold) for fold in folds]
    limit = _CPU_BATCH_BYTES if on_cpu else GPU_BATCH_BYTES
    batches = list(_batches(tasks, splits, n_folds, sizes, limit))
    # a running trial holds its rows and logits, and about three more of these
    of_logits = [12 * len(t.train) * n_classes * n for t, n in zip(tasks, n_fits, strict=True)]
    most = max(map(sum, zip(sizes, of_logits, strict=True)))
    threads = min(torch.get_num_threads(), max(1, _WORK_BYTES // most)) if on_cpu else 0

    floor = _FLAT * float(sample(features).var(0, correction=0).sum())
    axes: Future[PrincipalAxes] = Future()

    def fit(batch: list[int]) -> list[FittedHead]:
        if not batch:  # runs first; threads that need it wait
            _promise(axes, features)
            return []
        try:
            return fit_at_once(batch)
        except RuntimeError as problem:
            if on_cpu or not out_of_memory(problem):
                raise
        # outside the except block: its traceback would keep the tensors alive
        free_memory(features.device)
        if len(batch) > 1:
            half = len(batch) // 2
            return fit(batch[:half]) + fit(batch[half:])
        return fit_on_cpu(batch[0])

    def fit_on_cpu(i: int) -> list[FittedHead]:
        """Fit a head for which the device has no memory, on a copy of its own rows."""
        rows, places = np.unique(
            np.concatenate([tasks[i].train, tasks[i].test]), return_inverse=True
        )
        n = len(tasks[i].train)
        alone = replace(tasks[i], train=places[:n], test=places[n:])
        part = features[torch.from_numpy(rows).to(features.device)].cpu()
        own = labels[torch.from_numpy(rows).to(labels.device)].cpu()
        return fit_heads(
            part,
            own,
            [alone],
            n_classes,
            strengths=grid,
            strata=truth[rows],
            logits=logits,
            fold_groups=None if fold_groups is None else fold_groups[rows],
        )

    def fit_at_once(batch: list[int]) -> list[FittedHead]:
        chosen = [tasks[i] for i in batch], [splits[i] for i in batch]
        pool = features if _narrow(len(chosen[0][0].train), features) else axes.result()
        every = [folds[i] for i in batch]
        return fit_batch(
            pool, labels, *chosen, grid, n_classes, features.shape[1], floor, logits, every
        )

    narrow = [batch for batch in batches if _narrow(len(tasks[batch[0]].train), features)]
    wide = [batch for batch in batches if batch not in narrow]
    batches = [*([[]] if wide else []), *narrow, *wide]
    heads: dict[int, FittedHead] = {}
    for batch, fitted in zip(batches, in_threads(fit, batches, threads), strict=True):
        for i, head in zip(batch, fitted, strict=True):
            heads[i] = head
            if on_head is not None:
                on_head(i, head)
        if on_progress is not None:
            on_progress(len(heads))
    return [heads[i] for i in range(len(tasks))]


def in_threads(function: Callable[[_T], _R], items: Sequence[_T], threads: int) -> Iterator[_R]:
    """Map over that many threads of one core each, in order; 0 is the calling thread."""

    def call(item: _T) -> _R:
        with torch.inference_mode():  # this mode is per thread
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
        torch.set_num_threads(before)  # the workers also set it for future threads


def _promise(axes: Future[PrincipalAxes], features: Features) -> None:
    try:
        axes.set_result(PrincipalAxes(features))
    except BaseException as problem:
        axes.set_exception(problem)
        raise


def _narrow(n: int, features: Features) -> bool:
    """Whether a trial has so few rows that to turn it alone costs less than more columns."""
    return 4 * n < features.shape[1]


def _batches(
    tasks: Sequence[HeadTask],
    splits: Sequence[npt.NDArray[np.bool_]],
    n_folds: Sequence[int],
    sizes: Sequence[int],
    limit: int,
) -> Iterator[list[int]]:
    """Batch tasks of one shape, as indices, the largest first, so threads end together."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, (task, split) in enumerate(zip(tasks, splits, strict=True)):
        key = (sizes[i], len(task.train), len(task.test), len(split), n_folds[i], task.views)
        groups.setdefault(key, []).append(i)
    for shape, members in sorted(groups.items(), reverse=True):
        step = max(1, limit // shape[0])
        yield from (members[first : first + step] for first in range(0, len(members), step))


def _with_many(strata: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Merge strata with fewer rows than an inner split has parts; a stratum is no class.

    Examples
    --------
    >>> _with_many(np.array([0, 0, 0, 0, 0, 1, 1, 2, 2, 2])).tolist()
    [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
    """
    rare = np.bincount(strata)[strata] < _FOLDS
    if not rare.any():
        return strata
    if rare.sum() < _FOLDS:
        return np.zeros_like(strata)
    return np.where(rare, strata[rare].min(), strata)


def _inner_splits(
    labels: npt.NDArray[np.int64],
    seed: int,
    views: int = 1,
    groups: npt.NDArray[np.int64] | None = None,
    complete: bool = False,
) -> npt.NDArray[np.bool_]:
    """Held-out rows of repeated stratified k-fold splits, bool [K, n].

    Few rows are split again and again and many rows only once or twice, until `_HELD_OUT` rows
    have voted: the noise of the choice, and its cost, are about the same at every size. With
    `complete` the last repeat is not cut short, so that every row is held out, and equally often.
    With groups, these are split and counted in place of rows, each in the class of most of its
    rows.
    """
    if views > 1:
        plain = labels[: len(labels) // views]
        return np.tile(_inner_splits(plain, seed, 1, groups, complete), (1, views))
    if groups is not None:
        # groups are numbered by their names; here they count in the order of their first image
        _, first, numbers = np.unique(groups, return_index=True, return_inverse=True)
        numbers = np.argsort(np.argsort(first))[numbers]
        main = main_class(labels, numbers, np.arange(len(labels)))
        rarest = np.unique(main, return_counts=True)[1].min()
        main = _with_many(main) if rarest < 2 else main
        return _inner_splits(main, seed, complete=complete)[:, numbers]
    n = len(labels)
    counts = np.bincount(labels)
    folds = min(_FOLDS, int(counts[counts > 0].min()))
    if folds < 2:
        return np.zeros((0, n), dtype=np.bool_)
    # classes are numbered by their names; here they count in the order of their first image
    _, first, numbers = np.unique(labels, return_index=True, return_inverse=True)
    turn = np.argsort(np.argsort(first))[numbers]
    rng = np.random.default_rng(seed)
    wanted = min(_REPEATS * folds, -(-_HELD_OUT * folds // n))
    if complete:
        wanted = -(-wanted // folds) * folds
    held: list[npt.NDArray[np.bool_]] = []
    while len(held) < wanted:
        order = rng.permutation(n)
        order = order[np.argsort(turn[order], kind="stable")]  # class by class
        fold = np.empty(n, dtype=np.int64)
        fold[order] = np.arange(n) % folds
        held += [fold == k for k in range(folds)]
    return np.stack(held[:wanted])


def _complete_splits(
    labels: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int64],
    seed: int,
    views: int = 1,
    classes: bool = True,
) -> npt.NDArray[np.bool_]:
    """Held-out rows of repeated k-fold splits in which every row is held out once a repeat.

    Rows of one group fall into one fold: the groups of each class are put in random order and cut
    into k parts. There are as many folds as the class with the fewest groups has groups, 5 at most;
    with fewer than 2 nothing can be held out. Strata of several labels (`classes` is False) may be
    missing from a fold or from the rest, so that all groups are counted for them.

    Examples
    --------
    >>> one = _complete_splits(np.array([0, 0, 1, 1] * 30), np.arange(120) // 4, seed=0)
    >>> one.sum(axis=0).tolist() == [2] * 120, len(set(one[0].reshape(30, 4).sum(axis=1).tolist()))
    (True, 2)
    """
    if views > 1:
        n = len(labels) // views
        return np.tile(_complete_splits(labels[:n], groups[:n], seed, classes=classes), (1, views))
    n = len(labels)
    used, first, number = np.unique(groups, return_index=True, return_inverse=True)
    if len(used) == n:
        return _inner_splits(labels, seed, complete=True)
    pairs = np.unique(np.stack([labels, number]), axis=1)[0]
    fewest = int(np.unique(pairs, return_counts=True)[1].min()) if classes else len(used)
    folds = min(_FOLDS, fewest)
    if folds < 2:
        return np.zeros((0, n), dtype=np.bool_)
    sizes, label = np.bincount(number), labels[first]
    rng = np.random.default_rng(seed)
    held: list[npt.NDArray[np.bool_]] = []
    for _ in range(min(_REPEATS, -(-_HELD_OUT // n))):
        turn = np.lexsort((rng.permutation(len(used)), label))
        before = np.cumsum(sizes[turn]) - sizes[turn]
        of_class = np.bincount(label, weights=sizes)
        starts = (np.cumsum(of_class) - of_class)[label[turn]]
        fold = np.empty(len(used), dtype=np.int64)
        fold[turn] = (folds * (before - starts) / of_class[label[turn]]).astype(np.int64)
        held += [(fold == k)[number] for k in range(folds)]
    return np.stack(held)
