"""Features of all stages of a backbone, from the same single forward pass.

The last layer of a pretrained model has forgotten what its own classes did not need; earlier stages
still hold texture, position and shape. A head on all of them needs far fewer images (Evci et al.
2022, "Head2Toe: Utilizing Intermediate Representations for Better Transfer Learning").
"""

from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from pytest_datasize.embedding.backbone import Backbone, Features, before_pooling, pooled

MOST_STAGES: Final = 5
"""Stages that are taken: evenly spaced ones of a model that has more, such as a transformer."""

MOST_FEATURES: Final = 4_096
"""Features of all stages together, beside the last layer."""

_CELLS: Final = 2  # a stage is averaged over 2 x 2 parts of the image where the width allows


@dataclass(frozen=True)
class Stage:
    """One stage: its number among the model's intermediate outputs, and how it is pooled.

    Attributes
    ----------
    index
        As timm's ``forward_intermediates`` counts.
    cells
        Parts per side that it is averaged over, 1 or 2.
    """

    index: int
    cells: int


class StageFeatures(nn.Module):
    """A timm model as a map (N, 3, S, S) → (N, D): the last layer's features, then the stages'."""

    def __init__(self, model: nn.Module, stages: tuple[Stage, ...]) -> None:
        super().__init__()
        self.model, self.stages = model, stages

    def forward(self, images: Tensor) -> Tensor:
        """Return the features of all blocks side by side."""
        return torch.cat(self.blocks(images), dim=1)

    def blocks(self, images: Tensor) -> list[Tensor]:
        """Return the features of the last layer and of each stage, (N, D_k) each."""
        model: Any = self.model
        indices = [stage.index for stage in self.stages]
        final, maps = model.forward_intermediates(images, indices=indices, output_fmt="NCHW")
        last = pooled(model.forward_head(final, pre_logits=True), type(model).__name__)
        return [
            last,
            *(
                functional.adaptive_avg_pool2d(found, stage.cells).flatten(1)
                for found, stage in zip(maps, self.stages, strict=True)
            ),
        ]


def with_stages(backbone: Backbone) -> Backbone:
    """Return a backbone that computes the features of all stages.

    Parameters
    ----------
    backbone
        One that gives the features of its last layer.

    Returns
    -------
    Backbone
        Its ``widths`` are those of the blocks of features, the last layer's first. The backbone
        itself where it has no stages that can be taken: a module of the user's own, or a model
        without ``forward_intermediates``.
    """
    if not isinstance(backbone.given, str) or not isinstance(backbone.model, Features):
        return backbone
    model: Any = backbone.model.model
    if not hasattr(model, "forward_intermediates") or not hasattr(model, "forward_head"):
        return backbone
    side = backbone.image_size
    blank = torch.zeros(1, 3, side, side)
    try:
        with torch.inference_mode():
            _, maps = model.forward_intermediates(blank, output_fmt="NCHW")
            expected = pooled(before_pooling(model, blank), backbone.name)
            stages = _chosen([found.shape[1] for found in maps])
            staged = StageFeatures(model, stages)
            blocks = staged.blocks(blank)
    except Exception:  # unsupported architecture: use its last layer only
        return backbone
    if not torch.equal(blocks[0], expected):
        return backbone
    named = ",".join(f"{stage.index}x{stage.cells}" for stage in stages)
    return replace(
        backbone,
        model=staged,
        widths=tuple(block.shape[1] for block in blocks),
        key=f"{backbone.key}|stages {named}",
    )


def last_layer(features: Tensor, backbone: Backbone) -> Tensor:
    """Return the columns of the last layer, the most semantic features."""
    return features[:, : backbone.widths[0]] if backbone.widths else features


def _chosen(channels: list[int]) -> tuple[Stage, ...]:
    """Choose stages, and how each is pooled, within the bound of features.

    Examples
    --------
    >>> [stage.cells for stage in _chosen([64, 256, 512, 1024, 2048])]
    [2, 1, 1, 1, 1]
    >>> _chosen([192] * 12)[0]
    Stage(index=0, cells=2)
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
