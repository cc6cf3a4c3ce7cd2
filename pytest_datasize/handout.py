"""How a study hands out its work to an engine, and counts the answers as if found here.

Results go into the store where the workers see it, and come back in the answers where they do not.
"""

import os
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_datasize.code import named
from pytest_datasize.copies import Copy, kept_views, listing
from pytest_datasize.engines import Engine
from pytest_datasize.errors import EngineError, TrainingError
from pytest_datasize.images import perceptual_hash
from pytest_datasize.images.contents import known_contents
from pytest_datasize.images.image_set import ImageSet, Raw
from pytest_datasize.jobs import (
    Embedded,
    Embedding,
    Place,
    Settling,
    Some,
    Span,
    Strategy,
    Training,
)

if TYPE_CHECKING:
    from pytest_datasize.study import Study
    from pytest_datasize.transfer.embedder import Space
    from pytest_datasize.transfer.trials import Trials, Work

_LEAST, _MOST = 64, 1024  # images of a portion
_PER_WORKER = 4  # portions of images that a worker gets, about: so that all end together


class Handout:
    """One run's dealings with an engine, to be used in a ``with`` statement.

    Parameters
    ----------
    engine
        Whose workers do it.
    study
        The study; its store lies in a folder.
    given
        Arguments that make the same study elsewhere.
    """

    def __init__(self, engine: Engine, study: "Study", given: Mapping[str, Any]) -> None:
        self._engine, self._study = engine, study
        self._upload = study.options["engine"] == "ray" and study.options["ray_upload"]
        folder = study.store.folder
        if folder is None:
            raise AssertionError("an engine needs a store that other processes can open")
        self._mark = folder.resolve() / f"shared-{secrets.token_hex(8)}"
        sent = {"dataset": "images that are sent", "test_dataset": None}
        self._given = {**given, **sent} if self._upload else given
        self._here = self._upload  # whether the embeddings are here alone
        self._job: Training | None = None
        self._first = next(iter(study.finished.values()), None)
        self.place: Place | None = None

    def __enter__(self) -> "Handout":
        with suppress(OSError):  # where it cannot be written no worker sees it, and all comes back
            self._mark.touch()
        return self

    def __exit__(self, *exception: object) -> None:
        with suppress(OSError):
            self._mark.unlink(missing_ok=True)

    @property
    def space(self) -> "Space | None":
        """What embeddings depend on, once workers have embedded."""
        return self.place.space if self.place else None

    def embed(self, parts: tuple[ImageSet, ...]) -> tuple[ImageSet, ...]:
        """Let the workers embed what is not known; the store has it then.

        Parameters
        ----------
        parts
            All images of the study, part by part.

        Returns
        -------
        tuple of ImageSet
            The same, named by their content where the workers could read all of them.

        Raises
        ------
        DatasizeError
            Workers cannot be had, keep dying or differ; or the backbone cannot be had there.
        """
        from pytest_datasize.transfer.embedder import SAMPLE

        study, store = self._study, self._study.store
        places = [(images, row) for images in parts for row in range(len(images))]
        copy = self._copy(
            _read(places[: min(SAMPLE, len(parts[0]))]) if self._upload else None,
            refresh=store.refresh,
            verify=store.verify,
        )
        place = self._settle(copy)
        assert place.space is not None
        contents = [content for images in parts for content in known_contents(images, store)]
        stored = self._stored(contents, len(parts[0]), place.space.key)
        total = len(places)
        step = min(max(total // (_PER_WORKER * self._engine.workers()), _LEAST), _MOST)
        spans = [
            Span(first, min(first + step, total))
            for first in range(0, total, step)
            if not stored[first : first + step].all()
        ]
        done = total - sum(span.stop - span.start for span in spans)
        portions = _Sent(spans, places) if self._upload else spans
        for span, answer in self._engine.map(Embedding(copy, place.space), portions):
            if answer is not None:
                self._take(places[span.start : span.stop], answer)
                contents[span.start : span.stop] = answer.contents
            done += span.stop - span.start
            study.on_progress("embedding images", done, total)
        return _named(parts, contents)

    def work(self, work: "Work") -> "Work":
        """Name the device and the precision of the workers, where they are not those here.

        Raises
        ------
        DatasizeError
            Workers cannot be had; or images were to be sent to workers that need the data set.
        """
        if self._upload and work.features is None:
            raise EngineError(
                "engine=ray: ray_upload=true sends images to be embedded; strategy="
                f"{work.options['strategy']} needs the data set itself. Put it on a path that all "
                "machines share, or set strategy=feature_extraction."
            )
        place = self.place or self._settle(self._copy(None))
        return replace(work, device_name=place.device, precision=place.precision)

    def strategy(self, function: Strategy) -> Strategy:
        """Return a strategy that lets the workers train."""

        def run(work: "Work", span: tuple[int, int]) -> "Trials":
            return self._train(function, work, span)

        return run

    def _train(self, strategy: Strategy, work: "Work", span: tuple[int, int]) -> "Trials":
        from pytest_datasize.transfer.own_training import other_metrics
        from pytest_datasize.transfer.trials import Ledger, unpack

        ledger = Ledger(work, span)
        if not ledger.pending:
            return ledger.trials({})
        if work.features is not None and self._here:
            return strategy(work, span)  # heads are trained where the embeddings are
        start = time.perf_counter()
        notes: list[str] = []
        unconverged, done = 0, ledger.resumed
        if self._job is None or self._job.plan is not work.plan:
            self._job = Training(
                self._copy(None),
                strategy,
                work.plan,
                self._study.collection.contents,
                tuple(images.digests for images in work.image_sets),
                work.labels,
                None if work.features is None else self.space,
            )
        embeds = work.features is not None
        portions = _portions(ledger.pending, span, self._engine.workers(), embeds)
        for _, found in self._engine.map(self._job, portions):
            for size, repeat, packed in found.outcomes:
                outcome = unpack(packed)
                self._first = outcome if self._first is None else self._first
                if differing := other_metrics(outcome, self._first):
                    trainer = named(work.options["trainer"])
                    raise TrainingError(
                        f"{trainer}, trial with {size} images, repeat {repeat}: {differing}"
                    )
                ledger.add(size, repeat, outcome)
            notes += found.notes
            unconverged += found.unconverged
            done += len(found.outcomes)
            work.on_progress("training models", done, ledger.total)
        seconds = {work.options["strategy"]: time.perf_counter() - start}
        return ledger.trials(seconds, tuple(dict.fromkeys(notes)), unconverged)

    def _settle(self, copy: Copy) -> Place:
        place: Place
        [(_, place)] = self._engine.map(Settling(copy), [None])
        self.place, self._here = place, self._here or not place.shared
        return place

    def _stored(
        self, contents: Sequence[str | None], n_pool: int, key: str
    ) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Tell which images need no worker: bool, shape (N,)."""
        store, base = self._study.store, self._study.model.backbone.key
        names = [content or "" for content in contents]
        stored = store.rows(key).has(names)
        for view in kept_views(self._study):
            name = view.key + key.removeprefix(base)
            stored[:n_pool] &= store.rows(name).has(names[:n_pool])
        return stored

    def _take(self, places: Sequence[tuple[ImageSet, int]], answer: Embedded) -> None:
        """Count a worker's embeddings as found here; keep what it could not, out of sight."""
        assert self.space is not None
        store, key = self._study.store, self.space.key
        rows = store.rows(key)
        if answer.rows is not None:
            self._here = True
            if rows.width is None:
                store.set_width(key, answer.rows.shape[1])
            first = {c: row for row, c in reversed([*enumerate(answer.contents)])}
            new = [c for c, known in zip(first, rows.has(list(first)), strict=True) if not known]
            if new:
                rows.add(new, answer.rows[[first[content] for content in new]])
        rows.trust(answer.contents)
        perceptual_hash.trust(store, answer.contents)
        stamps = [images.stamps[row] for images, row in places]
        known = zip(stamps, answer.contents, strict=True)
        store.remember({stamp: content for stamp, content in known if stamp is not None})

    def _copy(self, sample: tuple[Raw, ...] | None, **flags: bool) -> Copy:
        make, seen = type(self._study), listing(self._study.collection.raw)
        return Copy(make, self._given, self._mark.parent, self._mark.name, sample, seen, **flags)


def portable(given: Mapping[str, Any]) -> dict[str, Any]:
    """Make paths absolute, so that they mean the same in another working directory."""
    found = dict(given)
    for name in ("dataset", "test_dataset", "weights"):
        value = found.get(name)
        if isinstance(value, (str, os.PathLike)) and os.path.exists(value):
            found[name] = os.path.abspath(value)
    return found


def _named(parts: tuple[ImageSet, ...], contents: Sequence[str | None]) -> tuple[ImageSet, ...]:
    """Name images by their content, so that they are not decoded again to learn it."""
    names = [content for content in contents if content]
    if len(names) < len(contents):
        return parts
    ends = np.cumsum([len(images) for images in parts]).tolist()
    return tuple(
        replace(images, digests=tuple(names[end - len(images) : end]))
        for images, end in zip(parts, ends, strict=True)
    )


def _portions(
    pending: Sequence[tuple[int, int, Any]], span: tuple[int, int], workers: int, embeds: bool
) -> list[Some]:
    """Split trials: heads by whole repeats, few portions; long training one by one."""
    if not embeds:
        ordered = sorted(pending, key=lambda trial: (trial[1], -trial[0]))
        return [Some((size,), number, number + 1) for size, number, _ in ordered]
    sizes: dict[int, list[int]] = {}
    for size, number, _ in pending:
        sizes.setdefault(number, []).append(size)
    step = max(1, -(-(span[1] - span[0]) // (2 * workers)))
    found: list[Some] = []
    for number, some in sorted(sizes.items()):
        last = found[-1] if found else None
        if (
            last
            and last.stop == number
            and last.sizes == tuple(some)
            and number - last.start < step
        ):
            found[-1] = last._replace(stop=number + 1)
        else:
            found.append(Some(tuple(some), number, number + 1))
    return found


class _Sent(Sequence[Span]):
    """Spans with the bytes of their images, which are read when their turn comes."""

    def __init__(self, spans: Sequence[Span], places: Sequence[tuple[ImageSet, int]]) -> None:
        self._spans, self._places = spans, places

    def __len__(self) -> int:
        return len(self._spans)

    def __getitem__(self, index: Any) -> Any:
        span = self._spans[index]
        return span._replace(raws=_read(self._places[span.start : span.stop]))


def _read(places: Sequence[tuple[ImageSet, int]]) -> tuple[Raw, ...]:
    return tuple(images.read(row) for images, row in places)
