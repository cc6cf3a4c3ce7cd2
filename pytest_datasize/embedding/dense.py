"""Features of every place of an image, for masks: the maps of several stages, not pooled.

The whole image is resized to the backbone's input, never cropped, so that a place in a map is a
place in the mask. An image becomes one row of features, the maps one after the other, each at its
own resolution; what lies between their places is interpolated when it is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from pytest_datasize.curve.seeds import FIXED_NOISE
from pytest_datasize.embedding.backbone import Backbone
from pytest_datasize.embedding.device import torch_threads
from pytest_datasize.embedding.stages import StageFeatures, scale_of, with_stages
from pytest_datasize.errors import BackboneError

STRIDE: Final = 8
"""Pixels of the input for one place of the finest map that is used."""

MOST_VALUES: Final = 200_000
"""Values of all maps of an image; of a model with more, the first stages are left out."""


@dataclass(frozen=True)
class Maps:
    """The maps in a row of features.

    Attributes
    ----------
    channels
        Channels of each map.
    sides
        Places per side of each map.
    """

    channels: tuple[int, ...]
    sides: tuple[int, ...]

    @property
    def side(self) -> int:
        """Places per side of the finest map."""
        return max(self.sides)

    @property
    def width(self) -> int:
        """Features of one place."""
        return sum(self.channels)

    def split(self, rows: Tensor) -> list[Tensor]:
        """Return the maps of some rows, (n, C_k, side_k, side_k) each, float32."""
        sizes = [c * side * side for c, side in zip(self.channels, self.sides, strict=True)]
        parts = torch.split(rows, sizes, dim=1)
        return [
            part.float().view(len(rows), c, side, side)
            for part, c, side in zip(parts, self.channels, self.sides, strict=True)
        ]

    def places(self, rows: Tensor, chosen: Tensor) -> Tensor:
        """Return the features of some places of each image.

        Parameters
        ----------
        rows
            Rows of features, (n, D).
        chosen
            Places in the finest map, row after row, int64 (n, P).

        Returns
        -------
        Tensor
            (n, P, width): the value of each map at the middle of the place.
        """
        x, y = (chosen % self.side + 0.5) * 2 / self.side - 1, (chosen // self.side + 0.5) * 2
        grid = torch.stack([x, y / self.side - 1], dim=-1)[:, :, None].float()
        taken = [
            functional.grid_sample(one, grid, padding_mode="border", align_corners=False)[..., 0]
            for one in self.split(rows)
        ]
        return torch.cat(taken, dim=1).transpose(1, 2)

    def logits(self, rows: Tensor, weights: Tensor, bias: Tensor, side: int) -> Tensor:
        """Return what a linear model gives at every place, interpolated.

        Interpolation is linear, too, so the model is applied to each map at its own resolution.

        Parameters
        ----------
        rows
            Rows of features, (n, D).
        weights, bias
            The model, (C, width) and (C,).
        side
            Places per side of the result.

        Returns
        -------
        Tensor
            (n, C, side, side).
        """
        total: Tensor | None = None
        parts = torch.split(weights, list(self.channels), dim=1)
        for one, own in zip(self.split(rows), parts, strict=True):
            part = torch.einsum("nkyx,ck->ncyx", one, own)
            part = functional.interpolate(part, side, mode="bilinear", align_corners=False)
            total = part if total is None else total + part
        assert total is not None
        return total + bias[:, None, None]


class DenseFeatures(nn.Module):
    """A model as a map (N, 3, S, S) → (N, D): the maps of some stages, flattened.

    Parameters
    ----------
    stages
        The model, as it gives its stages.
    indices
        Which of its stages.
    scales
        Factor of each map that makes it fit into half precision.
    """

    def __init__(
        self, stages: StageFeatures, indices: Sequence[int], scales: Sequence[float]
    ) -> None:
        super().__init__()
        self.stages, self.indices, self.scales = stages, tuple(indices), tuple(scales)

    def forward(self, images: Tensor) -> Tensor:
        """Return the maps one after the other."""
        maps = self.stages.maps(images)
        pairs = zip(self.indices, self.scales, strict=True)
        return torch.cat([(maps[k] * scale).flatten(1) for k, scale in pairs], dim=1)


class Whole:
    """Resize the whole image, whatever its shape, to S x S pixels: uint8 (3, S, S)."""

    def __init__(self, side: int) -> None:
        self._side = side

    def __call__(self, picture: Image.Image) -> Tensor:
        """Resize an image."""
        small = picture.resize((self._side, self._side), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(small)).movedim(-1, 0)


def dense(backbone: Backbone) -> tuple[Backbone, Maps]:
    """Return a backbone whose embeddings are maps of features, and what these maps are.

    Raises
    ------
    BackboneError
        The model has no stages with maps.
    """
    staged = with_stages(backbone)
    if not isinstance(staged.model, StageFeatures):
        raise BackboneError(
            f"backbone {backbone.name} gives no maps of features, which masks need. Use a "
            "convolutional network or a transformer of timm."
        )
    side = backbone.image_size
    noise = torch.Generator().manual_seed(FIXED_NOISE)
    pixels = torch.randint(256, (1, 3, side, side), dtype=torch.uint8, generator=noise)
    with torch_threads(1), torch.inference_mode():
        weight = next(staged.model.parameters(), torch.empty(0))
        maps = staged.model.maps(backbone.normalise(pixels).to(weight.device))
    indices = _chosen([tuple(one.shape[1:]) for one in maps], side)
    if not indices:
        raise BackboneError(
            f"backbone {backbone.name} gives no map of features of at least 2 x 2 places for an "
            f"input of {side} pixels."
        )
    scales = [scale_of(maps[index]) for index in indices]
    found = Maps(
        tuple(maps[index].shape[1] for index in indices),
        tuple(maps[index].shape[2] for index in indices),
    )
    strides = "+".join(f"{side / places:g}" for places in found.sides)
    return (
        replace(
            backbone,
            model=DenseFeatures(staged.model, indices, scales),
            crop=Whole(side),
            widths=(),
            layers=f"maps of {len(indices)} stages at strides {strides}",
            key=f"{staged.key}|maps {indices} {scales} whole image",
        ),
        found,
    )


def _chosen(shapes: Sequence[tuple[int, ...]], side: int) -> tuple[int, ...]:
    """Choose stages: none finer than the stride, the last ones first, within the bound.

    Examples
    --------
    >>> _chosen([(24, 56, 56), (40, 28, 28), (112, 14, 14), (320, 7, 7)], 224)
    (1, 2, 3)
    """
    found: list[int] = []
    total = 0
    for index in reversed(range(len(shapes))):
        channels, height, width = shapes[index]
        total += channels * height * width
        if found and total > MOST_VALUES:
            break
        if height == width and 1 < height <= max(side / STRIDE, 2):
            found.append(index)
    return tuple(sorted(found))
