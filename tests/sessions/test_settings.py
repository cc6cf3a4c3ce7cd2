"""Layers of settings and modes in real sessions."""

import json
import re

import pytest
from support import shapes, write_folder

from pytest_datasize.requirement.options import OPTIONS
from pytest_datasize.store import Store

GATE = "from pytest_datasize import datasize\nimport pytest\n"
IT = GATE + "@datasize.requires(accuracy=0.6)\ndef test_it(datasize_result): ...\n"


def seeds(repository, *arguments: str) -> list[int]:
    result = repository.runpytest("--datasize-json=out.json", *arguments)
    assert result.ret == 0
    content = json.loads((repository.path / "out.json").read_text())
    return [record["seed"] for record in content["requirements"]]


def test_marker_over_command_line_over_yaml_over_ini_over_default(repository):
    repository.makepyfile(IT)
    assert seeds(repository) == [0]
    ini = repository.path / "tox.ini"
    ini.write_text(ini.read_text() + "\ndatasize_seed = 1\n")
    assert seeds(repository) == [1]
    (repository.path / "datasize.yaml").write_text("defaults: {seed: 2}\n")
    assert seeds(repository) == [2]
    assert seeds(repository, "--datasize-seed=3") == [3]
    repository.makepyfile(IT.replace("accuracy=0.6", "accuracy=0.6, seed=4"))
    assert seeds(repository, "--datasize-seed=3") == [4]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--datasize-repeats=many"], "--datasize-repeats: repeats='many' is not allowed"),
        (["--datasize-sampling=balance"], "did you mean 'balanced'?"),
        (["--datasize=walk"], "invalid choice: 'walk'"),
        (["--datasize-repeat=5"], "--datasize-repeat; did you mean '--datasize-repeats'?"),
        (["-o", "datasize_sede=5"], "unknown option 'datasize_sede'; did you mean 'datasize_seed'"),
        (["-o", "datasize_repeats=1"], "ini file: datasize_repeats: repeats=1 is not allowed"),
        (["--datasize-json=/proc/nope/out.json"], "cannot be written"),
    ],
)
def test_a_wrong_option_is_a_usage_error(repository, arguments, says):
    repository.makepyfile(IT)
    result = repository.runpytest(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert says in result.stderr.str()


def test_help_shows_every_option_once_the_common_ones_first(repository):
    result = repository.runpytest("--datasize-help")
    assert result.ret == 0
    text = result.stdout.str()
    flags = re.findall(r"^  (--datasize[a-z-]*)", text, re.MULTILINE)
    assert len(flags) == len(set(flags))
    assert {f"--datasize-{name.replace('_', '-')}" for name in OPTIONS} < set(flags)
    common, advanced = text.split("advanced (pytest-datasize)")
    assert "--datasize-dataset " in common
    assert "--datasize-trusted-range " in advanced
    usual = repository.runpytest("--help").stdout.str()
    assert all(f"{flag}" in usual for flag in flags)


def test_options_of_a_conftest_may_begin_like_ours(repository):
    conftest = (repository.path / "conftest.py").read_text()
    repository.makeconftest(
        f"{conftest}\ndef pytest_addoption(parser): parser.addoption('--datasize-mine')\n"
    )
    repository.makepyfile(
        "def test_it(pytestconfig): assert pytestconfig.getoption('--datasize-mine') == '1'\n"
    )
    repository.runpytest("--datasize-mine=1").assert_outcomes(passed=1)


@pytest.mark.parametrize("workers", [[], ["-n1"]])
def test_an_unknown_yaml_key_stops_the_gate_by_name(repository, workers):
    repository.makepyfile(IT)
    (repository.path / "datasize.yaml").write_text("defaults: {repets: 3}\n")
    result = repository.runpytest("test_an_unknown_yaml_key_stops_the_gate_by_name.py", *workers)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*datasize.yaml: defaults: unknown key 'repets'; did you mean*"])


def test_datasets_by_name_and_paths_from_the_root(repository, shape_folder):
    (repository.path / "images").symlink_to(shape_folder)
    (repository.path / "datasize.yaml").write_text("datasets: {parts: images}\n")
    repository.makepyfile(
        GATE
        + """
@pytest.mark.parametrize("n", [1])
@datasize.requires(accuracy=0.6, dataset="parts")
def test_name(n, datasize_result): assert datasize_result.source.endswith("/images")

@datasize.requires(accuracy=0.6, dataset="images")
def test_path(datasize_result): assert datasize_result.total == 120
"""
    )
    folder = repository.mkdir("elsewhere")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = repository.runpytest("--rootdir", repository.path, repository.path)
    result.assert_outcomes(passed=2)


def test_yaml_gates_need_no_python(repository):
    (repository.path / "datasize.yaml").write_text(
        "requirements:\n"
        "  - name: good enough\n    accuracy: 0.6\n"
        "  - name: too good\n    recall_per_class: 0.999\n"
    )
    result = repository.runpytest("datasize.yaml", "-v")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["datasize.yaml::good enough PASSED*", "datasize.yaml::too good FAILED*"]
    )
    result.stdout.fnmatch_lines(["*_ too good _*", "recall of * 0.999 *"])
    repository.runpytest("-k", "good and enough").assert_outcomes(passed=1, deselected=1)
    repository.runpytest("-n1", "-m", "datasize").assert_outcomes(passed=1, failed=1)


def test_a_wrong_yaml_gate_is_a_collection_error(repository):
    (repository.path / "datasize.yaml").write_text("requirements:\n  - {accuracy: 2}\n")
    result = repository.runpytest("datasize.yaml")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*datasize.yaml:2: requirement 1: accuracy=2 is not allowed*"])


def test_plan_tells_the_cost_and_trains_nothing(repository):
    repository.makepyfile(IT)
    result = repository.runpytest("--datasize=plan", "--datasize-store=kept")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        [
            "*::test_it: accuracy 0.6",
            "*images * 120 from folder * (left 60, right 60)",
            "*split * 96 to train on, 24 to test each repeat",
            "*trials * 32: sizes 10, *, 96, 4 repeats each",
            "*cost * about * s: 120 images forward once, 0 backward; * MiB kept",
        ]
    )
    with Store(repository.path / "kept") as store:
        assert store.all("evidence") == []
    repository.runpytest("--datasize-store=kept").assert_outcomes(passed=1)
    with Store(repository.path / "kept") as store:
        assert len(store.all("evidence")) == 1


def test_skip_skips_with_a_reason(repository):
    repository.makepyfile(IT)
    result = repository.runpytest("--datasize=skip", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*--datasize=skip*"])
    result.stdout.fnmatch_lines(["*::test_it: skipped: --datasize=skip"])


def test_a_confidence_that_cannot_be_given_is_undecided_and_fails(repository):
    repository.makepyfile(
        GATE
        + """
@datasize.requires(accuracy=0.6, confidence=0.9)
def test_sure(): ...

def test_border(datasize_study):
    result = datasize_study().run()
    border = result.curves["accuracy"].predict(result.available)
    verdict = result.verdict(accuracy=border, confidence=0.9)
    assert verdict.status == "undecided" and not verdict.passed
    assert "90 % is required" in verdict.message
"""
    )
    repository.runpytest().assert_outcomes(passed=2)


@pytest.mark.skipif(pytest.version_tuple < (9, 0), reason="the native table is new in pytest 9")
def test_typed_values_of_the_native_table(repository):
    (repository.path / "tox.ini").unlink()
    (repository.path / "pyproject.toml").write_text(
        "[tool.pytest]\n"
        'addopts = ["-p", "no:cacheprovider"]\n'
        "datasize_image_size = 24\n"
        "datasize_repeats = 4\n"
        "datasize_sizes = [10, 30, 81]\n"
        "datasize_test_fraction = 0.25\n"
        "datasize_augment = false\n"
        'datasize_checks = {few_per_class = "ignore"}\n'
        'datasize_second_look = "off"\n'
    )
    repository.makepyfile(
        """
        from pytest_datasize import datasize

        @datasize.requires(accuracy=0.3)
        def test_it(datasize_result):
            assert datasize_result.sizes == (10, 30, 81)
            assert (datasize_result.repeats, datasize_result.image_size) == (4, 24)
        """
    )
    repository.runpytest_subprocess().assert_outcomes(passed=1)
    text = (repository.path / "pyproject.toml").read_text()
    (repository.path / "pyproject.toml").write_text(text.replace("= 4", "= [4]"))
    result = repository.runpytest_subprocess()
    assert "datasize_repeats" in result.stderr.str()
    assert "Traceback" not in result.stderr.str()


def test_every_yaml_file_has_its_own_names(repository, tmp_path):
    """Two files may give the same name to different folders; neither leaks into the other."""
    for name, n in (("a", 60), ("sub/b", 90)):
        write_folder(repository.path / name, *shapes(n, seed=n))
    (repository.path / "datasize.yaml").write_text("datasets: {parts: a}\n")
    (repository.path / "sub" / "datasize.yaml").write_text(
        "datasets: {parts: b}\nrequirements:\n"
        "  - {name: named, accuracy: 0.55, dataset: parts}\n"
        "  - {name: by path, accuracy: 0.55, dataset: b}\n"
    )
    repository.makepyfile(
        GATE
        + "@datasize.requires(accuracy=0.55, dataset='parts')\n"
        + "def test_it(datasize_result): assert datasize_result.total == 60\n"
    )
    for arguments in ([], ["sub"]):
        result = repository.runpytest("--datasize-json=out.json", *arguments)
        content = json.loads((repository.path / "out.json").read_text())
        totals = {r["nodeid"].split("::")[1]: r["total"] for r in content["requirements"]}
        assert totals.pop("test_it", 60) == 60
        assert totals == {"named": 90, "by path": 90}
        assert result.ret == 0


def test_a_misspelt_name_of_a_data_set_gets_the_nearest(repository, shape_folder):
    (repository.path / "datasize.yaml").write_text(f"datasets: {{parts: {shape_folder}}}\n")
    repository.makepyfile(
        GATE + "@datasize.requires(accuracy=0.6, dataset='partz')\ndef test_it(): ...\n"
    )
    result = repository.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*'partz' is neither a folder * did you mean 'parts'? Names*"])


def test_a_confident_verdict_stops_early_and_says_so(repository):
    repository.makepyfile(
        GATE + "@datasize.requires(accuracy=0.52, confidence=0.8, repeats=10)\ndef test_it(): ...\n"
    )
    result = repository.runpytest("--datasize-json=out.json")
    result.assert_outcomes(passed=1)
    [record] = json.loads((repository.path / "out.json").read_text())["requirements"]
    assert record["n_trials"] == 4 * len(record["sizes"])
    assert record["n_trials_planned"] == 10 * len(record["sizes"])
    assert record["probability_sufficient"] >= 0.8


def test_collecting_only_leaves_an_earlier_result_alone(repository):
    repository.makepyfile(IT)
    repository.runpytest("--datasize-json=out.json")
    before = (repository.path / "out.json").read_text()
    repository.runpytest("--datasize-json=out.json", "--collect-only")
    assert (repository.path / "out.json").read_text() == before
    assert json.loads(before)["exit_status"] == 0
