"""Load the images of one study: content hashes, duplicates removed, near-duplicates grouped."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pytest_datasize.images.content_hash import known_contents, read_contents
from pytest_datasize.images.duplicates import unique
from pytest_datasize.images.findings import refuse, settle, small_classes
from pytest_datasize.images.groups import numbers
from pytest_datasize.images.image_set import ImageSet, Loaded, Reading
from pytest_datasize.images.near_duplicates import find_stored, separated
from pytest_datasize.images.sources import load as sources
from pytest_datasize.requirement.checks import level_of, must_decode, parse_levels
from pytest_datasize.store import Store, key_of

_OF_THE_READING = ("group", "slices", "allow_outside", "max_pixels", "task")


class Pool:
    """Loads, hashes and checks the images of a study; each step runs once, when needed.

    Parameters
    ----------
    options
        Options of the study: data sets, how they are read, levels of checks.
    store
        Cache of content hashes by file.
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
        self._separated: Loaded | None = None
        self._fingerprint: str | None = None
        self.contents: tuple[tuple[str, ...], ...] = ()
        """Content hash of each raw image, per part (pool, test), once computed."""

    @property
    def raw(self) -> Loaded:
        """The images as loaded by their source, in its order."""
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
        """Every image once; files without a cached content hash are decoded here."""
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
        """Set the content hashes of the raw images, per part, as computed elsewhere."""
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

    @property
    def separated(self) -> Loaded:
        """Every image once, with near-duplicates where no split can divide them.

        The same whatever is done with the images: it depends on their pixels and on the levels of
        the checks, which may say that near-duplicates are ignored.
        """
        if self._separated is None:
            self._separated = self._without_near_duplicates()
        return self._separated

    def looked_at(self, levels: Mapping[str, str]) -> Loaded:
        """Return every image once, with the findings of inspecting each image."""
        return unique(self._looked(self._read(levels)))

    def fingerprint(self) -> str:
        """Return a hash of the images: contents, labels, groups, and which are test images.

        Near-duplicates count as they are grouped or left out. It does not depend on the names, the
        order or the dates of files.
        """
        if self._fingerprint is None:
            images, test = self.separated
            self._fingerprint = key_of(
                [
                    [*_labels(images), images.digests],
                    [_labels(test)[1], test.digests] if test else None,
                    _renumbered(numbers(images, test)),
                    _renumbered(images.near),
                ]
            )
        return self._fingerprint

    def factors_fingerprint(self) -> str | None:
        """Return a hash of the factors of all images; None without factors.

        It is not part of :meth:`fingerprint`, since factors change no split and no trial.
        """
        parts = [part for part in self.separated if part is not None]
        if not parts[0].factors:
            return None
        return key_of(
            [
                [one.name, [one.values[number] for number in one.numbers.tolist()]]
                for part in parts
                for one in part.factors
            ]
        )

    def take_fingerprint(self, fingerprint: str) -> None:
        """Use the fingerprint that another process has computed for the same images."""
        self._fingerprint = fingerprint

    def _without_near_duplicates(self) -> Loaded:
        plain = self.once
        check = "alike" if plain.test is None else "near_duplicates"
        if level_of(check, self.levels) == "ignore":
            return plain
        found = separated(plain, find_stored(plain, self._store, self._threads))
        before = plain.images.findings
        new = replace(found.images, findings=found.images.findings[len(before) :])
        settled = settle(Loaded(new), self.levels).images.findings
        return found._replace(images=replace(found.images, findings=(*before, *settled)))

    def _read(self, levels: Mapping[str, str]) -> Loaded:
        given = {name: self._options[name] for name in _OF_THE_READING}
        reading = Reading(**given, store=self._store)
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


def _labels(images: ImageSet) -> tuple[Any, list[Any]]:
    """Return the names of labels, and the label of each image."""
    if images.targets is None:
        return images.classes, images.labels.tolist()
    names = [images.task, images.names]
    return names, [images.identity(row) for row in range(len(images))]


def _renumbered(groups: Any) -> list[int] | None:
    """Number groups by their first image: results do not depend on group names."""
    if groups is None:
        return None
    order: dict[int, int] = {}
    return [order.setdefault(group, len(order)) for group in groups.tolist()]
