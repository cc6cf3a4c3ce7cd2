"""What a requirement may say, and what a wrong one is told."""

import math
import re
import subprocess
import sys

import numpy as np
import pytest

from pytest_datasize import RequirementError, datasize
from pytest_datasize.requirement.checks import CHECKS
from pytest_datasize.requirement.options import OPTIONS
from pytest_datasize.requirement.requirement import Requirement
from pytest_datasize.requirement.targets import class_targets, points_of, target_text
from pytest_datasize.requirement.tasks import METRICS, ends, of_class, point_of

RIGHT = {
    "task": ["auto", "classification", "multilabel", "detection"],
    "dataset": ["data/train", ([1], [0])],
    "test_dataset": ["data/test"],
    "backbone": ["resnet50", "local-dir:models/ours"],
    "weights": ["auto", "hub", "embedded", "models/ours.safetensors"],
    "features": ["auto", "last", "stages"],
    "precision": ["auto", "float32", "bfloat16", "float16"],
    "runtime": ["auto", "torch", "openvino"],
    "strategy": ["feature_extraction", "fine_tuning", "from_scratch", "own_training"],
    "augment": [True, False, len],
    "unfreeze": [1, 12],
    "trainer": [print, "package.module:function"],
    "preset": ["keras-sample-size", "flowers-transfer"],
    "direction": [{"loss": "lower"}, {"dice": "higher", "accuracy": "higher"}],
    "bounds": [{"loss": (0, None)}, {"loss": [None, 3.5]}],
    "operating_points": [
        {"recall_at_precision": {"class": "crack", "precision": 0.9}},
        {
            "false_alarm_rate": {"class": "crack", "sensitivity": 0.9},
            "sensitivity_at_specificity": {"class": "dent", "specificity": 0.95},
        },
    ],
    "budget": ["10m", "90s", "1h30m", 60, 2.5],
    "image_size": [16, 224],
    "sizes": [[10, 20, 40], (0.1, 0.5, 1.0), [40, 10, 20]],
    "repeats": [2, 50],
    "confidence": [0.51, 0.99],
    "second_look": ["auto", "off", "90s", 600],
    "undecided": ["fail", "warn"],
    "level": ["error", "warning"],
    "trusted_range": [1, 4, 10.5],
    "max_increase": [0.1, 1.5],
    "cost_per_image": [0, 0.35, {"rust": 2, "*": 0.5}],
    "cost_per_group": [0, 120.5],
    "image_budget": [0, 1000],
    "images_per_class": [1, 1000, "rule-of-thumb"],
    "represents": [True, False],
    "deployment": ["data/field", ([1], [0])],
    "false_alarms": [0.01, 0.05],
    "law": ["power", "power2", "exponential", "m4"],
    "test_fraction": [0.05, 0.5],
    "sampling": ["stratified", "balanced", "replacement"],
    "seed": [0, 4294967295],
    "device": ["auto", "cpu", "cuda", "cuda:3", "mps"],
    "group": ["patient", r"p(\d+)_", [1, 1, 2], str.lower, np.arange(3)],
    "unit": ["image", "group"],
    "slices": [
        "site",
        ["site", "lighting"],
        {"site": r"site_(\w+)", "day": str.lower, "light": [0, 1]},
        str.lower,
        np.arange(3),
        [1, 1, 2],
    ],
    "min_slice": [{"accuracy": 0.85}, {"log_loss": 3, "mae": 2.5}],
    "checks": ["duplicates=error,sizes=ignore", {"sizes": "warning"}, "", "one_class=error"],
    "allow_outside": [True, False],
    "max_pixels": [1, 10**9],
    "engine": ["local", "processes", "ray"],
    "workers": [1, 64],
    "ray_address": ["auto", "local", "10.0.0.1:6379", "ray://head:10001"],
    "ray_gpus": [0.01, 0.5, 1, 2],
    "ray_upload": [True, False],
}
WRONG = {
    "task": ["segmentatoin", 3, None, True],
    "dataset": [None, 3, "", True],
    "test_dataset": [0.5],
    "backbone": [7, "", object()],
    "weights": [1, ""],
    "precision": ["half", 16],
    "runtime": ["onnx", 1],
    "strategy": ["fine", 1],
    "augment": ["yes", 1, None],
    "unfreeze": [0, 1.5, "2"],
    "trainer": [3, "package.module", ":function"],
    "preset": ["keras", 1],
    "direction": ["lower", {"loss": "down"}, {"accuracy": "lower"}, {3: "lower"}],
    "bounds": [(0, 1), {"loss": 3}, {"loss": (1, 0)}, {"loss": "01"}, {"accuracy": (0, 2)}],
    "operating_points": [
        {},
        0.9,
        {"accuracy": {"class": "crack", "precision": 0.9}},
        {"recall_at_precision": 0.9},
        {"recall_at_precision": {"class": "crack", "precision": 0.9, "recall": 0.8}},
        {"recall_at_precision": {"class": "crack"}},
        {"recall_at_precision": {"class": "", "precision": 0.9}},
        {"recall_at_precision": {"class": "crack", "precision": 90}},
    ],
    "budget": ["10", "soon", 0, -5, True, "m", float("inf")],
    "image_size": [8, 224.0, "224", True],
    "sizes": [5, "10,20", [10, 20], [10, 10, 20], [0.1, 0.5, 2.0], [1, 0.5, 3], [0, 1, 2]],
    "repeats": [1, 2.0, "4", True],
    "confidence": [0.5, 1.0, 90, "0.9"],
    "second_look": ["never", 0, -1, True, None],
    "undecided": ["ignore", True],
    "level": ["warn", "note", False],
    "trusted_range": [0.5, "4", True, float("inf"), float("nan")],
    "max_increase": [-0.1, "0.1", True],
    "cost_per_image": [-1, "2", {}, {"rust": -1}, {3: 1}, True],
    "cost_per_group": [-1, "2", {"rust": 2}, True],
    "image_budget": [-1, "10", float("inf")],
    "images_per_class": [0, 2.5, "rule", True],
    "represents": ["data/field", 1],
    "deployment": [None, 3, ""],
    "false_alarms": [0, 0.5, 5, "0.01"],
    "law": ["cubic", 3],
    "test_fraction": [0, 0.9, 1.5],
    "sampling": ["balance", None],
    "seed": [-1, 1.5, 2**32],
    "device": ["gpu", "cuda:x", 0],
    "features": ["all", 1, None],
    "group": [None, "", 3, True, ["patient"], ("patient",)],
    "unit": ["groups", "patient", 1, None],
    "slices": [
        None,
        "",
        3,
        True,
        {},
        [],
        {"": "site"},
        {"site": None},
        {3: "site"},
        {"site": ["site"]},
    ],
    "min_slice": [
        None,
        0.85,
        "accuracy=0.85",
        {},
        {"accuracy": 85},
        {"accuracy": "0.9"},
        {"accuracy": True},
        {"auc": 0.9},
        {"recall_per_class": 0.9},
    ],
    "checks": ["duplicate=error", "sizes=loud", {"sizes": 3}, "sizes", "one_class=note", 4],
    "allow_outside": [1, "true", None],
    "max_pixels": [0, 1.5, "9"],
    "engine": ["process", 2, None],
    "workers": [0, 1.5, "4", True],
    "ray_address": ["", 6379, None],
    "ray_gpus": [0, 1.5, "1", True],
    "ray_upload": ["yes", 1, None],
}


def test_every_option_is_tested():
    assert set(RIGHT) == set(WRONG) == set(OPTIONS)


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, vs in RIGHT.items() for v in vs])
def test_right_values_are_taken(name, value):
    assert name in Requirement.parse((), {"accuracy": 0.9, name: value}, "here").options


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, vs in WRONG.items() for v in vs])
def test_wrong_values_are_named_with_what_is_expected(name, value):
    with pytest.raises(RequirementError) as caught:
        Requirement.parse((), {"accuracy": 0.9, name: value}, "tests/test_a.py::test_b")
    text = str(caught.value)
    assert text.startswith("tests/test_a.py::test_b: ")
    assert f"{name}=" in text
    assert OPTIONS[name].expected in text


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("target", [0, 1, 1.5, -0.1, 90, "0.9", None, True, float("nan")])
def test_targets_lie_within_the_bounds_of_their_metric(metric, target):
    low, high = ends(metric)
    if type(target) in (int, float) and low < target < high and not point_of(metric):
        assert datasize.requires(**{metric: target})
        return
    with pytest.raises(RequirementError, match=f"{metric}="):
        datasize.requires(**{metric: target})


OF_CLASSES = [metric for metric in METRICS if of_class(metric) and not point_of(metric)]
POINTS = {metric: point for metric in METRICS if (point := point_of(metric))}


@pytest.mark.parametrize("metric", OF_CLASSES)
def test_classes_have_targets_of_their_own(metric):
    [target] = Requirement.parse((), {metric: {"rust": 0.9, 3: 0.5, "*": 0.7}}, "").targets.values()
    assert class_targets(metric, target, ["good", "rust", "3"]) == {
        "good": 0.7,
        "rust": 0.9,
        "3": 0.5,
    }
    assert class_targets(metric, {"rust": 0.9}, ["good", "rust"]) == {"rust": 0.9}


def test_one_target_for_all_classes_is_a_number():
    """Equal requirements have equal cache keys."""
    assert Requirement.parse((), {"recall_per_class": {"*": 0.8}}, "").targets == {
        "recall_per_class": 0.8
    }
    one, other = (
        Requirement.parse((), {"recall_per_class": dict(pairs)}, "").targets
        for pairs in ([("a", 0.5), ("b", 0.6)], [("b", 0.6), ("a", 0.5)])
    )
    assert str(one) == str(other)


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ({}, "names no class"),
        ({"rust": 1.0}, "'rust' is 1.0"),
        ({"rust": 90}, r"'rust' is 90, write 0\.9 for 90 %"),
        ({"rust": "0.9"}, "'rust' is '0.9'"),
        ({"rust": True}, "'rust' is True"),
        ({"": 0.9}, "'' is not the name of a class"),
        ({True: 0.9}, "True is not the name of a class; write it as text, in quotes"),
        ([0.9], r"recall_per_class=\[0\.9\] is not allowed"),
    ],
)
def test_a_wrong_target_of_a_class_is_named(target, says):
    with pytest.raises(RequirementError, match=says):
        datasize.requires(recall_per_class=target)


def test_other_metrics_have_no_targets_for_classes():
    with pytest.raises(RequirementError, match="for each class: recall_per_class, precision"):
        datasize.requires(accuracy={"rust": 0.9})
    with pytest.raises(RequirementError, match="only these take a target for each class"):
        datasize.requires(bounds={"loss": (0, None)}, loss={"rust": 0.9})


def test_a_class_that_does_not_exist_gets_the_nearest():
    with pytest.raises(RequirementError) as caught:
        class_targets("recall_per_class", {"crak": 0.9}, ["good", "crack"])
    assert str(caught.value) == (
        "recall_per_class: no class is named 'crak'; did you mean 'crack'? Classes: 'good', "
        "'crack'."
    )
    with pytest.raises(RequirementError, match=r"'c11' and 8 more\.$"):
        class_targets("recall_per_class", {"x": 0.9}, [f"c{n}" for n in range(20)])


@pytest.mark.parametrize("metric", POINTS)
def test_an_operating_point_names_its_class_and_two_numbers(metric):
    given, reach = POINTS[metric].given, POINTS[metric].reach
    right = {"class": "crack", given: 0.9, reach: 0.8}
    [target] = Requirement.parse((), {metric: dict(reversed(right.items()))}, "").targets.values()
    assert list(target.items()) == list(right.items())
    assert points_of({metric: target}) == {metric: {"class": "crack", given: 0.9}}
    assert target_text(metric, target).endswith(f" 0.8 of 'crack' at {given} 0.9")
    wrong = {
        rf"it lacks {given} and {reach}": {"class": "crack"},
        r"it lacks class": {given: 0.9, reach: 0.8},
        r"there is no 'threshold'\. Allowed: class": {**right, "threshold": 0.5},
        rf"'{given}' is 1": {**right, given: 1},
        rf"'{reach}' is 80, write 0\.8 for 80 %": {**right, reach: 80},
        r"None is not the name of a class": {**right, "class": None},
        r"is not allowed\. Expected a class": 0.8,
    }
    for says, value in wrong.items():
        with pytest.raises(RequirementError, match=says) as caught:
            datasize.requires(**{metric: value})
        assert f"such as {{'class': 'crack', '{given}': 0.9" in str(caught.value)


def test_percentages_are_told_how_to_be_written():
    with pytest.raises(RequirementError, match=r"write 0\.9 for 90 %"):
        datasize.requires(accuracy=90)


def test_an_unknown_name_gets_the_nearest_and_all_allowed():
    with pytest.raises(RequirementError) as caught:
        datasize.requires(acuracy=0.9)
    text = str(caught.value)
    assert "'acuracy'; did you mean 'accuracy'?" in text
    assert all(name in text for name in (*METRICS, *OPTIONS))


def test_a_metric_of_slices_gets_the_nearest_and_a_trainers_own_are_declared():
    with pytest.raises(RequirementError, match=r"min_slice: unknown metric 'acuracy'; did you me"):
        datasize.requires(min_slice={"acuracy": 0.9}, slices="site")
    own = {"direction": {"loss": "lower"}, "bounds": {"loss": (0, None)}}
    assert Requirement.parse((), {"min_slice": {"loss": 3.0}, **own}, "").judges


@pytest.mark.parametrize(
    ("target", "bounds", "said"),
    [
        (80, {}, "write 0.8 for 80 %"),
        (math.nan, {}, "err=nan is not allowed"),
        (math.nan, {"bounds": {"err": (0, None)}}, "err=nan is not allowed. Expected a number abo"),
        (
            -3,
            {"bounds": {"err": (0, 2)}},
            "err=-3.0 is not allowed. Expected a number above 0 and b",
        ),
    ],
)
def test_a_target_of_slices_lies_in_the_range_of_a_trainers_own_metric(target, bounds, said):
    own = {"direction": {"err": "lower"}, **bounds}
    with pytest.raises(RequirementError, match=re.escape(said)):
        Requirement.parse((), {"min_slice": {"err": target}, **own}, "")
    assert Requirement.parse((), {"min_slice": {"err": 0.8}, **own}, "").judges


def test_slices_and_their_targets_are_read_from_text():
    slices, target = OPTIONS["slices"], OPTIONS["min_slice"]
    assert slices.parse_text("slices", "site, day", "") == {"site": "site", "day": "day"}
    assert slices.parse_text("slices", r"site=s(\d), day", "") == {"site": r"s(\d)", "day": "day"}
    assert target.parse_text("min_slice", "accuracy=0.85", "") == {"accuracy": 0.85}
    with pytest.raises(RequirementError, match=r"write 0\.85 for 85 %"):
        target.parse_text("min_slice", "accuracy=85", "")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"checks": {"factor_tells_clas": "error"}},
            "'factor_tells_class'? Allowed: missing_files",
        ),
        ({"operating_points": {"recall_at_precison": {}}}, "'recall_at_precision'? Allowed: "),
        (
            {"operating_points": {"recall_at_precision": {"clas": "crack", "precision": 0.9}}},
            "'class'? Allowed: class, precision",
        ),
    ],
)
def test_a_wrong_name_in_an_option_is_told_the_nearest_and_all(options, said):
    with pytest.raises(RequirementError) as caught:
        Requirement.parse((), {"accuracy": 0.9, **options}, "")
    assert f"; did you mean {said}" in str(caught.value)
    assert "checks" not in options or ", ".join(CHECKS) in str(caught.value)


def test_one_name_in_a_list_is_told_to_be_written_without():
    with pytest.raises(RequirementError, match=r"group=.*\(write 'patient' without a list\)"):
        Requirement.parse((), {"accuracy": 0.9, "group": ["patient"]}, "")


def test_bounds_of_a_built_in_metric_may_be_repeated():
    bounds = {"accuracy": (0, 1), "log_loss": (0, None)}
    assert Requirement.parse((), {"accuracy": 0.9, "bounds": bounds}, "").options["bounds"]


def test_a_wrong_choice_gets_the_nearest():
    with pytest.raises(RequirementError, match="did you mean 'balanced'"):
        datasize.requires(accuracy=0.9, sampling="balance")


def test_a_requirement_without_metric_or_with_a_bare_value_is_refused():
    with pytest.raises(RequirementError, match="at least one metric"):
        Requirement.parse((), {"repeats": 5}, "here")
    assert datasize.requires(repeats=5)  # defaults for a module or class
    with pytest.raises(RequirementError, match="stack='yes' is not allowed"):
        datasize.requires(accuracy=0.9, stack="yes")
    with pytest.raises(RequirementError, match=r"0\.9 has no name"):
        datasize.requires(0.9)


def test_the_test_is_named_when_the_decorator_stands_in_a_file(tmp_path):
    module = tmp_path / "test_it.py"
    module.write_text(
        "from pytest_datasize import datasize\n"
        "class TestA:\n"
        "    @datasize.requires(\n"
        "        accuracy=2,\n"
        "    )\n"
        "    def test_b(self): ...\n"
    )
    done = subprocess.run([sys.executable, str(module)], capture_output=True, text=True)
    assert f"{module}::TestA::test_b: accuracy=2 is not allowed" in done.stderr


def test_sizes_are_sorted_and_counted_once():
    options = Requirement.parse((), {"accuracy": 0.9, "sizes": [40, 10, 20, 10]}, "").options
    assert options["sizes"] == (10, 20, 40)


def test_the_laws_are_those_of_the_table():
    from pytest_datasize.curve.laws import LAWS

    assert OPTIONS["law"].choices == tuple(LAWS)
