"""Check the options of a study, and fill in defaults, a preset and what follows from others."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_datasize.errors import RequirementError
from pytest_datasize.requirement.options import OPTIONS, STUDY_SCOPES, names_of
from pytest_datasize.requirement.registries import AUTO, DEFAULT_STRATEGY, EMBEDDING_STRATEGIES
from pytest_datasize.requirement.requirement import check_units
from pytest_datasize.requirement.spelling import nearest

if TYPE_CHECKING:
    from pytest_datasize.trials.presets import Preset


class CheckedOptions(NamedTuple):
    """The options of a study.

    Attributes
    ----------
    options
        Option name → checked value, defaults and preset filled in.
    preset
        The published recipe that the options come from, or None.
    augmentation
        Name of the augmentation; None if another session cannot identify it.
    climbs
        Whether a gate tries several models, see :mod:`pytest_datasize.study.ladder`.
    """

    options: dict[str, Any]
    preset: "Preset | None"
    augmentation: str | None
    climbs: bool


def checked_options(given: Mapping[str, Any]) -> CheckedOptions:
    """Check the options that were given, and fill in the others.

    Raises
    ------
    RequirementError
        An option is unknown, its value is not allowed, or options contradict each other.
    """
    allowed = names_of(*STUDY_SCOPES)
    for name in given:
        if name not in allowed:
            raise RequirementError(
                f"Study: unknown option {name!r}{nearest(name, allowed) or '.'} "
                f"Allowed: {', '.join(sorted(allowed))}."
            )
    values = {**dict.fromkeys(allowed), **given}
    if values["strategy"] == AUTO:
        values["strategy"] = None
    named = values["strategy"] is not None or values["preset"] is not None
    trained = values["trainer"] is not None
    asked = values["strategy"]
    preset, augmentation, values = _with_preset(values)
    options = {
        name: OPTIONS[name].default if value is None else OPTIONS[name].parse(name, value, "Study")
        for name, value in values.items()
    }
    if options["dataset"] is None:
        raise RequirementError(f"Study: dataset=None. Expected {OPTIONS['dataset'].expected}.")
    if options["strategy"] == AUTO:  # one model; a Ladder tries several
        options["strategy"] = DEFAULT_STRATEGY
    check_units(options, "Study")
    _settle_training(options, asked if trained else values["strategy"])
    _settle_features(options, named)
    return CheckedOptions(options, preset, augmentation, climbs=not named and not trained)


def _with_preset(
    given: dict[str, Any],
) -> "tuple[Preset | None, str | None, dict[str, Any]]":
    """Fill in the options of a preset; return it, the name of the augmentation, and the options."""
    augment = given["augment"]
    augmentation = None if callable(augment) else str(augment)
    if given["preset"] is None:
        return None, augmentation, given
    from pytest_datasize.trials import presets

    preset = presets.preset(given["preset"])
    values = {
        name: preset.options.get(name) if value is None else value for name, value in given.items()
    }
    if values["augment"] is True:
        values["augment"] = presets.augmentation(str(given["preset"]))
        augmentation = f"that of {given['preset']}"
    return preset, augmentation, values


def _settle_features(options: dict[str, Any], named: bool) -> None:
    """Choose the layers that heads use.

    A strategy or preset given by name keeps its own, and a module of the user's own its output.
    """
    if options["features"] == "auto":
        own = not isinstance(options["backbone"], str)
        options["features"] = "last" if named or own else "stages"
    if options["strategy"] not in EMBEDDING_STRATEGIES:
        options["features"] = "last"  # networks have the whole backbone


def _settle_training(options: dict[str, Any], strategy: str | None) -> None:
    """Let a trainer replace the strategy; reject options that contradict each other."""
    trainer = options["trainer"]
    if trainer is not None and strategy not in (None, "own_training"):
        raise RequirementError(
            f"trainer and strategy={strategy!r} exclude each other: a trainer is the strategy."
        )
    if trainer is None and strategy == "own_training":
        raise RequirementError(
            "strategy='own_training' needs trainer=..., or the fixture datasize_trainer."
        )
    if trainer is not None:
        options["strategy"] = "own_training"
