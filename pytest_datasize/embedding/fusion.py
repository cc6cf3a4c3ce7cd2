"""Fuse BatchNorm, activation and padding into the preceding convolution (CPU inference).

A BatchNorm layer in evaluation mode is a scale and a shift, which its convolution can do. On the
CPU oneDNN applies an activation to what a convolution computes before it is written to memory, and
pads what it reads; as layers of their own both are a pass over activations that no cache holds. It
also wants weights in an order of its own, which is made once here and not in every call. Which
layer feeds which is observed while the model runs, so that no graph need be traced.

PyTorch has no public function for the part that oneDNN does. Its private operators are used in the
versions that :data:`ONEDNN_VERSIONS` states, after a try; elsewhere, and wherever an operator
fails, the public convolution is called and only BatchNorm is fused.
"""

import weakref
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights

from pytest_datasize.embedding.timm_layers import is_same_convolution

_BY_ONEDNN: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "hardtanh",
    nn.Hardtanh: "hardtanh",
    nn.Hardswish: "hardswish",
    nn.SiLU: "swish",
}

ONEDNN_VERSIONS = ((2, 6), (2, 15))
"""First version of PyTorch whose private operators are used, and the first one that is not."""


class OneDNN(NamedTuple):
    """PyTorch's private operators, tested once in this process.

    Attributes
    ----------
    convolve
        Convolution and activation in one.
    reorder
        Weights → weights in oneDNN's order.
    dtypes
        What they calculate in. Not float16: what overflows must stay visible, and clamping makes a
        number of it.
    """

    convolve: Callable[..., Tensor]
    reorder: Callable[..., Tensor]
    dtypes: tuple[torch.dtype, ...]


@cache
def onednn() -> OneDNN | None:
    """Return the operators; None where this PyTorch has others or none, or they are wrong."""
    first, last = ONEDNN_VERSIONS
    try:
        if not first <= tuple(map(int, torch.__version__.split(".")[:2])) < last:
            return None
        space = torch.ops.mkldnn
        half = space._is_mkldnn_bf16_supported()
        dtypes = (torch.float32, torch.bfloat16) if half else (torch.float32,)
        found = OneDNN(space._convolution_pointwise, space._reorder_convolution_weight, dtypes)
        return found if _is_right(found) else None
    except Exception:  # no such operator, another signature, or whatever a build of its own raises
        return None


@torch.no_grad()
def _is_right(operators: OneDNN) -> bool:
    """Compare the operators with the public convolution, on a few numbers."""
    images, weight = torch.linspace(-1, 1, 48).view(1, 3, 4, 4), torch.linspace(-1, 1, 54)
    weight, bias, shape = weight.view(2, 3, 3, 3), torch.tensor([0.5, -0.5]), [1, 1]
    expected = functional.conv2d(images, weight, bias, padding=1).clamp(-0.5, 1)
    plain = shape, shape, shape, 1
    ordered = operators.reorder(weight, *plain, list(images.shape))
    bend = "hardtanh", [-0.5, 1.0], ""
    return torch.allclose(operators.convolve(images, ordered, bias, *plain, *bend), expected)


class Site(NamedTuple):
    """A convolution, and the names of the layers whose only input is its output.

    Attributes
    ----------
    convolution
        The layer.
    norm, activation
        What follows and can be fused into it; None where nothing can.
    sides
        Height and width of its input.
    """

    convolution: str
    norm: str | None
    activation: str | None
    sides: tuple[int, int]


@torch.no_grad()
def watch(model: nn.Module, images: Tensor) -> tuple[Tensor, tuple[Site, ...]]:
    """Run a model and record which layer's output is the input of which.

    Layers that run more than once, or not as part of the model's own tree, are left out. What is
    used elsewhere besides does not show, so the caller compares outputs after fusing.

    Parameters
    ----------
    model
        In evaluation mode.
    images
        (n, 3, S, S).

    Returns
    -------
    output
        Output of the model for the images.
    sites
        Its convolutions.
    """
    made: dict[int, tuple[nn.Module, weakref.ref[Tensor], float]] = {}
    fed: dict[nn.Module, nn.Module] = {}  # layer → the layer that uses its output
    sides: dict[nn.Conv2d, tuple[int, int]] = {}
    calls: dict[nn.Module, int] = {}

    def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        calls[module] = calls.get(module, 0) + 1
        if not inputs:  # given by keyword
            return
        if isinstance(module, nn.Conv2d):
            sides[module] = inputs[0].shape[-2], inputs[0].shape[-1]
        elif id(inputs[0]) in made:
            feeder, output, total = made[id(inputs[0])]
            same = output() is inputs[0]
            if same and _sum(inputs[0]) == total:  # the sum detects in-place additions
                fed[feeder] = module

    def after(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            made[id(output)] = module, weakref.ref(output), _sum(output)

    names = {module: name for name, module in model.named_modules()}
    makers = [m for m in names if _is_plain(m) or isinstance(m, nn.BatchNorm2d)]
    takers = [m for m in names if type(m) in _BY_ONEDNN]
    hooks = [module.register_forward_pre_hook(before) for module in (*makers, *takers)]
    hooks += [module.register_forward_hook(after) for module in makers]
    try:
        output = model(images)
    finally:
        for hook in hooks:
            hook.remove()
    once = {module for module, count in calls.items() if count == 1 and names[module]}
    return output, tuple(
        Site(names[convolution], *_followers(convolution, fed, once, names), side)
        for convolution, side in sides.items()
        if convolution in once
    )


def fuse(model: nn.Module, sites: Sequence[Site]) -> bool:
    """Fuse layers into the convolutions before them.

    Parameters
    ----------
    model
        In evaluation mode; it is changed, and takes images of the size that was watched alone.
    sites
        What :func:`watch` found.

    Returns
    -------
    bool
        Whether anything was fused.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    >>> output, sites = watch(model, torch.rand(1, 3, 8, 8))
    >>> fuse(model, sites)
    True
    >>> type(model[1]).__name__
    'Identity'
    """
    found = False
    for convolution, norm, activation, sides in sites:
        layer: Any = model.get_submodule(convolution)
        bend = None if activation is None else model.get_submodule(activation)
        if norm is not None:
            folded: Any = model.get_submodule(norm)
            _fold(layer, folded)
            model.set_submodule(norm, _own_activation(folded))
            found = True
        if _suits_onednn(layer):
            model.set_submodule(convolution, FusedConvolution(layer, bend, sides))
            if activation is not None:
                inside = norm is not None and activation.startswith(f"{norm}.")
                model.set_submodule(norm if norm and inside else activation, nn.Identity())
            found = True
    return found


class FusedConvolution(nn.Module):
    """A convolution that pads its input and applies the activation itself.

    Parameters
    ----------
    convolution
        With zero padding; its weights are reused.
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
        if is_same_convolution(convolution):
            weight, padding = _symmetric(convolution, sides)
        self.weight, self.bias = nn.Parameter(weight, requires_grad=False), convolution.bias
        self.activation = nn.Identity() if activation is None else activation
        self._sides = sides if is_same_convolution(convolution) else None
        shape = padding, convolution.stride, convolution.dilation
        self._shape: tuple[Any, ...] = *(list(map(int, part)) for part in shape), convolution.groups
        kind = "none" if activation is None else _BY_ONEDNN[type(activation)]
        limits = [getattr(activation, name, None) for name in ("min_val", "max_val")]
        self._bend = kind, limits if kind == "hardtanh" else [], ""
        self._packed: tuple[Any, Tensor] | None = None
        self._failed = False

    def forward(self, images: Tensor) -> Tensor:
        """Return what the fused layers would return."""
        if self._sides not in (None, tuple(images.shape[-2:])):
            raise RuntimeError(f"fused for inputs of {self._sides}, got {tuple(images.shape)}")
        operators = None if self._failed else onednn()
        if operators is not None and images.dtype in operators.dtypes:
            try:
                weight = self._weight_for(images, operators)
                return operators.convolve(images, weight, self.bias, *self._shape, *self._bend)
            except Exception:  # private operators can reject a shape: use the public ones
                self._failed = True
        padding, stride, *rest = self._shape
        made = functional.conv2d(images, self.weight, self.bias, stride, padding, *rest)
        bent: Tensor = self.activation(made)
        return bent

    def _weight_for(self, images: Tensor, operators: OneDNN) -> Tensor:
        """Return the weights in oneDNN's order for images of that kind."""
        kind, packed = (images.dtype, images.shape), self._packed
        if packed is None or packed[0] != kind:  # threads may do so at the same time
            weight = operators.reorder(self.weight, *self._shape, list(images.shape))
            self._packed = packed = kind, weight
        return packed[1]


def _followers(
    convolution: nn.Module,
    fed: dict[nn.Module, nn.Module],
    once: set[nn.Module],
    names: dict[nn.Module, str],
) -> tuple[str | None, str | None]:
    """Names of the norm and the activation that can be fused into a convolution."""
    follower = fed.get(convolution)
    norm = follower if isinstance(follower, nn.BatchNorm2d) else None
    activation = follower if norm is None else _own_activation(norm)
    if norm is not None and (norm not in once or norm.running_mean is None):
        return None, None
    if norm is not None and isinstance(activation, nn.Identity):
        activation = fed.get(norm)
    bends = activation in once and type(activation) in _BY_ONEDNN
    return (names[norm] if norm else None), (names[activation] if activation and bends else None)


def _sum(values: Tensor) -> float:
    return float(values.sum())


def _own_activation(norm: nn.BatchNorm2d) -> nn.Module:
    """Return the activation of a norm layer: timm's include one."""
    activation = getattr(norm, "act", None)
    return activation if isinstance(activation, nn.Module) else nn.Identity()


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight,
        convolution.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )


def _suits_onednn(convolution: nn.Conv2d) -> bool:
    return (
        convolution.weight.device.type == "cpu"
        and onednn() is not None
        and convolution.padding_mode == "zeros"
        and not isinstance(convolution.padding, str)
        and (not is_same_convolution(convolution) or _widens(convolution))
    )


def _is_plain(module: nn.Module) -> bool:
    """Whether a layer only convolves: others, such as weight-standardised ones, do more."""
    return type(module) is nn.Conv2d or is_same_convolution(module)


def _widens(convolution: nn.Conv2d) -> bool:
    """Whether its padding may move into the kernel.

    Kernels of 8 and strides of 4 are wrong in oneDNN's bfloat16 for some numbers of channels.
    """
    usual = max(convolution.kernel_size) <= 5 and max(convolution.stride) <= 2
    return bool(usual and convolution.dilation == (1, 1))


def _symmetric(convolution: nn.Conv2d, sides: tuple[int, int]) -> tuple[Tensor, tuple[int, ...]]:
    """Return weights and padding that are alike on both sides, for one size of input.

    TensorFlow pads what is left over after the last pixel, which takes a copy of the input. Zeros
    before the first weight of the kernel do the same: all windows start that much earlier.
    """
    from timm.layers import get_same_padding

    shape = zip(sides, convolution.kernel_size, convolution.stride, strict=True)
    total = [get_same_padding(*each, 1) for each in shape]
    more, padding = [each % 2 for each in total], [-(-each // 2) for each in total]
    weight = functional.pad(convolution.weight, (more[1], 0, more[0], 0))
    return weight.contiguous(memory_format=torch.channels_last), tuple(padding)
