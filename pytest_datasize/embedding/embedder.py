"""Prepare a backbone for embedding: choose its precision and fit batches into memory."""

import platform
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pytest_datasize.curve.seeds import FIXED_NOISE
from pytest_datasize.embedding.backbone import Backbone
from pytest_datasize.embedding.device import current, free_memory, out_of_memory, torch_threads
from pytest_datasize.embedding.fusion import Site
from pytest_datasize.embedding.precision import (
    HALF_TOLERANCE,
    Inference,
    UnsuitableError,
    fast_precisions,
    prepare,
    prepare_openvino,
)
from pytest_datasize.embedding.reader import Decoded, decoded
from pytest_datasize.errors import BackboneError
from pytest_datasize.images.content_hash import known_contents
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.requirement.registries import OPENVINO, TORCH
from pytest_datasize.requirement.versions import EMBEDDING, text_of
from pytest_datasize.store import Store

CPU_BATCH = 8
"""Images of a batch on a CPU."""

_GPU_BATCH, _MPS_BATCH = 256, 64
_GPU_PIXELS = _GPU_BATCH * 224**2  # of a batch of larger images

_ARITHMETIC = 2  # version of the arithmetic: increase when embeddings change in any bit
_ARITHMETIC_GPU = 4  # the same of other devices than CPUs
_ARITHMETIC_OPENVINO = 1  # the same of OpenVINO

SAMPLE = 4
"""Number of images on which half precision is tested."""


class Space(NamedTuple):
    """Everything that embeddings depend on, except the image.

    Attributes
    ----------
    key
        Cache key of backbone, preprocessing, hardware, precision, runtime and version.
    precision
        Arithmetic precision of the backbone.
    runtime
        What runs the backbone, ``torch`` or ``openvino``.
    note
        Remark for the report; empty for none.
    """

    key: str
    precision: str
    runtime: str = TORCH
    note: str = ""


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
    runtime
        What shall run it, ``torch`` or ``openvino``; PyTorch does what OpenVINO cannot.
    """

    def __init__(
        self,
        backbone: Backbone,
        device: torch.device,
        precision: str = "auto",
        space: Space | None = None,
        runtime: str = TORCH,
    ) -> None:
        self.backbone, self.device = backbone, device
        self.batch_size = batch_of(device, backbone.image_size)
        self._asked = precision
        self._chooses = space is None and precision == "auto"
        self._halves = fast_precisions(device) if self._chooses else ()
        self._space = space
        # OpenVINO has no float16 on most CPUs
        self._runtime = OPENVINO if runtime == OPENVINO and precision != "float16" else TORCH
        self._note = ""
        self._untried = False  # whether there was no memory to try half precision
        self._sites: tuple[Site, ...] | None = None  # earlier result; None: no result
        self._inference: Inference | None = None
        self._first: ImageSet | None = None
        self._sample: list[Decoded] | None = None  # the first images, loaded when needed

    def settle(self, first: ImageSet, store: Store) -> Space:
        """Choose precision and runtime, once, by testing them on a few images.

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
        if self._space is None and self._asked != "auto" and self._runtime == TORCH:
            self._space = Space(self._key(self._asked), self._asked)
        if self._space is None:
            trial = self._trial(store)
            known = store.get("inference", trial)
            if known is None or not self._allows(known["precision"]):
                self.ready()
                known = self._found()
                if not self._untried:
                    store.put("inference", trial, known)
            if isinstance(self.backbone.given, str):  # others may change, and keep their names
                self._sites = tuple(map(_site, known["sites"]))
            precision, runtime = known["precision"], known.get("runtime", TORCH)
            key = self._key(precision, runtime)
            self._space = Space(key, precision, runtime, known.get("note", ""))
        return self._space

    def without(self, precision: str, store: Store) -> bool:
        """Choose again without a half precision in which a later image overflowed.

        Returns whether there was a choice; it was not if the precision was asked for, or if
        another process made it.
        """
        if not self._chooses or precision not in self._halves:
            return False
        self._halves = tuple(name for name in self._halves if name != precision)
        self._space = self._inference = self._sample = None
        self.ready()  # checks the others
        store.put("inference", self._trial(store), self._found())
        return True

    def _allows(self, precision: str) -> bool:
        """Whether an earlier choice is one of those that this process could make."""
        return precision in (*self._halves, "float32", self._asked)

    def _found(self) -> dict[str, Any]:
        """Return the choice as it is stored."""
        model = self.ready()
        found: dict[str, Any] = {"precision": model.precision, "sites": model.sites}
        return (
            found
            if self._runtime == TORCH
            else {**found, "runtime": model.runtime, "note": self._note}
        )

    def _trial(self, store: Store) -> str:
        """Return the cache key of the choice for the first images."""
        assert self._first is not None
        names = known_contents(self._first, store)
        if None in names:
            names = [one.content for one in self._read()]
        asked = "" if self._asked == "auto" else self._asked
        return f"{self._key(asked, self._runtime)}|{HALF_TOLERANCE}|{names}"

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
            runtime = self._space.runtime if self._space else self._runtime
            with torch_threads(1):
                found = self._converted(pixels, wanted) if runtime == OPENVINO else None
                try:
                    found = found or self._prepared(pixels, wanted)
                except RuntimeError as problem:
                    if not out_of_memory(problem):
                        raise
                    found = self._prepared_alone(pixels[:1], wanted)
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
            except RuntimeError as problem:
                if not out_of_memory(problem):
                    raise
                if size == 1:
                    raise self._no_memory() from None
            # outside the except block: its traceback would keep the tensors alive
            self.batch_size = size // 2
            free_memory(self.device)

    @torch.inference_mode()
    def _batch(self, inference: Inference, pixels: Sequence[Tensor], size: int) -> Tensor:
        # decoders give the channels of a pixel side by side, which is what the model takes
        images = [one.movedim(0, -1) for one in pixels]
        images += [images[-1]] * (size - len(images))
        pinned = self.device.type == "cuda"
        full = torch.empty(size, *images[0].shape, dtype=torch.uint8, pin_memory=pinned)
        torch.stack(images, out=full)
        # only from pinned memory: elsewhere the source may be gone before it was copied
        full = full.to(self.device, non_blocking=pinned).movedim(-1, 1)
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

    def _prepared_alone(self, pixels: list[Tensor], wanted: str) -> Inference:
        """Prepare with a single image, for which there may be memory; batches find their size.

        Without memory for that either, nothing is tried: the model runs as it is, and what was not
        tried is not stored.
        """
        free_memory(self.device)
        try:
            return self._prepared(pixels, wanted)
        except RuntimeError as problem:
            if not out_of_memory(problem):
                raise
        free_memory(self.device)
        self._untried = True
        sample = self.backbone.normalise(torch.stack(pixels))
        exact = "float32" if wanted == "auto" else wanted
        return prepare(self.backbone, self.device, sample, exact, ())

    def _prepared(self, pixels: list[Tensor], wanted: str) -> Inference:
        sample = self.backbone.normalise(torch.stack(pixels))
        with _named_failures(self.backbone, sample), current(self.device):
            return prepare(self.backbone, self.device, sample, wanted, self._sites, self._halves)

    def _converted(self, pixels: list[Tensor], wanted: str) -> Inference | None:
        """Prepare the model with OpenVINO; None, and a note, where PyTorch must run it."""
        known = self._sites is not None
        sample = self.backbone.normalise(torch.stack(pixels))
        try:
            with _named_failures(self.backbone, sample):
                return prepare_openvino(self.backbone, sample, CPU_BATCH, wanted, known=known)
        except UnsuitableError as problem:
            if self._space is not None:  # which holds embeddings of OpenVINO
                raise BackboneError(
                    f"backbone {self.backbone.name}: OpenVINO {problem}, and did not fail before. "
                    "Use runtime='torch'."
                ) from None
            self._note = f"runtime: PyTorch, because OpenVINO {problem}"
            return None

    def _no_memory(self) -> BackboneError:
        return BackboneError(
            f"backbone {self.backbone.name}: {self.device} has no memory for a single image of "
            f"{self.backbone.image_size} pixels. Use a smaller image_size or backbone, or "
            "device='cpu'."
        )

    def _key(self, precision: str, runtime: str = TORCH) -> str:
        """Everything but the image that an embedding depends on."""
        machine = platform.machine() if self.device.type == "cpu" else self.device.type
        version = _ARITHMETIC if self.device.type == "cpu" else _ARITHMETIC_GPU
        arithmetic = f"{text_of(EMBEDDING)} ({version})"
        if runtime == OPENVINO:
            arithmetic = f"{text_of((*EMBEDDING, OPENVINO))} ({_ARITHMETIC_OPENVINO})"
        return f"{self.backbone.key}|{machine}|{precision}|{arithmetic}"


def batch_of(device: torch.device, side: int) -> int:
    """Return how many images of `side` x `side` pixels go through a model at a time.

    The number is fixed for a device, because it selects the kernels. It is a power of two.

    Examples
    --------
    >>> [batch_of(torch.device("cuda"), side) for side in (96, 224, 300, 448, 4096)]
    [256, 256, 128, 64, 8]
    """
    if device.type == "cpu":
        return CPU_BATCH
    most = _GPU_BATCH if device.type == "cuda" else _MPS_BATCH
    while most > CPU_BATCH and most * side**2 > _GPU_PIXELS:
        most //= 2
    return most


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
        if problem is None or isinstance(problem, BackboneError) or out_of_memory(problem):
            return
        if isinstance(problem, (RuntimeError, ValueError, AssertionError, TypeError)):
            raise BackboneError(
                f"backbone {self.backbone.name} failed on images of shape {self.shape}: {problem}"
            ) from problem
