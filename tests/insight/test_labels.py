"""Planted wrong labels are found, and reports show them."""

import dataclasses
import json
import re

import numpy as np

from pytest_datasize.curve.advice.labels import HeldOut, suspects
from pytest_datasize.reports.records.record import records
from pytest_datasize.study.result_json import from_json, to_json


def test_planted_flips_are_found(flipped):
    result, _, given, wrong = flipped
    found = result.findings["labels"]
    assert found["judged"] == len(given)
    listed = {int(re.search(r"\d+", one["image"])[0]) for one in found["suspects"]}
    recall, precision = len(listed & wrong) / len(wrong), len(listed & wrong) / len(listed)
    assert recall >= 0.6
    assert precision >= 0.6
    assert all(one["label"] != one["likely"] for one in found["suspects"])
    assert found["suspects"][0]["picture"].startswith("data:image/jpeg;base64,")


def test_clean_predictions_raise_no_suspicion():
    labels = np.arange(40) % 2
    p = np.where(labels[:, None] == [0, 1], 0.9, 0.1)
    assert suspects(labels, HeldOut(p, np.zeros(40))) == []


def test_what_is_contradicted_only_now_and_then_is_no_suspect():
    p = np.array([[0.9, 0.1], [0.1, 0.9], [0.4, 0.6]] * 4)
    labels = np.array([0, 1, 0] * 4)
    assert suspects(labels, HeldOut(p, np.full(12, 0.5))) == []


def test_findings_survive_the_store_and_advice_needs_no_training(flipped):
    result = flipped[0]
    again = from_json(json.loads(json.dumps(to_json(result))))
    assert again.findings == result.findings
    [one] = records(result.verdict(recall_per_class=0.97), result, 0.5, 100.0)
    [other] = records(again.verdict(recall_per_class=0.97), again, 0.5, 100.0)
    assert one["advice"] == other["advice"]
    money = one["advice"]["money"]
    assert money["buys"]["images"] == 200
    assert money["buys"]["score_low"] <= money["buys"]["score"] <= money["buys"]["score_high"]


def test_evidence_without_findings_gives_no_advice(flipped):
    bare = dataclasses.replace(flipped[0], findings={})
    [one] = records(bare.verdict(accuracy=0.9), bare)
    assert one["advice"] is None
