"""Slices in every report, with names of factors and values that break careless reports."""

import copy
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from support import ODD_NAMES, Terminal, shapes

from pytest_datasize import Study
from pytest_datasize.plugin.junit import properties
from pytest_datasize.reports.formats import html_page, markdown, openmetrics
from pytest_datasize.reports.records import result_file
from pytest_datasize.reports.records.baseline import change, key
from pytest_datasize.reports.records.record import records
from pytest_datasize.reports.wording import explain, slices_text


@pytest.fixture(scope="module")
def odd_result():
    """Evidence over two classes, and slices with the same odd names."""
    pixels, labels = shapes(200)
    parts = np.array(ODD_NAMES)[np.arange(200) // 2 % 3]
    parts[:10] = "few"
    return Study(
        (pixels, labels),
        backbone=torch.nn.Sequential(torch.nn.AvgPool2d((24, 6)), torch.nn.Flatten()),
        image_size=24,
        repeats=5,
        sizes=[20, 60, 160],
        device="cpu",
        slices={ODD_NAMES[1]: parts},
    ).run()


@pytest.fixture(scope="module")
def found(odd_result):
    """The records of a target of all images and one of every slice, of accuracy both."""
    verdict = odd_result.verdict(accuracy=0.9, min_slice={"accuracy": 0.97})
    place = {"nodeid": "tests/test_a.py::test_a", "settings": {"seed": 0}}
    return [{**record, **place} for record in records(verdict, odd_result)]


@pytest.fixture(scope="module")
def run(found):
    """A whole run of these."""
    return result_file.content(found, 1, Path(__file__).parent)


def test_the_run_keeps_the_published_schema(run):
    jsonschema.validate(run, result_file.schema())
    whole, worst = run["requirements"]
    assert whole["slice"] is None
    assert worst["slice"]["factor"] == ODD_NAMES[1]
    assert [row["decides"] for row in worst["slices"]].count(True) == 1
    few = next(row for row in worst["slices"] if row["value"] == "few")
    assert (few["n_test"], few["score"]) == (10, None)
    assert worst["n_test_distinct"] == worst["fit"]["n_test"] < whole["n_test_distinct"]


def test_odd_names_stay_text(run, found):
    page = html_page.draw(run)
    assert "<script>" not in page
    assert "(decides)" in page
    assert "Factors and classes" in page
    text = markdown.draw(run)
    assert "<script>" not in text
    assert "\n::error::" not in text
    assert "too small to judge" in text
    shown = Terminal(verbosity=1).shown(found)
    assert "\n::error::" not in shown
    assert "\x1b[31m\n" not in shown
    assert "are estimated together" in shown


def test_two_targets_of_one_metric_have_different_keys(run, found):
    whole, worst = found
    assert key(whole) != key(worst)
    assert change(worst, worst, None, None)["found"]
    names = [name for name, _ in properties(found)]
    assert len(names) == len(set(names))
    assert "datasize.min_slice.accuracy.verdict" in names
    lines = [line for line in openmetrics.draw(run).splitlines() if line.startswith("datasize_")]
    assert len({line.rpartition(" ")[0] for line in lines}) == len(lines)


def test_a_record_without_slices_says_nothing_of_them(found):
    plain = {name: value for name, value in found[0].items() if "slice" not in name}
    del plain["factors"]
    assert slices_text.summary(plain) == ""
    assert slices_text.lines(plain) == []


def test_the_slice_that_decides_comes_before_the_worst(found):
    row = max(slices_text.judged(found[1]), key=lambda row: row["score"])
    record = copy.deepcopy(found[1])
    for one in record["slices"]:
        one["decides"] = one["value"] == row["value"]
    worst = slices_text.judged(record)[0]
    said = slices_text.summary(record)
    assert said.startswith(f"{row['score']:.3f} (")
    assert f"in the slice that decides, {slices_text.name(row)}; lowest score " in said
    assert f"{worst['score']:.3f} (" in said
    assert f"), {slices_text.name(worst)}; " in said
    assert " in the worst slice, " in slices_text.summary(found[0])


def test_words_for_a_metric_of_which_less_is_better(odd_result):
    for goal in (0.01, 5.0):
        [record] = records(odd_result.verdict(min_slice={"log_loss": goal}), odd_result)
        rows = slices_text.judged(record)
        missed = 0 if goal == 5.0 else len(rows)
        said = slices_text.summary(record)
        assert f"{missed} of {len(rows)} slices above {goal:g}" in said
        assert rows[0]["score"] == max(row["score"] for row in rows)


def test_zero_has_no_sign(found):
    record = copy.deepcopy(found[1])
    record.update(ceiling=0.089, ceiling_low=-0.0, ceiling_high=0.516)
    assert explain.interval(record, "ceiling") == "0.089 (0.000 to 0.516)"
    for row in record["slices"]:
        row.update(measured=-0.0, score=-0.0001, score_low=-0.0, score_high=0.1)
    assert "-0.000" not in "\n".join(slices_text.lines(record) + explain.details(record))


def test_an_error_rate_is_written_in_points(found):
    record = copy.deepcopy(found[0])
    for bounds in ([0.0, 1.0], [-1.0, 0.0]):
        record["fit"]["bounds"] = bounds
        assert " points" in explain.test_set(record)
    record["fit"]["bounds"] = [None, 0.0]
    assert " points" not in explain.test_set(record)


def test_groups_are_the_unit_of_the_table_of_slices(run):
    counted = copy.deepcopy(run)
    for record in counted["requirements"]:
        record["unit"] = "group"
        assert slices_text.header(record)[-1] == "groups needed"
        assert "today's groups are enough" in slices_text.lines(record)[0]
    page = html_page.draw(counted)
    assert ">Groups needed</th>" in page
    assert "Groups needed: in all" in page
