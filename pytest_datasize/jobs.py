"""What the workers of an engine do: the jobs that a study hands out.

A worker is the same study in another process. Images are embedded and trials trained there exactly
as they would be here; what was settled before (precision, copies, near-duplicates, the plan) is
handed on, not settled again.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pytest_datasize.copies import Copy, kept_views, sent
from pytest_datasize.errors import DatasetError, EngineError
from pytest_datasize.images.image_set import ImageSet, Raw
from pytest_datasize.ndarrays import IntArray
from pytest_datasize.plan import Plan
from pytest_datasize.store.rows import HalfArray
from pytest_datasize.vocabulary import EMBEDDING_STRATEGIES

if TYPE_CHECKING:
    from pytest_datasize.study import Study
    from pytest_datasize.transfer.embedder import Embedder, Space
    from pytest_datasize.transfer.trials import Trials, Work

Strategy = Callable[["Work", tuple[int, int]], "Trials"]
"""Trains and scores the trials of some repeats."""


class Place(NamedTuple):
    """Where a worker embeds and trains, and in what.

    Attributes
    ----------
    device, precision
        Where, and in which precision networks run.
    shared
        Whether it sees the store.
    space
        What its embeddings depend on; None for a strategy that works without them.
    """

    device: str
    precision: str
    shared: bool
    space: "Space | None"


@dataclass(frozen=True, eq=False)
class Settling:
    """Job: settle what depends on the workers' hardware."""

    copy: Copy

    def __call__(self, portion: None, desk: dict[Any, Any], /) -> Place:
        """Try half precision on the first images, if there is something to embed."""
        from pytest_datasize.transfer import device as devices

        study = self.copy.study(desk)
        device, space = study.device, None
        if study.options["strategy"] in EMBEDDING_STRATEGIES:
            space = _embedder(self.copy, desk).settle(self.copy.first(desk), study.store)
        precision = space.precision if space else devices.trained_in(device)
        return Place(devices.describe(device), precision, self.copy.shared, space)


class Span(NamedTuple):
    """Some images of a study, by their rows among all of them; their bytes where they are sent."""

    start: int
    stop: int
    raws: tuple[Raw, ...] | None = None


class Embedded(NamedTuple):
    """Contents of a span of images; their embeddings, (n, D), where the store is out of sight."""

    contents: tuple[str, ...]
    rows: HalfArray | None


@dataclass(frozen=True, eq=False)
class Embedding:
    """Job: embed a span of images.

    Attributes
    ----------
    copy
        The study.
    space
        What was settled.
    """

    copy: Copy
    space: "Space"

    def __call__(self, span: Span, desk: dict[Any, Any], /) -> Embedded | None:
        """Embed; None where some cannot be read, which is then told by the study itself."""
        from pytest_datasize.transfer.embedding import embed

        study = self.copy.study(desk)
        embedder = _embedder(self.copy, desk)
        space = embedder.settle(self.copy.first(desk), study.store)
        if space != self.space:
            raise EngineError(
                f"workers differ: one embeds in {space.key!r}, another in {self.space.key!r}. "
                "Set device and precision, or join machines of one kind."
            )
        images = self._images(study, span, desk)
        try:
            found = embed(images, embedder, study.store)
            if self.copy.shared and span.raws is None:
                self._views(study, span, desk)
        except DatasetError:
            return None
        contents = tuple(chain.from_iterable(found.contents))
        return Embedded(contents, None if self.copy.shared else found.features[:].cpu().numpy())

    def _images(self, study: "Study", span: Span, desk: dict[Any, Any]) -> list[ImageSet]:
        if span.raws is not None:
            return [sent(span.raws, study)]
        parts, first = [], 0
        for images in self.copy.parts(desk):
            start, stop = max(span.start - first, 0), min(span.stop - first, len(images))
            if start < stop:
                parts.append(images.part(np.arange(start, stop)))
            first += len(images)
        return parts

    def _views(self, study: "Study", span: Span, desk: dict[Any, Any]) -> None:
        """Embed the augmented views of images to train on, so that whoever trains finds them."""
        from pytest_datasize.transfer.embedder import Embedder
        from pytest_datasize.transfer.embedding import embed

        pool = self.copy.parts(desk)[0]
        images = pool.part(np.arange(span.start, max(span.start, min(span.stop, len(pool)))))
        if "views" not in desk:
            device, asked = _embedder(self.copy, desk).device, self.space.precision
            desk["views"] = [Embedder(view, device, asked) for view in kept_views(study)]
        for embedder in desk["views"] if images else ():
            embed([images], embedder, study.store)


class Some(NamedTuple):
    """Some trials of a plan: every size that is listed, of the repeats from start to stop."""

    sizes: tuple[int, ...]
    start: int
    stop: int


class Trained(NamedTuple):
    """The outcomes of some trials, packed, and what was said of them."""

    outcomes: tuple[tuple[int, int, bytes], ...]
    notes: tuple[str, ...]
    unconverged: int


@dataclass(frozen=True, eq=False)
class Training:
    """Job: train some trials.

    Attributes
    ----------
    copy
        The study.
    strategy
        Trains and scores.
    plan
        Rows to train and test on.
    raw
        Contents of all images as their source has them, part by part.
    used
        Contents of the images of the plan, in its order, part by part.
    labels
        Their labels.
    space
        What embeddings depend on; None for a strategy that works without them.
    """

    copy: Copy
    strategy: Strategy
    plan: Plan
    raw: tuple[tuple[str, ...], ...]
    used: tuple[tuple[str, ...], ...]
    labels: IntArray = field(repr=False)
    space: "Space | None"

    def __call__(self, some: Some, desk: dict[Any, Any], /) -> Trained:
        """Train, and leave the outcomes in the store as well."""
        from pytest_datasize.transfer.trials import pack

        study = self.copy.study(desk)
        if desk.get("training") is not self:
            desk.update(training=self, work=self._work(study, desk))
        outcomes: list[tuple[int, int, bytes]] = []
        work = desk["work"]
        on_trial = work.on_trial

        def finished(size: int, repeat: int, outcome: Any) -> None:
            on_trial(size, repeat, outcome)
            outcomes.append((size, repeat, pack(outcome)))

        plan = replace(self.plan, sizes=some.sizes)
        part = replace(work, plan=plan, on_trial=finished, finished={})
        found = self.strategy(part, (some.start, some.stop))
        return Trained(tuple(outcomes), found.notes, found.unconverged)

    def _work(self, study: "Study", desk: dict[Any, Any]) -> "Work":
        from pytest_datasize.experiment import work_of
        from pytest_datasize.transfer.embedder import Embedder
        from pytest_datasize.transfer.embedding import embed

        sets, first = [], 0
        parts = self.copy.parts(desk)
        for images, raw, used in zip(parts, self.raw, self.used, strict=True):
            row_of = {content: row for row, content in enumerate(raw)}
            kept = replace(images, digests=raw).part([row_of[content] for content in used])
            sets.append(replace(kept, labels=self.labels[first : first + len(used)]))
            first += len(used)
        features = None
        if self.space is not None:
            embedder = Embedder(study.model.backbone, study.device, space=self.space)
            features = embed(sets, embedder, study.store).features
        with warnings.catch_warnings(action="ignore"):  # they are given once, by the study itself
            study.collection.name(self.raw)
        return work_of(study, tuple(sets), self.plan, self.space, features)


def _embedder(copy: Copy, desk: dict[Any, Any]) -> "Embedder":
    """Return the model of this worker, which makes it ready once."""
    if "embedder" not in desk:
        from pytest_datasize.transfer.embedder import Embedder

        study = copy.study(desk)
        model, asked = study.model.backbone, study.options["precision"]
        desk["embedder"] = Embedder(model, study.device, asked)
    found: Embedder = desk["embedder"]
    return found
