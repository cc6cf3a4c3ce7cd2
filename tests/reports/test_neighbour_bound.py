"""The bound beside the ceiling: the best of all models that were tried, and what it says."""

from dataclasses import replace

import pytest

from pytest_datasize.curve.advice.bayes_error import DOUBLINGS, cover_hart
from pytest_datasize.curve.verdict import SliceName
from pytest_datasize.reports.records.neighbour_bound import neighbour_bound


def having(result, side, error, drop=0.0, spread=0.001):
    """A result whose nearest neighbours have an error in one form of its embedding."""
    one = {"space": "last layer", "error": error, "worth": 4000.0, "drop": drop}
    one |= {"drop_low": drop - spread, "drop_high": drop + spread}
    counts = {"asked": 4000, "among": 4000, "images": 9000}
    found = {**counts, "errors": {"accuracy": [one]}}
    return replace(result, image_size=side, findings={**result.findings, "neighbour_errors": found})


def judged(result, target, metric="accuracy"):
    return result.verdict(**{metric: target}).judgements[0]


def test_the_embedding_with_the_smallest_error_counts(odd_result):
    small, large = having(odd_result, 96, 0.3), having(odd_result, 224, 0.2)
    target = judged(odd_result, 0.95)
    found = neighbour_bound(target, [small, large])
    assert found["space"] == {"space": "last layer", "image_size": 224, "error": 0.2}
    assert [one["image_size"] for one in found["spaces"]] == [96, 224]
    assert found["allowed"] == 1 - cover_hart(0.2, 3)
    alone = neighbour_bound(target, [large])
    assert alone["allowed"] == found["allowed"]
    assert (
        found["allowed_low"] < alone["allowed_low"] < alone["allowed_high"] < found["allowed_high"]
    )


def test_what_it_says_depends_on_target_score_and_fall(odd_result):
    score = judged(odd_result, 0.9).score
    assert 0.5 < score < 0.95

    def says(target, **given):
        return neighbour_bound(judged(odd_result, target), [having(odd_result, 96, **given)])[
            "says"
        ]

    error = 0.9 * (1 - score)
    assert says(0.99, error=error) == "agrees"
    assert says(round(score, 3), error=error) == "allows"
    assert says(0.99, error=error, drop=1.5 * error / DOUBLINGS) == "falling"
    assert says(0.99, error=error, drop=1.5 * error / DOUBLINGS, spread=error) == "allows"
    assert says(0.99, error=0.65) == "nothing"


@pytest.mark.parametrize("metric", ["f1_macro", "auc", "recall_per_class", "balanced_accuracy"])
def test_metrics_without_such_an_error_have_no_bound(odd_result, metric):
    assert neighbour_bound(judged(odd_result, 0.9, metric), [having(odd_result, 96, 0.2)]) is None


def test_evidence_of_earlier_versions_and_without_embeddings_has_no_bound(odd_result):
    target = judged(odd_result, 0.9)
    without = {k: v for k, v in odd_result.findings.items() if k != "neighbour_errors"}
    for findings in ({}, without, {**without, "neighbour_errors": None}):
        assert neighbour_bound(target, [replace(odd_result, findings=findings)]) is None
    assert neighbour_bound(target, []) is None


def test_a_slice_has_no_bound(odd_result):
    """What neighbours allow for all images says nothing about those of one site."""
    of_slice = replace(judged(odd_result, 0.95), slice=SliceName("site", "B"))
    assert neighbour_bound(of_slice, [having(odd_result, 96, 0.2)]) is None
