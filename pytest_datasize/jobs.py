"""What the workers of an engine do: the jobs that a study hands out.

A worker is the same study in another process. Images are embedded and trials trained there exactly
as they would be here; what was settled before (precision, copies, near-duplicates, the plan) is
handed on, not settled again.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pytest_datasize.errors import DatasetError, EngineError
from pytest_datasize.images.image_set import ImageSet, Raw
from pytest_datasize.ndarrays import IntArray
from pytest_datasize.plan import Plan
from pytest_datasize.store import Store
from pytest_datasize.store.rows import HalfArray

if TYPE_CHECKING:
    from pytest_datasize.study import Study
    from pytest_datasize.transfer.embedding import Space
    from pytest_datasize.transfer.trials import Trials, Work

Strategy = Callable[["Work", tuple[int, int]], "Trials"]
"""Trains and scores the trials of some repeats."""


@dataclass(frozen=True, eq=False)
class Copy:
    """A study, as a worker makes it again.

    Attributes
    ----------
    make
        The class of the study.
    given
        Its arguments.
    store
        Folder of the store here.
    mark
        Name of a file in it, by which a worker knows that it sees the same folder.
    sample
        The first images as bytes, where images are sent; None where workers read them themselves.
    refresh, verify
        As in the store here, for the embedding; later jobs count on what it has left.
    """

    make: Callable[..., "Study"]
    given: Mapping[str, Any]
    store: Path
    mark: str
    sample: tuple[Raw, ...] | None
    refresh: bool = False
    verify: bool = False

    @property
    def shared(self) -> bool:
        """Whether this process sees the store."""
        return (self.store / self.mark).exists()

    def study(self, desk: dict[Any, Any]) -> "Study":
        """Return the study of this worker."""
        name = (self.mark, self.refresh, self.verify)
        if desk.get("copy") != name:
            folder = self.store if self.shared else None
            store = Store(folder, refresh=self.refresh, verify=self.verify)
            desk.clear()
            desk.update(copy=name, study=self.make(**self.given, store=store))
        study: Study = desk["study"]
        return study

    def first(self, study: "Study") -> ImageSet:
        """Return the first images, which half precision is tried on."""
        if self.sample is not None:
            return _sent(self.sample, study)
        return first_of(study.collection.raw.images)


class Place(NamedTuple):
    """What a worker embeds in, and where."""

    space: "Space"
    device: str


@dataclass(frozen=True, eq=False)
class Settling:
    """Job: settle what embeddings depend on, on the workers' hardware."""

    copy: Copy

    def __call__(self, portion: None, desk: dict[Any, Any], /) -> Place:
        """Try half precision on the first images."""
        from pytest_datasize.transfer import device as devices
        from pytest_datasize.transfer.embedding import settle

        study = self.copy.study(desk)
        device = devices.resolve(study.options["device"])
        first, asked = self.copy.first(study), study.options["precision"]
        space = settle(first, study.model.backbone, device, study.store, asked)
        return Place(space, devices.describe(device))


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
        from pytest_datasize.transfer import device as devices
        from pytest_datasize.transfer.embedding import embed, settle

        study = self.copy.study(desk)
        backbone, first = study.model.backbone, self.copy.first(study)
        device, asked = devices.resolve(study.options["device"]), study.options["precision"]
        if "space" not in desk:
            desk["space"] = settle(first, backbone, device, study.store, asked)
        if desk["space"] != self.space:
            raise EngineError(
                f"workers differ: one embeds in {desk['space'].key!r}, another in "
                f"{self.space.key!r}. Set device and precision, or join machines of one kind."
            )
        try:
            found = embed(
                self._images(study, span),
                backbone,
                device,
                study.store,
                sample=first,
                space=self.space,
            )
        except DatasetError:
            return None
        contents = tuple(chain.from_iterable(found.contents))
        return Embedded(contents, None if self.copy.shared else found.features[:].cpu().numpy())

    def _images(self, study: "Study", span: Span) -> list[ImageSet]:
        if span.raws is not None:
            return [_sent(span.raws, study)]
        parts, first = [], 0
        for images in filter(None, study.collection.raw):
            start, stop = max(span.start - first, 0), min(span.stop - first, len(images))
            if start < stop:
                parts.append(images.part(np.arange(start, stop)))
            first += len(images)
        return parts


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
            desk.update(training=self, work=self._work(study))
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

    def _work(self, study: "Study") -> "Work":
        from pytest_datasize.transfer import device as devices
        from pytest_datasize.transfer.embedding import embed

        sets, first = [], 0
        parts = [part for part in study.collection.raw if part]
        for images, raw, used in zip(parts, self.raw, self.used, strict=True):
            row_of = {content: row for row, content in enumerate(raw)}
            kept = replace(images, digests=raw).part([row_of[content] for content in used])
            sets.append(replace(kept, labels=self.labels[first : first + len(used)]))
            first += len(used)
        device = devices.resolve(study.options["device"])
        features = None
        if self.space is not None:
            found = embed(sets, study.model.backbone, device, study.store, space=self.space)
            features = found.features
        with warnings.catch_warnings(action="ignore"):  # they are given once, by the study itself
            study.collection.name(self.raw)
        return study.work(tuple(sets), self.plan, device, self.space, features)


def _sent(raws: tuple[Raw, ...], study: "Study") -> ImageSet:
    return ImageSet(
        source="images that were sent",
        classes=("",),
        labels=np.zeros(len(raws), dtype=np.int64),
        read=lambda row: raws[row],
        name=lambda row: f"image {row}",
        max_pixels=study.options["max_pixels"],
    )


def first_of(images: ImageSet) -> ImageSet:
    """Return the first images, which half precision is tried on."""
    from pytest_datasize.transfer.embedding import SAMPLE

    return images.part(np.arange(min(SAMPLE, len(images))))
