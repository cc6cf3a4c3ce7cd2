"""Read the plugin's options from pytest's command line, ini file and cache folder."""

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import pytest

from pytest_datasize.errors import RequirementError
from pytest_datasize.reports.registry import REPORTS
from pytest_datasize.requirement.options import OPTIONS

if TYPE_CHECKING:
    from pytest_datasize.store import Store

MARKER = "datasize"


EVIDENCE_FIXTURE = "_datasize_evidence"


def is_marked(item: Any) -> TypeGuard[pytest.Function]:
    """Whether a test function carries the marker; a doctest of a marked module does not count."""
    return isinstance(item, pytest.Function) and item.get_closest_marker(MARKER) is not None


def is_gate(item: pytest.Item) -> bool:
    """Whether a marked test has a target; without one, its markers only set options."""
    return is_marked(item) and EVIDENCE_FIXTURE in item.fixturenames


def refuse_moved_root(config: pytest.Config) -> None:
    """Refuse an option's value after a space that pytest took for the path of a test.

    Without an ini file, pytest chooses its root directory before it knows the options of plugins:
    an existing path after ``--datasize-json`` moves it, and with it every relative path.

    Raises
    ------
    pytest.UsageError
        The root directory was moved.
    """
    here = config.invocation_params.dir
    if (
        config.inipath is not None
        or config.rootpath == here
        or not here.is_relative_to(config.rootpath)
    ):
        return
    words = [str(word) for word in config.invocation_params.args]
    for option, value in pairwise(words):
        if not option.startswith("--datasize-") or "=" in option or value.startswith("-"):
            continue
        path = here / value
        if path.exists() and not path.resolve().is_relative_to(here.resolve()):
            raise pytest.UsageError(
                f"{option} {value}: without an ini file, pytest takes this path for one of tests "
                f"and moves its root directory to {config.rootpath}. Write {option}={value}."
            )


def open_store(config: pytest.Config) -> "Store":
    """Open the store of a session: in the folder of the options, else in pytest's cache folder."""
    from pytest_datasize.store import Store

    asked = config.getoption("datasize_store") or config.getini("datasize_store")
    folder: Path | None = None
    if asked and asked != "off":
        given = config.getoption("datasize_store")
        folder = (config.invocation_params.dir if given else config.rootpath) / asked
    elif not asked and (cache := getattr(config, "cache", None)) is not None:
        try:
            folder = cache.mkdir("datasize")
        except OSError:  # a read-only checkout
            folder = None
    return Store(
        folder,
        refresh=config.getoption("datasize_refresh"),
        verify=config.getoption("datasize_verify"),
    )


def command_line_options(config: pytest.Config) -> dict[str, Any]:
    """Return the options set on the command line; argparse has checked them."""
    given = {name: config.getoption(f"datasize_{name}") for name in OPTIONS}
    return {name: value for name, value in given.items() if value is not None}


def ini_options(config: pytest.Config) -> dict[str, Any]:
    """Return the options set in the ini file.

    Raises
    ------
    pytest.UsageError
        A value is not allowed.
    """
    try:
        return {
            name: option.parse_text(name, text, f"ini file: datasize_{name}")
            for name, option in OPTIONS.items()
            if (text := _ini_value(config, f"datasize_{name}")) not in (None, "", [])
        }
    except RequirementError as problem:
        raise pytest.UsageError(str(problem)) from None


def _ini_value(config: pytest.Config, name: str) -> Any:
    """Return a value of the ini file as it stands there, with its own type where it has one.

    Pytest's native table ``[tool.pytest]`` (pytest 9) has typed values, and ``getini`` refuses all
    but one type for an option; many of ours take several, such as a number or ``auto``. A list
    under ``ini_options`` arrives as its texts.
    """
    found = getattr(config, "_inicfg", {}).get(name)
    value = getattr(found, "value", found)
    if getattr(found, "mode", "ini") == "toml":
        return value
    if isinstance(value, list):
        return ",".join(map(str, value))
    return config.getini(name)


def wants_reports(config: pytest.Config) -> bool:
    """Whether an option asks for a report, so that it must be checked before anything runs."""
    names = (*REPORTS, "baseline", "publish", "lock")
    given = any(config.getoption(f"datasize_{name}") for name in names)
    return given or bool(config.getini("datasize_publish"))
