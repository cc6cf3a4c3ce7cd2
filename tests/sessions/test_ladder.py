"""strategy="auto": the cheapest model that meets the targets is judged, and a red gate says why."""

import json
import re
import shutil
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from support import stages

from pytest_datasize import Study
from pytest_datasize.reports.wording.models_text import how_to_reach_it
from pytest_datasize.study import ladder, second_look
from pytest_datasize.study.ladder import Ladder
from pytest_datasize.trials import cost, parameters
from pytest_datasize.trials.recipe import FINE_TUNING
from pytest_datasize.trials.strategies import fine_tuning

NET = """
import pytest, timm, torch
from support import stages, stripes

@pytest.fixture(scope="session")
def datasize_dataset():
    return stripes(160)

@pytest.fixture(scope="session")
def datasize_backbone():
    return stages(normed=False, cells=(1, 1))
"""

INI = """
[pytest]
addopts =
filterwarnings = error
datasize_image_size = 32
datasize_unfreeze = 3
datasize_repeats = 4
datasize_device = cpu
"""


@pytest.fixture
def striped(pytester, monkeypatch):
    """A repository whose images a frozen backbone cannot tell apart, but a trained one can.

    A short recipe is enough for them; the default one has tests in tests/unit/test_strategies.py.
    """
    short = replace(FINE_TUNING, cycles=2, least_steps=60)
    for module in (cost, fine_tuning, parameters):
        monkeypatch.setattr(module, "FINE_TUNING", short)
    pytester.makeconftest(NET)
    pytester.makeini(INI)
    return pytester


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store for the tests that need the same models: they are trained once."""
    return f"--datasize-store={tmp_path_factory.mktemp('store')}"


def gate(pytester, target, *arguments):
    """Run one gate; return pytest's result and the record."""
    pytester.makepyfile(
        test_gate=f"""
        from pytest_datasize import datasize

        @datasize.requires({target})
        def test_gate(): ...
        """
    )
    result = pytester.runpytest("--datasize-json=r.json", *arguments)
    [record] = json.loads((pytester.path / "r.json").read_text())["requirements"]
    return result, record


def test_a_target_that_the_cheapest_model_meets_trains_no_other(striped):
    result, record = gate(striped, "accuracy=0.7")
    result.assert_outcomes(passed=1)
    [model] = record["models"]
    assert (model["name"], model["judged"], model["verdict"]) == ("full input", True, "sufficient")
    assert record["strategy"] == "feature_extraction"
    assert record["levers"] == []


def test_images_that_suffice_with_better_training_pass(striped, store):
    result, record = gate(striped, "accuracy=0.93", store)
    result.assert_outcomes(passed=1)
    head, look = record["models"]
    assert not head["judged"]
    assert head["verdict"] == "insufficient"
    assert look["judged"]
    assert look["verdict"] == "sufficient"
    assert look["level"] == 0.75
    assert look["probability"] >= 0.75
    assert record["strategy"] == "fine_tuning"
    assert record["score_at_available"] == look["score"] > head["score"] + 0.1
    # the images suffice only if they are trained that way: the report says so, although it passes
    result.stdout.fnmatch_lines(["*The images suffice if the backbone is fine-tuned*"])


def test_the_second_look_is_stored_and_the_verdict_the_same(striped, store):
    _, first = gate(striped, "accuracy=0.93", store)
    start = time.perf_counter()
    result, again = gate(striped, "accuracy=0.93", store)
    assert time.perf_counter() - start < 5
    result.stdout.no_fnmatch_line("*second look: fine-tuning*")
    ours = ("models", "verdict", "required", "score_at_available", "scores")
    assert {name: first[name] for name in ours} == {name: again[name] for name in ours}
    # another target uses the same trials
    result, other = gate(striped, "accuracy=0.92", store)
    result.stdout.no_fnmatch_line("*fine-tuning 1 of*")
    assert other["models"][1]["judged"]


def test_a_red_gate_without_a_second_look_says_that_it_was_not_tried(striped):
    result, record = gate(striped, "accuracy=0.93", "--datasize-second-look=off")
    result.assert_outcomes(failed=1)
    assert record["models"][-1]["reason"] == "second_look=off"
    assert record["levers"][0]["kind"] == "train"
    assert record["levers"][0]["gain"] is None
    result.stdout.fnmatch_lines(["*Train better first (not tried: second_look=off)*"])


def command(result):
    """Return the one option that a report suggests."""
    words = {word for line in result.stdout.lines for word in line.split()}
    [found] = [word for word in words if word.startswith("--datasize-second-look=")]
    return found


def test_too_little_time_is_known_before_and_names_a_command(striped):
    result, record = gate(striped, "accuracy=0.93, second_look=0.01")
    result.assert_outcomes(failed=1)
    look = record["models"][-1]
    assert look["score"] is None
    assert look["seconds"] > 0.01
    assert "does not fit" in look["reason"]
    assert command(result).endswith("m")


def test_the_command_goes_on_with_what_was_trained_before_the_time_was_over(striped, monkeypatch):
    @contextmanager
    def over_after_four_trials(study, end):
        def on_progress(stage, done, total):
            if stage == "fine-tuning" and done == 4:
                raise second_look.OutOfTimeError

        study.context.on_progress = on_progress
        yield

    with monkeypatch.context() as patch:  # not by the clock: machines differ
        patch.setattr(second_look, "deadline", over_after_four_trials)
        result, record = gate(striped, "accuracy=0.93")
    result.assert_outcomes(failed=1)
    assert "stored" in record["models"][-1]["reason"]
    result, record = gate(striped, "accuracy=0.93", command(result))
    result.assert_outcomes(passed=1)
    assert "4 of 6 trials were known from before" in " ".join(record["notes"])


def test_no_requirement_uses_the_second_look_of_another(striped):
    """Requirements share the models of a ladder; each has its own targets and time limit."""
    striped.makepyfile(
        test_two="""
        from pytest_datasize import datasize

        @datasize.requires(accuracy=0.93)
        def test_first(): ...

        @datasize.requires(accuracy=0.93, second_look="off")
        def test_second(): ...
        """
    )
    striped.runpytest("--datasize-json=r.json").assert_outcomes(passed=1, failed=1)
    records = json.loads((striped.path / "r.json").read_text())["requirements"]
    reasons = {r["nodeid"].split("::")[1]: r["models"][-1]["reason"] for r in records}
    assert reasons == {"test_first": "", "test_second": "second_look=off"}


def test_when_no_model_meets_the_target_the_best_is_judged_and_levers_are_ranked(striped, store):
    result, record = gate(striped, "accuracy=0.999", store)
    result.assert_outcomes(failed=1)
    head, look = record["models"]
    assert look["judged"]
    assert look["score"] > head["score"]
    levers = record["levers"]
    assert "train" not in [lever["kind"] for lever in levers]  # it was tried
    assert "collect" in [lever["kind"] for lever in levers]
    reaching = [lever["reaches"] for lever in levers]
    assert reaching == sorted(reaching, reverse=True)
    assert [model["name"] for model in record["models"] if model["judged"]] == ["second look"]


def test_a_named_strategy_is_the_only_one_but_the_report_names_better_training(striped):
    result, record = gate(striped, "accuracy=0.93, strategy='feature_extraction'")
    result.assert_outcomes(failed=1)
    [model] = record["models"]
    assert model["name"] == "as asked"
    result.stdout.fnmatch_lines(["*Train better first: strategy=*"])
    assert record["levers"][0]["kind"] == "train"


def test_the_plan_shows_every_model(striped):
    result, record = gate(striped, "accuracy=0.9", "--datasize=plan")
    result.assert_outcomes(skipped=1)
    assert [model["name"] for model in record["models"]] == ["full input", "second look"]
    assert all(model["seconds"] > 0 for model in record["models"])
    result.stdout.fnmatch_lines(["*fine_tuning at 32 pixels, 3 sizes, 4 repeats, about * s;*"])


def test_a_named_backbone_starts_at_a_small_input(pytester, textiles):
    for path in sorted(textiles.rglob("*.jp*g"))[::10]:
        copy = pytester.path / path.relative_to(textiles.parent)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    pytester.makeini(
        INI.replace("datasize_image_size = 32\n", "") + f"datasize_dataset = {textiles.name}\n"
    )
    _, record = gate(pytester, "accuracy=0.6, sizes=(30, 60, 120)")
    [model] = record["models"]
    assert (model["name"], model["image_size"]) == ("small input", ladder.SMALL_SIDE)
    assert record["image_size"] == ladder.SMALL_SIDE


def test_a_backbone_that_cannot_be_trained_is_judged_by_its_head(repository):
    result, record = gate(repository, "accuracy=0.999")
    result.assert_outcomes(failed=1)
    assert record["strategy"] == "feature_extraction"
    assert "no weights to train" in record["models"][-1]["reason"]


def test_a_budget_bounds_all_models_together():
    images = np.random.default_rng(0).integers(0, 255, (120, 32, 32), dtype=np.uint8)
    study = Study(
        (images, np.arange(120) % 2),
        backbone=stages(normed=False, cells=(1, 1)),
        image_size=32,
        budget=0.5,
        device="cpu",
    )
    climb = Ladder(study).climb({"accuracy": 0.9})
    assert [attempt.name for attempt in climb.attempts] == ["full input", "second look"]
    # on a busy machine the first model alone takes longer
    assert re.search("does not fit|the budget is used up", climb.attempts[1].reason)


@pytest.mark.parametrize(
    ("metric", "target", "now", "head", "says"),
    [
        ("accuracy", 0.8, 0.85, 0.75, "falls short with 0.750"),
        ("accuracy", 0.5, 0.70, 0.73, ""),  # met by the head; another target of the gate was not
        ("log_loss", 0.5, 0.45, 0.60, "falls short with 0.600"),
        ("log_loss", 0.5, 0.45, 0.40, ""),
    ],
)
def test_better_training_is_named_only_where_the_head_falls_short(metric, target, now, head, says):
    tried = {"name": "small input", "judged": False, "reason": "", "score": head}
    chosen = {"name": "second look", "judged": True, "reason": "", "score": now}
    record = {
        "metric": metric,
        "target": target,
        "score_at_available": now,
        "verdict": "sufficient",
        "models": [tried, chosen],
    }
    found = how_to_reach_it(record)
    assert says in found
    assert bool(found) == bool(says)
