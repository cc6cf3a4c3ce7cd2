"""How a study hands out its work to an engine, and counts the answers as if found here.

Results go into the store where the workers see it, and come back in the answers where they do not.
"""

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_datasize.engines import Engine
from pytest_datasize.errors import EngineError
from pytest_datasize.images import perceptual_hash
from pytest_datasize.images.contents import known_contents
from pytest_datasize.images.image_set import ImageSet, Raw
from pytest_datasize.jobs import (
    Copy,
    Embedded,
    Embedding,
    Place,
    Settling,
    Some,
    Span,
    Training,
    first_of,
)

if TYPE_CHECKING:
    from pytest_datasize.study import Study
    from pytest_datasize.transfer.embedding import Space
    from pytest_datasize.transfer.trials import Trials, Work

_LEAST, _MOST = 64, 1024  # images of a portion
_PER_WORKER = 4  # portions of images that a worker gets, about: so that all end together

_Strategy = Callable[["Work", tuple[int, int]], "Trials"]


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
        self._given = given
        self._job: Training | None = None
        self.place: Place | None = None

    def __enter__(self) -> "Handout":
        self._mark.touch()
        return self

    def __exit__(self, *exception: object) -> None:
        self._mark.unlink(missing_ok=True)

    @property
    def space(self) -> "Space | None":
        """What embeddings depend on, once workers have embedded."""
        return self.place.space if self.place else None

    def embed(self) -> None:
        """Let the workers embed what is not known; the store has it then.

        Raises
        ------
        DatasizeError
            Workers cannot be had, keep dying or differ; or the backbone cannot be had there.
        """
        study, store = self._study, self._study.store
        parts = [part for part in study.collection.raw if part]
        places = [(images, row) for images in parts for row in range(len(images))]
        copy = self._copy(
            _read(places[: len(first_of(parts[0]))]) if self._upload else None,
            refresh=store.refresh,
            verify=store.verify,
        )
        [(_, self.place)] = self._engine.map(Settling(copy), [None])
        assert self.place is not None
        contents = [content for images in parts for content in known_contents(images, store)]
        stored = store.rows(self.place.space.key).has([content or "" for content in contents])
        total = len(places)
        step = min(max(total // (_PER_WORKER * self._engine.workers()), _LEAST), _MOST)
        spans = [
            Span(first, min(first + step, total))
            for first in range(0, total, step)
            if not stored[first : first + step].all()
        ]
        if self._upload:
            spans = [s._replace(raws=_read(places[s.start : s.stop])) for s in spans]
        done = total - sum(span.stop - span.start for span in spans)
        for span, answer in self._engine.map(Embedding(copy, self.place.space), spans):
            if answer is not None:
                self._take(places[span.start : span.stop], answer)
            done += span.stop - span.start
            study.on_progress("embedding images", done, total)

    def work(self, work: "Work") -> "Work":
        """Name the device of the workers, where it is not the one here."""
        return replace(work, device_name=self.place.device) if self.place else work

    def strategy(self, function: _Strategy) -> _Strategy:
        """Return a strategy that lets the workers train."""

        def run(work: "Work", span: tuple[int, int]) -> "Trials":
            return self._train(function, work, span)

        return run

    def _train(self, strategy: _Strategy, work: "Work", span: tuple[int, int]) -> "Trials":
        from pytest_datasize.transfer.trials import Ledger, unpack

        ledger = Ledger(work, span)
        if not ledger.pending:
            return ledger.trials({})
        if self._upload and work.features is None:
            raise EngineError(
                "engine=ray: ray_upload=true sends images to be embedded; strategy="
                f"{work.options['strategy']} needs the data set itself. Put it on a path that all "
                "machines share, or set strategy=feature_extraction."
            )
        if self._upload:  # heads are trained where the embeddings are
            return strategy(work, span)
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
                ledger.add(size, repeat, unpack(packed))
            notes += found.notes
            unconverged += found.unconverged
            done += len(found.outcomes)
            work.on_progress("training models", done, ledger.total)
        return ledger.trials({}, tuple(dict.fromkeys(notes)), unconverged)

    def _take(self, places: Sequence[tuple[ImageSet, int]], answer: Embedded) -> None:
        """Count a worker's embeddings as found here; keep what it could not, out of sight."""
        assert self.place is not None
        store, key = self._study.store, self.place.space.key
        rows = store.rows(key)
        if answer.rows is not None:
            if rows.width is None:
                store.set_width(key, answer.rows.shape[1])
            rows.add(answer.contents, answer.rows)
        rows.trust(answer.contents)
        perceptual_hash.trust(store, answer.contents)
        stamps = [images.stamps[row] for images, row in places]
        known = zip(stamps, answer.contents, strict=True)
        store.remember({stamp: content for stamp, content in known if stamp is not None})

    def _copy(self, sample: tuple[Raw, ...] | None, **flags: bool) -> Copy:
        make = type(self._study)
        return Copy(make, self._given, self._mark.parent, self._mark.name, sample, **flags)


def portable(given: Mapping[str, Any]) -> dict[str, Any]:
    """Make paths absolute, so that they mean the same in another working directory."""
    found = dict(given)
    for name in ("dataset", "test_dataset", "weights"):
        value = found.get(name)
        if isinstance(value, (str, os.PathLike)) and os.path.exists(value):
            found[name] = os.path.abspath(value)
    return found


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


def _read(places: Sequence[tuple[ImageSet, int]]) -> tuple[Raw, ...]:
    return tuple(images.read(row) for images, row in places)
