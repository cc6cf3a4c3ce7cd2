"""What the gates of one session share, made when the first gate appears: start-up stays light."""

from typing import TYPE_CHECKING, Any

import pytest

from pytest_datasize.errors import RequirementError
from pytest_datasize.options import OPTIONS

if TYPE_CHECKING:
    from pytest_datasize.gates import Gates

MARKER = "datasize"
_GATES = pytest.StashKey["Gates"]()


def is_gate(item: pytest.Item) -> bool:
    """Whether a test carries the marker."""
    return item.get_closest_marker(MARKER) is not None


def gates_of(config: pytest.Config) -> "Gates":
    """Return the gates of a session."""
    if _GATES not in config.stash:
        from pytest_datasize.gates import Gates

        config.stash[_GATES] = Gates(config)
    return config.stash[_GATES]


def command_line_options(config: pytest.Config) -> dict[str, Any]:
    """Return the options that the command line gives; argparse has checked them."""
    given = {name: config.getoption(f"datasize_{name}") for name in OPTIONS}
    return {name: value for name, value in given.items() if value is not None}


def ini_options(config: pytest.Config) -> dict[str, Any]:
    """Return the options that the ini file gives.

    Raises
    ------
    pytest.UsageError
        A value is not allowed.
    """
    try:
        return {
            name: option.parse_text(name, text, f"ini file: datasize_{name}")
            for name, option in OPTIONS.items()
            if (text := config.getini(f"datasize_{name}"))
        }
    except RequirementError as problem:
        raise pytest.UsageError(str(problem)) from None
