"""What the frozen part makes of every image, computed once and kept for all epochs and trials."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.ndarrays import IntArray
from pytest_datasize.transfer.backbone import Backbone
from pytest_datasize.transfer.embedding import embed

MEMORY_BOUND = 512 << 20
"""Bytes of activations kept in memory; more are kept in a memory-mapped temporary file."""

_CHUNK = 256  # images computed at a time, so that never more than these are held twice


class Activations:
    """Half-precision activations of all images, in memory or in a memory-mapped file.

    Half precision: on real images the scores of fine-tuning from float16 and from float32
    activations were the same within a tenth of their luck, at half the memory.

    Parameters
    ----------
    rows, shape
        Number of images, and the shape of one activation.
    bound
        Bytes above which a temporary file takes them; it goes when the object does.
    """

    def __init__(self, rows: int, shape: Sequence[int], bound: int = MEMORY_BOUND) -> None:
        self.shape = tuple(shape)
        self.folder: tempfile.TemporaryDirectory[str] | None = None
        size = (rows, *self.shape)
        self.values: np.ndarray[Any, np.dtype[np.float16]]
        if 2 * int(np.prod(size)) <= bound:
            self.values = np.empty(size, dtype=np.float16)
        else:
            self.folder = tempfile.TemporaryDirectory(
                prefix="datasize-", ignore_cleanup_errors=True
            )
            path = Path(self.folder.name, "activations")
            self.values = np.memmap(path, dtype=np.float16, mode="w+", shape=size)

    @property
    def nbytes(self) -> int:
        """Bytes of all activations."""
        return int(self.values.nbytes)

    def batch(self, rows: IntArray, device: torch.device) -> Tensor:
        """Return the activations of some images as float32 on a device."""
        found = torch.from_numpy(self.values[rows]).to(device).float()
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
    bound: int = MEMORY_BOUND,
) -> Activations:
    """Push every view of every image once through a trunk.

    Parameters
    ----------
    image_sets
        The sets, N images in all.
    views
        V backbones that differ in their preprocessing, the plain one first.
    trunk
        (N, 3, S, S) images → activations.
    device
        Where it runs.
    on_progress
        Called with (views of images done, in all).
    bound
        Bytes kept in memory.

    Returns
    -------
    Activations
        V · N rows: those of the first view, then those of the second, ...

    Raises
    ------
    DatasetError, BackboneError
        As :func:`pytest_datasize.transfer.embedding.embed`.
    """
    side = views[0].image_size
    with torch.inference_mode():
        shape = trunk.to(device)(torch.zeros(1, 3, side, side, device=device)).shape[1:]
    flat = _Flat(trunk).eval()
    total = len(views) * sum(len(images) for images in image_sets)
    kept = Activations(total, shape, bound)
    done = 0
    for view in views:
        lower = replace(view, model=flat)
        for images in image_sets:
            for first in range(0, len(images), _CHUNK):
                part = _slice(images, first, min(first + _CHUNK, len(images)))
                start = done
                found = embed(
                    [part], lower, device, {}, lambda n, _, start=start: on_progress(start + n, total)
                )
                rows = found.features.cpu().numpy()
                kept.values[done : done + len(part)] = rows.reshape(len(part), *shape)
                done += len(part)
    return kept


def _slice(images: ImageSet, first: int, stop: int) -> ImageSet:
    return replace(
        images,
        labels=images.labels[first:stop],
        read=lambda index: images.read(first + index),
        name=lambda index: images.name(first + index),
        stamp=lambda index: images.stamp(first + index),
        digests=images.digests[first:stop],
    )
