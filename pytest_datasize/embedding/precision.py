"""Speed up a frozen model with equal results: fused layers, channels last, half precision.

Every step is checked by its numbers on a few of the images themselves: a step that changes the
embeddings more than is stated here is not taken.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pytest_datasize.curve.seeds import FIXED_NOISE
from pytest_datasize.embedding.backbone import Backbone
from pytest_datasize.embedding.device import has_bfloat16, out_of_memory
from pytest_datasize.embedding.fusion import Site, fuse, watch

FUSION_TOLERANCE = 1e-3
"""Largest difference by fusing layers, as a share of an image's distance to the others' mean."""

HALF_TOLERANCE = 0.1
"""Largest relative difference by half precision.

Rounding to bfloat16 moved the embeddings of EfficientNet-Lite0 by 5 to 6 % of their length, and
accuracy by at most 0.7 points from 100 training images on.
"""

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Inference:
    """A model ready to embed.

    Attributes
    ----------
    model
        (N, 3, S, S) images in ``dtype`` and channels last → (N, D) embeddings.
    precision
        Name of the dtype, such as ``bfloat16``.
    sites
        Where layers are fused into its convolutions; empty where none are.
    """

    model: nn.Module
    precision: str
    sites: tuple[Site, ...]

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the input images."""
        return PRECISIONS[self.precision]


@torch.inference_mode()
def prepare(
    backbone: Backbone,
    device: torch.device,
    sample: Tensor,
    precision: str = "auto",
    sites: Sequence[Site] | None = None,
    halves: Sequence[str] | None = None,
) -> Inference:
    """Optimise the model of a backbone for a device.

    Parameters
    ----------
    backbone
        The frozen model; it is left as it is.
    device
        Where it will run.
    sample
        A few normalised images to check it on, float32 of shape (n, 3, S, S).
    precision
        ``float32``, ``bfloat16``, ``float16``, or ``auto``: the first half precision that the
        hardware is fast in and that keeps the embeddings within :data:`HALF_TOLERANCE`.
    sites
        Where an earlier check of ``precision`` found that layers can be fused; None checks.
    halves
        What ``auto`` tries, in this order; None for :func:`fast_precisions`.
    """
    sample = sample.to(device).contiguous(memory_format=torch.channels_last)

    def exact(sites: Sequence[Site] = ()) -> nn.Module:
        model = copy.deepcopy(backbone.model).to(device).to(memory_format=torch.channels_last)
        fuse(model, sites)
        return model

    if sites is not None:
        model = exact(sites)
        if precision != "float32":  # parts of a model may calculate in another one
            model = model.to(PRECISIONS[precision])
        return Inference(model, precision, tuple(sites))
    model = exact()
    fused = _fused(model, backbone, sample)
    if fused is None:
        model = exact()
        fused = (), model(sample).float()
    sites, reference = fused
    if precision == "auto":
        wanted = fast_precisions(device) if halves is None else halves
    else:
        wanted = [precision]
    for name in wanted:
        if name == "float32":
            break
        half = model.to(PRECISIONS[name])
        images = sample.to(PRECISIONS[name])
        if _difference(half, images, reference, backbone.widths) <= HALF_TOLERANCE:
            return Inference(half, name, sites)
        model = exact(sites)
    return Inference(model, "float32", sites)


def _fused(
    model: nn.Module, backbone: Backbone, sample: Tensor
) -> tuple[tuple[Site, ...], Tensor] | None:
    """Fuse the layers of a model; return where, and the output for the sample before fusing.

    None where that fails, or changes what tells images apart: embeddings without what is common to
    all. Noise is one of the images, since the others may be black.
    """
    side = backbone.image_size
    noise = torch.randint(
        256, (1, 3, side, side), generator=torch.Generator().manual_seed(FIXED_NOISE)
    )
    shown = backbone.normalise(noise.to(sample.device))
    images = torch.cat([sample, shown]).contiguous(memory_format=torch.channels_last)
    try:
        output, sites = watch(model, images)
        before = output.float()
        if not fuse(model, sites):
            return (), before[: len(sample)]
        changed = model(images).float() - before
    except Exception as problem:  # any error of a user's module: it may run unfused
        if out_of_memory(problem):  # which may be over in a moment, and must not be kept
            raise
        return None
    spread = before - before.mean(0)
    for moved, apart in zip(
        _blocks(changed, backbone.widths), _blocks(spread, backbone.widths), strict=True
    ):
        if (moved.norm(dim=1) > FUSION_TOLERANCE * apart.norm(dim=1).clamp_min(1e-12)).any():
            return None
    return sites, before[: len(sample)]


def fast_precisions(device: torch.device) -> tuple[str, ...]:
    """Return the half precisions that the hardware multiplies fast in, the more exact one first.

    GPUs are as fast in float16 as in bfloat16, and it has three more bits: embeddings of
    EfficientNet-Lite0 were 0.5 % from those in float32 instead of 5 to 8 %. Its range is smaller,
    so bfloat16 is next.
    """
    if device.type == "cuda":
        return ("float16", "bfloat16") if has_bfloat16(device) else ("float16",)
    if device.type == "cpu" and _cpu_has_bfloat16():
        return ("bfloat16",)
    return ()


def _difference(
    model: nn.Module, images: Tensor, reference: Tensor, widths: Sequence[int]
) -> float:
    """Mean relative difference of embeddings, in the block of features where it is largest.

    Infinite where they are not finite, or fail.

    What fails: a module that makes float32 tensors of its own, or an operation without a half
    version.
    """
    try:
        found = model(images).float()
    except Exception as problem:  # any error of a user's module: in float32 it ran
        if out_of_memory(problem):
            raise
        return float("inf")
    if not found.isfinite().all():  # an activation beyond the range of float16
        return float("inf")
    pairs = zip(_blocks(found, widths), _blocks(reference, widths), strict=True)
    return max(
        float(((ours - true).norm(dim=1) / true.norm(dim=1).clamp_min(1e-12)).mean())
        for ours, true in pairs
    )


def _blocks(features: Tensor, widths: Sequence[int]) -> Sequence[Tensor]:
    """Split features into those of the last layer and of each stage."""
    return torch.split(features, list(widths) or [features.shape[1]], 1)


def _cpu_has_bfloat16() -> bool:
    """Whether the processor supports bfloat16 products; emulation would be slower than float32."""
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    if probe is not None and probe():
        return True
    tiles = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(tiles is not None and tiles())
