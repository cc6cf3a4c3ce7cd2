"""The names under which a store keeps results, derived from the table of options.

A key holds every option of the scopes that a result depends on, beside the images, the backbone
and the versions of what calculates. Nothing here lists options by name, but for those that are
keyed by their content instead of their value.
"""

import hashlib
import math
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from pytest_datasize.errors import BackboneError
from pytest_datasize.requirement.options import Scope, names_of
from pytest_datasize.requirement.user_code import code_of, named
from pytest_datasize.store import key_of

TRIAL: Final = (Scope.EMBEDDING, Scope.DRAW, Scope.TRIAL)
"""What one trial depends on: it is the same whatever other sizes and repeats there are."""

EVIDENCE: Final = (*TRIAL, Scope.PLAN, Scope.EVIDENCE)
"""What the evidence of a study depends on."""

_BY_CONTENT: Final = ("backbone", "weights", "trainer", "augment")


def key_of_options(
    options: Mapping[str, Any],
    scopes: tuple[Scope, ...],
    augmentation: str | None,
    model: str | None,
) -> str | None:
    """Return a key of the options of some scopes, the model and the versions of what calculates.

    Parameters
    ----------
    options
        Option name → value.
    scopes
        Those that count.
    augmentation
        Name of the augmentation; None if another session could not tell which it is.
    model
        Name of backbone and weights by their content; None while it is not known.

    Returns
    -------
    str or None
        None where something has no name that another session would find again.
    """
    if augmentation is None or model is None:
        return None
    chosen = {name: options[name] for name in names_of(*scopes) if name not in _BY_CONTENT}
    if Scope.TRIAL in scopes:
        chosen["augment"] = augmentation
        if options["trainer"] is not None:
            chosen["trainer"] = code_of(options["trainer"])
            if chosen["trainer"] is None:
                return None
    versions = {name: version(name) for name in ("pytest-datasize", "timm", "torch", "numpy")}
    return key_of([versions, chosen, model])


def as_data(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that change what is measured as plain data, for people to compare.

    Raises
    ------
    BackboneError
        The file of weights cannot be read.
    """
    found = {
        name: plain(options[name])
        for name in names_of(*EVIDENCE)
        if name not in ("backbone", "weights")
    }
    if (trainer := options["trainer"]) is not None:
        found["trainer"] = f"{named(trainer)} {code_of(trainer) or ''}".rstrip()
    if (weights := options["weights"]) not in ("auto", "hub", "embedded"):
        found["weights"] = _file_hash(Path(weights))
    return found


def plain(value: Any) -> Any:
    """Return an option as JSON has it: an open end as null, an object by its name.

    Examples
    --------
    >>> plain({"loss": (0.0, float("inf"))}), plain(len)
    ({'loss': [0.0, None]}, 'builtins.len')
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(inner) for inner in value]
    return value if isinstance(value, (str, int, type(None))) else named(value)


def _file_hash(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
    except OSError as problem:
        raise BackboneError(f"weights file {path}: cannot be read: {problem.strerror}.") from None
