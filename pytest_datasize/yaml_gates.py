"""Gates that stand in a ``datasize.yaml``, collected as tests with no Python at all."""

from collections.abc import Iterator
from types import CodeType

import pytest

from pytest_datasize.errors import RequirementError
from pytest_datasize.gates import GATES


class YamlFile(pytest.File):
    """A ``datasize.yaml``; each entry of ``requirements:`` becomes a marked test function.

    A function and a marker, so that fixtures, ``-m``, ``-k``, reports and pytest-xdist treat a
    YAML gate like any other.
    """

    def collect(self) -> Iterator[pytest.Item]:
        """Make one test for each requirement."""
        try:
            config = self.config.stash[GATES].yaml(self.path)
        except RequirementError as problem:
            raise self.CollectError(str(problem)) from None
        for name, line, requirement in config.requirements:

            def gate() -> None: ...

            gate.__code__ = _placed(gate.__code__, str(self.path), line)
            mark = pytest.mark.datasize(**requirement.targets, **requirement.options)
            item: pytest.Item = pytest.Function.from_parent(self, name=name, callobj=mark(gate))
            yield item


def _placed(code: CodeType, filename: str, line: int) -> CodeType:
    """Let pytest point at the entry in the file."""
    return code.replace(co_filename=filename, co_firstlineno=line)
