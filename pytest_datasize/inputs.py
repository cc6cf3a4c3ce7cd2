"""What the study of a gate is given: its settings, filled in from fixtures, with absolute paths."""

from typing import Any

import pytest

from pytest_datasize.errors import DatasizeError
from pytest_datasize.options import OF_ADVICE, OPTIONS
from pytest_datasize.settings import CONFIG_NAME, Settings, YamlConfig, located

OF_THE_VERDICT = ("confidence", "undecided", "trusted_range", "max_increase", *OF_ADVICE)
"""Options that a study knows nothing of."""

_FIXTURES = {
    "dataset": "datasize_dataset",
    "test_dataset": "datasize_test_dataset",
    "backbone": "datasize_backbone",
}


def study_options(
    request: pytest.FixtureRequest, settings: Settings, yaml: YamlConfig
) -> dict[str, Any]:
    """Fill in fixtures where no layer says anything, and make paths absolute."""
    values = {name: value for name, value in settings.values.items() if name not in OF_THE_VERDICT}
    if values["preset"] is not None:
        from pytest_datasize.presets import preset

        unset = set(preset(values["preset"]).options) - set(settings.layers)
        values.update(dict.fromkeys(unset))
    for name, fixture in _FIXTURES.items():
        if name not in settings.layers:
            found = request.getfixturevalue(fixture)
            if found is not None:
                values[name] = OPTIONS[name].parse(name, found, f"fixture {fixture}")
    if settings["represents"] and values["test_dataset"] is None:
        values["test_dataset"] = deployment(request, settings, yaml)
    if values["dataset"] is None:
        raise DatasizeError(
            "no data set: give dataset='path' in the marker, override the fixture "
            "datasize_dataset in conftest.py, or set `defaults: {dataset: ...}` in "
            f"{CONFIG_NAME}."
        )
    _choose_training(request, settings, values)
    for name in ("dataset", "test_dataset", "weights", "backbone"):
        base = settings.base(name, request.config.rootpath)
        values[name] = located(name, values[name], base, yaml)
    return values


def _choose_training(
    request: pytest.FixtureRequest, settings: Settings, values: dict[str, Any]
) -> None:
    """Settle which of trainer and strategy counts, and what ``augment=True`` means."""
    chosen, given = settings.layers.get("strategy"), settings.layers.get("trainer")
    if given is not None and given is not chosen:
        values["strategy"] = "own_training"
    elif given is None and (
        (chosen is None and values["preset"] is None) or values["strategy"] == "own_training"
    ):
        found = request.getfixturevalue("datasize_trainer")
        if found is not None:
            where = "fixture datasize_trainer"
            values["trainer"] = OPTIONS["trainer"].parse("trainer", found, where)
            values["strategy"] = "own_training"
    if values["augment"] is True:
        found = request.getfixturevalue("datasize_augment")
        where = "fixture datasize_augment"
        if found is not None:
            values["augment"] = OPTIONS["augment"].parse("augment", found, where)


def deployment(request: pytest.FixtureRequest, settings: Settings, yaml: YamlConfig) -> Any:
    """Return the images of the deployment: from the settings, else from the fixture."""
    value = settings["deployment"]
    if value is None:
        value = request.getfixturevalue("datasize_deployment_dataset")
    base = settings.base("deployment", request.config.rootpath)
    return located("deployment", value, base, yaml)


def identity(value: Any) -> Any:
    """Stand for an option's value in a key: itself when it is plain, else the very object."""
    if isinstance(value, dict):
        return tuple(sorted(value.items()))
    plain = isinstance(value, (str, int, float, type(None))) or (
        isinstance(value, tuple) and all(isinstance(entry, (int, float)) for entry in value)
    )
    return value if plain else ("object", id(value))
