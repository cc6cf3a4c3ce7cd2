"""Features of all stages of a backbone, from the same single forward pass.

The last layer of a pretrained model has forgotten what its own classes did not need; earlier stages
still hold texture, position and shape. A head on all of them needs far fewer images (Evci et al.
2022, "Head2Toe: Utilizing Intermediate Representations for Better Transfer Learning").
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from pytest_datasize.curve.seeds import FIXED_NOISE
from pytest_datasize.embedding.backbone import Backbone, Features, before_pooling, pooled
from pytest_datasize.embedding.device import torch_threads
from pytest_datasize.embedding.flow import Taps, as_map, find

MOST_STAGES: Final = 5
"""Stages that are taken: evenly spaced ones of a model that has more."""

MOST_BLOCKS: Final = 4
"""Blocks of a transformer with a class token that are taken, the last one among them."""

MOST_FEATURES: Final = 4_096
"""Features of all stages together, beside the last layer."""

MOST_OF_BLOCKS: Final = 8_192
"""The same for a transformer: four blocks of 1,024 features, each with two kinds of tokens."""

_FITTING: Final = 2.0**-10, 2.0**12  # largest values that float16 holds with room on both sides
_SCALED: Final = 8  # others are scaled to at most two to this power: real images may give more

_CELLS: Final = 2  # a stage is averaged over 2 x 2 parts of the image where the width allows

NO_STAGES: Final = "features: last layer only, because no stages were found in this model"
"""Note of a result whose heads could not use stages."""


@dataclass(frozen=True)
class Stage:
    """One stage: its number among the model's intermediate outputs, and how it is pooled.

    Attributes
    ----------
    index
        As timm's ``forward_intermediates`` counts, or the place in the data flow.
    cells
        Parts per side that it is averaged over, 1 or 2.
    class_token
        Whether its class token is taken, too. It is a block of features of its own, since it
        varies less than the others.
    """

    index: int
    cells: int
    class_token: bool = False

    def pooled(self, found: Tensor, token: Tensor | None) -> list[Tensor]:
        """Return the blocks of features of a map (N, C, H, W) and a class token (N, C)."""
        mean = functional.adaptive_avg_pool2d(found, self.cells).flatten(1)
        return [mean] if token is None or not self.class_token else [token, mean]

    def __str__(self) -> str:
        return f"x{self.cells}{'t' if self.class_token else ''}"


class StageFeatures(nn.Module):
    """A model as a map (N, 3, S, S) → (N, D): the last layer's features, then the stages'.

    Parameters
    ----------
    model
        The model, in evaluation mode.
    stages
        Which stages, and how each is pooled.
    taps
        Takes the stages from the data flow; None for timm's ``forward_intermediates``.

    Attributes
    ----------
    scales
        Factor of each block of features, a power of two that makes it fit into half precision.
    """

    def __init__(
        self, model: nn.Module, stages: tuple[Stage, ...], taps: Taps | None = None
    ) -> None:
        super().__init__()
        self.model, self.stages, self.taps = model, stages, taps
        self.scales: tuple[float, ...] = ()

    def forward(self, images: Tensor) -> Tensor:
        """Return the features of all blocks side by side."""
        blocks = self.blocks(images)
        for number, scale in enumerate(self.scales):
            if scale != 1:
                blocks[number] = blocks[number] * scale
        return torch.cat(blocks, dim=1)

    def blocks(self, images: Tensor) -> list[Tensor]:
        """Return the features of the last layer and of each stage, (N, D_k) each, unscaled."""
        last, found = self._outputs(images)
        blocks = [pooled(last, type(self.model).__name__)]
        for stage, (one, token) in zip(self.stages, found, strict=True):
            blocks += stage.pooled(one, token)
        return blocks

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return the map of each stage, (N, C_k, H_k, W_k), unscaled."""
        return [found for found, _ in self._outputs(images)[1]]

    def _outputs(self, images: Tensor) -> tuple[Any, list[tuple[Tensor, Tensor | None]]]:
        """Return the features before pooling, and a map and a class token of each stage."""
        model: Any = self.model
        if self.taps is not None:
            last, found = self.taps.run(model, lambda: before_pooling(model, images))
            return last, [as_map(one) for one in found]
        indices = [stage.index for stage in self.stages]
        if self.stages[0].class_token:
            final, both = _intermediates(model, images, indices, return_prefix_tokens=True)
            outputs = [(one, prefix[:, 0]) for one, prefix in both]
        else:
            final, maps = _intermediates(model, images, indices)
            outputs = [(one, None) for one in maps]
        return model.forward_head(final, pre_logits=True), outputs


def with_stages(backbone: Backbone, *, own: bool = True) -> Backbone:
    """Return a backbone that computes the features of all stages.

    Parameters
    ----------
    backbone
        One that gives the features of its last layer.
    own
        Whether also a module of the user's own, or its output stays its embedding.

    Returns
    -------
    Backbone
        Its ``widths`` are those of the blocks of features, the last layer's first. Where no stages
        are found, the same features as before; its ``note`` says so.
    """
    if not own and not isinstance(backbone.given, str):
        return backbone
    if not isinstance(backbone.model, Features):
        return backbone
    weight = next(backbone.model.parameters(), torch.empty(0))
    noise = _noise(backbone).to(weight.device)
    with torch_threads(1), torch.inference_mode():
        for way, images in ((_by_timm, noise[:1]), (_by_flow, noise)):
            if staged := _tried(way, backbone, images):
                return staged
    return replace(backbone, note=NO_STAGES)


def last_layer(features: Tensor, backbone: Backbone) -> Tensor:
    """Return the columns of the last layer, the most semantic features."""
    return features[:, : backbone.widths[0]] if backbone.widths else features


def _tried(
    way: Callable[[Any, Tensor], StageFeatures], backbone: Backbone, images: Tensor
) -> Backbone | None:
    """Find the stages in one way; None where that fails, or changes the last layer's features.

    Rounding may change: torch's own transformers calculate in other steps where outputs are tapped.
    """
    model: Any = backbone.model
    try:
        found = way(model.model, images)
        blocks = found.blocks(images)
        alike = torch.allclose(blocks[0], model(images), rtol=1e-3, atol=1e-5)
    except Exception:  # whatever an architecture of any kind raises
        return None
    if not alike or not found.stages:
        return None
    points = (stage.index for stage in found.stages) if found.taps is None else found.taps.names
    named = ",".join(f"{point}{stage}" for point, stage in zip(points, found.stages, strict=True))
    found.scales = (1.0, *map(scale_of, blocks[1:]))
    if any(scale != 1 for scale in found.scales):
        named += f"|scales {found.scales}"
    number, tokens = len(found.stages), found.stages[0].class_token
    kind = "blocks (class token and mean)" if tokens else "stages"
    return replace(
        backbone,
        model=found,
        widths=tuple(block.shape[1] for block in blocks),
        layers=f"last layer and {number} {kind}",
        key=f"{backbone.key}|{'stages' if found.taps is None else 'flow'} {named}",
    )


def scale_of(block: Tensor) -> float:
    """Return the power of two that a block is stored with, for it may not fit into float16.

    Heads divide each block by a number of its own, so its units do not matter. What fits easily is
    left as it is.

    Examples
    --------
    >>> scale_of(torch.tensor([-3.0, 1000.0])), scale_of(torch.tensor([1e5, 0.0]))
    (1.0, 0.001953125)
    """
    peak = float(block.abs().max())
    if not 0 < peak < math.inf or _FITTING[0] <= peak <= _FITTING[1]:
        return 1.0
    return 2.0 ** (_SCALED - math.frexp(peak)[1])


def _by_timm(model: Any, images: Tensor) -> StageFeatures:
    """Take the stages that a model of timm gives itself."""
    _, maps = _intermediates(model, images)
    widths = [found.shape[1] for found in maps]
    tokens = getattr(model, "num_prefix_tokens", 0) and len({found.shape for found in maps}) == 1
    if tokens and "return_prefix_tokens" in signature(model.forward_intermediates).parameters:
        return StageFeatures(model, _blocks(len(maps), widths[0]))
    return StageFeatures(model, _chosen(widths))


def _intermediates(model: Any, images: Tensor, indices: Any = None, **options: Any) -> Any:
    return model.forward_intermediates(images, indices=indices, output_fmt="NCHW", **options)


def _by_flow(model: nn.Module, images: Tensor) -> StageFeatures:
    """Take the stages that show in the data flow of a model of any kind."""
    model = copy.deepcopy(model)  # which gets hooks
    flow = find(model, partial(before_pooling, model), images)
    widths = [point.channels for point in flow.points]
    stages = _blocks(len(widths), widths[0]) if flow.class_token else _chosen(widths)
    return StageFeatures(model, stages, Taps([flow.points[stage.index] for stage in stages]))


def _noise(backbone: Backbone) -> Tensor:
    """Return two images of noise as the model's input."""
    shape = 2, 3, backbone.image_size, backbone.image_size
    drawn = torch.Generator().manual_seed(FIXED_NOISE)
    return backbone.normalise(torch.randint(256, shape, dtype=torch.uint8, generator=drawn))


def _blocks(number: int, width: int) -> tuple[Stage, ...]:
    """Choose blocks of a transformer: the class token, and the mean of the others, of each.

    Examples
    --------
    >>> [stage.index for stage in _blocks(12, 768)]
    [2, 5, 8, 11]
    """
    count = max(1, min(MOST_BLOCKS, number, MOST_OF_BLOCKS // (2 * width)))
    return tuple(Stage(-(-number * k // count) - 1, 1, True) for k in range(1, count + 1))


def _chosen(channels: list[int]) -> tuple[Stage, ...]:
    """Choose stages, and how each is pooled, within the bound of features.

    Examples
    --------
    >>> [stage.cells for stage in _chosen([64, 256, 512, 1024, 2048])]
    [2, 1, 1, 1, 1]
    >>> str(_chosen([192] * 12)[0])
    'x2'
    """
    count = min(MOST_STAGES, len(channels))
    step = (len(channels) - 1) / max(1, count - 1)
    indices = sorted({round(k * step) for k in range(count)})
    while sum(channels[index] for index in indices) > MOST_FEATURES:
        indices.pop()  # the last stage is most similar to the last layer
    left = MOST_FEATURES - sum(channels[index] for index in indices)
    stages = []
    for index in indices:  # early stages are narrow, and keep most spatial information
        more = channels[index] * (_CELLS**2 - 1)
        stages.append(Stage(index, _CELLS if more <= left else 1))
        left -= more if more <= left else 0
    return tuple(stages)
