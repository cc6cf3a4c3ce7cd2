"""What a session prints and writes."""

import json
import math

import jsonschema
import pytest
from support import shapes, write_folder

from pytest_datasize.reports.records.result_file import schema

GATE = "from pytest_datasize import datasize\nimport pytest\n"
TWO = (
    GATE
    + """
@datasize.requires(accuracy=0.6, recall_per_class=0.6)
def test_enough(): ...

@datasize.requires(accuracy=0.999)
def test_short(): ...
"""
)
FIELDS = {
    "nodeid",
    "metric",
    "target",
    "verdict",
    "required",
    "required_low",
    "required_high",
    "available",
    "total",
    "score_at_available",
    "score_at_available_low",
    "score_at_available_high",
    "ceiling",
    "ceiling_low",
    "ceiling_high",
    "probability_sufficient",
    "n_test",
    "sizes",
    "scores",
    "backbone",
    "strategy",
    "device",
    "seed",
    "timings",
}


def written(repository, *arguments: str):
    repository.runpytest("--datasize-json=out/result.json", *arguments)
    return json.loads((repository.path / "out" / "result.json").read_text())


def test_json_has_every_field_with_its_type(repository):
    repository.makepyfile(TWO)
    content = written(repository)
    assert content["schema"] == 3
    jsonschema.validate(content, schema())
    short, *enough = sorted(content["requirements"], key=lambda r: "enough" in r["nodeid"])
    for record in (short, *enough):
        assert set(record) >= FIELDS
        assert record["score_at_available_low"] <= record["score_at_available"]
        assert record["score_at_available"] <= record["score_at_available_high"]
        assert record["ceiling_low"] <= record["ceiling"] <= record["ceiling_high"]
        assert 0 <= record["probability_sufficient"] <= 1
        assert len(record["scores"]) == len(record["sizes"])
        assert set(record["timings"]) == {"decode_and_embed", "heads", "outcomes"}
        assert all(seconds >= 0 for seconds in record["timings"].values())
    assert [record["verdict"] for record in enough] == ["sufficient", "sufficient"]
    assert all(record["required"] <= record["available"] for record in enough)
    assert short["verdict"] in ("insufficient", "unreachable")
    assert short["required"] is None or short["required"] > short["available"]


def test_gates_that_were_not_judged_stand_in_the_json_too(repository):
    repository.makepyfile(
        GATE
        + """
@datasize.requires(accuracy=0.6, dataset="missing")
def test_broken(): ...

@pytest.fixture
def nothing(): pytest.skip("their own reason")

@datasize.requires(accuracy=0.6)
def test_skipped(nothing): ...
"""
    )
    content = written(repository)
    jsonschema.validate(content, schema())
    broken, skipped = content["requirements"]
    assert (broken["verdict"], skipped["verdict"]) == ("error", "skipped")
    assert "does not exist" in broken["message"]


def without_timings(content):
    for record in content["requirements"]:
        record.pop("timings", None)
    return content["requirements"]


@pytest.mark.slow
def test_the_same_numbers_again_in_parallel_and_in_another_order(repository):
    repository.makepyfile(test_a=TWO, test_b=TWO.replace("accuracy=0.6", "auc=0.6"))
    first = without_timings(written(repository, "test_a.py", "test_b.py"))
    assert len(first) == 6
    assert first == without_timings(written(repository, "test_a.py", "test_b.py"))
    assert first == without_timings(written(repository, "test_b.py", "test_a.py"))
    assert first == without_timings(written(repository, "-n2"))


def test_quiet_shows_failures_only_and_verbose_shows_sizes(repository):
    repository.makepyfile(TWO)
    quiet = repository.runpytest("-q").stdout.str()
    assert " sufficient" not in quiet
    assert "::test_short: unreachable: accuracy 0.999 is out of reach" in quiet
    verbose = repository.runpytest("-v")
    verbose.stdout.fnmatch_lines(["  accuracy by training size", "*10  0.* (0.*)"])
    verbose.stdout.fnmatch_lines(["*decode_and_embed *s, heads * s, outcomes * s; weights *"])
    repository.makepyfile(GATE + "@datasize.requires(accuracy=0.6)\ndef test_it(): ...\n")
    assert "image data sufficiency" not in repository.runpytest("-q").stdout.str()


def test_without_gates_nothing_is_printed(pytester):
    pytester.makepyfile("def test_it(): ...")
    assert "sufficiency" not in pytester.runpytest("-v").stdout.str()


def test_the_failure_is_in_the_junit_file(repository):
    repository.makepyfile(TWO)
    repository.runpytest("--junitxml=out.xml")
    text = (repository.path / "out.xml").read_text()
    assert 'failures="1"' in text
    assert 'message="Failed: accuracy 0.999' in text
    assert "with any number of images; now 0." in text


def test_names_from_the_data_cannot_write_to_the_terminal(repository, tmp_path):
    names = ("a\x1b[31m\nb", "right")
    folder = write_folder(tmp_path / "odd\x1b[32m", *shapes(120), names)
    repository.makepyfile(
        GATE
        + f"@datasize.requires(recall_per_class=0.999, dataset={str(folder)!r})\n"
        + "def test_it(): ...\n"
    )
    result = repository.runpytest("-v", "--color=no")
    result.assert_outcomes(failed=1)
    assert "\x1b" not in result.stdout.str()


def test_numbers_in_the_json_are_finite(repository):
    repository.makepyfile(TWO)

    def walk(value):
        if isinstance(value, dict):
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)
        elif isinstance(value, float):
            assert math.isfinite(value)

    walk(written(repository))


@pytest.mark.parametrize("live", [True, False])
def test_progress_is_a_live_line_or_lines(live):
    from types import SimpleNamespace
    from unittest.mock import MagicMock

    from pytest_datasize.plugin import progress

    shown = []
    reporter = SimpleNamespace(
        isatty=live,
        verbosity=0,
        ensure_newline=lambda: None,
        rewrite=lambda line, erase: shown.append(line),
        write_line=shown.append,
    )
    plugins = {"terminalreporter": reporter, "capturemanager": MagicMock()}
    config = SimpleNamespace(pluginmanager=SimpleNamespace(get_plugin=plugins.get))
    clock = iter(x * 2.0 for x in range(100))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress.time, "monotonic", lambda: next(clock))
        show = progress.Progress(config)
        for done in range(1, 9):
            show("embedding images", done, 8)
    assert shown[0] == (
        "datasize: embedding images 2 of 8, 1/s, 6 s left"
        if live
        else "datasize: embedding images 4 of 8, 1/s, 6 s left"
    )
    assert (shown[-1] == "") == live
    assert len(shown) == (7 if live else 2)


def test_names_that_are_not_utf8_reach_the_controller(repository, tmp_path):
    images, labels = shapes(120)
    folder = write_folder(tmp_path / "odd", images, labels, ("na\udcefve", "right"))
    repository.makepyfile(
        GATE
        + f"@datasize.requires(recall_per_class=0.999, dataset={str(folder)!r})\n"
        + "def test_it(): ...\n"
    )
    result = repository.runpytest("-n1", "--datasize-json=out.json")
    result.assert_outcomes(failed=1)
    [record] = json.loads((repository.path / "out.json").read_text())["requirements"]
    assert "na\\udcefve" in record["class_counts"]
