"""Decode every image once and push it once through the frozen backbone."""

import time
from collections import deque
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pytest_datasize.errors import BackboneError, DatasetError
from pytest_datasize.images.decode import UndecodableError, decode
from pytest_datasize.images.image_set import ImageSet, Raw, digest
from pytest_datasize.images.unique import unreadable_text
from pytest_datasize.transfer.backbone import Backbone
from pytest_datasize.transfer.device import n_threads, torch_threads

Vector = np.ndarray[Any, np.dtype[np.float16]]
Cache = MutableMapping[str, Vector]
"""Embeddings by image content and backbone, so that equal images are embedded once."""

CPU_BATCH, GPU_BATCH = 8, 64


@dataclass(frozen=True)
class Embeddings:
    """What the backbone makes of the images.

    Attributes
    ----------
    features
        float16 tensor of shape (N, D) on the device where the heads will train.
    computed
        Number of images that went through the backbone; the others were known.
    seconds
        Wall time of decoding and embedding.
    """

    features: Tensor
    computed: int
    seconds: float


def embed(
    image_sets: Sequence[ImageSet],
    backbone: Backbone,
    device: torch.device,
    cache: Cache,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    forward_in_workers: bool | None = None,
) -> Embeddings:
    """Embed the images of all sets, one set after the other.

    On the CPU every worker thread decodes and embeds batches of its own with one torch thread:
    faster than sharing one batch between cores, and an embedding then does not depend on how
    many cores there are. On a GPU the threads decode and this thread feeds the device.

    Parameters
    ----------
    image_sets
        The sets; row i of the result is the i-th image of all of them in order.
    backbone
        The frozen model and its preprocessing.
    device
        Where the model runs.
    cache
        Known embeddings; new ones are added.
    on_progress
        Called with (images done, images in all).
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
    run = _Run(image_sets, backbone, device, cache, on_progress, forward_in_workers)
    with torch_threads(1), ThreadPoolExecutor(n_threads()) as pool:
        try:
            run.go(pool)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    features = torch.from_numpy(np.stack([cache[key] for key in run.keys]))
    return Embeddings(features.to(device), run.computed, time.perf_counter() - start)


class _Run:
    def __init__(
        self,
        image_sets: Sequence[ImageSet],
        backbone: Backbone,
        device: torch.device,
        cache: Cache,
        on_progress: Callable[[int, int], None],
        forward_in_workers: bool,
    ) -> None:
        self.places = [(images, row) for images in image_sets for row in range(len(images))]
        self.backbone, self.device, self.cache = backbone, device, cache
        self.on_progress, self.forward_in_workers = on_progress, forward_in_workers
        self.model = backbone.model.to(device).to(memory_format=torch.channels_last)
        self.batch_size = CPU_BATCH if device.type == "cpu" else GPU_BATCH
        self.keys: list[str] = []
        self.unreadable: list[str] = []
        self.computed = 0
        self.done = 0

    def go(self, pool: ThreadPoolExecutor) -> None:
        """Read in order, gather unknown images into batches, embed them as they fill."""
        running: deque[Future[Any]] = deque()
        batch: list[tuple[str, str, Raw]] = []
        promised: set[str] = set()
        for name, key, raw in self._read(pool):
            self.keys.append(key)
            if key in self.cache or key in promised:
                self._advance(1)
                continue
            promised.add(key)
            batch.append((name, key, raw))
            if len(batch) == self.batch_size:
                running.append(pool.submit(self._work, batch))
                batch = []
            while len(running) > 2 * n_threads():  # bounds what is in memory
                self._finish(running.popleft().result())
        if batch:
            running.append(pool.submit(self._work, batch))
        while running:
            self._finish(running.popleft().result())
        if self.unreadable:
            raise DatasetError(unreadable_text(self.unreadable, len(self.places)))

    def _read(self, pool: ThreadPoolExecutor) -> Iterator[tuple[str, str, Raw]]:
        """Yield (name, key, image) in order; a known image is not read."""

        def read(place: tuple[ImageSet, int]) -> tuple[str, str, Raw]:
            images, row = place
            where = f"|{self.backbone.key}|{self.device.type}"
            if images.digests and (key := images.digests[row] + where) in self.cache:
                return images.name(row), key, b""
            raw = images.read(row)
            return images.name(row), digest(raw) + where, raw

        ahead: deque[Future[tuple[str, str, Raw]]] = deque()
        for place in self.places:
            ahead.append(pool.submit(read, place))
            if len(ahead) > 2 * self.batch_size:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

    def _work(self, batch: list[tuple[str, str, Raw]]) -> tuple[list[str], Tensor, int, list[str]]:
        keys, tensors, unreadable = [], [], []
        for name, key, raw in batch:
            try:
                tensors.append(self.backbone.preprocess(decode(raw)))
                keys.append(key)
            except UndecodableError as problem:
                unreadable.append(f"{name}: {problem}")
        if unreadable or self.unreadable:  # nothing will be trained: only find all such images
            return [], torch.empty(0), len(batch), unreadable
        # a batch is always full: kernels chosen by its size then never change an embedding
        tensors += [tensors[-1]] * (self.batch_size - len(tensors))
        pixels = torch.stack(tensors).contiguous(memory_format=torch.channels_last)
        if self.forward_in_workers:
            pixels = self._forward(pixels)
        return keys, pixels, len(batch), []

    def _finish(self, outcome: tuple[list[str], Tensor, int, list[str]]) -> None:
        keys, tensor, count, unreadable = outcome
        self.unreadable += unreadable
        if keys:
            features = tensor if self.forward_in_workers else self._forward(tensor)
            rows = features[: len(keys)].cpu().numpy()
            if not np.isfinite(rows).all():
                raise BackboneError(
                    f"backbone {self.backbone.name} gave embeddings that are not finite; "
                    "are its weights damaged?"
                )
            self.cache.update(zip(keys, _half(rows), strict=True))
            self.computed += len(keys)
        self._advance(count)

    @torch.inference_mode()
    def _forward(self, pixels: Tensor) -> Tensor:
        try:
            features: Tensor = self.model(pixels.to(self.device, non_blocking=True)).float()
        except BackboneError:
            raise
        except (RuntimeError, ValueError, AssertionError, TypeError) as problem:
            raise BackboneError(
                f"backbone {self.backbone.name} failed on images of shape "
                f"{tuple(pixels.shape)}: {problem}"
            ) from problem
        return features

    def _advance(self, count: int) -> None:
        self.done += count
        self.on_progress(self.done, len(self.places))


def _half(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float16]]:
    """Store half precision: an embedding's scale is far inside its range for any sane model."""
    half: np.ndarray[Any, np.dtype[np.float16]] = np.clip(rows, -65504, 65504).astype(np.float16)
    return half
