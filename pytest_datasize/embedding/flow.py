"""Find the stages of any module by its data flow, and take their activations in later runs.

A stage ends where the activations get smaller: of each size the last activation is taken that
carries all data, as the output of a residual block does and the output of one branch does not. A
transformer has one size; there the blocks are taken, the longest row of modules of one class. All
of it is observed while the model runs, so no architecture needs to be known.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import isqrt
from typing import Any, Final

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_MOST_PREFIX: Final = 8  # class token and registers before the tokens of a transformer
_SMALLER: Final = 2  # a stage ends where this factor is lost in positions
_FEWEST: Final = 2  # stages, or blocks of a transformer: fewer are the last layer again

_SETTING_UP = threading.Lock()
_RUNNING = threading.local()


@dataclass(frozen=True)
class Point:
    """One output of a module.

    Attributes
    ----------
    path
        Name of the module, as ``get_submodule`` takes it.
    call
        Which call of it in one forward pass, from 0.
    channels
        Channels, or features of a token.
    """

    path: str
    call: int
    channels: int


@dataclass(frozen=True)
class Flow:
    """What was found in a model.

    Attributes
    ----------
    points
        Where its stages end, in the order of the model; none if no stages were found.
    class_token
        Whether they are the blocks of a transformer with a class token.
    """

    points: tuple[Point, ...]
    class_token: bool


class Taps:
    """Runs a model and keeps some outputs of its modules.

    The hooks are placed at the first run. Layers that were replaced since, as fusing does, get new
    ones. Threads may run the same model at the same time.

    Parameters
    ----------
    points
        What to keep.

    Attributes
    ----------
    names
        Names of the points.
    """

    def __init__(self, points: Sequence[Point]) -> None:
        self._points = tuple(points)
        self.names = tuple(f"{point.path}#{point.call}" for point in points)
        self._hooked: list[nn.Module] = []

    def run(self, model: nn.Module, forward: Callable[[], Any]) -> tuple[Any, list[Tensor]]:
        """Return what ``forward`` returns, and the outputs of the model's modules at the points.

        Raises
        ------
        RuntimeError
            A module did not run, or returned no tensor.
        """
        paths = dict.fromkeys(point.path for point in self._points)
        with _SETTING_UP:  # no thread is in a forward pass before the hooks are there
            modules = [model.get_submodule(path) for path in paths]
            for path, module in zip(paths, modules, strict=True):
                if not any(module is known for known in self._hooked):
                    module.register_forward_hook(partial(_keep, path))
            self._hooked = modules
        kept: dict[str, list[Any]] = {path: [] for path in paths}
        with _kept_in(kept):
            output = forward()
        found = [kept[point.path][point.call :][:1] for point in self._points]
        tensors = [tensor for [tensor] in found if isinstance(tensor, Tensor)] if all(found) else []
        if len(tensors) < len(self._points):
            raise RuntimeError("a stage did not run in this forward pass")
        return output, tensors


def find(model: nn.Module, forward: Callable[[Tensor], Any], images: Tensor) -> Flow:
    """Find the stages of a model in one forward pass.

    Parameters
    ----------
    model
        Its modules are observed, itself included.
    forward
        Runs the model on images.
    images
        (N, 3, S, S), best more than one: what is not of every image is left out.

    Examples
    --------
    >>> import torch
    >>> layers = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 8, 1)]
    >>> model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))
    >>> [point.path for point in find(model, model, torch.zeros(2, 3, 8, 8)).points]
    ['1', '3']
    """
    seen = [one for one in _observe(model, forward, images) if one.shape[0] == len(images)]
    tokens = [one for one in seen if len(one.shape) == 3]
    row = _row(tokens) if len({one.positions for one in tokens}) == 1 else []
    most = 2 * sum(one.weights for one in row) > _weights(model)  # not a few on top of convolutions
    if most and len(row) >= _FEWEST:
        alone = row[0].shape[1] > row[0].positions
        return Flow(tuple(one.point for one in row), class_token=alone)
    ends = _ends(seen)
    return Flow(tuple(one.point for one in ends) if len(ends) >= _FEWEST else (), class_token=False)


def as_map(output: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return an output of a module as a map with channels first, and its class token.

    Parameters
    ----------
    output
        (N, C, H, W), (N, H, W, C) with H = W, or tokens (N, L, C).

    Returns
    -------
    tuple
        (N, C, H, W), and (N, C) or None. A first token is a class token if the number of tokens is
        no square.

    Examples
    --------
    >>> import torch
    >>> found, token = as_map(torch.zeros(2, 17, 5))
    >>> found.shape, token.shape
    (torch.Size([2, 5, 4, 4]), torch.Size([2, 5]))
    """
    if output.ndim == 3:
        side = isqrt(output.shape[1])
        prefix = output.shape[1] - side**2
        tokens = output[:, prefix:].transpose(1, 2)
        found = tokens.reshape(*tokens.shape[:2], side, side)
        return found, output[:, 0] if prefix else None
    return (output.permute(0, 3, 1, 2) if _channels_last(output.shape) else output), None


@dataclass(frozen=True)
class _Seen:
    """An output of a module in one forward pass."""

    point: Point
    step: int
    positions: int
    shape: tuple[int, ...]
    kind: type[nn.Module]
    weights: int


class _Steps(TorchFunctionMode):
    """Records the steps of a computation: which function uses the results of which."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.inputs: list[set[int]] = [set()]  # of each step, the steps that it uses
        self._made = {id(images): 0}
        self._alive: list[Any] = [images]  # else another tensor could get the same id

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call a function of torch."""
        kwargs = kwargs or {}
        output = function(*args, **kwargs)
        used = {step for one in _tensors([args, kwargs]) if (step := self.of(one)) is not None}
        if used:
            changed = [args[0]] if output is None else _tensors(output)  # x[0] = y returns nothing
            self._made |= {id(one): len(self.inputs) for one in changed}
            self._alive += changed
            self.inputs.append(used)
        return output

    def of(self, tensor: Tensor) -> int | None:
        """Return the step that made a tensor; None if that does not depend on the images."""
        return self._made.get(id(tensor))

    def carriers(self, output: Tensor) -> set[int]:
        """Return the steps that all data passes on the way from the images to an output.

        No later step that the output needs uses a result that is older than theirs.
        """
        last = self.of(output)
        latest: dict[int, int] = {} if last is None else {last: last}  # the last use of a step
        for step in range(last or 0, -1, -1):
            if step in latest:
                for used in self.inputs[step]:
                    latest.setdefault(used, step)
        found, open_until = set(), 0
        for step in sorted(latest):
            if open_until <= step:
                found.add(step)
            open_until = max(open_until, latest[step])
        return found


def _observe(model: nn.Module, forward: Callable[[Tensor], Any], images: Tensor) -> list[_Seen]:
    """Run a model; return the maps and tokens that carry all data, in their order.

    What was made before the first weights, such as normalised images, is not among them.
    """
    seen: list[_Seen] = []
    calls: dict[str, int] = {}
    weighed = False
    steps = _Steps(images)

    def after(path: str, module: nn.Module, _: Any, output: Any) -> None:
        nonlocal weighed
        call = calls.get(path, 0)
        calls[path] = call + 1
        weighed = weighed or any(True for _ in module.parameters())
        tensor = _tensor_of(output)
        if tensor is None or not weighed or (step := steps.of(tensor)) is None:
            return
        shape, kind = tuple(tensor.shape), type(module)
        if (size := _size(shape)) is not None:
            positions, channels = size
            point = Point(path, call, channels)
            seen.append(_Seen(point, step, positions, shape, kind, _weights(module)))

    hooks = [
        module.register_forward_hook(partial(after, path)) for path, module in model.named_modules()
    ]
    try:
        with steps:
            output = forward(images)
    finally:
        for hook in hooks:
            hook.remove()
    carriers = steps.carriers(output)
    return [one for one in seen if one.step in carriers]


def _tensors(value: Any) -> list[Tensor]:
    """Return all tensors in arguments or results."""
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value
    if isinstance(value, (list, tuple, dict)):
        return [tensor for part in parts for tensor in _tensors(part)]
    return []


def _size(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Return positions and channels of an output; None if it is no square map and no tokens."""
    if len(shape) == 4 and (shape[2] == shape[3] or _channels_last(shape)):
        last = _channels_last(shape)
        found = shape[1] * shape[2] if last else shape[2] * shape[3], shape[3 if last else 1]
    elif len(shape) == 3 and shape[1] - isqrt(shape[1]) ** 2 <= _MOST_PREFIX:
        found = isqrt(shape[1]) ** 2, shape[2]
    else:
        return None
    return found if found[0] > 1 else None  # a single position is what the last layer gives


def _channels_last(shape: Sequence[int]) -> bool:
    """Whether a map is (N, H, W, C): the images are square, and so are maps of them."""
    return shape[1] == shape[2] != shape[3]


def _row(tokens: Sequence[_Seen]) -> list[_Seen]:
    """Return the longest row of outputs of equal shape of modules side by side, of one class."""
    rows: dict[Any, list[_Seen]] = {}
    for one in tokens:
        parent = one.point.path.rpartition(".")[0]
        rows.setdefault((parent, one.kind, one.shape), []).append(one)
    return max(rows.values(), key=lambda row: (len(row), row[0].weights), default=[])


def _weights(module: nn.Module) -> int:
    return sum(values.numel() for values in module.parameters())


def _ends(seen: Sequence[_Seen]) -> list[_Seen]:
    """Return the last output of each size, from the largest to the smallest.

    Sizes are alike until half of the positions is lost: convolutions without padding lose a few in
    every layer.
    """
    found: list[_Seen] = []
    sizes = sorted({one.positions for one in seen}, reverse=True)
    while sizes:
        alike = [size for size in sizes if size * _SMALLER > sizes[0]]
        found.append([one for one in seen if one.positions in alike][-1])
        sizes = sizes[len(alike) :]
    return found


def _tensor_of(output: Any) -> Tensor | None:
    """Return an output, or the first part of it: attention gives its weights as a second one."""
    first = output[0] if isinstance(output, tuple) and output else output
    return first if isinstance(first, Tensor) and first.is_floating_point() else None


def _keep(path: str, module: nn.Module, inputs: Any, output: Any) -> None:
    kept = getattr(_RUNNING, "kept", None)
    if kept is not None:
        kept[path].append(_tensor_of(output))


@contextmanager
def _kept_in(kept: dict[str, list[Any]]) -> Iterator[None]:
    """Let the hooks of this thread fill a dictionary."""
    _RUNNING.kept = kept
    try:
        yield
    finally:
        _RUNNING.kept = None
