"""Random streams: one purpose each, named in one table, and no number of a stream elsewhere."""

import ast
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import pytest_datasize
from pytest_datasize.curve import seeds
from pytest_datasize.curve.seeds import Purpose, seed_of, stream

PACKAGE = Path(pytest_datasize.__file__).parent
_STREAMS = {"default_rng", "SeedSequence", "RandomState", "manual_seed", "PCG64", "seed"}


def bare_numbers(source: str) -> list[str]:
    """Calls that start a random stream from a number written in place."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and not isinstance(node.func, ast.Lambda):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            numbers = [
                inner
                for argument in (*node.args, *(keyword.value for keyword in node.keywords))
                for inner in ast.walk(argument)
                if isinstance(inner, ast.Constant) and isinstance(inner.value, int)
            ]
            if (name in _STREAMS and (numbers or not node.args)) or (
                name in ("stream", "seed_of")
                and not ast.unparse(node.args[1]).startswith(("Purpose.", "purpose"))
            ):
                found.append(ast.unparse(node))
    return found


def test_every_purpose_has_a_number_of_its_own():
    values = [member.value for member in Purpose.__members__.values()]
    assert len(values) == len(set(values)) == len(list(Purpose))


def test_streams_of_all_purposes_differ_wherever_they_are():
    """numpy takes a missing place for zero: [s, 3, 0] and [s, 3, 0, 0] are one stream."""
    places = [(), (1,), (24, 1)]
    first = {
        (purpose, place): stream(7, purpose, *place).integers(2**63)
        for purpose in Purpose
        for place in places
    }
    for one, other in combinations(first, 2):
        assert first[one] != first[other], (one, other)
    assert seed_of(7, Purpose.HEAD_FOLDS, 1) != seed_of(7, Purpose.SUGGESTION_FOLDS, 1)
    before = np.random.default_rng([7, 1, 3])  # the number that the plan has always had
    assert stream(7, Purpose.ORDER, 3).integers(2**63) == before.integers(2**63)


def test_no_module_starts_a_stream_from_a_bare_number():
    found = {
        str(path.relative_to(PACKAGE)): calls
        for path in sorted(PACKAGE.rglob("*.py"))
        if path != Path(seeds.__file__) and (calls := bare_numbers(path.read_text("utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        "np.random.default_rng([seed, 11])",
        "np.random.SeedSequence([seed, 2, repeat])",
        "torch.Generator().manual_seed(0)",
        "default_rng()",
        "stream(seed, 11, repeat)",
    ],
)
def test_the_check_of_this_file_can_fail(source):
    assert bare_numbers(source) == [source]
