"""The same number everywhere: in the record, in the terminal, in Markdown and in HTML."""

import html
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import Terminal

from pytest_datasize import Study
from pytest_datasize.curve.counts import count
from pytest_datasize.reports.formats import html_page, markdown
from pytest_datasize.reports.records import result_file
from pytest_datasize.reports.records.record import records
from pytest_datasize.reports.wording import explain

PRICE = 2.0
TARGETS = (0.3, 0.5, 0.57, 0.6, 0.62, 0.64, 0.66, 0.7, 0.8, 0.95, 0.9999)
METRICS = ("accuracy", "recall_per_class", "balanced_accuracy", "auc")


@pytest.fixture(scope="module")
def noisy_result():
    """Evidence over three classes of which a third of the labels are wrong: 0.67 at best."""
    generator = np.random.default_rng(0)
    kinds = np.arange(600) % 3
    clean = np.linspace(0.3, 0.7, 3)[kinds][:, None, None] * np.ones((600, 16, 16))
    images = np.clip(clean + 0.3 * generator.standard_normal(clean.shape), 0, 1)
    wrong = generator.random(600) < 1 / 3
    labels = np.where(wrong, (kinds + generator.integers(1, 3, 600)) % 3, kinds)
    backbone = torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.Flatten())
    pixels = (images * 255).astype(np.uint8)
    return Study((pixels, labels), backbone=backbone, image_size=16, device="cpu").run()


@pytest.fixture(scope="module", params=["held out", "own test set", "few images held out"])
def judged(noisy_result, request):
    """Records of many targets, with every way of holding images out."""
    changed = {
        "held out": {},
        "own test set": {"own_test": True},
        "few images held out": {"n_test": 20_000},
    }[request.param]
    result = replace(noisy_result, **changed)
    found = []
    asked = [*((metric, None) for metric in METRICS), ("accuracy", 0.9)]
    for metric, confidence in asked:
        for target in TARGETS:
            verdict = result.verdict(confidence, **{metric: target})
            made = records(verdict, result, PRICE, 100.0)
            number = len(found)
            found += [{**one, "nodeid": f"test_{number}", "settings": {}} for one in made]
    return found


def test_parts_add_up_and_intervals_hold_their_points(judged):
    verdicts = {record["verdict"] for record in judged}
    assert verdicts == {"sufficient", "undecided", "insufficient", "unreachable"}
    for record in judged:
        found, training = record["derived"]["data_set"], record["derived"]["missing"]
        assert found["images"] >= record["available"]
        if found["required"] is None:
            assert found["missing"] is None
            assert training is None
            continue
        assert found["missing"] == max(found["required"] - found["images"], 0)
        assert training["images"] == max(record["required"] - record["available"], 0)
        assert (found["missing"] > 0) == (training["images"] > 0)
        for numbers in (
            [found[f"required{end}"] for end in ("_low", "", "_high")],
            [found[f"missing{end}"] for end in ("_low", "", "_high")],
        ):
            known = [math.inf if number is None else number for number in numbers]
            assert known == sorted(known)
        for name in ("score_at_available", "ceiling"):
            assert record[f"{name}_low"] <= record[name] <= record[f"{name}_high"]
        assert record["score_sure"] <= record["score_at_available"]


def test_money_is_images_times_prices(judged):
    for record in judged:
        money, found = record["advice"]["money"], record["derived"]["data_set"]
        assert money["price"] == PRICE
        missing = found["missing"]
        assert money["shortfall"] == (None if missing is None else missing * PRICE)
        assert money["buys"]["images"] * PRICE <= 100.0
        spent = money["bought_by_class"]
        if spent:
            assert spent["total"] == sum(spent["images"].values())
            assert spent["cost"] <= 100.0
        plan = record["advice"]["collection"]
        if plan:
            assert sum(plan["images"].values()) == plan["total"] <= missing
            assert plan["score"] > plan["proportional"]
            assert record["metric"] in ("recall_per_class", "balanced_accuracy")


def test_the_score_that_a_budget_buys_has_the_sign_of_its_metric(noisy_result):
    for metric, target in (("log_loss", 0.8), ("accuracy", 0.6)):
        [record] = records(noisy_result.verdict(**{metric: target}), noisy_result, PRICE, 180.0)
        bought = record["advice"]["money"]["buys"]
        [step] = [one for one in record["advice"]["steps"] if one["more"] == 90]
        assert bought["images"] == 90
        assert 0 < bought["score_low"] < bought["score"] < bought["score_high"]
        for name in ("score", "score_low", "score_high", "probability"):
            assert bought[name] == step[name]


def test_every_report_has_the_same_words_and_numbers(judged):
    run = result_file.content(judged, 1, Path(__file__).parent)
    page = re.sub(r"\s+", " ", html.unescape(html_page.draw(run)))
    table = html.unescape(markdown.draw(run)).replace("\\", "")
    text = Terminal(120).shown(judged)
    for record in judged:
        needed = explain.needed_briefly(record)
        assert f">{needed}</td>" in page
        assert f" {needed} |" in table
        assert text.count(needed) >= 1
        if record["failed"]:
            said = explain.needed(record)
            assert said in page
            assert said in table
            assert said.split(" (")[0] in re.sub(r"\n +", " ", text)


def test_what_cannot_be_told_has_no_number(judged):
    seen = 0
    for record in judged:
        found = record["derived"]["data_set"]
        words = [explain.needed(record), explain.needed_briefly(record), record["message"]]
        if record["verdict"] == "insufficient" and not record["tellable"]:
            seen += 1
            low = found["missing_low"]
            allowed = {count(low)} if low and low <= 100 * found["images"] else set()
            for said in words[:2]:
                assert set(re.findall(r"\d[\d,]*", said)) <= allowed
        if record["verdict"] == "unreachable":
            assert not re.search(r"\d", words[0] + words[1])
    assert seen


def test_numbers_of_images_have_two_digits(judged):
    for record in judged:
        if record["verdict"] == "sufficient":
            continue  # the number of today's images is exact
        for number in re.findall(r"(?<![\d.])\d[\d,]*(?![\d.%])", explain.needed(record)):
            digits = number.replace(",", "")
            assert len(digits) <= 2 or not digits[2:].strip("0"), explain.needed(record)


def test_a_number_below_the_smallest_measured_size_is_not_told_as_known(noisy_result):
    verdict = noisy_result.verdict(None, accuracy=0.3)
    [made] = records(verdict, noisy_result)
    record = {**made, "nodeid": "test_low", "settings": {}}
    assert record["required"] < record["sizes"][0]  # the file says what the curve says
    smallest = noisy_result.held_out.data_set(record["sizes"][0])
    known = f"at most {count(smallest)} of 600"
    run = result_file.content([record], 0, Path(__file__).parent)
    for text in (Terminal(verbosity=1).shown([record]), markdown.draw(run), html_page.draw(run)):
        assert known in text
    said = f"at most {count(smallest)} images are enough, the smallest size measured"
    assert said in explain.needed(record)
    details = "\n".join(explain.details(record))
    assert f"required to train on: at most {record['sizes'][0]} images" in details
