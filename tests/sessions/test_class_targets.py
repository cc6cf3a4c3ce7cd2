"""A target for each class, from the marker to every report: two classes are planted as hard."""

import json

import numpy as np
import pytest
from support import CONFTEST, write_folder

NAMES = ("easy", "left", "right")


def write_classes(root, n=180):
    """Write images of three classes: one that is bright, and two that are hard to distinguish."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 3
    ramp = np.linspace(0.42, 0.58, 24)
    clean = np.stack([np.full(24, 0.9), ramp, ramp[::-1]])[labels][:, None]
    noisy = np.clip(clean + 0.6 * rng.standard_normal((n, 24, 24)), 0, 1)
    return write_folder(root, (noisy * 255).astype(np.uint8), labels, NAMES)


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("classes"))


@pytest.fixture
def gate(pytester, classes, monkeypatch):
    """Run a module of gates; return the result, and the records of its requirements."""
    monkeypatch.setenv("COLUMNS", "200")
    pytester.makeconftest(CONFTEST)
    pytester.makeini(
        "[pytest]\naddopts = --strict-markers -p no:cacheprovider\nfilterwarnings = error\n"
        "datasize_image_size = 24\ndatasize_repeats = 4\ndatasize_strategy = feature_extraction\n"
        f"datasize_dataset = {classes}\n"
    )

    def run(text, *options):
        module = text if "def test" in text else f"@datasize.requires({text})\ndef test(): ..."
        pytester.makepyfile(test_gate=f"from pytest_datasize import datasize\n{module}\n")
        result = pytester.runpytest_inprocess(
            "--datasize-json=r.json", "--datasize-store=store", *options
        )
        path = pytester.path / "r.json"
        return result, json.loads(path.read_text())["requirements"] if path.exists() else []

    return run


def test_only_named_classes_are_judged_and_the_report_says_so(gate):
    result, [record] = gate("recall_per_class={'easy': 0.9}")
    result.assert_outcomes(passed=1)
    assert (record["class"], record["target"]) == ("easy", 0.9)
    assert record["class_targets"] == {"easy": 0.9}
    result.stdout.re_match_lines([".*not judged \\(no target\\): 'left', 'right'"])


@pytest.mark.parametrize("metric", ["recall_per_class", "precision_per_class"])
def test_the_class_that_needs_most_images_for_its_own_target_decides(gate, metric):
    result, [record] = gate(f"{metric}={{'easy': 0.8, '*': 0.99}}")
    result.assert_outcomes(failed=1)
    assert record["class"] in ("left", "right")
    assert record["target"] == 0.99
    assert record["class_targets"] == {"easy": 0.8, "left": 0.99, "right": 0.99}
    kind = metric.partition("_")[0]
    result.stdout.fnmatch_lines(
        [f"*{kind} of '{record['class']}' 0.99*", "*0.99 for 'left', 'right'; 0.8 for 'easy'"]
    )
    by_name = {row["name"]: row for row in record["classes"]}
    assert by_name["easy"]["required"] < record["available"]
    required = [row["required"] for row in by_name.values()]
    assert record["required"] == (None if None in required else max(required))


def test_the_same_targets_met_by_the_same_evidence(gate, pytester):
    """Another target judges the stored evidence again; an equal one is not even judged."""
    gate("recall_per_class={'easy': 0.8, '*': 0.99}")
    result, [record] = gate("recall_per_class={'left': 0.5, 'right': 0.4, 'easy': 0.8}")
    result.assert_outcomes(passed=1)
    assert record["class_targets"] == {"easy": 0.8, "left": 0.5, "right": 0.4}
    from pytest_datasize.store import Store

    with Store(pytester.path / "store") as store:
        assert (len(store.all("evidence")), len(store.all("verdict"))) == (1, 2)
    gate("recall_per_class={'easy': 0.8, 'right': 0.4, 'left': 0.5}")
    gate("recall_per_class={'*': 0.4}")
    gate("recall_per_class=0.4")
    with Store(pytester.path / "store") as store:
        assert (len(store.all("evidence")), len(store.all("verdict"))) == (1, 3)


def test_a_closer_target_of_the_metric_replaces_all_its_classes(gate):
    _, records = gate("""
@datasize.requires(recall_per_class={'left': 0.9, 'easy': 0.9}, accuracy=0.3)
class TestParts:
    @datasize.requires(recall_per_class={'right': 0.2})
    def test_one(self): ...

    @datasize.requires(recall_per_class={'*': 0.2}, stack=True)
    def test_two(self): ...
""")
    found = [
        (record["nodeid"][-3:], record["order"], record["class_targets"])
        for record in records
        if record["metric"] == "recall_per_class"
    ]
    assert found == [
        ("one", 0, {"right": 0.2}),
        ("two", 0, {"easy": 0.9, "left": 0.9}),
        ("two", 1, None),
    ]


@pytest.mark.parametrize("mode", ["run", "plan", "check"])
def test_a_class_that_does_not_exist_is_an_error_before_anything_is_trained(gate, mode, pytester):
    result, _ = gate("recall_per_class={'eassy': 0.9, '*': 0.5}", f"--datasize={mode}")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*recall_per_class: no class is named 'eassy'; did you mean 'easy'? Classes: 'easy', *"]
    )
    assert not list((pytester.path / "store").glob("embeddings/*.f16"))


def test_the_plan_shows_the_targets_as_asked(gate):
    result, [record] = gate("recall_per_class={'left': 0.9, '*': 0.5}", "--datasize=plan")
    result.assert_outcomes(skipped=1)
    assert record["message"] == "recall_per_class 0.9 for 'left', 0.5 for others"


def test_a_gate_in_yaml_and_its_committed_record(gate, pytester):
    path = pytester.path / "datasize.yaml"
    path.write_text("requirements:\n- name: all\n  recall_per_class: {easy: 0.9, '*': 0.4}\n")
    [record] = gate("def test_nothing(): ...", "datasize.yaml", "--datasize-lock")[1]
    assert record["class_targets"] == {"easy": 0.9, "left": 0.4, "right": 0.4}
    result = pytester.runpytest_inprocess("datasize.yaml", "--datasize=locked")
    result.assert_outcomes(passed=1)
    path.write_text(path.read_text().replace("0.4", "0.5"))
    result = pytester.runpytest_inprocess("datasize.yaml", "--datasize=locked")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*recall_per_class was {'[*]': 0.4, 'easy': 0.9}, is {'[*]': 0.5, 'easy': 0.9}*"]
    )


def test_pages_show_every_class_with_its_target(gate, pytester):
    gate(
        "recall_per_class={'easy': 0.8, 'left': 0.99}",
        "--datasize-html=r.html",
        "--datasize-markdown=r.md",
    )
    page = (pytester.path / "r.html").read_text()
    assert '<td class="number">not judged</td>' in page
    assert '<td class="number">0.99</td>' in page
    for text in (page, (pytester.path / "r.md").read_text()):
        assert "not judged (no target)" in text


def test_a_baseline_says_which_targets_differ(gate):
    gate("recall_per_class={'left': 0.4}", "--datasize-baseline=base.json")
    result, [record] = gate(
        "recall_per_class={'left': 0.4, 'right': 0.3}", "--datasize-baseline=base.json"
    )
    result.assert_outcomes(passed=1)
    changed = "class_targets 'left' 0.4 → 'left' 0.4, 'right' 0.3"
    assert any(changed in line for line in record["baseline"]["lines"])


def test_certainty_is_judged_for_the_classes_that_are_asked(gate):
    """With `confidence` the number of repeats depends on the targets."""
    result, records = gate("""
@datasize.requires(recall_per_class={'easy': 0.7}, confidence=0.9)
def test_easy(): ...

@datasize.requires(recall_per_class={'left': 0.98}, confidence=0.9)
def test_left(): ...
""")
    result.assert_outcomes(passed=1, failed=1)
    assert [record["class"] for record in records] == ["easy", "left"]


def test_a_target_that_one_answer_meets_proves_nothing(gate):
    """Always answering the only class that is judged finds all of it."""
    result, _ = gate("recall_per_class={'easy': 0.6}")
    result.stdout.fnmatch_lines(["*the target 0.6 proves nothing: always answering 'easy'*"])


def test_a_trainer_of_probabilities_has_targets_of_classes_and_one_of_scores_has_not(gate):
    result, [record] = gate("""
import numpy as np

def probabilities(train, test, *, seed, device):
    return np.eye(3)[[label for _, label in test]]

@datasize.requires(recall_per_class={'left': 0.9}, trainer=probabilities)
def test_probabilities(): ...
""")
    result.assert_outcomes(passed=1)
    assert record["class"] == "left"
    result, _ = gate("""
def scores(train, test, *, seed, device):
    return {'recall_per_class': 0.9}

@datasize.requires(recall_per_class={'left': 0.9}, trainer=scores)
def test_scores(): ...
""")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*returned one number for recall_per_class*"])


def test_what_to_collect_is_planned_for_the_targets_of_the_classes(gate):
    _, [record] = gate("recall_per_class={'easy': 0.5, 'left': 0.9}")
    advice = record["advice"]
    plan = advice["collection"]
    if plan is None:
        assert advice["collection_reason"]
        return
    assert plan["images"]["left"] > plan["images"]["easy"]
