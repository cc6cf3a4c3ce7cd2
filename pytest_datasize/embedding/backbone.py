"""Load a pretrained model that computes embeddings, with its own preprocessing."""

import copy
import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from pytest_datasize.curve.seeds import FIXED_NOISE
from pytest_datasize.embedding.device import torch_threads
from pytest_datasize.embedding.preprocessing import Preprocessing
from pytest_datasize.embedding.weights import portable_name
from pytest_datasize.errors import BackboneError
from pytest_datasize.requirement.user_code import named

RANDOM = "random"
"""Used instead of weights: every trial starts from its own random weights."""


@dataclass(frozen=True)
class Backbone:
    """A frozen model in evaluation mode.

    Attributes
    ----------
    name
        timm's name, or the class of a module that was given.
    model
        (N, 3, S, S) images → (N, D) embeddings.
    crop
        8-bit RGB image → uint8 tensor of shape (3, S, S): resized and cropped.
    mean, std
        Mean and standard deviation of each channel, for pixels in [0, 1].
    image_size
        S, pixels.
    weights_source, weights_hash
        Where the weights came from, and the first 16 hexadecimal digits of their SHA-256.
    content
        Identifies what was loaded: the weights, and the configuration where that is a file, too.
    files
        Files that determine what is loaded, see :attr:`Weights.files`; none for a module.
    key
        Names everything an embedding depends on: weights, architecture, preprocessing. It holds no
        place of a file.
    named
        Whether the key is the same in another session; False for a module that cannot be
        distinguished from another one with equal weights: nothing that depends on it is cached.
    given
        The requested backbone: its architecture is that of a model from scratch.
    widths
        Widths of the blocks that features consist of, the last layer's first; empty where all are
        of the last layer. See :mod:`pytest_datasize.embedding.stages`.
    layers
        Layers that the features come from, in words.
    note
        Remark on the features for the report; empty for none.
    """

    name: str
    model: nn.Module
    crop: Callable[[Image.Image], Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    weights_source: str
    weights_hash: str
    content: str
    files: tuple[Path, ...]
    key: str
    given: str | nn.Module
    named: bool = True
    widths: tuple[int, ...] = ()
    layers: str = "last layer"
    note: str = ""

    def normalise(self, pixels: Tensor) -> Tensor:
        """Convert uint8 pixels (..., 3, S, S) into the float32 input that the weights expect."""
        *_, channels, _, side = pixels.shape
        # (..., S, 3 S): long rows run fast, and are how decoders lay pixels out
        rows = pixels.movedim(-3, -1).flatten(-2).to(torch.float32, copy=True)
        factor, offset = _scaling(self.mean, self.std, channels, side, pixels.device)
        rows.mul_(factor).sub_(offset)
        return rows.view(*rows.shape[:-1], side, channels).movedim(-1, -3)

    def preprocess(self, picture: Image.Image) -> Tensor:
        """Convert an 8-bit RGB image to the model's input, float32 of shape (3, S, S)."""
        return self.normalise(self.crop(picture))


def load(
    backbone: str | nn.Module,
    weights: str = "auto",
    image_size: int | None = None,
    token: str = "",
) -> Backbone:
    """Build the backbone and load its weights; nothing is trained.

    Parameters
    ----------
    backbone
        A timm name, ``local-dir:PATH``, ``hf-hub:OWNER/NAME``, or a module that maps a batch of
        images to embeddings (a timm model's classifier is left out).
    weights
        ``auto``, ``hub``, ``embedded`` or a file; only for timm names. :data:`RANDOM` for none.
    image_size
        Side of the input in pixels; None for the backbone's own.
    token
        Identifies a module without a name among the processes that share it; empty for a new one.

    Raises
    ------
    BackboneError
        Unknown name, weights that cannot be found, fetched or loaded, or a size that the
        architecture does not take.
    """
    files: tuple[Path, ...] = ()
    named_by_content = True
    if not isinstance(backbone, nn.Module):
        from pytest_datasize.embedding import timm_models  # imports timm, which takes seconds

    if isinstance(backbone, nn.Module):
        if weights != "auto":
            raise BackboneError(f"weights={weights!r}: a module brings its own weights.")
        name, model = type(backbone).__name__, copy.deepcopy(backbone)
        source, weights_hash = "given as a module", _state_hash(model)
        content = weights_hash
        identity = f"{type(backbone).__module__}.{type(backbone).__qualname__}"
    elif weights == RANDOM:
        name, model = backbone, timm_models.architecture(backbone, image_size)
        source = "random weights, fresh in every trial"
        weights_hash, (content, files) = "", timm_models.configuration(backbone)
        identity = portable_name(backbone)
    else:
        name, (model, found) = backbone, timm_models.load(backbone, weights, image_size)
        source, weights_hash, identity = found.source, found.hash, portable_name(name)
        content, files = found.content, found.files
    model.eval()
    for parameter in model.parameters():  # a traced module has no requires_grad_ of its own
        if parameter.is_leaf:
            parameter.requires_grad_(False)
    preprocessing = Preprocessing.of(model, image_size)
    config = preprocessing.config
    side = config["input_size"][-1]
    features = Features(model)
    if isinstance(backbone, nn.Module):
        # modules with equal weights can still differ in their forward method
        behaviour = _behaviour(features, side)
        named_by_content = behaviour is not None
        identity += f"|{behaviour or f'unnamed {token or secrets.token_hex(8)}'}"
    return Backbone(
        name=name,
        model=features,
        crop=preprocessing.crop,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        image_size=side,
        weights_source=source,
        weights_hash=weights_hash,
        content=content,
        files=files,
        key=f"{identity}|{content}|{sorted(config.items())}",
        given=backbone,
        named=named_by_content,
    )


@lru_cache(maxsize=8)
def _scaling(
    mean: tuple[float, ...], std: tuple[float, ...], channels: int, side: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the factor of a row of pixels, and the offset that is then subtracted.

    They are copied to a device only once, because a copy waits until the device is idle.
    """
    with torch.inference_mode(False):  # they are used outside of it, too
        means, stds = (
            torch.tensor(values, dtype=torch.float32, device=device).expand(channels).repeat(side)
            for values in (mean, std)
        )
        return 1 / (255 * stds), means / stds


class Features(nn.Module):
    """Any image model as a map (N, 3, S, S) → (N, D)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Return the embeddings before the classifier, pooled over positions."""
        return pooled(before_pooling(self.model, images), type(self.model).__name__)


def before_pooling(model: Any, images: Tensor) -> Any:
    """Return a model's features before its classifier; torch.fx can trace this."""
    if hasattr(model, "forward_features") and hasattr(model, "forward_head"):
        return model.forward_head(model.forward_features(images), pre_logits=True)
    return model(images)


def pooled(features: Any, name: str) -> Tensor:
    """Average over positions, if there are any.

    Raises
    ------
    BackboneError
        It is no tensor of shape (N, D) or (N, D, H, W).
    """
    if not isinstance(features, Tensor) or features.ndim not in (2, 4):
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features)
        raise BackboneError(
            f"backbone {name} returned {shape}; expected a tensor of shape (N, D) or (N, D, H, W)."
        )
    return features if features.ndim == 2 else features.mean(dim=(2, 3))


@torch.inference_mode()
def _behaviour(model: nn.Module, side: int) -> str | None:
    """Return a hash of a module's output for noise; None if it fails on noise."""
    noise = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(FIXED_NOISE))
    try:
        with torch_threads(1):
            made = copy.deepcopy(model).cpu()(noise)
    except Exception:
        return None  # it may need a GPU; if not, embedding the images raises the error
    return hashlib.sha256(made.float().numpy().tobytes()).hexdigest()[:16]


def _state_hash(model: nn.Module) -> str:
    content = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        content.update(name.encode())
        content.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return content.hexdigest()[:16]


def backbone_of(trainer: Any, image_size: int | None) -> Backbone:
    """Describe the model of a trainer; nothing is loaded, the trainer builds its own."""

    def crop(picture: Any) -> Any:
        raise AssertionError("a trainer preprocesses its own images")

    return Backbone(
        name=f"trainer {named(trainer)}",
        model=nn.Identity(),
        crop=crop,
        mean=(0.0,),
        std=(1.0,),
        image_size=image_size or 0,
        weights_source="made by the trainer",
        weights_hash="",
        content="",
        files=(),
        key=named(trainer),
        given="",
    )
