"""Derive the cache keys of stored results from the table of options.

A key holds every option of the scopes that a result depends on, beside the images, the backbone
and the versions of the packages that compute. No option is listed by name here, except those that
are keyed by their content instead of their value.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pytest_datasize.embedding.lazy_backbone import LazyBackbone
from pytest_datasize.embedding.weights import WORDS
from pytest_datasize.requirement.options import Scope, keyed
from pytest_datasize.requirement.user_code import (
    code_of,
    content_of,
    named,
    packages_of,
    state_of,
)
from pytest_datasize.requirement.versions import evidence_versions
from pytest_datasize.store import key_of

TRIAL: Final = (Scope.EMBEDDING, Scope.DRAW, Scope.TRIAL)
"""Scopes that one trial depends on; the other sizes and repeats do not change it."""

EVIDENCE: Final = (*TRIAL, Scope.PLAN, Scope.EVIDENCE)
"""Scopes that the evidence of a study depends on."""

_BY_CONTENT: Final = ("backbone", "weights", "trainer", "augment")

UNNAMED: Final = "an object that another session cannot identify"
"""Replaces an option's value in a record where the value cannot be compared."""


def key_of_options(
    options: Mapping[str, Any],
    scopes: tuple[Scope, ...],
    augmentation: str | None,
    model: str | None,
    trainer: Mapping[str, Any],
) -> str | None:
    """Return the cache key of the options of some scopes, the model and the package versions.

    Parameters
    ----------
    options
        Option name → value.
    scopes
        Scopes whose options enter the key.
    augmentation
        Name of the augmentation; None if another session cannot identify it.
    model
        Name of backbone and weights by their content; None while it is not known.
    trainer
        What the results of a trainer depend on, see :func:`of_trainer`.

    Returns
    -------
    str or None
        None if a part has no name that is the same in another session.
    """
    if augmentation is None or model is None:
        return None
    chosen = {
        name: value for name, value in keyed(options, *scopes).items() if name not in _BY_CONTENT
    }
    if Scope.TRIAL in scopes:
        chosen["augment"] = augmentation
        if None in trainer.values():
            return None
        chosen |= trainer
    return key_of([evidence_versions(), chosen, model])


def of_trainer(trainer: Any) -> dict[str, Any]:
    """Return what the results of a trainer depend on; empty without one.

    Its ``trainer`` is the hash of the source, None if another session cannot identify it.
    """
    if trainer is None:
        return {}
    code = code_of(trainer)
    return {"trainer": code, "packages": packages_of(trainer), "state": state_of(trainer)}


def as_data(options: Mapping[str, Any], backbone: LazyBackbone) -> dict[str, Any]:
    """Return the options that change the measured scores, as plain data for people to compare.

    Files and functions are named by their content, so that the data are the same in every folder
    and on every machine; a value without such a name is :data:`UNNAMED`.

    Parameters
    ----------
    options
        Option name → value.
    backbone
        Names the backbone and its weights by their content.

    Raises
    ------
    BackboneError
        The file of weights cannot be read.
    """
    found = {
        name: plain(value)
        for name, value in keyed(options, *EVIDENCE).items()
        if name not in _BY_CONTENT
    }
    found["backbone"] = backbone.asked or UNNAMED
    for name in ("trainer", "augment"):
        value = options[name]
        known = value is None or isinstance(value, bool)
        found[name] = value if known else content_of(value) or UNNAMED
    weights = options["weights"]
    found["weights"] = weights if weights in WORDS else backbone.hash_of(Path(weights))
    return found


def plain(value: Any) -> Any:
    """Return an option as JSON data: an open end as null, an object by its name.

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
