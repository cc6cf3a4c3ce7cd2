"""Prepare a backbone for embedding: choose its precision and fit batches into memory."""

import platform
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pytest_datasize.curve.seeds import FIXED_NOISE
from pytest_datasize.embedding.backbone import Backbone
from pytest_datasize.embedding.device import torch_threads
from pytest_datasize.embedding.fusion import Site
from pytest_datasize.embedding.precision import HALF_TOLERANCE, Inference, prepare
from pytest_datasize.embedding.reader import Decoded, decoded
from pytest_datasize.errors import BackboneError
from pytest_datasize.images.content_hash import known_contents
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.requirement.versions import EMBEDDING, text_of
from pytest_datasize.store import Store

CPU_BATCH, GPU_BATCH = 8, 64

_ARITHMETIC = 2  # version of the arithmetic: increase when embeddings change in any bit

SAMPLE = 4
"""Number of images on which half precision is tested."""


class Space(NamedTuple):
    """Everything that embeddings depend on, except the image.

    Attributes
    ----------
    key
        Cache key of backbone, preprocessing, hardware, precision and version.
    precision
        Arithmetic precision of the backbone.
    """

    key: str
    precision: str


class Embedder:
    """A frozen model on a device, optimised when the first image is embedded.

    Parameters
    ----------
    backbone
        The frozen model and its preprocessing.
    device
        Where it runs.
    precision
        See :func:`pytest_datasize.embedding.precision.prepare`.
    space
        Earlier choice, on this hardware or another; None: :meth:`settle` chooses.
    """

    def __init__(
        self,
        backbone: Backbone,
        device: torch.device,
        precision: str = "auto",
        space: Space | None = None,
    ) -> None:
        self.backbone, self.device = backbone, device
        self.batch_size = CPU_BATCH if device.type == "cpu" else GPU_BATCH
        self._asked = precision
        self._space = space
        self._sites: tuple[Site, ...] | None = None  # earlier result; None: no result
        self._inference: Inference | None = None
        self._first: ImageSet | None = None
        self._sample: list[Decoded] | None = None  # the first images, loaded when needed

    def settle(self, first: ImageSet, store: Store) -> Space:
        """Choose the precision, once, by testing half precision on a few images.

        Parameters
        ----------
        first
            Those images.
        store
            Cache of earlier results for these images.

        Raises
        ------
        BackboneError
            The model fails on the images, or cannot compute in the requested precision.
        """
        if self._first is None:
            self._first = first
        if self._space is None and self._asked != "auto":
            self._space = Space(self._key(self._asked), self._asked)
        if self._space is None:
            names = known_contents(self._first, store)
            if None in names:
                names = [one.content for one in self._read()]
            trial = f"{self._key('')}|{HALF_TOLERANCE}|{names}"
            known = store.get("inference", trial)
            if known is None:
                model = self.ready()
                known = {"precision": model.precision, "sites": model.sites}
                store.put("inference", trial, known)
            if isinstance(self.backbone.given, str):  # others may change, and keep their names
                self._sites = tuple(map(_site, known["sites"]))
            self._space = Space(self._key(known["precision"]), known["precision"])
        return self._space

    def ready(self) -> Inference:
        """Prepare the model, once, on the images used to choose its precision.

        Raises
        ------
        BackboneError
            As in :meth:`settle`.
        """
        if self._inference is None:
            pixels = self._pixels()
            wanted = self._space.precision if self._space else self._asked
            with torch_threads(1):
                try:
                    found = self._prepared(pixels, wanted)
                except torch.OutOfMemoryError:  # single images may still fit
                    self.batch_size = 1
                    try:
                        found = self._prepared(pixels[:1], wanted)
                    except torch.OutOfMemoryError:
                        raise self._no_memory() from None
            if wanted not in ("auto", found.precision):
                raise BackboneError(
                    f"precision={wanted!r}: backbone {self.backbone.name} cannot calculate in "
                    f"it on {self.device}, or its embeddings would differ by more than "
                    f"{HALF_TOLERANCE:.0%}. Use precision='auto' or 'float32'."
                )
            self._inference, self._sample = found, None
        return self._inference

    def forward(self, pixels: Sequence[Tensor]) -> Tensor:
        """Embed some images; a batch is always full, so the choice of kernels is constant.

        A device that runs out of memory gets half of the batch, from then on. Threads may call it
        at the same time once the model is ready.

        Parameters
        ----------
        pixels
            n images, uint8 of shape (3, S, S).

        Returns
        -------
        Tensor
            Embeddings, (n, D), on the device.

        Raises
        ------
        BackboneError
            The model fails on the images, or has no memory for a single one.
        """
        inference = self.ready()
        while True:
            size = self.batch_size
            starts = range(0, len(pixels), size)
            try:
                return torch.cat(
                    [self._batch(inference, pixels[k : k + size], size) for k in starts]
                )
            except torch.OutOfMemoryError:
                if size == 1:
                    raise self._no_memory() from None
                self.batch_size = size // 2

    @torch.inference_mode()
    def _batch(self, inference: Inference, pixels: Sequence[Tensor], size: int) -> Tensor:
        # decoders give the channels of a pixel side by side, which is what the model takes
        full = torch.stack([one.movedim(0, -1) for one in pixels])
        if missing := size - len(pixels):
            full = torch.cat([full, full[-1:].expand(missing, -1, -1, -1)])
        if self.device.type == "cuda":
            full = full.pin_memory()
        full = full.to(self.device, non_blocking=True).movedim(-1, 1)
        full = self.backbone.normalise(full)
        full = full.to(inference.dtype, memory_format=torch.channels_last)
        with _named_failures(self.backbone, full):
            features: Tensor = inference.model(full)[: len(pixels)]
        return features

    def _pixels(self) -> list[Tensor]:
        """Return images to prepare the model with: noise if there is nothing to check."""
        known = self._sites is not None
        pixels = [] if known else [one.pixels for one in self._read() if one.pixels is not None]
        if not pixels:  # or no image can be read, which is reported elsewhere for all images
            shape = 3, *[self.backbone.image_size] * 2
            noise = torch.Generator().manual_seed(FIXED_NOISE)
            pixels = [torch.randint(256, shape, dtype=torch.uint8, generator=noise)]
        return pixels

    def _read(self) -> list[Decoded]:
        if self._sample is None:
            assert self._first is not None
            rows, crop = range(len(self._first)), self.backbone.crop
            self._sample = [decoded(self._first, row, crop) for row in rows]
        return self._sample

    def _prepared(self, pixels: list[Tensor], wanted: str) -> Inference:
        sample = self.backbone.normalise(torch.stack(pixels))
        with _named_failures(self.backbone, sample):
            return prepare(self.backbone, self.device, sample, wanted, self._sites)

    def _no_memory(self) -> BackboneError:
        return BackboneError(
            f"backbone {self.backbone.name}: {self.device} has no memory for a single image of "
            f"{self.backbone.image_size} pixels. Use a smaller image_size or backbone, or "
            "device='cpu'."
        )

    def _key(self, precision: str) -> str:
        """Everything but the image that an embedding depends on."""
        machine = platform.machine() if self.device.type == "cpu" else self.device.type
        arithmetic = f"{text_of(EMBEDDING)} ({_ARITHMETIC})"
        return f"{self.backbone.key}|{machine}|{precision}|{arithmetic}"


def first_of(image_sets: Sequence[ImageSet]) -> ImageSet:
    """Return the first images, on which half precision is tested."""
    images = image_sets[0]
    return images.part(np.arange(min(SAMPLE, len(images))))


def _site(known: Sequence[Any]) -> Site:
    """Convert a site from JSON."""
    convolution, norm, activation, (height, width) = known
    return Site(convolution, norm, activation, (height, width))


class _named_failures:  # noqa: N801  (reads as a statement)
    """Convert exceptions of a model to an error that names the model."""

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
