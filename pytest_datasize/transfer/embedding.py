"""Decode every image once and push it once through the frozen backbone."""

import platform
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pytest_datasize.errors import BackboneError, DatasetError
from pytest_datasize.images.contents import known_contents, unreadable_text
from pytest_datasize.images.decode import content_of, decode
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.images.perceptual_hash import remember, squares_of
from pytest_datasize.images.undecodable import UndecodableError, told
from pytest_datasize.store import Store
from pytest_datasize.store.rows import HalfArray, Rows
from pytest_datasize.threads import n_threads
from pytest_datasize.transfer.backbone import Backbone
from pytest_datasize.transfer.device import torch_threads
from pytest_datasize.transfer.features import Features, StoredFeatures, chosen
from pytest_datasize.transfer.inference import HALF_TOLERANCE, Inference, prepare

MEMORY_BOUND = 1 << 30
"""Bytes of embeddings that are held in memory: 400,000 images of 1,280 features."""

CPU_BATCH, GPU_BATCH = 8, 64

SAMPLE = 4
"""Images that half precision is tried on."""

_REMEMBER = 256  # files whose contents are remembered at a time
_EARLY_BYTES = 64 << 20  # pixels that are read while the model is made ready
_KEEP_ROWS, _KEEP_SECONDS = 128, 1.0  # embeddings are kept when so many, or so old, are new


class Space(NamedTuple):
    """What embeddings depend on beside the image.

    Attributes
    ----------
    key
        Names backbone, preprocessing, hardware, precision and version.
    precision
        What the backbone calculates in.
    """

    key: str
    precision: str


@dataclass(frozen=True)
class Embeddings:
    """What the backbone makes of the images.

    Attributes
    ----------
    features
        float16 rows, shape (N, D), that arrive on the device where the heads will train.
    contents
        Per set: what each image's content is called.
    computed
        Number of images that went through the backbone; the others were known.
    space
        What they depend on.
    seconds
        Wall time of decoding and embedding.
    inference
        The model as it was made ready, for more images; None where all were known.
    """

    features: Features
    contents: tuple[tuple[str, ...], ...]
    computed: int
    space: Space
    seconds: float
    inference: Inference | None

    def of(self, contents: Sequence[str]) -> Features:
        """Return the rows of some contents, (n, D), in their order."""
        names = chain.from_iterable(self.contents)
        row_of = {content: row for row, content in enumerate(names)}
        return chosen(self.features, np.array([row_of[content] for content in contents]))


def embed(
    image_sets: Sequence[ImageSet],
    backbone: Backbone,
    device: torch.device,
    store: Store,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    precision: str = "auto",
    sample: ImageSet | None = None,
    space: Space | None = None,
    inference: Inference | None = None,
    bound: int | None = None,
    forward_in_workers: bool | None = None,
) -> Embeddings:
    """Embed the images of all sets, one set after the other.

    On the CPU worker threads decode and embed batches with one torch thread each: faster than
    sharing one batch between cores, and an embedding then does not depend on how many cores there
    are. On a GPU the threads decode, and this thread feeds the device.

    Parameters
    ----------
    image_sets
        The sets; row i of the result is the i-th image of all of them in order.
    backbone
        The frozen model and its preprocessing.
    device
        Where the model runs.
    store
        Knows files and embeddings of before, and learns the others as they are made.
    on_progress
        Called with (images done, images in all).
    precision
        See :func:`pytest_datasize.transfer.inference.prepare`.
    sample
        Images that half precision is tried on; None for the first ones.
    space
        What was settled before, on this hardware or another; None settles it here.
    inference
        The model made ready before, for the same backbone, device and precision.
    bound
        Bytes of embeddings held in memory, of more only the places in the store's files; None for
        :data:`MEMORY_BOUND`.
    forward_in_workers
        Whether the threads that decode also embed; None: on the CPU they do.

    Raises
    ------
    DatasetError
        Images cannot be decoded; all of them are named.
    BackboneError
        The model fails on the images, or returns something that is not finite.
    """
    start = time.perf_counter()
    if forward_in_workers is None:
        forward_in_workers = device.type == "cpu"
    with torch_threads(1), ThreadPoolExecutor(n_threads()) as pool:
        run = _Run(image_sets, backbone, device, store, on_progress, precision, pool)
        run.first, run.space, run.inference = sample, space, inference
        run.bound = MEMORY_BOUND if bound is None else bound
        try:
            features, settled = run.go(forward_in_workers)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    ends = np.cumsum([len(images) for images in image_sets]).tolist()
    return Embeddings(
        features=features,
        contents=tuple(
            tuple(run.contents[end - len(images) : end])  # type: ignore[arg-type]
            for images, end in zip(image_sets, ends, strict=True)
        ),
        computed=run.computed,
        space=settled,
        seconds=time.perf_counter() - start,
        inference=run.inference,
    )


def settle(
    sample: ImageSet, backbone: Backbone, device: torch.device, store: Store, precision: str
) -> Space:
    """Settle what embeddings will depend on, on some first images.

    Raises
    ------
    BackboneError
        The model fails on the images, or cannot calculate in the precision asked for.
    """
    with torch_threads(1), ThreadPoolExecutor(1) as pool:
        nothing: Callable[[int, int], None] = lambda done, total: None  # noqa: E731
        run = _Run([], backbone, device, store, nothing, precision, pool)
        run.first = sample
        return run.settled()


class _Decoded(NamedTuple):
    row: int
    content: str
    pixels: Tensor | None  # uint8 (3, S, S)
    problem: str
    squares: bytes = b""  # what its perceptual hash is made of


class _Run:
    def __init__(
        self,
        image_sets: Sequence[ImageSet],
        backbone: Backbone,
        device: torch.device,
        store: Store,
        on_progress: Callable[[int, int], None],
        precision: str,
        pool: ThreadPoolExecutor,
    ) -> None:
        self.places = [(images, row) for images in image_sets for row in range(len(images))]
        self.backbone, self.device, self.store = backbone, device, store
        self.on_progress, self.pool = on_progress, pool
        self.contents = [c for images in image_sets for c in known_contents(images, store)]
        self.batch_size = CPU_BATCH if device.type == "cpu" else GPU_BATCH
        self.asked = precision
        self.first: ImageSet | None = None
        self.space: Space | None = None
        self.folded: bool | None = None  # what was found before; None: nothing
        self.bound = MEMORY_BOUND
        self.features: HalfArray | None = None  # None too where they are left in their files
        self.inference: Inference | None = None
        self.sample: list[_Decoded] = []
        self.unreadable: list[str] = []
        self.learnt: dict[str, str] = {}
        self.squares: dict[str, bytes] = {}
        self.pending: list[_Decoded] = []
        self.promised: dict[str, int] = {}  # content → the row that is embedded for all its copies
        self.new: list[tuple[str, HalfArray]] = []  # contents and their rows, not kept so far
        self.kept_at = time.monotonic()
        self.computed = 0
        self.done = 0

    def go(self, forward_in_workers: bool) -> tuple[Features, Space]:
        """Return the features of all images, (N, D), and what they depend on.

        What is not known is decoded and embedded.
        """
        reading, early = self._begin()
        space = self.space = self.space or self.settled()
        self.rows: Rows = self.store.rows(space.key)
        known = self._fetch_known()
        self.empty = self.rows.width is None
        embedding: deque[tuple[list[_Decoded], Any]] = deque()
        missing = np.flatnonzero(~known)
        self._advance(len(self.places) - len(missing))
        left = np.setdiff1d(missing, early).tolist()
        chunks = [left[k : k + CPU_BATCH] for k in range(0, len(left), CPU_BATCH)]
        ahead = 2 * n_threads() + self.batch_size // CPU_BATCH  # bounds what is in memory
        if len(missing):
            self._model()

        def forward(least: int) -> None:
            while len(self.pending) >= least and self.pending:
                batch = self.pending[: self.batch_size]
                del self.pending[: self.batch_size]
                task: Any = (
                    self.pool.submit(self._forward, batch)
                    if forward_in_workers
                    else self._forward(batch)
                )
                embedding.append((batch, task))
                while len(embedding) > (ahead if forward_in_workers else 1):
                    self._finish(*embedding.popleft())

        try:
            for chunk in chunks:
                while len(reading) > ahead:
                    self._take(reading.popleft().result())
                    forward(self.batch_size)
                reading.append(self.pool.submit(self._read, chunk))
            while reading:
                self._take(reading.popleft().result())
                forward(self.batch_size)
            forward(1)
            while embedding:
                self._finish(*embedding.popleft())
        finally:
            self._keep(1)
            self._remember(1)
        if self.unreadable:
            raise DatasetError(unreadable_text(self.unreadable, len(self.places)))
        if self.features is None:
            mapped = self.rows.locate([content or "" for content in self.contents])
            return StoredFeatures([mapped], self.device), space
        for row in missing.tolist():
            self.features[row] = self.features[self.promised.get(self.contents[row] or "", row)]
        return torch.from_numpy(self.features).to(self.device), space

    def _begin(self) -> tuple[deque[Future[list[_Decoded]]], list[int]]:
        """Let the workers read the first unknown images; the model is made ready meanwhile."""
        unknown = [row for row, content in enumerate(self.contents) if content is None]
        early = unknown[: max(CPU_BATCH, _EARLY_BYTES // (3 * self.backbone.image_size**2))]
        chunks = [early[k : k + CPU_BATCH] for k in range(0, len(early), CPU_BATCH)]
        return deque(self.pool.submit(self._read, chunk) for chunk in chunks), early

    # -- what is known ------------------------------------------------------------------------

    def settled(self) -> Space:
        """Try half precision on the first images, or recall how that went with them."""
        if self.asked != "auto":
            return Space(self._key(self.asked), self.asked)
        trial = f"{self._key('')}|{HALF_TOLERANCE}|{[one.content for one in self._sample()]}"
        known = self.store.get("inference", trial)
        if known is None:
            model = self._model()
            known = {"precision": model.precision, "folded": model.folded}
            self.store.put("inference", trial, known)
        precision, self.folded = known["precision"], known["folded"]
        return Space(self._key(precision), precision)

    def _sample(self) -> list[_Decoded]:
        """Read the first images, which half precision is tried on."""
        if not self.sample:
            if self.first is not None:
                self.sample = self._decoded([(self.first, row) for row in range(len(self.first))])
            else:
                self.sample = self._read(list(range(min(SAMPLE, len(self.places)))))
        return self.sample

    def _model(self) -> Inference:
        """Make the model ready, once."""
        if self.inference is None:
            pixels = [one.pixels for one in self._sample() if one.pixels is not None]
            if not pixels:  # nothing can be read, which is said later, of all images
                pixels = [torch.zeros(3, *[self.backbone.image_size] * 2, dtype=torch.uint8)]
            try:
                self.inference = self._prepared(pixels)
            except torch.OutOfMemoryError:  # one at a time may do
                self.batch_size = 1
                try:
                    self.inference = self._prepared(pixels[:1])
                except torch.OutOfMemoryError:
                    raise self._no_memory() from None
            if self.wanted not in ("auto", self.inference.precision):
                raise BackboneError(
                    f"precision={self.wanted!r}: backbone {self.backbone.name} cannot calculate in "
                    f"it on {self.device}, or its embeddings would differ by more than "
                    f"{HALF_TOLERANCE:.0%}. Use precision='auto' or 'float32'."
                )
        return self.inference

    def _prepared(self, pixels: list[Tensor]) -> Inference:
        sample = self.backbone.normalise(torch.stack(pixels))
        with _named_failures(self.backbone, sample):
            return prepare(self.backbone, self.device, sample, self.wanted, self.folded)

    def _no_memory(self) -> BackboneError:
        return BackboneError(
            f"backbone {self.backbone.name}: {self.device} has no memory for a single image of "
            f"{self.backbone.image_size} pixels. Use a smaller image_size or backbone, or "
            "device='cpu'."
        )

    @property
    def wanted(self) -> str:
        """The precision that was asked for, or settled before."""
        return self.space.precision if self.space else self.asked

    def _key(self, precision: str) -> str:
        """Everything but the image that an embedding depends on."""
        machine = platform.machine() if self.device.type == "cpu" else self.device.type
        return f"{self.backbone.key}|{machine}|{precision}|torch {torch.__version__}"

    def _fetch_known(self) -> np.ndarray[Any, Any]:
        known = np.zeros(len(self.places), dtype=bool)
        if self.rows.width is None:
            return known
        named = [row for row, content in enumerate(self.contents) if content]
        if not self._make_room():
            known[named] = self.rows.has([self.contents[row] or "" for row in named])
        elif named:
            part = self._blank(len(named))
            known[named] = self.rows.fetch([self.contents[row] or "" for row in named], part)
            assert self.features is not None
            self.features[named] = part
        return known

    def _make_room(self) -> bool:
        """Make room for all embeddings, where memory has enough; the store keeps them otherwise."""
        few = 2 * len(self.places) * (self.rows.width or 0) <= self.bound
        if few or self.rows.folder is None:
            self.features = self._blank(len(self.places))
        return self.features is not None

    def _blank(self, count: int) -> HalfArray:
        return np.empty((count, self.rows.width or 0), dtype=np.float16)

    # -- decoding -----------------------------------------------------------------------------

    def _read(self, rows: list[int]) -> list[_Decoded]:
        decoded = self._decoded([self.places[row] for row in rows], rows)
        for place, one in enumerate(decoded):
            if not one.problem and self.contents[one.row] not in (None, one.content):
                images, index = self.places[one.row]  # not what its stamp, or the plan, says
                changed = UndecodableError("changed while the gate ran; run again when it is whole")
                decoded[place] = _Decoded(one.row, "", None, told(images.name(index), changed))
        return decoded

    def _decoded(
        self, places: Sequence[tuple[ImageSet, int]], rows: Sequence[int] | None = None
    ) -> list[_Decoded]:
        decoded = []
        for row, (images, index) in zip(rows or range(len(places)), places, strict=True):
            try:
                picture = decode(images.read(index), images.max_pixels)
                pixels = self.backbone.crop(picture)
                unknown = rows is not None and self.contents[row] is None
                squares = squares_of(picture) if unknown else b""
                decoded.append(_Decoded(row, content_of(picture), pixels, "", squares))
            except UndecodableError as problem:
                decoded.append(_Decoded(row, "", None, told(images.name(index), problem)))
        return decoded

    def _take(self, decoded: list[_Decoded]) -> None:
        """Queue what must go through the backbone."""
        fresh = []
        for one in decoded:
            if one.problem:
                self.unreadable.append(one.problem)
                continue
            if self.contents[one.row] is None and (stamp := self._stamp(one.row)):
                self.learnt[stamp] = one.content
            unknown = self.contents[one.row] is None
            if unknown and one.squares:
                self.squares[one.content] = one.squares
            self.contents[one.row] = one.content
            if one.content in self.promised:
                self._advance(1)
                continue
            self.promised[one.content] = one.row
            if unknown and not self.empty:
                row = self._blank(1)
                if self.rows.fetch([one.content], row)[0]:  # the file is new, its image is not
                    if self.features is not None:
                        self.features[one.row] = row[0]
                    self._advance(1)
                    continue
            fresh.append(one)
        self._remember(_REMEMBER)
        if self.unreadable:  # nothing will be trained: only find all such images
            self.pending.clear()
        else:
            self.pending += fresh

    def _stamp(self, row: int) -> str | None:
        images, index = self.places[row]
        return images.stamps[index]

    def _remember(self, least: int) -> None:
        if len(self.learnt) >= least:
            self.store.remember(self.learnt)
            self.learnt = {}
        if len(self.squares) >= least:
            remember(self.store, self.squares)
            self.squares = {}

    # -- the backbone -------------------------------------------------------------------------

    def _forward(self, batch: list[_Decoded]) -> Tensor:
        """Embed a batch; it is always full: kernels chosen by its size never change an embedding.

        A device that runs out of memory gets half of the batch, from then on.
        """
        pixels = [one.pixels for one in batch if one.pixels is not None]
        while True:
            size = self.batch_size
            try:
                parts = [
                    self._embed(pixels[k : k + size], size) for k in range(0, len(pixels), size)
                ]
                return torch.cat(parts)
            except torch.OutOfMemoryError:
                if size == 1:
                    raise self._no_memory() from None
                self.batch_size = size // 2

    @torch.inference_mode()
    def _embed(self, pixels: list[Tensor], size: int) -> Tensor:
        assert self.inference is not None
        full = torch.stack(pixels + [pixels[-1]] * (size - len(pixels)))
        if self.device.type == "cuda":
            full = full.pin_memory()
        full = self.backbone.normalise(full.to(self.device, non_blocking=True))
        full = full.to(self.inference.dtype, memory_format=torch.channels_last)
        with _named_failures(self.backbone, full):
            features: Tensor = self.inference.model(full)[: len(pixels)]
        return features

    def _finish(self, batch: list[_Decoded], task: Any) -> None:
        rows = (task.result() if isinstance(task, Future) else task).float().cpu().numpy()
        if not np.isfinite(rows).all():
            raise BackboneError(
                f"backbone {self.backbone.name} gave embeddings that are not finite; "
                "are its weights damaged?"
            )
        if self.rows.width is None:
            assert self.space is not None
            self.store.set_width(self.space.key, rows.shape[1])
            self._make_room()
        half = _half(rows)
        if self.features is not None:
            self.features[[one.row for one in batch]] = half
        self.new += zip((one.content for one in batch), half, strict=True)
        self._keep(_KEEP_ROWS)
        self.computed += len(batch)
        self._advance(len(batch))

    def _keep(self, least: int) -> None:
        if len(self.new) >= least or (self.new and time.monotonic() > self.kept_at + _KEEP_SECONDS):
            contents, rows = zip(*self.new, strict=True)
            self.rows.add(contents, np.stack(rows))
            self.new, self.kept_at = [], time.monotonic()

    def _advance(self, count: int) -> None:
        self.done += count
        self.on_progress(self.done, len(self.places))


class _named_failures:  # noqa: N801  (reads as a statement)
    """Turn what a model raises on images into an error that names it."""

    def __init__(self, backbone: Backbone, pixels: Tensor) -> None:
        self.backbone, self.shape = backbone, tuple(pixels.shape)

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, problem: BaseException | None, trace: object) -> None:
        if isinstance(problem, (BackboneError, torch.OutOfMemoryError)):
            return
        if isinstance(problem, (RuntimeError, ValueError, AssertionError, TypeError)):
            raise BackboneError(
                f"backbone {self.backbone.name} failed on images of shape {self.shape}: {problem}"
            ) from problem


def _half(rows: np.ndarray[Any, Any]) -> HalfArray:
    """Store half precision: an embedding's scale is far inside its range for any sane model."""
    half: HalfArray = np.clip(rows, -65504, 65504).astype(np.float16)
    return half
