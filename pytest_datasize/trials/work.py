"""Define the input (Work) and output (Trials) of every strategy, and run trials in threads."""

import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from pytest_datasize.embedding.backbone import Backbone
from pytest_datasize.embedding.features import Features
from pytest_datasize.embedding.threads import n_threads
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.requirement.registries import TORCH
from pytest_datasize.requirement.tasks import CLASSIFICATION
from pytest_datasize.store import Store
from pytest_datasize.trials.networks.objective import Objective, objective_of
from pytest_datasize.trials.plan import Plan, Repeat

Progress = Callable[[str, int, int], None]

Outcome = NDArray[Any] | Mapping[str, float | list[float]]
"""Outcome of a trial: predictions for its test images, as the metrics of the task take them (class
probabilities, for example), or scores, each one number or one for each test image."""

Key = tuple[int, int]
"""A trial within a plan: training size, number of the repeat."""

Trial = tuple[int, int, Repeat]
"""The same with its permutation of the pool, as :meth:`Plan.trials` lists it."""

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True)
class Work:
    """Everything that the trials of a plan need.

    Attributes
    ----------
    plan
        Rows of the joined image sets to train and to test on.
    image_sets
        The pool, and after it the test images where given separately.
    labels
        int64 array: classes of all images of all sets in order, or strata of other labels.
    n_classes
        Number of classes, or outputs of a model: labels, numbers.
    backbone
        The pretrained model and its preprocessing.
    device
        Where it runs.
    store
        Cache of embeddings; new ones are added.
    precision
        Precision of the backbone, or ``auto``.
    seed
        Seed of a strategy's random draws; combine it with a purpose and the repeat.
    on_progress
        Called with (stage, done, in all).
    features
        Embeddings of all images of all sets in order, float16 rows of shape (N, D) that arrive on
        the device; None for strategies that make none.
    options
        Option name → value, for options of single strategies: ``augment``, ``unfreeze``, ...
    finished
        Cached outcomes of an earlier run; these trials are skipped.
    on_trial
        Called in the calling thread with (size, repeat, outcome) as each trial ends, so that
        what is finished can be kept even if the rest never is.
    device_name
        Name of the device in reports; empty for the name of ``device``.
    runtime
        What ran the frozen backbone that made the features, ``torch`` or ``openvino``.
    groups
        Group of every image of all sets in order; None if each is a group of its own.
    made
        Data that a strategy reuses for the next repeats.
    """

    plan: Plan
    image_sets: tuple[ImageSet, ...]
    labels: NDArray[np.int64]
    n_classes: int
    backbone: Backbone
    device: torch.device
    store: Store
    precision: str
    seed: int
    on_progress: Progress
    features: Features | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    finished: Mapping[Key, Outcome] = field(default_factory=dict)
    on_trial: Callable[[int, int, Outcome], None] = lambda size, repeat, outcome: None
    device_name: str = ""
    runtime: str = TORCH
    groups: NDArray[np.int64] | None = None
    made: dict[str, Any] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """What the labels are, a name in :data:`pytest_datasize.requirement.tasks.TASKS`."""
        return self.image_sets[0].task

    @property
    def truth(self) -> NDArray[Any]:
        """True labels of all images of all sets in order, as the metrics of the task take them."""
        if self.task == CLASSIFICATION:
            return self.labels
        return np.concatenate([images.truth for images in self.image_sets])

    def groups_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Return the groups of images to train on; None if groups are not the unit."""
        return None if self.plan.groups is None else self.plan.groups[rows]

    @property
    def objective(self) -> Objective:
        """What networks learn."""
        return objective_of(self.task, self.truth, self.n_classes, len(self.image_sets[0]))

    @property
    def arithmetic(self) -> str:
        """Precision and runtime in words."""
        return arithmetic(self.precision, self.runtime)


def arithmetic(precision: str, runtime: str) -> str:
    """Return precision and runtime in words.

    Examples
    --------
    >>> arithmetic("bfloat16", "openvino")
    'bfloat16 by OpenVINO'
    """
    return precision if runtime == TORCH else f"{precision} by OpenVINO"


@dataclass(frozen=True)
class Trials:
    """The outcome of every trial of some repeats of a plan.

    Attributes
    ----------
    probabilities
        Per size, per repeat: class probabilities of the repeat's test images, (n_test, C); empty
        where the trials gave bare scores.
    seconds
        Stage → wall time in seconds.
    notes
        Notes for the report.
    unconverged
        Number of heads that have not converged.
    scores
        Per size, per repeat: name → score, where a trial gave no outcomes of single images.
    arithmetic
        Precision and runtime of the backbone, in words; empty for those of the work.
    """

    probabilities: tuple[tuple[NDArray[Any], ...], ...]
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()
    unconverged: int = 0
    scores: tuple[tuple[Mapping[str, float | list[float]], ...], ...] = ()
    arithmetic: str = ""


class Ledger:
    """The trials of a span of repeats: cached outcomes, and trials left to train.

    Parameters
    ----------
    work, span
        Input of the strategy.
    """

    def __init__(self, work: Work, span: tuple[int, int]) -> None:
        self._work = work
        self._all = work.plan.trials(*span)
        self._known = {
            (size, number): work.finished[size, number]
            for size, number, _ in self._all
            if (size, number) in work.finished
        }
        self.resumed = len(self._known)

    @property
    def pending(self) -> list[Trial]:
        """Trials that are left, the smallest first, as :meth:`Plan.trials` lists them."""
        return [trial for trial in self._all if trial[:2] not in self._known]

    @property
    def total(self) -> int:
        """Number of trials of the span."""
        return len(self._all)

    def add(self, size: int, number: int, outcome: Outcome) -> None:
        """Record the outcome of a trial, and report it at once."""
        self._known[size, number] = outcome
        self._work.on_trial(size, number, outcome)

    def trials(
        self,
        seconds: dict[str, float],
        notes: Sequence[str] = (),
        unconverged: int = 0,
        arithmetic: str = "",
    ) -> Trials:
        """Return all outcomes in the order of the plan."""
        by_size: dict[int, list[Outcome]] = {size: [] for size in self._work.plan.sizes}
        for size, number, _ in self._all:
            by_size[size].append(self._known[size, number])
        found = tuple(tuple(outcomes) for outcomes in by_size.values())
        if self.resumed:
            notes = (*notes, f"{self.resumed} of {self.total} trials were known from before")
        bare = any(isinstance(outcome, Mapping) for outcomes in found for outcome in outcomes)
        if bare:
            return Trials((), seconds, tuple(notes), 0, found, arithmetic)  # type: ignore[arg-type]
        return Trials(found, seconds, tuple(notes), unconverged, (), arithmetic)  # type: ignore[arg-type]


def whole_repeats(ledger: Ledger) -> list[Trial]:
    """Order the remaining trials by repeat, so that an interrupted run still gives a curve.

    Within a repeat the largest come first, so that the threads end at similar times.
    """
    return sorted(ledger.pending, key=lambda trial: (trial[1], -trial[0]))


class Stop(threading.Event):
    """Set when training should end; a trial checks it before every step."""


@contextmanager
def spread(
    function: Callable[[_T, Stop], _R], items: Sequence[_T], threads: int
) -> Iterator[Iterator[tuple[_T, _R]]]:
    """Run a function over items in threads of one core each; give (item, result) as they end.

    When anything raises (Ctrl-C too), in the threads or in the ``with`` block, running items are
    signalled to stop, the rest never start, and the block is left when all have ended. (A plain
    generator would wait for the threads whenever it is collected as garbage, which may be while
    an import lock is held that a thread waits for.)

    Parameters
    ----------
    function
        Called with an item and the event that signals it to stop.
    items
        In the order in which they start.
    threads
        Threads; 0 works in the calling thread, as a GPU wants it.
    """
    stop = Stop()
    if threads == 0:
        yield ((item, function(item, stop)) for item in items)
        return
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        running: dict[Future[_R], _T] = {pool.submit(function, i, stop): i for i in items}
        yield _as_they_end(running)
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # the workers also set it for future threads


def _as_they_end(running: dict[Future[_R], _T]) -> Iterator[tuple[_T, _R]]:
    while running:
        ended, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in [future for future in running if future in ended]:
            yield running.pop(future), future.result()


def workers(device: torch.device) -> int:
    """Number of parallel trials: one per core, or a single one on a GPU."""
    return n_threads() if device.type == "cpu" else 0


def pack(outcome: Outcome) -> bytes:
    """Serialise an outcome to bytes: scores as JSON, probabilities as numpy's own format.

    Examples
    --------
    >>> unpack(pack({"loss": 0.25}))
    {'loss': 0.25}
    >>> unpack(pack(np.eye(2))).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    if isinstance(outcome, Mapping):
        return b"s" + json.dumps(dict(outcome)).encode()
    stream = io.BytesIO()
    np.save(stream, outcome, allow_pickle=False)
    return b"p" + stream.getvalue()


def unpack(packed: bytes) -> Outcome:
    """Read what :func:`pack` wrote."""
    if packed[:1] == b"s":
        scores: dict[str, float | list[float]] = json.loads(packed[1:])
        return scores
    probabilities: NDArray[Any] = np.load(io.BytesIO(packed[1:]), allow_pickle=False)
    return probabilities
