"""Layers of a frozen model melted into the convolutions that they stand beside.

A BatchNorm layer in evaluation mode is a scale and a shift, which its convolution can do. On the
CPU oneDNN clamps or bends what a convolution makes before it is written to memory, and pads what
it reads; as layers of their own both are a pass over activations that no cache holds. It also wants
weights in an order of its own, which is made once here and not in every call. Which layer feeds
which is watched while the model runs, so that no graph need be traced.
"""

from collections.abc import Callable
from typing import Any

import torch
from timm.layers import Conv2dSame, get_same_padding
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights

_PLAIN = (nn.Conv2d, Conv2dSame)  # others, such as weight-standardised ones, do more than convolve
_BY_ONEDNN: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "hardtanh",
    nn.Hardtanh: "hardtanh",
    nn.Hardswish: "hardswish",
    nn.SiLU: "swish",
}


def fuse(model: nn.Module, sample: Tensor) -> bool:
    """Melt BatchNorm layers, and on the CPU activations and padding, into convolutions.

    The caller compares the outputs: a convolution whose output is used twice would not show here.

    Parameters
    ----------
    model
        In evaluation mode; it is changed.
    sample
        An input, (n, 3, S, S); the model takes images of that size alone afterwards.

    Returns
    -------
    bool
        Whether there was anything to melt.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    >>> fuse(model, torch.rand(1, 3, 8, 8))
    True
    >>> [type(layer).__name__ for layer in model]
    ['FusedConvolution', 'Identity', 'Identity']
    """
    folded = _fold_batch_norm(model, sample)
    return (sample.device.type == "cpu" and _fuse_activations(model, sample)) or folded


class FusedConvolution(nn.Module):
    """A convolution that pads its input and bends its output itself.

    Parameters
    ----------
    convolution
        With zero padding; its weights are taken over.
    activation
        One of the kinds that oneDNN knows; None for none.
    sides
        Height and width of its input.
    """

    def __init__(
        self, convolution: nn.Conv2d, activation: nn.Module | None, sides: tuple[int, int]
    ) -> None:
        super().__init__()
        weight, padding = convolution.weight, convolution.padding
        if isinstance(convolution, Conv2dSame):
            weight, padding = _symmetric(convolution, sides)
        self.weight, self.bias = nn.Parameter(weight, requires_grad=False), convolution.bias
        self.activation = nn.Identity() if activation is None else activation
        self._sides = sides if isinstance(convolution, Conv2dSame) else None
        shape = convolution.stride, padding, convolution.dilation
        self._stride, self._padding, self._dilation = (list(map(int, part)) for part in shape)
        self._groups = convolution.groups
        kind = "none" if activation is None else _BY_ONEDNN[type(activation)]
        limits = [getattr(activation, name, None) for name in ("min_val", "max_val")]
        self._bend = kind, limits if kind == "hardtanh" else [], ""
        self._half = [
            dtype
            for dtype, known in ((torch.bfloat16, "bf16"), (torch.float16, "fp16"))
            if getattr(torch.ops.mkldnn, f"_is_mkldnn_{known}_supported")()
        ]
        self._packed: tuple[Any, Tensor] | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Return what the layers made that this one stands for."""
        if self._sides not in (None, tuple(images.shape[-2:])):
            raise RuntimeError(f"fused for inputs of {self._sides}, got {tuple(images.shape)}")
        shape = self._padding, self._stride, self._dilation, self._groups
        if images.dtype in (torch.float32, *self._half):
            weight = self._weight_for(images)
            found: Tensor = torch.ops.mkldnn._convolution_pointwise(
                images, weight, self.bias, *shape, *self._bend
            )
            return found
        made = functional.conv2d(
            images,
            self.weight,
            self.bias,
            self._stride,
            self._padding,
            self._dilation,
            self._groups,
        )
        bent: Tensor = self.activation(made)
        return bent

    def _weight_for(self, images: Tensor) -> Tensor:
        """Return the weights in oneDNN's order for images of that kind."""
        kind, packed = (images.dtype, images.shape), self._packed
        if packed is None or packed[0] != kind:  # threads may do so at the same time
            order = self._padding, self._stride, self._dilation, self._groups, list(images.shape)
            weight = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *order)
            self._packed = packed = kind, weight
        return packed[1]


def _fold_batch_norm(model: nn.Module, sample: Tensor) -> bool:
    names, found = _names(model), False
    watched = _watched(model, sample, lambda layer: isinstance(layer, nn.BatchNorm2d))
    for convolution, (norm, _) in watched.items():
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        if norm.running_mean is None or norm.running_var is None:
            continue
        convolution.weight, convolution.bias = fuse_conv_bn_weights(
            convolution.weight,
            convolution.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
        activation = getattr(norm, "act", None)  # timm's layers carry it
        rest = activation if isinstance(activation, nn.Module) else nn.Identity()
        model.set_submodule(names[norm], rest)
        found = True
    return found


def _fuse_activations(model: nn.Module, sample: Tensor) -> bool:
    wanted = "_convolution_pointwise", "_reorder_convolution_weight"
    if not all(hasattr(torch.ops.mkldnn, name) for name in wanted):
        return False  # not every build of torch has oneDNN
    names, found = _names(model), False
    watched = _watched(model, sample, lambda layer: type(layer) in _BY_ONEDNN)
    for convolution, (activation, sides) in watched.items():
        if convolution.padding_mode != "zeros" or isinstance(convolution.padding, str):
            continue
        if isinstance(convolution, Conv2dSame) and convolution.dilation != (1, 1):
            continue
        model.set_submodule(names[convolution], FusedConvolution(convolution, activation, sides))
        if activation:
            model.set_submodule(names[activation], nn.Identity())
        found = True
    return found


def _watched(
    model: nn.Module, sample: Tensor, follows: Callable[[nn.Module], bool]
) -> dict[nn.Conv2d, tuple[nn.Module | None, tuple[int, int]]]:
    """Return what follows each convolution, and the height and width of what it is given.

    Layers that run more than once, or not as part of the model's own tree, are left out.
    """
    made: dict[int, tuple[nn.Conv2d, Tensor, Tensor]] = {}
    followers: dict[nn.Conv2d, nn.Module] = {}
    sides: dict[nn.Conv2d, tuple[int, int]] = {}
    calls: dict[nn.Module, int] = {}

    def after(module: nn.Conv2d, inputs: tuple[Any, ...], output: Tensor) -> None:
        calls[module] = calls.get(module, 0) + 1
        sides[module] = inputs[0].shape[-2], inputs[0].shape[-1]
        made[id(output)] = (module, output.clone(), output)  # held, so that its id stays its own

    def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        calls[module] = calls.get(module, 0) + 1
        if inputs and id(inputs[0]) in made:
            convolution, as_made, _ = made[id(inputs[0])]
            if torch.equal(inputs[0], as_made):  # nothing was added to it in place
                followers[convolution] = module

    names = _names(model)
    hooks = [m.register_forward_hook(after) for m in names if type(m) in _PLAIN]
    hooks += [m.register_forward_pre_hook(before) for m in names if follows(m)]
    model(sample)
    for hook in hooks:
        hook.remove()
    once = {module for module, count in calls.items() if count == 1 and names.get(module)}
    return {
        convolution: (follower if (follower := followers.get(convolution)) in once else None, side)
        for convolution, side in sides.items()
        if convolution in once
    }


def _names(model: nn.Module) -> dict[nn.Module, str]:
    return {module: name for name, module in model.named_modules()}


def _symmetric(convolution: Conv2dSame, sides: tuple[int, int]) -> tuple[Tensor, tuple[int, ...]]:
    """Return weights and padding that are alike on both sides, for one size of input.

    TensorFlow pads what is left over after the last pixel, which takes a copy of the input. Zeros
    before the first weight of the kernel do the same: all windows start that much earlier.
    """
    shape = zip(sides, convolution.kernel_size, convolution.stride, strict=True)
    total = [get_same_padding(*each, 1) for each in shape]
    more, padding = [each % 2 for each in total], [-(-each // 2) for each in total]
    weight = functional.pad(convolution.weight, (more[1], 0, more[0], 0))
    return weight.contiguous(memory_format=torch.channels_last), tuple(padding)
