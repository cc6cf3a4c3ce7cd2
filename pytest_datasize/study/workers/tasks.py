"""The tasks of workers: choose hardware-dependent settings, embed images, train trials.

A worker is the same study in another process. Images are embedded and trials trained there exactly
as in the parent process. Earlier decisions (precision, copies, near-duplicates, the plan) are sent
to the worker, which does not repeat them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import wraps
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.errors import DatasetError, EngineError
from pytest_datasize.images.image_set import ImageSet, Raw
from pytest_datasize.requirement.process_settings import own_settings
from pytest_datasize.store.arrays import HalfArray
from pytest_datasize.study.context import StudyContext
from pytest_datasize.study.workers.remote_study import RemoteStudy, kept_views, sent
from pytest_datasize.trials.plan import Plan

if TYPE_CHECKING:
    from pytest_datasize.embedding.embedder import Embedder, Space
    from pytest_datasize.trials.work import Trials, Work

_T = TypeVar("_T")

Strategy = Callable[["Work", tuple[int, int]], "Trials"]
"""Trains and scores the trials of some repeats."""


def _settled(call: Callable[..., _T]) -> Callable[..., _T]:
    """Run a task with this package's process-wide settings, on the current device of the worker."""

    @wraps(call)
    def wrapped(self: Any, item: Any, state: dict[Any, Any], /) -> _T:
        from pytest_datasize.embedding.device import current  # imports torch: it has settings, too

        with own_settings(), current(self.remote.context(state).device):
            return call(self, item, state)

    return wrapped


class Setup(NamedTuple):
    """Hardware-dependent settings of a worker.

    Attributes
    ----------
    device, precision
        Device and precision of networks.
    shared
        Whether the worker sees the store.
    space
        The embedding space; None for a strategy without embeddings.
    """

    device: str
    precision: str
    shared: bool
    space: "Space | None"


@dataclass(frozen=True, eq=False)
class SettleTask:
    """Task: choose device and precision on the workers' hardware."""

    remote: RemoteStudy

    @_settled
    def __call__(self, item: None, state: dict[Any, Any], /) -> Setup:
        """Test half precision on the first images, if there are images to embed."""
        from pytest_datasize.embedding import device as devices

        context = self.remote.context(state)
        device, space = context.device, None
        if context.embeds_images:
            space = _embedder(self.remote, state).settle(self.remote.first(state), context.store)
        trained = devices.trained_in(device, context.options["strategy"])
        precision = space.precision if space else trained
        return Setup(devices.describe(device), precision, self.remote.shared, space)


class Span(NamedTuple):
    """Some images of a study, by their rows; with their bytes if images are sent."""

    start: int
    stop: int
    raws: tuple[Raw, ...] | None = None


class EmbeddedSpan(NamedTuple):
    """Contents of a span of images; embeddings, (n, D), if the worker does not see the store."""

    contents: tuple[str, ...]
    rows: HalfArray | None


@dataclass(frozen=True, eq=False)
class EmbedTask:
    """Task: embed a span of images.

    Attributes
    ----------
    remote
        The context.
    space
        The embedding space that was chosen.
    """

    remote: RemoteStudy
    space: "Space"

    @_settled
    def __call__(self, span: Span, state: dict[Any, Any], /) -> EmbeddedSpan | None:
        """Embed; None if some images cannot be read, which the study itself then reports."""
        from pytest_datasize.embedding.embed import embed

        context = self.remote.context(state)
        embedder = _embedder(self.remote, state)
        space = embedder.settle(self.remote.first(state), context.store)
        if space != self.space:
            raise EngineError(
                f"workers differ: one embeds in {space.key!r}, another in {self.space.key!r}. "
                "Set device and precision, or join machines of one kind."
            )
        images = self._images(context, span, state)
        try:
            found = embed(images, embedder, context.store)
            if self.remote.shared and span.raws is None:
                self._views(context, span, state)
        except DatasetError:
            return None
        contents = tuple(chain.from_iterable(found.contents))
        return EmbeddedSpan(
            contents, None if self.remote.shared else found.features[:].cpu().numpy()
        )

    def _images(self, context: StudyContext, span: Span, state: dict[Any, Any]) -> list[ImageSet]:
        if span.raws is not None:
            return [sent(span.raws, context, self.remote.depth)]
        parts, first = [], 0
        for images in self.remote.parts(state):
            start, stop = max(span.start - first, 0), min(span.stop - first, len(images))
            if start < stop:
                parts.append(images.part(np.arange(start, stop)))
            first += len(images)
        return parts

    def _views(self, context: StudyContext, span: Span, state: dict[Any, Any]) -> None:
        """Embed the augmented views of training images, so that training tasks find them."""
        from pytest_datasize.embedding.embed import embed
        from pytest_datasize.embedding.embedder import Embedder

        pool = self.remote.parts(state)[0]
        images = pool.part(np.arange(span.start, max(span.start, min(span.stop, len(pool)))))
        if "views" not in state:
            device, asked = _embedder(self.remote, state).device, self.space.precision
            state["views"] = [
                Embedder(view, device, asked, runtime=self.space.runtime)
                for view in kept_views(context)
            ]
        for embedder in state["views"] if images else ():
            embed([images], embedder, context.store)


class TrialRange(NamedTuple):
    """Some trials of a plan: all listed sizes, for the repeats from start to stop."""

    sizes: tuple[int, ...]
    start: int
    stop: int


class TrainedTrials(NamedTuple):
    """The packed outcomes of some trials, and their notes."""

    outcomes: tuple[tuple[int, int, bytes], ...]
    notes: tuple[str, ...]
    unconverged: int


@dataclass(frozen=True, eq=False)
class TrainTask:
    """Task: train some trials.

    Attributes
    ----------
    remote
        The context.
    strategy
        Trains and scores the trials.
    plan
        Training and test rows.
    raw
        Contents of all images in the order of their source, part by part.
    used
        Contents of the images of the plan, in its order, part by part.
    labels
        Their labels.
    groups
        Their groups, those that near-duplicates link joined; None if each is a group of its own.
    fingerprint
        Hash of the images, their groups and near-duplicates, from the study.
    space
        The embedding space; None for a strategy without embeddings.
    """

    remote: RemoteStudy
    strategy: Strategy
    plan: Plan
    raw: tuple[tuple[str, ...], ...]
    used: tuple[tuple[str, ...], ...]
    labels: NDArray[np.int64] = field(repr=False)
    groups: NDArray[np.int64] | None = field(repr=False)
    fingerprint: str
    space: "Space | None"

    @_settled
    def __call__(self, some: TrialRange, state: dict[Any, Any], /) -> TrainedTrials:
        """Train, return the outcomes and write them to the store too."""
        from pytest_datasize.trials.work import pack

        context = self.remote.context(state)
        if state.get("training") is not self:
            state.update(training=self, work=self._work(context, state))
        outcomes: list[tuple[int, int, bytes]] = []
        work = state["work"]
        on_trial = work.on_trial

        def finished(size: int, repeat: int, outcome: Any) -> None:
            on_trial(size, repeat, outcome)
            outcomes.append((size, repeat, pack(outcome)))

        plan = replace(self.plan, sizes=some.sizes)
        part = replace(work, plan=plan, on_trial=finished, finished={})
        found = self.strategy(part, (some.start, some.stop))
        return TrainedTrials(tuple(outcomes), found.notes, found.unconverged)

    def _work(self, context: StudyContext, state: dict[Any, Any]) -> "Work":
        from pytest_datasize.embedding.embed import embed
        from pytest_datasize.embedding.embedder import Embedder
        from pytest_datasize.study.prepare import work_of

        sets, first = [], 0
        parts = self.remote.parts(state)
        for images, raw, used in zip(parts, self.raw, self.used, strict=True):
            row_of = {content: row for row, content in enumerate(raw)}
            kept = replace(images, digests=raw).part([row_of[content] for content in used])
            sets.append(replace(kept, labels=self.labels[first : first + len(used)]))
            first += len(used)
        features = None
        if self.space is not None:
            embedder = Embedder(context.backbone.loaded, context.device, space=self.space)
            features = embed(sets, embedder, context.store).features
        context.pool.take_fingerprint(self.fingerprint)
        return work_of(context, tuple(sets), self.plan, self.space, features, self.groups)


def _embedder(remote: RemoteStudy, state: dict[Any, Any]) -> "Embedder":
    """Return the model of this worker, prepared on first use."""
    if "embedder" not in state:
        from pytest_datasize.embedding.embedder import Embedder

        context = remote.context(state)
        model, asked = context.backbone.loaded, context.options["precision"]
        state["embedder"] = Embedder(model, context.device, asked, runtime=context.runtime)
    found: Embedder = state["embedder"]
    return found
