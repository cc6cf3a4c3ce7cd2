"""``--datasize-baseline`` and ``max_increase``."""

import json

import pytest

GATE = """
from pytest_datasize import datasize

@datasize.requires(accuracy=0.75, max_increase=0.2)
def test_it(): ...
"""


@pytest.fixture
def gate(repository):
    repository.makepyfile(GATE)
    return repository


def baseline(gate, **changes):
    """The baseline of this run, with numbers of an earlier one in its place."""
    path = gate.path / "old.json"
    run = json.loads(path.read_text())
    run["requirements"][0].update(changes)
    path.write_text(json.dumps(run))


def run(gate, *arguments):
    return gate.runpytest("--datasize-baseline=old.json", *arguments)


def test_a_missing_baseline_is_recorded_and_never_fails(gate):
    result = run(gate)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["no baseline yet: this run is recorded as one in *old.json"])
    again = run(gate)
    again.assert_outcomes(passed=1)
    again.stdout.fnmatch_lines(["since the baseline", "*required: unchanged, * images *"])
    assert "no baseline" not in again.stdout.str()


@pytest.mark.parametrize("arguments", [[], ["-n1"]])
def test_a_rise_beyond_what_is_allowed_fails(gate, arguments):
    run(gate)
    baseline(gate, required=1, required_low=1, required_high=1)
    result = run(gate, *arguments, "--datasize-json=new.json", "--datasize-html=new.html")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "accuracy: required: was * images (*), is * images (*), which is below the smallest "
            "size measured, 13; *; at most 20 % more are allowed",
            "  rose too far *",
            "MORE IMAGES NEEDED THAN BEFORE for accuracy*",
        ]
    )
    [record] = json.loads((gate.path / "new.json").read_text())["requirements"]
    assert (record["verdict"], record["failed"]) == ("sufficient", True)
    assert record["baseline"]["exceeded"]
    assert "rose too far" in (gate.path / "new.html").read_text()


def test_a_fall_passes_and_is_told(gate):
    run(gate)
    baseline(gate, required=9000, required_low=8000, required_high=9900, available=9500)
    result = run(gate)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["  required: was *, is *; a clear change"])


def test_without_a_baseline_the_limit_is_not_judged_and_that_is_told(gate):
    result = gate.runpytest("--datasize-json=new.json")
    result.assert_outcomes(passed=1)
    [record] = json.loads((gate.path / "new.json").read_text())["requirements"]
    assert "max_increase was not judged" in record["notes"][-1]
    result.stdout.fnmatch_lines(["*max_increase was not judged*"])


def test_a_rolling_baseline_is_compared_before_it_is_written(gate):
    run(gate)
    baseline(gate, required=9000, available=9500)
    result = run(gate, "--datasize-json=old.json")
    result.stdout.fnmatch_lines(["  required: was *"])
    assert json.loads((gate.path / "old.json").read_text())["requirements"][0]["required"] != 9000


def test_a_baseline_that_is_none_is_refused_before_training(gate):
    (gate.path / "old.json").write_text("{}")
    result = run(gate)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*old.json: not a result that this version reads*"])
    assert (gate.path / "old.json").read_text() == "{}"


def test_nothing_judged_records_no_baseline(gate):
    run(gate, "--datasize=skip")
    assert not (gate.path / "old.json").exists()
