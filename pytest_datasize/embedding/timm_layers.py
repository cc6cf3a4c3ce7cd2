"""Recognise layers of timm without importing it: that takes seconds, and many modules have none.

A module can only contain them if timm has been imported.
"""

import sys
from typing import Any

from torch import nn


def is_same_convolution(module: nn.Module) -> bool:
    """Whether a layer is timm's convolution with the padding of TensorFlow.

    Examples
    --------
    >>> is_same_convolution(nn.Conv2d(3, 8, 3))
    False
    """
    layers = sys.modules.get("timm.layers")
    return layers is not None and type(module) is layers.Conv2dSame


def is_drop_path(module: nn.Module) -> bool:
    """Whether a layer leaves out whole branches at random, as timm's transformers do."""
    layers = sys.modules.get("timm.layers")
    return layers is not None and isinstance(module, layers.DropPath)


def not_traced() -> tuple[tuple[Any, ...], tuple[type[nn.Module], ...]]:
    """Return the functions and the classes of layers that torch.fx must not look into."""
    if (layers := sys.modules.get("timm.layers")) is None:
        return (), ()
    return tuple(layers.get_notrace_functions()), tuple(layers.get_notrace_modules())
