"""Cut a backbone in two: a trunk that stays frozen, and a top that is trained.

What the trunk makes of an image never changes, so it is computed once and kept; an epoch of
fine-tuning then costs only the top. The cut is found in the model's own data flow (torch.fx): a
place before the first unfrozen stage where a single tensor carries all that the rest needs. No
architecture is named here, and what a cut gives is compared with the whole model before it is
used.
"""

import copy
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from pytest_datasize.curve.seeds import FIXED_NOISE
from pytest_datasize.embedding.backbone import Backbone, Features, before_pooling, pooled
from pytest_datasize.embedding.timm_layers import not_traced
from pytest_datasize.errors import BackboneError

TOLERANCE = 1e-4
"""Largest difference between cut and whole, as a share of the largest embedding entry."""


@dataclass(frozen=True)
class Cut:
    """A backbone in two parts: ``top(trunk(images))`` are its embeddings.

    Both are copies: they can be moved to a device without half of the backbone going with them.

    Attributes
    ----------
    trunk
        (N, 3, S, S) images → activations at the freeze boundary; the identity where the whole
        model is trained.
    top
        Activations → (N, D) embeddings.
    trainable
        Names of the top's parameters that are trained: those of the unfrozen stages, BatchNorm
        layers left out.
    unfrozen, stages
        Stages that are trained, and stages in all.
    whole
        Why the model is not cut though some of it is frozen; empty where it is cut, or where all
        of it is trained as asked.
    """

    trunk: nn.Module
    top: nn.Module
    trainable: tuple[str, ...]
    unfrozen: int
    stages: int
    whole: str = ""


@torch.inference_mode()
def cut(backbone: Backbone, unfreeze: int | float | None = None) -> Cut:
    """Cut a backbone below its last stages.

    A stage is what the model itself numbers (``layer4``, ``blocks.6``, ``stages.3``); what follows
    the last one (a final convolution or norm) belongs to it.

    Parameters
    ----------
    backbone
        Any model; one that torch.fx cannot follow is not cut, but trained as requested.
    unfreeze
        Number of final stages to train, or (a float) their share of all; None for a sixth of
        them, at least one. As many as there are, or more, train everything.

    Raises
    ------
    BackboneError
        The model has no weights that could be trained.

    Examples
    --------
    >>> from pytest_datasize.embedding.backbone import load
    >>> blocks = [torch.nn.Conv2d(channels, 4, 3) for channels in (3, 4, 4)]
    >>> found = cut(load(torch.nn.Sequential(*blocks), image_size=16), unfreeze=1)
    >>> found.trunk(torch.zeros(5, 3, 16, 16)).shape, found.trainable
    (torch.Size([5, 4, 12, 12]), ('model.2.weight', 'model.2.bias'))
    """
    owners = _owners(backbone.model)
    stages = _stages(owners)
    if not stages:
        raise BackboneError(
            f"backbone {backbone.name} has no weights to train. Use strategy='feature_extraction', "
            "or a backbone with convolutions, attention or linear layers."
        )
    asked = 1 / 6 if unfreeze is None else unfreeze
    count = asked if isinstance(asked, int) else max(1, round(asked * len(stages)))
    count = min(len(stages), count)
    paths = tuple(f"{path}." for path, _ in owners)
    names = [name for name, _ in backbone.model.named_parameters() if name.startswith(paths)]
    norms = tuple(f"{path}." for path, module in owners if isinstance(module, _BATCH_NORM))
    if count == len(stages):
        trainable = tuple(name for name in names if not name.startswith(norms))
        return Cut(nn.Identity(), _copied(backbone.model), trainable, count, count)

    lowest = list(stages.values())[-count]
    first = next(number for number, (path, _) in enumerate(owners) if path in lowest)
    above = tuple(f"{path}." for path, _ in owners[first:])
    trainable = tuple(n for n in names if n.startswith(above) and not n.startswith(norms))
    try:
        trunk, top = _halves(backbone.model, above)
        used = {name for name, _ in _named(top)}
        trainable = tuple(name for name in trainable if name in used)
        _compare(backbone, trunk, top, trainable)
        trunk, top = _copied(trunk), _copied(top)
    except Exception as problem:  # any operation that torch.fx cannot trace
        words = " ".join(str(problem).split())[:160]
        why = f"{type(problem).__name__}: {words}" if words else type(problem).__name__
        model = _copied(backbone.model)
        return Cut(nn.Identity(), model, trainable, count, len(stages), why)
    return Cut(trunk, top, trainable, count, len(stages))


def _copied(module: nn.Module) -> nn.Module:
    """Copy a module; tensors that are made in inference mode could not be trained."""
    with torch.inference_mode(False):
        return copy.deepcopy(module)


_BATCH_NORM = nn.modules.batchnorm._BatchNorm
_MOST = 0.85  # a part with this share of all layers is a wrapper around the stages, not one of them


def _owners(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Modules that hold parameters themselves, in the order of definition; no classifier."""
    inner: Any = model.model if isinstance(model, Features) else model
    classifier = inner.get_classifier() if hasattr(inner, "get_classifier") else None
    left_out = set(classifier.modules()) if isinstance(classifier, nn.Module) else set()
    return [
        (path, module)
        for path, module in model.named_modules()
        if any(True for _ in module.parameters(recurse=False)) and module not in left_out
    ]


def _stages(owners: Sequence[tuple[str, nn.Module]]) -> dict[str, list[str]]:
    """Stages in order, with the paths in each; numbered ones of several layers, else all layers.

    >>> layer = torch.nn.Linear(1, 1)
    >>> paths = ["stem", "net.layer1.0", "net.layer1.1", "net.layer2.0", "net.layer2.1", "norm"]
    >>> list(_stages([(path, layer) for path in paths]))
    ['net.layer1', 'net.layer2']
    """
    layers = [path.split(".") for path, module in owners if not isinstance(module, _BATCH_NORM)]
    depth = 0
    while heads := [tuple(path[: depth + 1]) for path in layers if len(path) > depth + 1]:
        common = max(set(heads), key=heads.count)
        if heads.count(common) < _MOST * len(layers):
            break
        depth += 1
    groups: dict[str, list[str]] = {}
    for path in layers:
        numbers = [place for place in range(depth, len(path)) if re.search(r"\d", path[place])]
        end = numbers[0] + 1 if numbers else len(path)
        groups.setdefault(".".join(path[:end]), []).append(".".join(path))
    numbered = {
        stage: paths
        for stage, paths in groups.items()
        if len(paths) > 1 and re.search(r"\d", stage.rpartition(".")[2])
    }
    return numbered if len(numbered) > 1 else groups


class _Plain(nn.Module):
    """The model up to its pooling, without checks that a trace cannot follow."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Any:
        return before_pooling(self.model, images)


class _Pooled(nn.Module):
    """What :class:`Features` does after the model."""

    def __init__(self, top: nn.Module, name: str) -> None:
        super().__init__()
        self.top, self.name = top, name

    def forward(self, activations: Tensor) -> Tensor:
        return pooled(self.top(activations), self.name)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, path: str) -> bool:
        return super().is_leaf_module(module, path) or isinstance(module, not_traced()[1])


def _halves(model: nn.Module, above: tuple[str, ...]) -> tuple[nn.Module, nn.Module]:
    """Trace the model and split its graph at the last single value before the trained part."""
    plain = _Plain(model.model if isinstance(model, Features) else model).eval()
    graph = _Tracer(autowrap_functions=not_traced()[0]).trace(plain)
    nodes = list(graph.nodes)
    trained = [place for place, node in enumerate(nodes) if f"{_owner(node)}.".startswith(above)]
    if not trained:
        raise ValueError("the trained layers do not show in the model's data flow")
    place, value = _boundary(nodes, trained[0])

    lower = fx.Graph()
    made: dict[fx.Node, fx.Node] = {}
    for node in nodes[:place]:
        made[node] = lower.node_copy(node, made.__getitem__)
    lower.output(made[value])
    trunk = fx.GraphModule(plain, lower)
    trunk.graph.eliminate_dead_code()  # nodes used only by the other half
    trunk = fx.GraphModule(plain, trunk.graph)

    upper = fx.Graph()
    made = {value: upper.placeholder("activations")}

    def argument(node: fx.Node) -> fx.Node:
        if node not in made:  # a weight that is named before the boundary and used after it
            made[node] = upper.node_copy(node)
        return made[node]

    for node in nodes[place:]:
        if node.op == "output":
            upper.output(fx.map_arg(node.args[0], argument))
        else:
            made[node] = upper.node_copy(node, argument)
    upper.lint()
    inner = fx.GraphModule(plain, upper)
    inner.eval()
    return trunk.eval(), _Pooled(inner, type(plain.model).__name__).eval()


def _owner(node: fx.Node) -> str:
    """Path of the module whose weights a node uses; empty for a plain operation."""
    if node.op == "call_module":
        return str(node.target)
    return str(node.target).rpartition(".")[0] if node.op == "get_attr" else ""


def _boundary(nodes: Sequence[fx.Node], latest: int) -> tuple[int, fx.Node]:
    """Find the last place, up to the given one, where one value alone is still needed later."""
    index = {node: place for place, node in enumerate(nodes)}
    for place in range(latest, 0, -1):
        alive = [
            node
            for node in nodes[:place]
            if node.op != "get_attr" and any(index[user] >= place for user in node.users)
        ]
        if len(alive) == 1:
            return place, alive[0]
    raise ValueError("no single tensor separates the trained layers from the others")


def _compare(
    backbone: Backbone, trunk: nn.Module, top: nn.Module, trainable: Iterable[str]
) -> None:
    """Raise if a cut gives other outputs than the whole model."""
    parameter = next(backbone.model.parameters())
    generator = torch.Generator().manual_seed(FIXED_NOISE)
    images = torch.randn(2, 3, backbone.image_size, backbone.image_size, generator=generator)
    images = images.to(parameter.device)
    expected, activations = backbone.model(images), trunk(images)
    if not isinstance(activations, Tensor) or len(activations) != len(images):
        raise ValueError("what crosses the boundary is not one activation per image")
    shared = set(trainable) & {name for name, _ in trunk.named_parameters()}
    if shared:
        raise ValueError(f"{min(shared)} is trained but the frozen part needs it too")
    found = top(activations)
    if found.shape != expected.shape or not torch.allclose(
        found, expected, rtol=0.0, atol=TOLERANCE * float(expected.abs().max())
    ):
        raise ValueError("trunk and top together do not give what the whole model gives")


def _named(top: nn.Module) -> Iterable[tuple[str, nn.Parameter]]:
    """Parameters of a top by the names that they have in the backbone."""
    return [(name.removeprefix("top."), value) for name, value in top.named_parameters()]


def trained_parameters(top: nn.Module, trainable: Iterable[str]) -> list[nn.Parameter]:
    """Parameters of (a copy of) a top that are to be trained, in a fixed order."""
    wanted = set(trainable)
    return [value for name, value in _named(top) if name in wanted]
