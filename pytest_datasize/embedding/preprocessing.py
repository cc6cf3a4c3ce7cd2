"""What a model expects of its images: their size, the crop, mean and standard deviation."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from pytest_datasize.images.plain_crop import PlainCrop

IMAGENET: Final[dict[str, Any]] = {
    "input_size": (3, 224, 224),
    "interpolation": "bicubic",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "crop_pct": 0.875,
    "crop_mode": "center",
}
"""timm's own defaults, for models that say nothing: timm takes seconds to import."""


@dataclass(frozen=True)
class TensorCrop:
    """The usual crop of ImageNet models: 8-bit RGB image → uint8 tensor of shape (3, S, S).

    Examples
    --------
    >>> crop = TensorCrop(PlainCrop(8, 6, Image.Resampling.BICUBIC))
    >>> crop(Image.new("RGB", (20, 10))).shape
    torch.Size([3, 6, 6])
    """

    plain: PlainCrop

    def __call__(self, picture: Image.Image) -> Tensor:
        """Resize and crop an image."""
        return torch.from_numpy(np.array(self.plain(picture))).permute(2, 0, 1)


@dataclass(frozen=True)
class Preprocessing:
    """How images become the input of a model.

    Attributes
    ----------
    crop
        8-bit RGB image → uint8 tensor of shape (3, S, S).
    config
        All that it depends on, by timm's names.
    """

    crop: Callable[[Image.Image], Tensor]
    config: dict[str, Any]

    @classmethod
    def of(cls, model: nn.Module, image_size: int | None) -> "Preprocessing":
        """Return what a model of timm says, or the usual for ImageNet.

        Parameters
        ----------
        model
            Any model; those of timm have an attribute ``pretrained_cfg``.
        image_size
            Side of the input in pixels; None for the model's own.
        """
        size = {"input_size": (3, image_size, image_size)} if image_size else {}
        if not hasattr(model, "pretrained_cfg"):
            config = {**IMAGENET, **size}
            side = config["input_size"][-1]
            short = math.floor(side / config["crop_pct"])
            plain = PlainCrop(short, side, Image.Resampling[config["interpolation"].upper()])
            return cls(TensorCrop(plain), config)
        import timm.data

        config = {**timm.data.resolve_model_data_config(model), **size}
        crop = timm.data.create_transform(**config, is_training=False, normalize=False)
        return cls(crop, config)
