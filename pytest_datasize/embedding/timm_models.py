"""Build models of timm by name, and load their weights strictly."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn

from pytest_datasize.embedding import weights as weight_files
from pytest_datasize.errors import BackboneError


def load(name: str, choice: str, image_size: int | None) -> tuple[nn.Module, weight_files.Weights]:
    """Build a named model and load its weights.

    Parameters
    ----------
    name
        A timm name, ``local-dir:PATH`` or ``hf-hub:OWNER/NAME``.
    choice
        The option ``weights``.
    image_size
        Side of the input in pixels; None for the model's own.

    Raises
    ------
    BackboneError
        Unknown name, or weights that cannot be found, fetched or loaded.
    """
    if (place := folder_of(name)) is not None:
        folder, watched = place
        found = weight_files.in_folder(folder)
        found = replace(found, watched=(*found.watched, *watched))
        if choice != "auto":
            raise BackboneError(f"weights={choice!r}: backbone {name!r} brings its own weights.")
        _read_weights(found)  # reject files that contain more than weights, before timm reads them
        # pass the file: timm would search for one itself, and could select another one later
        overlay = {"source": None, "file": str(found.file), "custom_load": False}
        try:
            model = _create(
                f"{weight_files.LOCAL_DIR}{folder}",
                image_size,
                pretrained=True,
                pretrained_cfg_overlay=overlay,
            )
            return model, found
        except Exception as problem:
            raise BackboneError(f"backbone {name!r} cannot be loaded: {_short(problem)}") from None
    if not timm.is_model(name):
        raise BackboneError(f"backbone {name!r} is not a timm model{_nearest(name)}")
    try:
        config = timm.models.get_pretrained_cfg(name, allow_unregistered=False)
    except Exception as problem:
        raise BackboneError(f"backbone {name!r}: {_short(problem)}") from None
    hub_id = str(config.hf_hub_id) if config and config.hf_hub_id else None
    found = weight_files.find(name.partition(".")[0], hub_id, choice)
    return _with_weights(name, found, image_size), found


def folder_of(name: str) -> tuple[Path, tuple[Path, ...]] | None:
    """Return the folder of a backbone with its own weights, and the files to watch; else None.

    Raises
    ------
    BackboneError
        A repository of the hub is not in the local cache, and cannot be fetched.
    """
    if name.startswith(weight_files.LOCAL_DIR):
        return Path(name.removeprefix(weight_files.LOCAL_DIR)), ()
    if name.startswith(weight_files.HF_HUB):
        repository = name.removeprefix(weight_files.HF_HUB)
        return _snapshot(repository), (weight_files.hub_reference(repository),)
    return None


def configuration(name: str) -> tuple[str, tuple[Path, ...]]:
    """Return the hash of the file that describes an architecture, and the files to watch."""
    if (place := folder_of(name)) is None:
        return "", ()
    config = place[0] / weight_files.CONFIG
    return weight_files.hash_of(config), (config, *place[1])


def _with_weights(name: str, found: weight_files.Weights, image_size: int | None) -> nn.Module:
    """Load a weights file strictly: a partly random backbone would give wrong results silently.

    timm loads leniently when the number of classes differs, so the classifier is built with as
    many classes as the file has. Where a file uses other names for the same tensors, they are
    matched by order, if all shapes agree.
    """
    given = _read_weights(found)
    shapes = [tensor.shape for tensor in given.values()]
    config = timm.models.get_pretrained_cfg(name)
    head = given.get(f"{config.classifier}.weight") if config else None
    try:
        n_classes = head.shape[0] if head is not None else config.num_classes if config else 0
        if head is not None:
            overlay = {"file": str(found.file), "custom_load": False, "num_classes": n_classes}
            return _create(
                name,
                image_size,
                num_classes=n_classes,
                pretrained=True,
                pretrained_cfg_overlay=overlay,
            )
        model = _create(name, image_size, num_classes=n_classes)
        own = model.state_dict()
        if given.keys() == own.keys():
            model.load_state_dict(given)
        elif [tensor.shape for tensor in own.values()] == shapes:
            model.load_state_dict(dict(zip(own, given.values(), strict=True)))
        else:
            model = _create(name, image_size, num_classes=0)
            model.load_state_dict(given)
        return model
    except (KeyError, IndexError, RuntimeError, ValueError) as problem:
        raise BackboneError(
            f"weights file {found.file} does not fit backbone {name!r}: {_short(problem)} "
            "Is it the file of another architecture?"
        ) from None


def _read_weights(found: weight_files.Weights) -> dict[str, Tensor]:
    try:
        given: dict[str, Tensor] = timm.models.load_state_dict(
            str(found.file), use_ema=False, weights_only=True
        )
        if not all(isinstance(tensor, Tensor) for tensor in given.values()):
            raise TypeError("it holds more than tensors")
    except Exception as problem:  # not a weights file, damaged, or one that wants to run code
        raise BackboneError(
            f"weights file {found.file} cannot be read ({_short(problem)}). Expected tensors by "
            "name: save model.state_dict() as .safetensors or .pth."
        ) from None
    return given


def _create(name: str, image_size: int | None, **arguments: Any) -> nn.Module:
    model: nn.Module
    if image_size is not None:
        try:  # transformers fix their input size when they are built
            model = timm.create_model(name, img_size=image_size, **arguments)
            return model
        except TypeError:
            pass
    model = timm.create_model(name, **arguments)
    return model


def architecture(name: str, image_size: int | None) -> nn.Module:
    """Build a named backbone with random weights, drawn from torch's generator.

    Raises
    ------
    BackboneError
        There is none of that name.
    """
    if (place := folder_of(name)) is not None:
        name = f"{weight_files.LOCAL_DIR}{place[0]}"
    elif not timm.is_model(name):
        raise BackboneError(f"backbone {name!r} is not a timm model{_nearest(name)}")
    try:
        return _create(name, image_size, pretrained=False)
    except Exception as problem:
        raise BackboneError(f"backbone {name!r}: {_short(problem)}") from None


def _short(problem: BaseException) -> str:
    words = str(problem).split() or ["no reason given"]
    text = f"{type(problem).__name__}: {' '.join(words)}"
    return text if len(text) <= 200 else f"{text[:197]}..."


def _snapshot(repository: str) -> Path:
    folder = Path()
    for names in ((weight_files.CONFIG,), weight_files.HUB_FILES):
        path, reason = weight_files.hub_file(repository, *names)
        if path is None:
            raise BackboneError(
                f"backbone 'hf-hub:{repository}': {reason}. Bring the repository here and name it "
                "as backbone='local-dir:PATH'."
            )
        folder = path.parent
    return folder


def _nearest(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, timm.list_models(), n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else "."
    return f"{hint} timm.list_models(pretrained=True) lists them all."
