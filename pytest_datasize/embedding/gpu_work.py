"""Estimate whether there is enough work for a GPU, from counts alone.

Starting a GPU (driver, libraries and the model) takes 1.5 to 3 seconds, in which a small network
embeds some thousand images on a CPU. The estimate counts images and multiplications and times
nothing, so that the choice is the same in every run and on every machine.
"""

import copy
from typing import Final

import torch
from torch.utils.flop_counter import FlopCounterMode

from pytest_datasize.embedding.backbone import Backbone

WORTH: Final = 2e12
"""Multiply-adds from which a GPU is used.

About what eight cores calculate while a GPU starts: 5,000 images of 224 pixels with
EfficientNet-Lite0 (0.4e9 each), or 120 with a ViT-B/16 (17e9 each).
"""

TRAINING_PASSES: Final = 100
"""How often trained networks process an image, in all trials of a study together."""


def multiply_adds(backbone: Backbone) -> float | None:
    """Return the multiply-adds of one image; None if the model cannot run without data.

    Examples
    --------
    >>> from pytest_datasize.embedding.backbone import load
    >>> layers = [torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.AdaptiveAvgPool2d(1)]
    >>> multiply_adds(load(torch.nn.Sequential(*layers), image_size=24))  # 3 x 8 x 9 x 24 x 24
    124416.0
    """
    side = backbone.image_size
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            copy.deepcopy(backbone.model).to("meta")(torch.empty(1, 3, side, side, device="meta"))
    except Exception:  # a user's module may look at the values
        return None
    return counter.get_total_flops() / 2


def is_worth_a_gpu(backbone: Backbone, images: int) -> bool:
    """Whether this number of images is enough work for a GPU; of an unknown model, any is."""
    each = multiply_adds(backbone)
    return each is None or images * each >= WORTH
