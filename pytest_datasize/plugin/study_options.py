"""Build the options of a gate's study: its settings, completed from fixtures, absolute paths."""

from collections.abc import Mapping
from typing import Any

import pytest

from pytest_datasize.errors import DatasizeError
from pytest_datasize.requirement.options import OPTIONS, STUDY_SCOPES, Scope, names_of
from pytest_datasize.requirement.settings import CONFIG_NAME, Settings, YamlConfig, located

OF_A_STUDY = names_of(*STUDY_SCOPES)
"""Options that a study takes."""

_FIXTURES = {
    "dataset": "datasize_dataset",
    "test_dataset": "datasize_test_dataset",
    "backbone": "datasize_backbone",
}


def study_options(
    request: pytest.FixtureRequest, settings: Settings, yaml: YamlConfig
) -> dict[str, Any]:
    """Fill in fixtures for options that no layer sets, and make paths absolute."""
    values = {name: settings[name] for name in OF_A_STUDY}
    if values["preset"] is not None:
        from pytest_datasize.trials.presets import preset

        unset = set(preset(values["preset"]).options) - set(settings.layers)
        values.update(dict.fromkeys(unset))
    for name, fixture in _FIXTURES.items():
        if name not in settings.layers:
            found = _value_of(fixture, request)
            if found is not None:
                values[name] = OPTIONS[name].parse(name, found, f"fixture {fixture}")
    if settings["represents"] and values["test_dataset"] is None:
        values["test_dataset"] = deployment(request, settings, yaml)
    if values["dataset"] is None:
        beside = request.node.path.parent / CONFIG_NAME
        unread = (
            f" {beside} is not read; name it with --datasize-config."
            if beside.is_file() and beside != yaml.path
            else ""
        )
        raise DatasizeError(
            "no data set: give dataset='path' in the marker, override the fixture "
            f"datasize_dataset in conftest.py, or set `defaults: {{dataset: ...}}` in {yaml.path}."
            f"{unread}"
        )
    _choose_training(request, settings, values)
    for name in ("dataset", "test_dataset", "weights", "backbone"):
        base = settings.base(name, request.config.rootpath)
        values[name] = located(name, values[name], base, yaml)
    return values


def _value_of(fixture: str, request: pytest.FixtureRequest) -> Any:
    """Return the value of a fixture.

    Raises
    ------
    DatasizeError
        It has ``params``, and the test does not name it, so that pytest has not repeated the test.
    """
    try:
        return request.getfixturevalue(fixture)
    except pytest.fail.Exception as problem:
        if "has no parameter defined" not in str(problem):
            raise
        raise DatasizeError(
            f"fixture {fixture} has params. Name it in the arguments of the test, as in "
            f"def test_enough({fixture}), so that pytest runs the test for each of them."
        ) from None


def _choose_training(
    request: pytest.FixtureRequest, settings: Settings, values: dict[str, Any]
) -> None:
    """Choose between trainer and strategy, and resolve ``augment=True``."""
    chosen, given = settings.layers.get("strategy"), settings.layers.get("trainer")
    if given is not None and given is not chosen:
        values["strategy"] = "own_training"
    elif given is None and (
        (chosen is None and values["preset"] is None) or values["strategy"] == "own_training"
    ):
        found = _value_of("datasize_trainer", request)
        if found is not None:
            where = "fixture datasize_trainer"
            values["trainer"] = OPTIONS["trainer"].parse("trainer", found, where)
            values["strategy"] = "own_training"
    if values["augment"] is True:
        found = _value_of("datasize_augment", request)
        where = "fixture datasize_augment"
        if found is not None:
            values["augment"] = OPTIONS["augment"].parse("augment", found, where)


def deployment(request: pytest.FixtureRequest, settings: Settings, yaml: YamlConfig) -> Any:
    """Return the deployment images from the settings, else from the fixture."""
    value = settings["deployment"]
    if value is None:
        value = _value_of("datasize_deployment_dataset", request)
    base = settings.base("deployment", request.config.rootpath)
    return located("deployment", value, base, yaml)


def session_key(options: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return a hashable key for the options of a study, for this session only.

    Options of the scope RUNTIME are left out: they never change a result. A caller that stores the
    key must also keep the options alive, because objects are keyed by their ``id``.
    """
    return tuple(
        (name, frozen(value))
        for name, value in options.items()
        if OPTIONS[name].scope is not Scope.RUNTIME
    )


def frozen(value: Any) -> Any:
    """Return a hashable snapshot of a value: plain data by value, other objects by ``id``.

    Examples
    --------
    >>> sizes = [10, 20]
    >>> before = frozen({"sizes": sizes})
    >>> sizes.append(40)
    >>> before, before == frozen({"sizes": sizes})
    (('dict', (('sizes', ('list', (10, 20))),)), False)
    """
    if isinstance(value, dict):
        items = sorted(value.items(), key=lambda item: str(item[0]))
        return "dict", tuple((key, frozen(inner)) for key, inner in items)
    if isinstance(value, (list, tuple)):
        return type(value).__name__, tuple(map(frozen, value))
    if isinstance(value, (bool, float)):  # True == 1 == 1.0, which are different settings
        return type(value).__name__, value
    return value if isinstance(value, (str, int, type(None))) else ("object", id(value))
