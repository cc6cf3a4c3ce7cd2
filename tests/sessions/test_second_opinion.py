"""The score that nearest neighbours allow, in sessions on images whose best score is known."""

import html
import json
import re

import jsonschema
import pytest

from pytest_datasize.reports.records.result_file import schema

CONFTEST = """
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

def digits(wrong):
    found = load_digits()
    images, labels = (found.images * 15.9).astype(np.uint8)[:1200], found.target[:1200]
    generator = np.random.default_rng(0)
    other = (labels + generator.integers(1, 10, len(labels))) % 10
    return images, np.where(generator.random(len(labels)) < wrong, other, labels)

def corners():
    # bright or dark on either side: a class is where both sides are alike, which no line divides
    generator = np.random.default_rng(0)
    sides = generator.integers(0, 2, (400, 2))
    images = np.repeat(np.where(sides, 0.7, 0.3)[:, None, :], 16, axis=1).repeat(8, axis=2)
    images = images + 0.05 * generator.standard_normal(images.shape)
    return (np.clip(images, 0, 1) * 255).astype(np.uint8), (sides[:, 0] == sides[:, 1]).astype(int)

def frames(noise):
    generator = np.random.default_rng(0)
    patients = generator.uniform(0.1, 0.9, (80, 8, 8)).repeat(2, axis=1).repeat(2, axis=2)
    images = np.concatenate([patients * light for light in (1.0, 0.97, 0.94, 0.91)])
    images = images + noise * generator.standard_normal(images.shape)
    labels = np.tile(generator.integers(0, 2, 80), 4)
    return (np.clip(images, 0, 1) * 255).astype(np.uint8), labels

@pytest.fixture(scope="session")
def datasize_backbone():
    return torch.nn.Sequential(torch.nn.AvgPool2d(2), torch.nn.Flatten())
"""

GATE = """
import pytest
from conftest import corners, digits, frames
from pytest_datasize import datasize

@pytest.fixture
def datasize_dataset():
    return {images}

@datasize.requires({targets})
def test_gate(): ...
"""


@pytest.fixture
def judged(pytester):
    """Run a gate with images and targets; return what was printed, its records and its page."""
    pytester.makeconftest(CONFTEST)
    pytester.makeini(
        "[pytest]\naddopts = -p no:cacheprovider\nfilterwarnings = error\n"
        "datasize_image_size = 16\ndatasize_repeats = 3\ndatasize_sizes = 0.1,0.3,1.0\n"
        "datasize_device = cpu\ndatasize_strategy = feature_extraction\n"
    )

    def run(images, targets, *options):
        pytester.makepyfile(GATE.format(images=images, targets=targets))
        written = ("--datasize-json=a.json", "--datasize-html=a.html", "--datasize-markdown=a.md")
        result = pytester.runpytest(*written, *options)
        content = json.loads((pytester.path / "a.json").read_text())
        jsonschema.validate(content, schema())
        page, table = (
            html.unescape((pytester.path / name).read_text(encoding="utf-8")).replace("\\", "")
            for name in ("a.html", "a.md")
        )
        shown = re.sub(r"\n {4,}", " ", result.stdout.str())
        return shown, content["requirements"], re.sub(r"\s+", " ", page), table

    return run


def test_a_fifth_of_wrong_labels_is_what_limits_the_score(judged):
    shown, [record], page, table = judged("digits(wrong=0.2)", "accuracy=0.97")
    assert record["verdict"] == "unreachable"
    found = record["neighbour_bound"]
    assert found["says"] == "agrees"
    assert found["allowed_low"] <= found["allowed"] <= found["allowed_high"]
    assert 1 - found["error_high"] <= 0.8 <= found["allowed_high"]
    assert found["allowed"] == pytest.approx(0.8, abs=0.04)
    assert found["space"] in found["spaces"]
    said = f"at most {found['allowed']:.3f} ("
    reason = "More images will not help; the labels, the images or the backbone are the limit"
    for text in (shown, page, table):
        assert said in text
        assert reason in text
    assert "of 1,200 images have a nearest neighbour with another label" in page


def test_clean_images_that_a_linear_head_cannot_divide_may_be_divided_by_another(judged):
    shown, [record], page, table = judged("corners()", "accuracy=0.9")
    assert record["verdict"] in ("unreachable", "insufficient")
    assert record["score_at_available"] < 0.7
    found = record["neighbour_bound"]
    assert found["says"] == "allows"
    assert found["allowed"] > 0.98
    assert "up to 1.000 (" in page
    assert "up to 1.000 (" in table
    if record["verdict"] == "unreachable":
        assert "Another model or fine-tuning may reach the target" in shown


def test_other_metrics_and_met_targets_say_nothing_in_the_terminal(judged):
    shown, records, page, _ = judged(
        "digits(wrong=0)",
        "accuracy=0.8, balanced_accuracy=0.8, f1_micro=0.8, f1_macro=0.8, auc=0.8",
    )
    by_metric = {record["metric"]: record["neighbour_bound"] for record in records}
    assert by_metric["f1_macro"] is by_metric["auc"] is None
    assert by_metric["f1_micro"] == by_metric["accuracy"]
    assert by_metric["balanced_accuracy"]["allowed"] > 0.97
    assert "nearest neighbours" not in shown
    assert page.count("by nearest neighbours in this embedding") == 3


@pytest.mark.parametrize(
    ("images", "group"),
    [("frames(0.01)", ", group=list(range(80)) * 4"), ("frames(0)", "")],
    ids=["frames of a patient", "near-copies"],
)
def test_images_of_a_group_and_near_copies_are_no_neighbours(judged, images, group):
    """Four images each of 80 patients, whose class is no more than chance."""
    _, [record], _, _ = judged(images, f"accuracy=0.9{group}")
    found = record["neighbour_bound"]
    assert found["images"] == 320  # other pixels: they are no exact copies
    assert found["error"] == pytest.approx(0.5, abs=0.15)
    assert found["allowed_high"] < 0.9


def test_without_an_embedding_there_is_no_opinion(judged):
    shown, [record], page, _ = judged(
        "corners()", "accuracy=0.9", "--datasize-strategy=from_scratch", "--datasize-sizes=20,40,80"
    )
    assert record["neighbour_bound"] is None
    assert "nearest neighbours" not in shown + page
