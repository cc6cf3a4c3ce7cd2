"""A pretended CUDA device on the CPU: its tensors say ``cuda:0``, and to mix devices is an error.

Everything is calculated on the CPU, so a study must give what it gives there. What a GPU refuses is
refused: operations on tensors of two devices, ``numpy()`` of a tensor on the device, and, asked
for, float64 (as MPS does) and more images than fit into memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

CUDA = torch.device("cuda", 0)
MAY_MIX = {
    "aten::_to_copy",
    "aten::copy_",
    "aten::index.Tensor",
    "aten::index_put_",
    "aten::_index_put_impl_",
}


class Limits:
    """What the device refuses beyond mixing."""

    images: int | None = None  # most images of one convolution
    refused = 0
    float64 = True


class OnDevice(torch.Tensor):
    """A tensor that claims to be on the device; `elem` is on the CPU."""

    @staticmethod
    def __new__(cls, elem: torch.Tensor, requires_grad: bool = False) -> OnDevice:
        elem = elem.detach()
        return torch.Tensor._make_subclass(
            cls,
            elem,
            requires_grad and elem.is_floating_point(),
            dispatch_device=True,
            device_for_backend_keys=torch.device("cuda"),
        )

    def __init__(self, elem: torch.Tensor, requires_grad: bool = False) -> None:
        self.elem = elem

    def numpy(self, *arguments: Any, **options: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu()")

    def __array__(self, *arguments: Any, **options: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu()")

    def item(self) -> Any:
        return self.elem.item()

    def __float__(self) -> float:
        return float(self.elem.item())

    def __int__(self) -> int:
        return int(self.elem.item())

    def __index__(self) -> int:
        return int(self.elem.item())

    def __bool__(self) -> bool:
        return bool(self.elem.item())

    def __len__(self) -> int:
        return len(self.elem)

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __repr__(self, **options: Any) -> str:
        return f"OnDevice({self.elem!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> OnDevice:
        copied = OnDevice(self.elem.detach().clone(), False)
        if getattr(self, "_is_param", False):
            copied._is_param = True  # type: ignore[attr-defined]
        copied.requires_grad_(self.requires_grad)
        memo[id(self)] = copied
        return copied

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _plain(value: Any) -> Any:
    return value.elem if isinstance(value, OnDevice) else value


def _mapped(function: Any, value: Any) -> Any:
    """Call a function for each value of nested lists, tuples and dictionaries."""
    if isinstance(value, (list, tuple)):
        found = [_mapped(function, one) for one in value]
        return found if isinstance(value, list) else tuple(found)
    if isinstance(value, dict):
        return {name: _mapped(function, one) for name, one in value.items()}
    return function(value)


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    base = func._schema.name
    overload = func._overloadname
    name = f"{base}.{overload}" if overload not in ("", "default") else base
    if name == "prim::device":
        return CUDA
    if base == "aten::_has_compatible_shallow_copy_type":
        return True
    there: list[OnDevice] = []
    here: list[torch.Tensor] = []

    def sort(value: Any) -> None:
        if isinstance(value, OnDevice):
            there.append(value)
        elif isinstance(value, torch.Tensor) and value.dim() > 0:
            here.append(value)

    _mapped(sort, (args, kwargs))
    if there and here and not {base, name} & MAY_MIX:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found cuda:0 and cpu in {name}"
        )
    on_cpu = base == "aten::index" and not isinstance(args[0], OnDevice)
    if on_cpu and any(isinstance(index, OnDevice) for index in args[1] if index is not None):
        raise RuntimeError("indices should be either on cpu or on the same device")
    if any(t.dtype == torch.float64 for t in there) and not Limits.float64:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
    convolves = there and base in ("aten::convolution", "aten::cudnn_convolution")
    if Limits.images and convolves and there[0].shape[0] > Limits.images:
        Limits.refused += 1
        raise torch.OutOfMemoryError("CUDA out of memory (pretended)")
    kwargs = {name: value for name, value in kwargs.items() if name != "pin_memory"}
    device, goes_there = kwargs.get("device"), bool(there)
    if device is not None:
        goes_there = torch.device(device).type == "cuda"
        kwargs = {**kwargs, "device": torch.device("cpu")}
        if base == "aten::_to_copy":
            kwargs.pop("non_blocking", None)
    if goes_there and kwargs.get("dtype") == torch.float64 and not Limits.float64:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
    found = func(*_mapped(_plain, args), **_mapped(_plain, kwargs))
    if base == "aten::copy_":
        return args[0]
    if (given := _written(func, args, kwargs)) is not None:
        return given
    if not goes_there:
        return found
    return _mapped(
        lambda t: OnDevice(t) if isinstance(t, torch.Tensor) and not isinstance(t, OnDevice) else t,
        found,
    )


def _written(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Return the arguments that an in-place operation changed; None for other operations."""
    returned = func._schema.returns
    if not any(one.alias_info is not None and one.alias_info.is_write for one in returned):
        return None
    declared = func._schema.arguments
    padded = [*args, *[None] * len(declared)]
    found = []
    for one in returned:
        for argument, value in zip(declared, padded, strict=False):
            alias = argument.alias_info
            if (
                alias is not None
                and alias.is_write
                and alias.before_set == one.alias_info.before_set
            ):
                found.append(kwargs.get(argument.name, value))
                break
    if len(found) != len(returned) or any(one is None for one in found):
        return None
    return found[0] if len(found) == 1 else tuple(found)


@cache
def _is_composite(func: Any) -> bool:
    base = func._schema.name
    if base.startswith("prim::") or base == "aten::_has_compatible_shallow_copy_type":
        return False
    composite = "CompositeImplicitAutograd"
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), composite))


class Pretend(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if _is_composite(func):
            with self:
                return func.decompose(*args, **(kwargs or {}))
        return _run(func, args, kwargs or {})


@contextmanager
def pretended() -> Iterator[None]:
    """Let torch have one CUDA device, which is the CPU."""
    import torch.cuda.amp.common as common

    before: dict[tuple[Any, str], Any] = {}

    def patch(owner: Any, name: str, value: Any) -> None:
        before[owner, name] = getattr(owner, name)
        setattr(owner, name, value)

    tensor = torch.tensor

    def made(data: Any, *arguments: Any, device: Any = None, **options: Any) -> Any:
        found = tensor(data, *arguments, **options)
        return found.to(device) if device is not None else found

    def new_tensor(self: Any, data: Any, **options: Any) -> Any:
        found = tensor(data, dtype=options.get("dtype", self.dtype))
        return found.to(options.get("device", self.device))

    for name, value in {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "is_bf16_supported": lambda including_emulation=True: True,
        "get_device_name": lambda device=None: "Pretended",
        "empty_cache": lambda: None,
        "mem_get_info": lambda device=None: (1 << 30, 1 << 30),
        "memory_reserved": lambda device=None: 0,
        "memory_allocated": lambda device=None: 0,
        "is_current_stream_capturing": lambda: False,
        "get_rng_state": lambda device=None: torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": lambda state, device=None: None,
    }.items():
        patch(torch.cuda, name, value)
    patch(torch, "tensor", made)
    patch(torch.Tensor, "new_tensor", new_tensor)
    patch(torch.Tensor, "pin_memory", lambda self, *arguments: self.clone())
    patch(torch.Tensor, "is_pinned", lambda self, *arguments: True)
    patch(common, "amp_definitely_not_available", lambda: False)
    torch.backends.cudnn.enabled = False
    swapped = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        with Pretend():
            yield
    finally:
        torch.__future__.set_swap_module_params_on_conversion(swapped)
        for (owner, name), value in before.items():
            setattr(owner, name, value)
