"""What a requirement may say, and what a wrong one is told."""

import subprocess
import sys

import numpy as np
import pytest

from pytest_datasize import RequirementError, datasize
from pytest_datasize.requirement.options import OPTIONS
from pytest_datasize.requirement.requirement import Requirement
from pytest_datasize.requirement.tasks import METRICS, ends

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
    "group": [None, "", 3, True],
    "unit": ["groups", "patient", 1, None],
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
    if type(target) in (int, float) and low < target < high:
        assert datasize.requires(**{metric: target})
        return
    with pytest.raises(RequirementError, match=f"{metric}="):
        datasize.requires(**{metric: target})


def test_percentages_are_told_how_to_be_written():
    with pytest.raises(RequirementError, match=r"write 0\.9 for 90 %"):
        datasize.requires(accuracy=90)


def test_an_unknown_name_gets_the_nearest_and_all_allowed():
    with pytest.raises(RequirementError) as caught:
        datasize.requires(acuracy=0.9)
    text = str(caught.value)
    assert "'acuracy'; did you mean 'accuracy'?" in text
    assert all(name in text for name in (*METRICS, *OPTIONS))


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
