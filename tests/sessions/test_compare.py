"""Strategies side by side, in one table of the report."""

import json
import math
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from pytest_datasize.curve.held_out import HeldOut
from pytest_datasize.curve.learning_curve import LearningCurve
from pytest_datasize.reports.formats import html_page
from pytest_datasize.reports.records import result_file
from pytest_datasize.reports.records.comparison import comparison_record
from pytest_datasize.reports.records.result_file import digest_of, schema
from pytest_datasize.study.compare import Comparison

GATE = "from pytest_datasize import datasize\nimport pytest, torch\n"
BACKBONE = """
@pytest.fixture(scope="session")
def datasize_backbone():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3, stride=2), torch.nn.ReLU()),
        torch.nn.Sequential(torch.nn.Conv2d(6, 6, 3, stride=2), torch.nn.ReLU()),
        torch.nn.AdaptiveAvgPool2d((1, 3)), torch.nn.Flatten(),
    )
"""


@pytest.mark.parametrize("workers", ["0", "1"])
def test_the_report_has_the_table(repository, workers):
    repository.makepyfile(
        GATE
        + BACKBONE
        + """
def test_compare(datasize_compare):
    found = datasize_compare(
        strategies=["feature_extraction", "feature_extraction+augment", "fine_tuning"],
        target=0.8, sizes=[10, 30, 90], repeats=2,
    )
    assert [row.name for row in found.rows][1:] == ["feature_extraction+augment", "fine_tuning"]
    assert found.fewest is None or found.fewest in found.results
    assert found.available == 96

def test_wrong(datasize_compare):
    datasize_compare(strategies=["fine_tunning"], target=0.8)

@pytest.mark.parametrize("strategy", ["feature_extraction", "fine_tuning"])
@pytest.mark.parametrize("augment", [False, True])
def test_by_parametrising(datasize_study, strategy, augment):
    if not augment:
        result = datasize_study(strategy=strategy, augment=augment, sizes=[10, 30, 90], repeats=2)
        assert result.run().strategy == strategy
"""
    )
    arguments = [] if workers == "0" else ["-n", workers]
    paths = {name: repository.path / f"out.{name}" for name in ("json", "html", "markdown")}
    arguments += [f"--datasize-{name}={path}" for name, path in paths.items()]
    result = repository.runpytest(*arguments)
    run = json.loads(paths["json"].read_text())
    jsonschema.validate(run, schema())
    assert run["digest"] == digest_of(run)
    assert run["digest"] in paths["html"].read_text().replace("<wbr>", "")
    [compared] = run["comparisons"]
    assert [one["name"] for one in compared["strategies"]] == [
        "feature_extraction",
        "feature_extraction+augment",
        "fine_tuning",
    ]
    for path in (paths["html"], paths["markdown"]):
        text = path.read_text().replace("&#95;", "_")
        assert "Strategies compared" in text
        for one in compared["strategies"]:
            assert f"{one['score']:.3f} ({one['score_low']:.3f} to" in text
    result.assert_outcomes(passed=5, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*did you mean 'fine_tuning'?*",
            "*= strategies compared =*",
            "*test_compare: accuracy with 120 images of *",
            "strategy * now * images for 0.8 * best * seconds * lost with 50% * lost with 13%",
            "feature_extraction *",
            "feature_extraction+augment *",
            "fine_tuning *",
            "feature_extraction+augment scores what feature_extraction reaches *",
            "fine_tuning scores what feature_extraction reaches *",
        ]
    )


class Evidence:
    """A study whose curve is known."""

    def __init__(self, shift: float) -> None:
        sizes = np.array([50, 100, 200, 400, 800, 1600])
        scores = 0.95 - 2.0 * (sizes * shift) ** -0.5
        self.curves = {"accuracy": LearningCurve.fit(sizes.tolist(), [[s] * 5 for s in scores])}
        self.timings = {"fit": 1.0}
        self.held_out = HeldOut()
        self.unit = "image"


def test_what_a_strategy_is_worth_in_images():
    """A curve shifted along the axis by 1.5 is worth 1.5 times the data."""
    known = {"feature_extraction": Evidence(1.0), "feature_extraction+augment": Evidence(1.5)}
    found = Comparison("accuracy", 0.9, 1600, "known curves", known)
    [worth] = found.worth
    assert worth.low < 1.5 < worth.high
    assert worth.times == pytest.approx(1.5, rel=0.1)
    plain, augmented = found.rows
    assert plain.required == pytest.approx(1.5 * augmented.required, rel=0.1)
    assert found.fewest == "feature_extraction+augment"
    assert plain.lost[0] == 0
    # 0.95 - 2 / sqrt(n) at 1,600, 800 and 208 images
    assert plain.lost[1:] == pytest.approx((0.0207, 0.0887), abs=0.005)
    assert "with 1.5 times the images" in str(found)


def test_a_comparison_counts_what_its_studies_count():
    known = {"first": Evidence(0.5), "second": Evidence(1.0)}
    for one in known.values():
        one.unit = "group"
    found = Comparison("accuracy", 0.9, 1600, "known curves", known)
    assert str(replace(found.worth[0], times=math.inf)) == (
        "second scores what first reaches with no number of groups"
    )
    record = comparison_record(found, "test_a.py::test_a")
    page = html_page.draw({**result_file.content([], 0, Path.cwd()), "comparisons": [record]})
    assert "1,600 groups of known curves" in page
    assert ">Groups needed</th>" in page
    assert "images" not in page.split("Strategies compared")[1].split("</article>")[0]
