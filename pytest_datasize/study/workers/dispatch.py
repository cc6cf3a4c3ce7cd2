"""Dispatch a study's tasks to an engine's workers and merge their results.

Workers that see the store write their results into it; others send them back as answers.
"""

import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_datasize.embedding.weights import LOCAL_DIR
from pytest_datasize.errors import EngineError, TrainingError
from pytest_datasize.images import perceptual_hash
from pytest_datasize.images.content_hash import known_contents
from pytest_datasize.images.image_set import ImageSet, Raw
from pytest_datasize.requirement.registries import AUTO
from pytest_datasize.requirement.user_code import named
from pytest_datasize.study.engines import Engine, Engines
from pytest_datasize.study.workers.remote_study import RemoteStudy, kept_views, listing
from pytest_datasize.study.workers.tasks import (
    EmbeddedSpan,
    EmbedTask,
    SettleTask,
    Setup,
    Span,
    Strategy,
    TrainTask,
    TrialRange,
)

if TYPE_CHECKING:
    from pytest_datasize.embedding.embedder import Space
    from pytest_datasize.study.context import StudyContext
    from pytest_datasize.trials.work import Trials, Work

_LEAST, _MOST = 64, 1024  # images per item
_PER_WORKER = 4  # items of images per worker, roughly: so that all workers finish together


class Dispatcher:
    """Sends the tasks of one run to an engine; use it in a ``with`` statement.

    Parameters
    ----------
    engine
        The engine with the workers.
    context
        The study; its store must be in a folder.
    """

    def __init__(self, engine: Engine, context: "StudyContext") -> None:
        self._engine, self._context = engine, context
        self._upload = context.options["engine"] == "ray" and context.options["ray_upload"]
        folder = context.store.folder
        if folder is None:
            raise AssertionError("an engine needs a store that other processes can open")
        self._mark = folder.resolve() / f"shared-{secrets.token_hex(8)}"
        sent = {"dataset": "images that are sent", "test_dataset": None, "task": context.task}
        given = portable(context.given)
        self._given = {**given, **sent} if self._upload else given
        self._here = self._upload  # whether only this process has the embeddings
        self._task: TrainTask | None = None
        self._first = next(iter(context.finished.values()), None)
        self.setup: Setup | None = None

    def __enter__(self) -> "Dispatcher":
        with suppress(OSError):  # not writable: no worker sees it, and all results come back
            self._mark.touch()
        return self

    def __exit__(self, *exception: object) -> None:
        with suppress(OSError):
            self._mark.unlink(missing_ok=True)

    @property
    def space(self) -> "Space | None":
        """The embedding space, known once workers have embedded."""
        return self.setup.space if self.setup else None

    def embed(self, parts: tuple[ImageSet, ...]) -> tuple[ImageSet, ...]:
        """Let the workers embed images that the store does not have yet.

        Parameters
        ----------
        parts
            All images of the study, part by part.

        Returns
        -------
        tuple of ImageSet
            The same, named by their content if the workers could read all of them.

        Raises
        ------
        DatasizeError
            Workers cannot be started, keep dying or differ; or they cannot load the backbone.
        """
        from pytest_datasize.embedding.embedder import SAMPLE

        context, store = self._context, self._context.store
        places = [(images, row) for images in parts for row in range(len(images))]
        remote = self._remote(
            _read(places[: min(SAMPLE, len(parts[0]))]) if self._upload else None,
            refresh=store.refresh,
            verify=store.verify,
        )
        setup = self._settle(remote)
        assert setup.space is not None
        contents = [content for images in parts for content in known_contents(images, store)]
        stored = self._stored(contents, len(parts[0]), setup.space.key)
        total = len(places)
        step = min(max(total // (_PER_WORKER * self._engine.workers()), _LEAST), _MOST)
        spans = [
            Span(first, min(first + step, total))
            for first in range(0, total, step)
            if not stored[first : first + step].all()
        ]
        done = total - sum(span.stop - span.start for span in spans)
        items = _Sent(spans, places) if self._upload else spans
        for span, answer in self._engine.map(EmbedTask(remote, setup.space), items):
            if answer is not None:
                self._merge(places[span.start : span.stop], answer)
                contents[span.start : span.stop] = answer.contents
            done += span.stop - span.start
            context.on_progress("embedding images", done, total)
        return _named(parts, contents)

    def work(self, work: "Work") -> "Work":
        """Set the device and precision of the workers, if they differ from those of this process.

        Raises
        ------
        DatasizeError
            Workers cannot be started; or they need the data set, but only images are sent.
        """
        if self._upload and work.features is None:
            raise EngineError(
                "engine=ray: ray_upload=true sends images to be embedded; strategy="
                f"{work.options['strategy']} needs the data set itself. Put it on a path that all "
                "machines share, or set strategy=feature_extraction."
            )
        setup = self.setup or self._settle(self._remote(None))
        return replace(work, device_name=setup.device, precision=setup.precision)

    def strategy(self, function: Strategy) -> Strategy:
        """Return a strategy that lets the workers train."""

        def run(work: "Work", span: tuple[int, int]) -> "Trials":
            return self._train(function, work, span)

        return run

    def _train(self, strategy: Strategy, work: "Work", span: tuple[int, int]) -> "Trials":
        from pytest_datasize.trials.strategies.own_training import other_metrics
        from pytest_datasize.trials.work import Ledger, unpack

        ledger = Ledger(work, span)
        if not ledger.pending:
            return ledger.trials({})
        if work.features is not None and self._here:
            return strategy(work, span)  # heads are trained in the process that has the embeddings
        start = time.perf_counter()
        notes: list[str] = []
        unconverged, done = 0, ledger.resumed
        if self._task is None or self._task.plan is not work.plan:
            self._task = TrainTask(
                self._remote(None),
                strategy,
                work.plan,
                self._context.pool.contents,
                tuple(images.digests for images in work.image_sets),
                work.labels,
                work.groups,
                self._context.pool.fingerprint(),
                None if work.features is None else self.space,
            )
        embeds = work.features is not None
        items = _items(ledger.pending, span, self._engine.workers(), embeds)
        for _, found in self._engine.map(self._task, items):
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

    def _settle(self, remote: RemoteStudy) -> Setup:
        setup: Setup
        [(_, setup)] = self._engine.map(SettleTask(remote), [None])
        self.setup, self._here = setup, self._here or not setup.shared
        return setup

    def _stored(
        self, contents: Sequence[str | None], n_pool: int, key: str
    ) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return which images are in the store already: bool, shape (N,)."""
        store, base = self._context.store, self._context.backbone.loaded.key
        names = [content or "" for content in contents]
        stored = store.rows(key).has(names)
        for view in kept_views(self._context):
            name = view.key + key.removeprefix(base)
            stored[:n_pool] &= store.rows(name).has(names[:n_pool])
        return stored

    def _merge(self, places: Sequence[tuple[ImageSet, int]], answer: EmbeddedSpan) -> None:
        """Merge the embeddings that a worker sent back into the store."""
        assert self.space is not None
        store, key = self._context.store, self.space.key
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

    def _remote(self, sample: tuple[Raw, ...] | None, **flags: bool) -> RemoteStudy:
        seen = listing(self._context.pool.raw)
        place, token = self._mark.parent, self._context.backbone.token
        depth, runtime = self._context.pool.raw.images.depth, self._context.runtime
        gpu = self._context.options["device"] != AUTO or self._context.worth_a_gpu
        return RemoteStudy(
            self._given, place, self._mark.name, sample, seen, token, depth, runtime, gpu, **flags
        )


@contextmanager
def dispatcher(context: "StudyContext") -> "Iterator[Dispatcher | None]":
    """Connect a study to its engine; yield None where everything runs in this process."""
    engines = context.engines or Engines()
    try:
        engine = engines.get(context.options)
        if engine is None:
            yield None
            return
        with Dispatcher(engine, context) as found:
            yield found
    finally:
        if engines is not context.engines:
            engines.close()


def portable(given: Mapping[str, Any]) -> dict[str, Any]:
    """Make paths absolute, so that they mean the same in another working directory."""
    found = dict(given)
    for name in ("dataset", "test_dataset", "weights"):
        value = found.get(name)
        if isinstance(value, (str, os.PathLike)) and os.path.exists(value):
            found[name] = os.path.abspath(value)
    backbone = found.get("backbone")
    if isinstance(backbone, str) and backbone.startswith(LOCAL_DIR):
        found["backbone"] = f"{LOCAL_DIR}{os.path.abspath(backbone.removeprefix(LOCAL_DIR))}"
    return found


def _named(parts: tuple[ImageSet, ...], contents: Sequence[str | None]) -> tuple[ImageSet, ...]:
    """Name images by their content, so that they need not be decoded again for it."""
    names = [content for content in contents if content]
    if len(names) < len(contents):
        return parts
    ends = np.cumsum([len(images) for images in parts]).tolist()
    return tuple(
        replace(images, digests=tuple(names[end - len(images) : end]))
        for images, end in zip(parts, ends, strict=True)
    )


def _items(
    pending: Sequence[tuple[int, int, Any]], span: tuple[int, int], workers: int, embeds: bool
) -> list[TrialRange]:
    """Split trials into items: heads by whole repeats, long training trial by trial."""
    if not embeds:
        ordered = sorted(pending, key=lambda trial: (trial[1], -trial[0]))
        return [TrialRange((size,), number, number + 1) for size, number, _ in ordered]
    sizes: dict[int, list[int]] = {}
    for size, number, _ in pending:
        sizes.setdefault(number, []).append(size)
    step = max(1, -(-(span[1] - span[0]) // (2 * workers)))
    found: list[TrialRange] = []
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
            found.append(TrialRange(tuple(some), number, number + 1))
    return found


class _Sent(Sequence[Span]):
    """Spans with the bytes of their images, which are read only when a span is sent."""

    def __init__(self, spans: Sequence[Span], places: Sequence[tuple[ImageSet, int]]) -> None:
        self._spans, self._places = spans, places

    def __len__(self) -> int:
        return len(self._spans)

    def __getitem__(self, index: Any) -> Any:
        span = self._spans[index]
        return span._replace(raws=_read(self._places[span.start : span.stop]))


def _read(places: Sequence[tuple[ImageSet, int]]) -> tuple[Raw, ...]:
    return tuple(images.read(row) for images, row in places)
