"""Compute the frozen part's activations of every image once, for all epochs and trials."""

import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pytest_datasize.embedding.backbone import Backbone
from pytest_datasize.embedding.device import free_bytes, sent
from pytest_datasize.embedding.embed import embed
from pytest_datasize.embedding.embedder import Embedder
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.store import Store

MEMORY_BOUND = 512 << 20
"""Bytes of activations kept in memory; more are kept in a memory-mapped temporary file."""

_SHARE = 4  # activations may use this part (1/4) of the free memory; training needs the rest
_CHUNK = 1024  # images computed at a time, so that never more than these are held twice


class Activations:
    """Half-precision activations of all images, in memory or in a memory-mapped file.

    Half precision: on Fashion-MNIST images (60, 200 and 480 to train on, 4 repeats, accuracies of
    0.68 to 0.79) fine-tuning from float16 and from float32 activations had the same mean accuracy;
    single repeats differed by 0.007, where repeats spread by 0.05. It halves memory and traffic.

    Parameters
    ----------
    rows, shape
        Number of views of images, and the shape of one activation.
    firsts
        First row of every view; the row of an image in a view is this plus its row among images.
    bound
        Bytes above which a temporary file is used; it is deleted with the object.
    """

    def __init__(
        self,
        rows: int,
        shape: Sequence[int],
        firsts: Sequence[int] | NDArray[np.int64] = (0,),
        bound: int | None = None,
    ) -> None:
        self.shape, self.firsts = tuple(shape), np.array(firsts, dtype=np.int64)
        bound = MEMORY_BOUND if bound is None else bound
        size = (rows, *self.shape)
        self.values: np.ndarray[Any, np.dtype[np.float16]]
        if 2 * int(np.prod(size)) <= bound:
            self.values = np.empty(size, dtype=np.float16)
        else:
            folder = tempfile.mkdtemp(prefix="datasize-")
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            path = Path(folder, "activations")
            self.values = np.memmap(path, dtype=np.float16, mode="w+", shape=size)
        self._on_gpu: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all activations."""
        return int(self.values.nbytes)

    def keep_on(self, device: torch.device) -> "Activations":
        """Keep a copy on a GPU, if it fits; call this once all activations are computed."""
        if device.type == "cuda" and self.nbytes * _SHARE <= free_bytes(device):
            self._on_gpu = torch.from_numpy(self.values).to(device)
        return self

    def batch(self, rows: NDArray[np.int64], device: torch.device) -> Tensor:
        """Return the activations of some images as float32 on a device."""
        if self._on_gpu is not None:
            found = self._on_gpu[sent(torch.from_numpy(rows), device)].float()
        else:
            found = sent(torch.from_numpy(self.values[rows]), device).float()
        if found.ndim == 4:
            found = found.contiguous(memory_format=torch.channels_last)
        return found


class _Flat(nn.Module):
    """A trunk whose activations are rows, as embeddings are."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, images: Tensor) -> Tensor:
        activations: Tensor = self.trunk(images)
        return activations.flatten(1)


def compute(
    image_sets: Sequence[ImageSet],
    views: Sequence[Backbone],
    trunk: nn.Module,
    device: torch.device,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    bound: int | None = None,
) -> Activations:
    """Compute the activations of every view of every image once.

    Parameters
    ----------
    image_sets
        The pool, and after it the test images where given separately; N images in all.
    views
        V backbones that differ in their preprocessing, the plain one first. Only the pool has
        the others: what is given apart is never trained on.
    trunk
        (N, 3, S, S) images → activations.
    device
        Where it runs.
    on_progress
        Called with (views of images done, in all).
    bound
        Bytes kept in memory; None for :data:`MEMORY_BOUND`.

    Raises
    ------
    DatasetError, BackboneError
        As :func:`pytest_datasize.embedding.embed.embed`.
    """
    side = views[0].image_size
    with torch.inference_mode():
        shape = trunk.to(device)(torch.zeros(1, 3, side, side, device=device)).shape[1:]
    flat = _Flat(trunk).eval()
    every, pool = sum(len(images) for images in image_sets), len(image_sets[0])
    total = every + (len(views) - 1) * pool
    firsts = (0, *(every + pool * number for number in range(len(views) - 1)))
    kept = Activations(total, shape, firsts, bound)
    done = 0
    for number, view in enumerate(views):
        lower = Embedder(replace(view, model=flat), device, "float32")
        for images in image_sets[:1] if number else image_sets:
            for first in range(0, len(images), _CHUNK):
                part = _slice(images, first, min(first + _CHUNK, len(images)))
                start = done

                def tell(n: int, _: int, start: int = start) -> None:
                    on_progress(start + n, total)

                rows = embed([part], lower, Store(), tell).features[:].cpu().numpy()
                kept.values[done : done + len(part)] = rows.reshape(len(part), *shape)
                done += len(part)
    return kept.keep_on(device)


def _slice(images: ImageSet, first: int, stop: int) -> ImageSet:
    return replace(
        images,
        labels=images.labels[first:stop],
        read=lambda index: images.read(first + index),
        name=lambda index: images.name(first + index),
        stamp=lambda index: images.stamp(first + index),
        digests=images.digests[first:stop],
    )
