"""The images of one study, from what was asked for to every image once and known by its content."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pytest_datasize.images.content_hash import known_contents, read_contents
from pytest_datasize.images.duplicates import unique
from pytest_datasize.images.findings import refuse, settle, small_classes
from pytest_datasize.images.groups import numbers
from pytest_datasize.images.image_set import ImageSet, Loaded, Reading
from pytest_datasize.images.sources import load as sources
from pytest_datasize.requirement.checks import must_decode, parse_levels
from pytest_datasize.store import Store, key_of

_OF_THE_READING = ("group", "allow_outside", "max_pixels")


class Pool:
    """Loads, names and settles the images of a study, each step once and when it is needed.

    Parameters
    ----------
    options
        What the study was asked: data sets, how they are read, levels of checks.
    store
        Knows files that were read before.
    threads
        Threads that may decode images.
    on_progress
        Called with (stage, done, in all).
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        store: Store,
        threads: int,
        on_progress: Callable[[str, int, int], None],
    ) -> None:
        self._options, self._store, self._on_progress = options, store, on_progress
        self._threads = threads
        self.levels = parse_levels(options["checks"])
        self._raw: Loaded | None = None
        self._unique: Loaded | None = None
        self.contents: tuple[tuple[str, ...], ...] = ()
        """What each raw image's content is called, part by part, once it is known."""

    @property
    def raw(self) -> Loaded:
        """The images as their source has them, in its order."""
        if self._raw is None:
            raw = self._read(self.levels)
            if must_decode(self.levels):
                raw = self._looked(raw)
                refuse(raw.images.findings, self.levels)
            self._raw = raw
        return self._raw

    @property
    def known(self) -> bool:
        """Whether the content of every image is known without reading it."""
        return self._unique is not None or all(
            content is not None
            for part in self.raw
            if part is not None
            for content in known_contents(part, self._store)
        )

    @property
    def once(self) -> Loaded:
        """Every image once; read and decoded here if no one has before."""
        if self._unique is None:
            total = sum(len(part) for part in self.raw if part)
            contents: list[tuple[str, ...]] = []
            for part in filter(None, self.raw):
                before = sum(map(len, contents))
                contents.append(self._contents(part, before, total))
            self.name(contents)
        assert self._unique is not None
        return self._unique

    def name(self, contents: Sequence[tuple[str, ...]]) -> None:
        """Take the contents of the raw images, part by part, from whoever has read them."""
        if self._unique is not None:
            return
        parts = [
            replace(part, digests=names)
            for part, names in zip(filter(None, self.raw), contents, strict=True)
        ]
        self.contents = tuple(tuple(part.digests) for part in parts)
        images, test = unique(Loaded(*parts))
        images = replace(images, findings=(*images.findings, *small_classes(images)))
        self._unique = settle(Loaded(images, test), self.levels)

    def looked_at(self, levels: Mapping[str, str]) -> Loaded:
        """Return every image once, with all that a look at each one finds."""
        return unique(self._looked(self._read(levels)))

    def fingerprint(self) -> str:
        """Name the images: what they show, their labels and groups, which are for testing.

        It does not depend on the names, the order or the dates of files.
        """
        images, test = self.once
        return key_of(
            [
                [images.classes, images.labels.tolist(), images.digests],
                [test.labels.tolist(), test.digests] if test else None,
                _renumbered(numbers(images, test)),
            ]
        )

    def _read(self, levels: Mapping[str, str]) -> Loaded:
        reading = Reading(*(self._options[name] for name in _OF_THE_READING))
        dataset, test = self._options["dataset"], self._options["test_dataset"]
        return sources.load(dataset, test, reading, levels)

    def _looked(self, raw: Loaded) -> Loaded:
        from pytest_datasize.images.inspection import looked

        def tell(done: int, total: int) -> None:
            self._on_progress("looking at images", done, total)

        return looked(raw, self._threads, tell)

    def _contents(self, part: ImageSet, before: int, total: int) -> tuple[str, ...]:
        def tell(done: int) -> None:
            self._on_progress("reading images", before + done, total)

        return read_contents(part, self._store, self._threads, tell)


def _renumbered(groups: Any) -> list[int] | None:
    """Number groups by their first image: their names say nothing of the evidence."""
    if groups is None:
        return None
    order: dict[int, int] = {}
    return [order.setdefault(group, len(order)) for group in groups.tolist()]
