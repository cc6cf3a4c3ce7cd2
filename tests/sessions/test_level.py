"""A gate may begin as advice: it warns, and the command line can make it law."""

import json

import pytest

GATES = """
from pytest_datasize import datasize

@datasize.requires(accuracy=0.999, level="warning")
def test_advice(): ...

@datasize.requires(images_per_class=100_000, level="warning")
def test_count(): ...

@datasize.requires(accuracy=0.5)
def test_law(): ...
"""


@pytest.fixture
def gates(repository):
    repository.makepyfile(test_gates=GATES)
    return repository


def test_a_gate_that_only_warns_is_reported_and_counted_apart(gates, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    result = gates.runpytest_subprocess("--datasize-json=out.json", "-W", "default")
    result.assert_outcomes(passed=3, warnings=2)
    result.stdout.fnmatch_lines(
        [
            "*test_gates.py:6: DatasizeWarning: *100,000*",
            '*@datasize.requires(images_per_class=100_000, level="warning")',
            "::warning file=*title=Target out of reach::*",
            "No gate failed: 1 met, 2 gates would fail (level=warning)",
        ]
    )
    assert "::error" not in result.stdout.str()
    records = json.loads((gates.path / "out.json").read_text())["requirements"]
    [advice] = [one for one in records if one["target"] == 0.999]
    assert advice["verdict"] in ("insufficient", "unreachable")
    assert advice["failed"] is False
    assert advice["settings"]["level"] == "warning"


def test_warnings_that_are_errors_do_not_make_it_red(gates):
    gates.runpytest_subprocess("-W", "error").assert_outcomes(passed=3)


def test_a_filter_of_the_users_own_module_applies(gates):
    here = "default", "error::pytest_datasize.DatasizeWarning:test_gates"
    result = gates.runpytest("-W", here[0], "-W", here[1])
    result.assert_outcomes(passed=3)
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()


def test_the_command_line_makes_all_gates_law(gates):
    result = gates.runpytest_subprocess("--datasize-level=error")
    result.assert_outcomes(passed=1, failed=2)
    assert "would fail" not in result.stdout.str()


def test_the_settings_file_sets_it_for_all_gates(gates):
    gates.makepyfile(test_gates=GATES.replace(', level="warning"', ""))
    (gates.path / "datasize.yaml").write_text("defaults:\n  level: warning\n")
    gates.runpytest_subprocess().assert_outcomes(passed=3)


def test_another_level_is_refused(gates):
    gates.makepyfile(test_gates=GATES.replace('"warning"', '"warn"'))
    result = gates.runpytest_subprocess()
    result.stdout.fnmatch_lines(["*level='warn' is not allowed*warning*"])
    result.assert_outcomes(errors=1)


def test_warnings_of_others_that_a_filter_lets_through_stay_warnings(repository):
    """The plugin hands them on; applied twice, a filter by module would make them errors."""
    repository.makepyfile(
        noisy="""
        import warnings
        import numpy as np

        def train(train, test, *, seed, device):
            warnings.warn("this is fine")
            return np.zeros(len(test), dtype=int)
        """
    )
    repository.makepyfile(
        """
        from pytest_datasize import datasize

        @datasize.requires(accuracy=0.1, trainer="noisy:train", sizes=[10, 20, 40], repeats=2)
        def test_it(): ...
        """
    )
    arguments = ("-W", "error", "-W", "default::UserWarning:noisy")
    result = repository.runpytest(*arguments, "-p", "no:xdist")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*noisy.py:5: UserWarning: this is fine*"])
