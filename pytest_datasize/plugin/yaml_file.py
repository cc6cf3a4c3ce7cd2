"""Collect the gates of a ``datasize.yaml`` as tests, without Python code."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_datasize.errors import RequirementError
from pytest_datasize.plugin.session import gates_of


class YamlFile(pytest.File):
    """A ``datasize.yaml``; each entry of ``requirements:`` becomes a marked test function.

    Because it is a marked function, fixtures, ``-m``, ``-k``, reports and pytest-xdist treat a YAML
    gate like any other.
    """

    def collect(self) -> Iterator["YamlGate"]:
        """Create one test for each requirement."""
        try:
            config = gates_of(self.config).yaml(self.path)
        except RequirementError as problem:
            raise self.CollectError(str(problem)) from None
        for name, line, requirement in config.requirements:

            def body() -> None: ...

            mark = pytest.mark.datasize(**requirement.targets, **requirement.options)
            gate: YamlGate = YamlGate.from_parent(self, name=name, callobj=mark(body))
            gate.line = line
            yield gate


class YamlGate(pytest.Function):
    """One requirement of a ``datasize.yaml``."""

    line = 1

    def reportinfo(self) -> tuple[Path, int, str]:
        """Return the place of the entry in the file (lines count from 0 here)."""
        return self.path, self.line - 1, self.name
