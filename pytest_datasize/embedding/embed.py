"""Decode every image once and embed it once with the frozen backbone."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pytest_datasize.embedding.device import fetched, torch_threads
from pytest_datasize.embedding.embedder import CPU_BATCH, Embedder, Space, first_of
from pytest_datasize.embedding.features import Features, StoredFeatures, chosen
from pytest_datasize.embedding.reader import Decoded, Reader
from pytest_datasize.embedding.threads import feeding_threads, n_threads
from pytest_datasize.errors import BackboneError, DatasetError
from pytest_datasize.images import decoding
from pytest_datasize.images.content_hash import unreadable_text
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.store import Store
from pytest_datasize.store.arrays import HalfArray
from pytest_datasize.store.rows import Rows

MEMORY_BOUND = 1 << 30
"""Bytes of embeddings that are held in memory: 400,000 images of 1,280 features."""

_LARGEST = 65504  # of float16
_EARLY_BYTES = 64 << 20  # pixels read while the model is prepared
_EARLY_BYTES_GPU = 1 << 30  # the same on other devices, which take seconds to start
_REMEMBER = 256  # content hashes stored per batch
_IN_FLIGHT = 2  # batches that a device other than the CPU is given at a time
_KEEP_ROWS, _KEEP_SECONDS = 128, 1.0  # store new embeddings after this many or this long


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of the images, with how they were computed.

    Attributes
    ----------
    features
        float16 rows, shape (N, D), that arrive on the device where the heads will train.
    contents
        Per set: content hash of each image.
    computed
        Number of images that went through the backbone; the others were cached.
    space
        What they depend on.
    seconds
        Wall time of decoding and embedding.
    """

    features: Features
    contents: tuple[tuple[str, ...], ...]
    computed: int
    space: Space
    seconds: float

    def of(self, contents: Sequence[str]) -> Features:
        """Return the rows of some contents, (n, D), in their order.

        Raises
        ------
        DatasetError
            A content was not embedded: the images have changed since.
        """
        names = chain.from_iterable(self.contents)
        row_of = {content: row for row, content in enumerate(names)}
        strange = sum(content not in row_of for content in contents)
        if strange:
            raise DatasetError(
                f"{strange} images were not the same when they were embedded as when they were "
                "counted. Leave random transforms out, and run again when nothing writes to the "
                "images."
            )
        return chosen(self.features, np.array([row_of[content] for content in contents]))


def embed(
    image_sets: Sequence[ImageSet],
    embedder: Embedder,
    store: Store,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    keep: Store | None = None,
    bound: int | None = None,
    forward_in_workers: bool | None = None,
) -> Embeddings:
    """Embed the images of all sets, one set after the other.

    On the CPU worker threads decode and embed batches with one torch thread each: faster than
    sharing one batch between cores, and an embedding then does not depend on how many cores there
    are. On a GPU the threads decode, many images with the help of processes, and this thread feeds
    the device.

    Parameters
    ----------
    image_sets
        The sets, at least one; row i of the result is the i-th image of all of them in order.
    embedder
        The model; its precision is chosen on the first images, unless that was done before.
    store
        Cache of content hashes and embeddings; new ones are added as they are computed.
    on_progress
        Called with (images done, images in all).
    keep
        Store of the embeddings themselves, if another one than that of the files.
    bound
        Bytes of embeddings held in memory, of more only the places in the store's files; None for
        :data:`MEMORY_BOUND`.
    forward_in_workers
        Whether the threads that decode also embed; None: on the CPU they do.

    Raises
    ------
    DatasetError
        Images cannot be decoded; the message lists them.
    BackboneError
        The model fails on the images, or returns something that is not finite.
    """
    keep = store if keep is None else keep
    options = (image_sets, embedder, store, on_progress, keep, bound, forward_in_workers)
    while True:
        try:
            return _embed(*options)
        except HalfOverflowError as problem:
            if not embedder.without("float16", keep):
                raise BackboneError(str(problem)) from None


def _embed(
    image_sets: Sequence[ImageSet],
    embedder: Embedder,
    store: Store,
    on_progress: Callable[[int, int], None],
    keep: Store,
    bound: int | None,
    forward_in_workers: bool | None,
) -> Embeddings:
    start = time.perf_counter()
    if forward_in_workers is None:
        forward_in_workers = embedder.device.type == "cpu"
    reader = Reader(image_sets, embedder.backbone.crop, store)
    threads = n_threads() if embedder.device.type == "cpu" else feeding_threads()
    with torch_threads(1), closing(reader), ThreadPoolExecutor(threads) as pool:
        run = _Run(reader, embedder, pool, threads, forward_in_workers, on_progress)
        try:
            run.begin()  # the model is prepared meanwhile
            space = embedder.settle(first_of(image_sets), keep)
            table = _Table(reader.contents, keep, space, MEMORY_BOUND if bound is None else bound)
            run.fill(table)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    ends = np.cumsum([len(images) for images in image_sets]).tolist()
    return Embeddings(
        features=table.features(embedder.device),
        contents=tuple(
            tuple(reader.contents[end - len(images) : end])  # type: ignore[arg-type]
            for images, end in zip(image_sets, ends, strict=True)
        ),
        computed=run.computed,
        space=space,
        seconds=time.perf_counter() - start,
    )


class HalfOverflowError(Exception):
    """An image's embedding is beyond the range of float16, and may not be in another precision."""


class _Run:
    """Pipeline of one run: threads read the images, the backbone embeds them in batches."""

    def __init__(
        self,
        reader: Reader,
        embedder: Embedder,
        pool: ThreadPoolExecutor,
        threads: int,
        forward_in_workers: bool,
        on_progress: Callable[[int, int], None],
    ) -> None:
        self._reader, self._embedder, self._threads = reader, embedder, threads
        self._pool, self._in_workers, self._on_progress = pool, forward_in_workers, on_progress
        self._ahead = 2 * threads + embedder.batch_size // CPU_BATCH  # bounds what is in memory
        self._early: list[int] = []
        self._reading: deque[Future[list[Decoded]]] = deque()
        self._pending: list[Decoded] = []
        self._forwarding: deque[tuple[list[Decoded], Callable[[], Tensor]]] = deque()
        self._done = 0
        self.computed = 0

    def begin(self) -> None:
        """Start reading the first uncached images in the threads."""
        unknown = [row for row, content in enumerate(self._reader.contents) if content is None]
        image = 3 * self._embedder.backbone.image_size**2
        most = _EARLY_BYTES if self._embedder.device.type == "cpu" else _EARLY_BYTES_GPU
        self._start_decoders(len(unknown))
        self._early = unknown[: max(CPU_BATCH, most // image)]
        self._reading.extend(map(self._read, _chunks(self._early)))

    def fill(self, table: "_Table") -> None:
        """Read and embed the images that are not in the table.

        Raises
        ------
        DatasetError, BackboneError
            As :func:`embed`.
        """
        self._advance(len(self._reader) - len(table.missing))
        self._start_decoders(len(table.missing))
        if len(table.missing):
            self._embedder.ready()
        try:
            for chunk in _chunks(np.setdiff1d(table.missing, self._early).tolist()):
                self._take(table, self._ahead)
                self._reading.append(self._read(chunk))
            self._take(table, 0)
            self._forward(table, least=1, most=0)
        finally:
            table.keep()
            self._reader.remember()
        if self._reader.unreadable:
            raise DatasetError(unreadable_text(self._reader.unreadable, len(self._reader)))

    def _start_decoders(self, images: int) -> None:
        """Let processes decode many images for a GPU; threads that also embed are fast enough."""
        if images >= decoding.WORTH and self._threads > 1 and not self._in_workers:
            self._reader.start_decoders(self._threads)

    def _read(self, rows: Sequence[int]) -> Future[list[Decoded]]:
        return self._pool.submit(self._reader.read, rows)

    def _take(self, table: "_Table", most: int) -> None:
        """Queue what was read and must go through the backbone, until few chunks are being read."""
        while len(self._reading) > most:
            for one in self._reading.popleft().result():
                if not self._reader.learn(one):
                    continue
                if table.promise(one):
                    self._pending.append(one)
                else:
                    self._advance(1)
            self._reader.remember(_REMEMBER)
            if self._reader.unreadable:  # the run will fail: only list all such images
                self._pending.clear()
            size = self._embedder.batch_size
            self._forward(table, size, self._ahead if self._in_workers else _IN_FLIGHT)

    def _forward(self, table: "_Table", least: int, most: int) -> None:
        """Embed pending images while there are enough for a batch."""
        forward = self._embedder.forward
        while len(self._pending) >= least and self._pending:
            size = self._embedder.batch_size
            batch, self._pending = self._pending[:size], self._pending[size:]
            pixels = [one.pixels for one in batch if one.pixels is not None]
            result: Callable[[], Tensor] = (
                self._pool.submit(forward, pixels).result
                if self._in_workers
                else fetched(forward(pixels))
            )
            self._forwarding.append((batch, result))
        while len(self._forwarding) > most:
            batch, result = self._forwarding.popleft()
            table.put(batch, self._finite(result()))
            self.computed += len(batch)
            self._advance(len(batch))

    def _finite(self, rows: Tensor) -> HalfArray:
        """Convert to half precision: embeddings of any usual model are well within its range.

        A value of the last layer that is not becomes the largest one. Stages were scaled to fit; if
        they do not, the head would see nothing but the limit.
        """
        found = rows.float().cpu().numpy()
        backbone = self._embedder.backbone
        if not np.isfinite(found).all():
            said = f"backbone {backbone.name} gave embeddings that are not finite"
            if self._embedder.ready().precision == "float16":
                raise HalfOverflowError(f"{said} in float16. Use precision='float32'.")
            raise BackboneError(f"{said}; are its weights damaged?")
        if backbone.widths and np.abs(found[:, backbone.widths[0] :]).max() > _LARGEST:
            raise BackboneError(
                f"backbone {backbone.name} gave activations of a stage beyond the range of half "
                "precision, in which embeddings are stored. Use features='last'."
            )
        half: HalfArray = np.clip(found, -_LARGEST, _LARGEST).astype(np.float16)
        return half

    def _advance(self, count: int) -> None:
        self._done += count
        self._on_progress(self._done, len(self._reader))


class _Table:
    """Embeddings of images: loaded from the store if cached, added to it if new.

    Parameters
    ----------
    contents
        Content hashes; None for images whose hash is computed while the table is filled.
    store, space
        Rows of the store that hold the embeddings.
    bound
        Bytes that are held in memory; the store keeps more in its files.
    """

    def __init__(
        self, contents: Sequence[str | None], store: Store, space: Space, bound: int
    ) -> None:
        self._contents, self._store, self._space, self._bound = contents, store, space, bound
        self._rows: Rows = store.rows(space.key)
        self._empty = self._rows.width is None
        self._nameless = {row for row, content in enumerate(contents) if content is None}
        self._half: HalfArray | None = None  # None too where they are left in their files
        self._promised: dict[str, int] = {}  # content → the row embedded for all its copies
        self._new: list[tuple[str, HalfArray]] = []
        self._kept_at = time.monotonic()
        self.missing = np.flatnonzero(~self._fetched())

    def promise(self, one: Decoded) -> bool:
        """Return whether to embed an image: not cached, and no duplicate is queued."""
        if one.content in self._promised:
            return False
        self._promised[one.content] = one.row
        if self._empty or one.row not in self._nameless:
            return True
        row = self._blank(1)  # the file is new, but its content can be cached
        known = bool(self._rows.fetch([one.content], row)[0])
        if known and self._half is not None:
            self._half[one.row] = row[0]
        return not known

    def put(self, batch: Sequence[Decoded], half: HalfArray) -> None:
        """Add the embeddings of some images."""
        if self._rows.width is None:
            self._store.set_width(self._space.key, half.shape[1])
            self._make_room()
        if self._half is not None:
            self._half[[one.row for one in batch]] = half
        self._new += zip((one.content for one in batch), half, strict=True)
        if len(self._new) >= _KEEP_ROWS or time.monotonic() > self._kept_at + _KEEP_SECONDS:
            self.keep()

    def keep(self) -> None:
        """Write new embeddings to the store."""
        if self._new:
            contents, rows = zip(*self._new, strict=True)
            self._rows.add(contents, np.stack(rows))
        self._new, self._kept_at = [], time.monotonic()

    def features(self, device: torch.device) -> Features:
        """Return the embeddings of all images, (N, D)."""
        if self._half is None:
            mapped = self._rows.locate([content or "" for content in self._contents])
            return StoredFeatures([mapped], device)
        for row in self.missing.tolist():
            self._half[row] = self._half[self._promised.get(self._contents[row] or "", row)]
        return torch.from_numpy(self._half).to(device)

    def _fetched(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Load cached embeddings; return for which images."""
        known = np.zeros(len(self._contents), dtype=bool)
        if self._empty:
            return known
        self._make_room()
        named = [row for row, content in enumerate(self._contents) if content]
        names = [self._contents[row] or "" for row in named]
        if self._half is None:
            known[named] = self._rows.has(names)
        elif named:
            part = self._blank(len(named))
            known[named] = self._rows.fetch(names, part)
            self._half[named] = part
        return known

    def _make_room(self) -> None:
        """Allocate memory for all rows if they fit; otherwise leave them in the store."""
        few = 2 * len(self._contents) * (self._rows.width or 0) <= self._bound
        if few or self._rows.folder is None:
            self._half = self._blank(len(self._contents))

    def _blank(self, count: int) -> HalfArray:
        return np.empty((count, self._rows.width or 0), dtype=np.float16)


def _chunks(rows: Sequence[int]) -> list[Sequence[int]]:
    return [rows[k : k + CPU_BATCH] for k in range(0, len(rows), CPU_BATCH)]
