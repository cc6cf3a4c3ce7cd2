"""Slices and factors: handwritten digits whose sites are planted, so that the answers are known."""

import csv
import json

import jsonschema
import numpy as np
import pytest
from PIL import Image

from pytest_datasize import RequirementError, Study
from pytest_datasize.__main__ import main
from pytest_datasize.reports.records import result_file

CONFTEST = """
import pytest

@pytest.fixture(scope="session")
def datasize_backbone():
    import torch
    return torch.nn.Sequential(torch.nn.AvgPool2d(3), torch.nn.Flatten())
"""
INI = (
    "[pytest]\naddopts = --strict-markers -p no:cacheprovider\nfilterwarnings = error\n"
    "datasize_image_size = 24\ndatasize_repeats = 5\ndatasize_strategy = feature_extraction\n"
    "datasize_dataset = digits/labels.csv\ndatasize_sizes = 20,60,120,280\n"
)
GATE = """
from pytest_datasize import datasize

@datasize.requires({})
def test_gate(): ...
"""


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """352 threes and eights: noisy at site C, at night mostly eights, a dozen by a new camera."""
    from sklearn.datasets import load_digits

    root = tmp_path_factory.mktemp("digits")
    found = load_digits()
    chosen = np.isin(found.target, (3, 8))
    images, labels = found.images[chosen][:352] / 16, found.target[chosen][:352]
    rng = np.random.default_rng(0)
    site = rng.integers(0, 3, len(labels))
    noise = np.where(site == 2, 0.9, 0.0)[:, None, None] * rng.standard_normal(images.shape)
    pixels = (np.kron(np.clip(images + noise, 0, 1), np.ones((3, 3))) * 255).astype(np.uint8)
    night = (labels == 8) ^ (rng.random(len(labels)) < 0.05)
    with (root / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "site", "light", "camera", "serial", "day"])
        for row, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            name = f"site_{'ABC'[site[row]]}/{row:03d}.png"
            (root / name).parent.mkdir(exist_ok=True)
            Image.fromarray(image).save(root / name)
            light = "night" if night[row] else "day"
            camera = "" if row < 12 else "old"
            table.writerow([name, label, "ABC"[site[row]], light, camera, row, rng.integers(1, 4)])
    return root


@pytest.fixture
def gate(pytester, digits):
    """Run a gate with some options; return pytest's result and the records of the JSON file."""
    pytester.makeconftest(CONFTEST)
    pytester.makeini(INI)
    (pytester.path / "digits").symlink_to(digits)

    def run(asked, *options):
        pytester.makepyfile(test_gate=GATE.format(asked))
        result = pytester.runpytest_inprocess("test_gate.py", "--datasize-json=a.json", *options)
        content = json.loads((pytester.path / "a.json").read_text())
        jsonschema.validate(content, result_file.schema())
        return result, content["requirements"]

    run.path = pytester.path
    return run


def rows_of(record, factor):
    return {row["value"]: row for row in record["slices"] if row["factor"] == factor}


def test_the_harder_site_is_reported_and_its_target_fails(gate):
    asked = "accuracy=0.8, min_slice={'accuracy': 0.85}, slices=['site', 'day']"
    options = ("--datasize-html=a.html", "--datasize-markdown=a.md", "-v")
    result, (whole, worst) = gate(asked, *options)
    result.assert_outcomes(failed=1)
    assert whole["verdict"] == "sufficient"
    assert "slice" in whole
    assert whole["slice"] is None
    assert worst["verdict"] in ("insufficient", "unreachable")
    assert worst["slice"] == {"factor": "site", "value": "C"}
    assert worst["target"] == 0.85
    site = rows_of(worst, "site")
    assert site["C"]["decides"]
    assert site["C"]["score"] < 0.85 < min(site["A"]["score"], site["B"]["score"])
    assert site["C"]["score_low"] < site["C"]["measured"] + 0.02
    assert [row["images"] for row in site.values()] == [row["n_test"] for row in site.values()]
    a = site["A"]
    assert a["in_slice"] == pytest.approx(a["required"] * a["images"] / whole["total"], abs=1)
    assert all(row["score"] > 0.8 for row in rows_of(worst, "day").values())
    result.stdout.fnmatch_lines(
        [
            "*accuracy of site 'C' 0.85*",
            "*slices * in the worst slice, site 'C'; * of 6 slices below 0.85*",
            "*site 'C' *",
        ]
    )
    markdown, page = ((gate.path / name).read_text("utf-8") for name in ("a.md", "a.html"))
    assert "accuracy of site <code>C</code>" in markdown
    assert "accuracy of site <code>C</code>" in page
    assert "(decides)" in page


def test_a_factor_that_predicts_the_class_is_a_finding_with_numbers(gate):
    slices = "slices=['light', 'site', 'serial'], checks={'factor_tells_class': 'note'}"
    result, [record] = gate(f"accuracy=0.8, {slices}")
    result.assert_outcomes(passed=1)
    facts = {one["name"]: one for one in record["factors"]}
    assert facts["light"]["tells"]
    assert facts["light"]["guessed"] == pytest.approx(0.95, abs=0.02)
    assert facts["light"]["shuffled"] == pytest.approx(0.52, abs=0.03)
    assert not facts["site"]["tells"]
    assert facts["site"]["p_value"] > 0.01
    assert facts["serial"]["p_value"] is None
    assert "nearly one for each" in facts["serial"]["untested"]
    notes = [note for note in record["notes"] if "predicts the class" in note]
    assert len(notes) == 1
    assert notes[0].startswith("'light' predicts the class: it gives the right class for 9")
    assert any(note.startswith("'serial' was not tested") for note in record["notes"])
    assert rows_of(record, "serial") == {}
    result.stdout.fnmatch_lines(["note: 'light' predicts the class*", "note: 'serial' was not*"])


def test_the_finding_warns_fails_and_is_in_the_check(gate):
    asked = "accuracy=0.8, slices='light'"
    result, _ = gate(asked, "-W", "default")
    result.assert_outcomes(passed=1, warnings=1)
    result, [record] = gate(asked, "--datasize-checks=factor_tells_class=error")
    result.assert_outcomes(errors=1)
    assert "'light' predicts the class" in record["message"]
    result, [record] = gate(asked, "--datasize=check")
    [found] = [one for one in record["checks"] if one["check"] == "factor_tells_class"]
    assert found["level"] == "warning"


def test_slices_that_are_too_small_are_named_and_do_not_decide(gate):
    asked = "min_slice={'accuracy': 0.8}, slices='camera'"
    result, [record] = gate(asked)
    result.assert_outcomes(passed=1)
    assert record["slice"] == {"factor": "camera", "value": "old"}
    small = rows_of(record, "camera")["(none)"]
    assert (small["images"], small["n_test"], small["score"]) == (12, 12, None)
    said = " ".join(result.stdout.str().split())
    assert "too small to judge: camera '(none)' (12 test images)" in said


def test_no_slice_that_can_be_judged_is_an_error(gate):
    patterns = r"slices={'hundreds': r'/(0.)\d\.png'}"
    result, [record] = gate(f"min_slice={{'accuracy': 0.8}}, {patterns}", "-W", "default")
    result.assert_outcomes(passed=1)  # the rest, without a match, is a slice of its own
    result, [record] = gate(r"min_slice={'accuracy': 0.8}, slices={'tens': r'/(\d\d)\d\.png'}")
    result.assert_outcomes(errors=1)
    assert "every slice is too small to judge: the largest, tens " in record["message"]
    assert "has 10 test images; 30 are needed" in record["message"]


@pytest.mark.parametrize("mode", ["run", "check", "plan"])
def test_a_factor_without_slices_beside_another_is_an_error_of_their_target(gate, mode):
    asked = "min_slice={'accuracy': 0.3}, slices=['site', 'serial']"
    result, [record] = gate(asked, f"--datasize={mode}")
    result.assert_outcomes(errors=1)
    said = "min_slice: 'serial' has no slices to judge: a factor has at most 200 values"
    assert record["message"].startswith(said)


def test_a_study_judges_all_factors_or_none(digits):
    from torch.nn import AvgPool2d, Flatten, Sequential

    given = {"backbone": Sequential(AvgPool2d(3), Flatten()), "image_size": 24, "device": "cpu"}
    data = str(digits / "labels.csv")
    study = Study(data, slices=["site", "serial"], sizes=(20, 60, 120), repeats=2, **given)
    with pytest.raises(RequirementError, match="'serial' has no slices to judge"):
        study.run().verdict(min_slice={"accuracy": 0.3})


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            "slices=['sight']",
            "slices='sight' is not one of the columns path, label, site, light, camera, serial, "
            "day; did you mean 'light'?",
        ),
        ("slices=r'(station\\\\d)'", "matches no image; the first is site_"),
        ("slices=lambda path: path[99]", "slices= raised IndexError for site_"),
        ("slices=['site', 'label']", "slices={'label': ...} is the class of every image"),
        ("slices={'x': [1, 2]}", "slices= has 2 values for 352 images"),
    ],
)
def test_a_wrong_factor_is_named(gate, asked, said):
    result, _ = gate(f"accuracy=0.8, {asked}")
    result.assert_outcomes(errors=1)
    assert said in result.stdout.str()


def test_a_target_of_slices_without_slices_is_refused_at_collection(pytester, digits):
    pytester.makeini(INI)
    pytester.makepyfile(GATE.format("min_slice={'accuracy': 0.8}"))
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*min_slice needs slices: name the factors*"])


def test_a_wrong_target_of_slices_of_any_layer_is_refused_at_collection(pytester):
    pytester.makepyfile(GATE.format("accuracy=0.8, slices='site'"))
    pytester.makefile(".yaml", datasize="defaults: {min_slice: {acuracy: 0.8}}")
    result = pytester.runpytest_inprocess("--collect-only")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*datasize.yaml: min_slice: unknown metric 'acuracy'; did you *"])
    result = pytester.runpytest_inprocess("--collect-only", "--datasize-min-slice=found=0.8")
    result.stdout.fnmatch_lines(["*command line: min_slice: unknown metric 'found'*"])
    pytester.makeini("[pytest]\ndatasize_min_slice = found=80\ndatasize_direction = found=higher\n")
    (pytester.path / "datasize.yaml").unlink()
    result = pytester.runpytest_inprocess("--collect-only")
    result.stdout.fnmatch_lines(["*ini file: min_slice: found=80.0 is not allowed (write 0.8 for*"])


def test_patterns_functions_and_columns_are_the_same_slices(gate):
    scores = []
    for asked in ("'site'", r"{'site': r'site_(\w)/'}", "{'site': lambda path: path[5]}"):
        _, [record] = gate(f"accuracy=0.8, slices={asked}", "--datasize-store=off")
        scores.append(rows_of(record, "site"))
    assert scores[0] == scores[1] == scores[2]


def test_slices_change_nothing_else_and_changed_ones_are_not_stale(gate):
    _, [plain] = gate("accuracy=0.8")
    _, [site] = gate("accuracy=0.8, slices='site'")
    _, [day] = gate("accuracy=0.8, slices='day'")
    _, [again] = gate("accuracy=0.8, slices='site'")
    assert {row["factor"] for row in day["slices"]} == {"day"}
    assert again["slices"] == site["slices"]
    for name in ("scores", "fit", "required", "score_at_available", "advice", "message"):
        assert plain[name] == site[name] == day[name], name
    assert not {"slice", "slices", "slices_reason", "factors"} & set(plain)
    assert plain["subject"]["images"] == site["subject"]["images"]
    assert "slices" not in plain["subject"]["options"]
    assert site["subject"]["options"]["slices"] != day["subject"]["options"]["slices"]


def test_metrics_that_are_no_mean_over_images_say_so(gate):
    result, (auc, loss) = gate("auc=0.8, log_loss=0.9, slices='site'")
    result.assert_outcomes(passed=1)
    assert auc["slices_reason"] == "auc is not a mean over images, so slices have no score of it"
    assert all(row["score"] is None for row in auc["slices"])
    assert loss["slices_reason"] == ""
    site = rows_of(loss, "site")
    assert site["C"]["score"] > site["A"]["score"] > 0  # the harder one has the larger loss
    assert loss["slices"][0]["value"] == "C"


def test_options_of_all_layers_and_the_lock_and_the_baseline(gate):
    settings = "defaults:\n  slices: [site]\n  min_slice: {accuracy: 0.6}\n"
    (gate.path / "datasize.yaml").write_text(settings)
    result, (_, worst) = gate("accuracy=0.8", "--datasize-lock", "--datasize-baseline=b.json")
    result.assert_outcomes(passed=1)
    assert worst["target"] == 0.6
    result, found = gate("accuracy=0.8", "--datasize=locked", "--datasize-baseline=b.json")
    result.assert_outcomes(passed=1)
    assert [one["baseline"]["found"] for one in found] == [True, True]
    assert found[1]["slice"] == worst["slice"] == {"factor": "site", "value": "C"}
    assert found[1]["slices"][0]["score"] == pytest.approx(worst["slices"][0]["score"], abs=1e-5)
    options = ("--datasize-min-slice=accuracy=0.97", "--datasize-slices=day,site")
    result, (_, worst) = gate("accuracy=0.8", *options)
    assert worst["target"] == 0.97
    assert {row["factor"] for row in worst["slices"]} == {"site", "day"}
    result, _ = gate("accuracy=0.8", *options, "--datasize=locked")
    result.assert_outcomes(errors=1)


def test_the_curve_of_a_slice_can_be_asked(gate, capsys):
    gate("min_slice={'accuracy': 0.6}, slices='site'")
    capsys.readouterr()
    assert main(["ask", str(gate.path / "a.json"), "--images", "352"]) == 0
    said = capsys.readouterr().out
    assert "accuracy of site 'C'" in said


def test_a_confidence_stops_early_on_slices_too(gate):
    asked = "min_slice={'accuracy': 0.3}, slices='site', confidence=0.9, repeats=10"
    result, [record] = gate(asked)
    result.assert_outcomes(passed=1)
    assert record["n_trials"] < record["n_trials_planned"]


def test_a_plan_names_the_target_of_slices(gate):
    result, [record] = gate("min_slice={'accuracy': 0.85}, slices='site'", "--datasize=plan")
    result.assert_outcomes(skipped=1)
    assert record["message"] == "accuracy of every slice 0.85"


THEIRS = """
import numpy as np

def train(train, test, *, seed, device):
    brightness = test.pixels(8).reshape(len(test), -1).mean(axis=1) / test.pixels(8).max()
    return {"clear": (brightness < 0.37).astype(float).tolist()}
"""


def test_a_trainer_that_scores_each_image_has_slices(gate):
    (gate.path / "theirs.py").write_text(THEIRS)
    trainer = "trainer='theirs:train', bounds={'clear': (0, 1)}"
    _, [record] = gate(f"min_slice={{'clear': 0.5}}, slices='site', {trainer}")
    site = rows_of(record, "site")
    assert record["slice"] == {"factor": "site", "value": "C"}
    assert site["C"]["score"] < 0.4 < 0.7 < min(site["A"]["score"], site["B"]["score"])


@pytest.mark.parametrize("metric", ["clear", "accuracy"])
def test_a_trainer_that_scores_all_images_at_once_has_no_slices(gate, metric):
    (gate.path / "theirs.py").write_text(
        "def train(train, test, *, seed, device):\n"
        f"    return {{'{metric}': 0.5 + len(train) / 1000}}\n"
    )
    trainer = f"trainer='theirs:train', bounds={{'{metric}': (0, 1)}}"
    result, [record] = gate(f"min_slice={{'{metric}': 0.5}}, slices='site', {trainer}")
    result.assert_outcomes(errors=1)
    assert (
        f"the trainer gives one number for {metric}, not one value per image" in record["message"]
    )
