"""Speed up a frozen model with equal results: fused layers, channels last, half precision.

Every step is checked by its numbers on a few of the images themselves: a step that changes the
embeddings more than is stated here is not taken.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pytest_datasize.curve.seeds import FIXED_NOISE
from pytest_datasize.embedding.backbone import Backbone
from pytest_datasize.embedding.device import has_bfloat16, out_of_memory
from pytest_datasize.embedding.fusion import Site, fuse, watch
from pytest_datasize.embedding.openvino_runtime import HINTS, OpenVINOModel
from pytest_datasize.requirement.registries import OPENVINO, TORCH

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
        What the model calculates in, such as ``bfloat16``.
    sites
        Where layers are fused into its convolutions; empty where none are.
    runtime
        What runs the model, ``torch`` or ``openvino``.
    """

    model: Callable[[Tensor], Tensor]
    precision: str
    sites: tuple[Site, ...]
    runtime: str = TORCH

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the input images."""
        return PRECISIONS[self.precision] if self.runtime == TORCH else torch.float32


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


class UnsuitableError(Exception):
    """OpenVINO cannot convert a model, or computes something else; the message says which."""


@torch.inference_mode()
def prepare_openvino(
    backbone: Backbone, sample: Tensor, batch: int, precision: str = "auto", *, known: bool = False
) -> Inference:
    """Convert the model of a backbone to OpenVINO, for the CPU.

    In float32 the converted model must pass the check of fused layers, in half precision that of
    :func:`prepare`.

    Parameters
    ----------
    backbone, sample, precision
        As for :func:`prepare`.
    batch
        Images in every call; the sample has no more.
    known
        Whether an earlier check chose ``precision``, so that nothing is compared.

    Raises
    ------
    UnsuitableError
        The model cannot be converted, or its embeddings differ from those of PyTorch.
    """

    def converted(precision: str) -> OpenVINOModel:
        try:
            return OpenVINOModel(backbone.model, backbone.image_size, batch, precision)
        except Exception as problem:  # tracing runs the model, and OpenVINO raises of its own
            words = " ".join(str(problem).split())[:200]
            raise UnsuitableError(
                f"cannot convert it ({type(problem).__name__}: {words})"
            ) from None

    if known:
        return Inference(converted(precision), precision, (), OPENVINO)
    images = torch.cat([sample, _noise(backbone, sample)])[-batch:]
    images = images.contiguous(memory_format=torch.channels_last)
    reference = backbone.model(images).float()
    exact = converted("float32")
    try:
        found = exact(images)
    except Exception as problem:
        raise UnsuitableError(f"cannot run it ({type(problem).__name__})") from None
    if found.shape != reference.shape or not _alike(found, reference, backbone.widths):
        raise UnsuitableError("computes other embeddings than PyTorch")
    wanted = [precision] if precision != "auto" else list(fast_precisions(sample.device))
    for name in wanted:
        if name not in HINTS or name == "float32":
            break
        half = converted(name)
        if _difference(half, images, reference, backbone.widths) <= HALF_TOLERANCE:
            return Inference(half, name, (), OPENVINO)
    return Inference(exact, "float32", (), OPENVINO)


def _noise(backbone: Backbone, sample: Tensor) -> Tensor:
    """Return one normalised image of noise on the device of a sample, whose images may be black."""
    shape = 1, 3, *[backbone.image_size] * 2
    noise = torch.randint(256, shape, generator=torch.Generator().manual_seed(FIXED_NOISE))
    return backbone.normalise(noise.to(sample.device))


def _fused(
    model: nn.Module, backbone: Backbone, sample: Tensor
) -> tuple[tuple[Site, ...], Tensor] | None:
    """Fuse the layers of a model; return where, and the output for the sample before fusing.

    None where that fails, or changes what tells images apart.
    """
    images = torch.cat([sample, _noise(backbone, sample)])
    images = images.contiguous(memory_format=torch.channels_last)
    try:
        output, sites = watch(model, images)
        before = output.float()
        if not fuse(model, sites):
            return (), before[: len(sample)]
        after = model(images).float()
    except Exception as problem:  # any error of a user's module: it may run unfused
        if out_of_memory(problem):  # which may be over in a moment, and must not be kept
            raise
        return None
    return (sites, before[: len(sample)]) if _alike(after, before, backbone.widths) else None


def _alike(found: Tensor, reference: Tensor, widths: Sequence[int]) -> bool:
    """Whether embeddings differ by rounding only.

    Compared with what tells images apart: the embeddings without what is common to all.
    """
    spread = reference - reference.mean(0)
    return all(
        bool((moved.norm(dim=1) <= FUSION_TOLERANCE * apart.norm(dim=1).clamp_min(1e-12)).all())
        for moved, apart in zip(
            _blocks(found - reference, widths), _blocks(spread, widths), strict=True
        )
    )


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
    model: Callable[[Tensor], Tensor], images: Tensor, reference: Tensor, widths: Sequence[int]
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
