"""Create the gates of a session on first use, so that start-up stays light."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_datasize.plugin.gates import Gates
    from pytest_datasize.reports.records.record_types import ComparisonRecord

_GATES = pytest.StashKey["Gates"]()

COMPARED: "pytest.StashKey[list[ComparisonRecord]]" = pytest.StashKey()
"""The comparisons of strategies that a test made."""


def gates_of(config: pytest.Config) -> "Gates":
    """Return the gates of a session."""
    if _GATES not in config.stash:
        from pytest_datasize.plugin.gates import Gates

        config.stash[_GATES] = Gates(config)
    return config.stash[_GATES]


def close_gates(config: pytest.Config) -> None:
    """Close the store and the workers of a session, if there were any gates."""
    if _GATES in config.stash:
        config.stash[_GATES].close()
        del config.stash[_GATES]
