"""What evidence depends on, beside the images: the names under which a store keeps it."""

import hashlib
import math
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pytest_datasize.code import code_of, named
from pytest_datasize.errors import BackboneError
from pytest_datasize.store import key_of

OF_THE_PLAN = ("sizes", "repeats", "test_fraction", "sampling", "seed")
"""Options that decide which images each trial trains on."""

OF_THE_EVIDENCE = (
    *OF_THE_PLAN,
    *("strategy", "augment", "unfreeze", "trainer", "preset", "direction", "bounds"),
    "checks",  # whether near-duplicates are kept apart, and whether that is an error
    "budget",
    "image_size",
    "precision",
    "device",
    "law",
)
"""Options that change what is measured."""

# a trial is the same whatever other sizes and repeats there are, and what is made of it
OF_A_TRIAL = tuple(
    name for name in OF_THE_EVIDENCE if name not in ("sizes", "repeats", "budget", "law")
)
"""Options that change what a single trial measures."""


def name_of(
    options: Mapping[str, Any],
    names: tuple[str, ...],
    augmentation: str | None,
    model: str | None,
) -> str | None:
    """Name some options, the model and the versions of what calculates.

    Parameters
    ----------
    options
        What the study was asked.
    names
        Those that count.
    augmentation
        What the augmentation is called; None where no other session could tell.
    model
        What backbone and weights are called; None where it is not known yet.

    Returns
    -------
    str or None
        None where something has no name that another session would find again.
    """
    if augmentation is None or model is None:
        return None
    chosen = {name: options[name] for name in names}
    chosen["augment"] = augmentation
    if chosen["trainer"] is not None:
        chosen["trainer"] = code_of(chosen["trainer"])
        if chosen["trainer"] is None:
            return None
    versions = {name: version(name) for name in ("pytest-datasize", "timm", "torch", "numpy")}
    return key_of([versions, chosen, model])


def as_data(options: Mapping[str, Any]) -> dict[str, Any]:
    """Write the options that change what is measured as plain data, for people to compare.

    Raises
    ------
    BackboneError
        The file of weights cannot be read.
    """
    found = {name: _plain(options[name]) for name in OF_THE_EVIDENCE}
    if (trainer := options["trainer"]) is not None:
        found["trainer"] = f"{named(trainer)} {code_of(trainer) or ''}".rstrip()
    if (weights := options["weights"]) not in ("auto", "hub", "embedded"):
        found["weights"] = _file_hash(Path(weights))
    return found


def _plain(value: Any) -> Any:
    """Write an option as JSON has it: an open end as null, an object by what it is called."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, (str, int, type(None))) else named(value)


def _file_hash(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
    except OSError as problem:
        raise BackboneError(f"weights file {path}: cannot be read: {problem.strerror}.") from None
