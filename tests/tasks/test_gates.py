"""Gates of every task, as a user runs them, on real digits with known truth."""

import json

import pytest
from mosaics import (
    NAMES,
    mosaics,
    write_box_table,
    write_coco,
    write_images,
    write_masks,
    write_yolo,
)

BACKBONE = """
import pytest
from support import stages

@pytest.fixture(scope="session")
def datasize_backbone():
    return stages(normed=True, cells=(1, 1))
"""
INI = (
    "[pytest]\naddopts = --strict-markers -p no:cacheprovider\nfilterwarnings = error\n"
    "datasize_image_size = 48\ndatasize_repeats = 3\n"
)


@pytest.fixture
def gate(pytester):
    """Run one gate with a marker; return the result of the session and its first record."""
    pytester.makeconftest(BACKBONE)
    pytester.makeini(INI)

    def run(arguments, *options, conftest=""):
        if conftest:
            pytester.makeconftest(BACKBONE + conftest)
        pytester.makepyfile(
            f"from pytest_datasize import datasize\n"
            f"@datasize.requires({arguments})\ndef test_gate(): ...\n"
        )
        result = pytester.runpytest("--datasize-json=r.json", *options)
        path = pytester.path / "r.json"
        records = json.loads(path.read_text())["requirements"] if path.exists() else []
        return result, records

    return run


def made(n=160, **options):
    return mosaics(n, seed=1, **options)


def write_sets(root, data):
    paths = write_images(root, data.images)
    lines = [f"path,{','.join(NAMES)}"]
    lines += [
        f"{p.name},{','.join(map(str, s * 1))}" for p, s in zip(paths, data.sets, strict=True)
    ]
    (root / "sets.csv").write_text("\n".join(lines))
    return root / "sets.csv"


def write_counts(root, data):
    paths = write_images(root, data.images)
    lines = ["path,label"]
    ink = [(mask > 0).mean() * 100 for mask in data.masks]
    lines += [f"{p.name},{share:.3f}" for p, share in zip(paths, ink, strict=True)]
    (root / "ink.csv").write_text("\n".join(lines))
    return root / "ink.csv"


GATES = [
    (write_sets, "average_precision=0.3", "multilabel", "average_precision"),
    (write_sets, "f1_macro=0.05, task='multilabel'", "multilabel", "f1_macro"),
    (write_counts, "r2=0.2", "regression", "r2"),
    (write_counts, "mae=30.0", "regression", "mae"),
    (write_masks, "mean_iou=0.1", "segmentation", "mean_iou"),
    (write_coco, "crop_accuracy=0.3", "detection", "crop_accuracy"),
    (write_yolo, "crop_f1_macro=0.2", "detection", "crop_f1_macro"),
    (write_box_table, "crop_recall_per_class=0.05", "detection", "crop_recall_per_class"),
]


@pytest.mark.parametrize(("write", "marker", "task", "metric"), GATES)
def test_a_metric_says_what_the_labels_are(gate, tmp_path, write, marker, task, metric):
    path = write(tmp_path / "data", made())
    result, [record] = gate(f"{marker}, dataset={str(path)!r}")
    result.assert_outcomes(passed=1)
    assert record["task"] == task
    assert record["metric"] == metric
    assert record["verdict"] == "sufficient"
    assert (record["amounts"] is not None) == (task in ("segmentation", "detection"))
    low, score, high = (record[f"score_at_available{end}"] for end in ("_low", "", "_high"))
    assert low < score < high  # the luck of the test images is measured


@pytest.mark.parametrize(
    ("write", "marker", "says"),
    [
        (write_sets, "average_precision=0.999", "average_precision 0.999"),
        (write_counts, "rmse=0.001", "rmse 0.001"),
        (write_masks, "iou_per_class=0.98", "IoU of '"),
        (write_coco, "crop_recall_per_class=0.999", "recall of '"),
    ],
)
def test_a_gate_that_is_not_met_names_the_target(gate, tmp_path, write, marker, says):
    path = write(tmp_path / "data", made())
    result, [record] = gate(f"{marker}, dataset={str(path)!r}", "--datasize-html=r.html")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*{says}*"])
    assert record["failed"]


def test_detection_says_that_it_is_an_upper_bound_and_counts_objects(gate, tmp_path):
    data = made()
    path = write_coco(tmp_path / "data", data)
    _, [record] = gate(f"crop_accuracy=0.3, dataset={str(path)!r}")
    assert any("upper bound" in note for note in record["notes"])
    assert record["amounts"] == {
        name: sum(own == name for boxes in data.boxes for own, _ in boxes) for name in sorted(NAMES)
    }
    assert record["total"] == len(data.images)  # images are what is counted and missing


def test_masks_name_their_stride(gate, tmp_path):
    path = write_masks(tmp_path / "data", made())
    _, [record] = gate(f"pixel_accuracy=0.3, dataset={str(path)!r}")
    assert any("stride of" in note for note in record["notes"])
    assert sum(record["amounts"].values()) == 160 * 32 * 32


def test_lower_is_better_where_the_metric_says_so(gate, tmp_path):
    path = write_counts(tmp_path / "data", made())
    _, [record] = gate(f"mae=30.0, dataset={str(path)!r}")
    assert record["fit"]["sign"] == -1
    means = record["measured"]["mean"]
    assert means[0] > means[-1] > record["ceiling"] - 1e-9


@pytest.mark.parametrize(
    ("write", "marker", "says"),
    [
        (write_coco, "accuracy=0.5", "*task='detection'*"),
        (write_coco, "mean_iou=0.5", "*segmentation*"),
        (write_sets, "r2=0.5, task='multilabel'", "*r2 is a metric of regression*"),
        (write_sets, "r2=0.5, f1_samples=0.5", "*no task has all of these metrics*"),
        (write_sets, "accuracy=0.5", "*metric of classification*task multilabel*"),
        (write_masks, "mean_iou=0.5, strategy='fine_tuning'", "*not built in for*trainer=*"),
        (write_coco, "crop_accuracy=0.5, augment=True", "*augment is not built in*"),
        (write_sets, "subset_accuracy=0.5, task='mutilabel'", "*did you mean 'multilabel'*"),
        (write_counts, "r2=1.5", "*r2=1.5 is not allowed*below 1*"),
    ],
)
def test_wrong_use_says_what_to_do(gate, tmp_path, write, marker, says):
    path = write(tmp_path / "data", made(40))
    result, _ = gate(f"{marker}, dataset={str(path)!r}")
    assert result.ret
    result.stdout.fnmatch_lines([says])
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    assert "Traceback" not in result.stdout.str()


@pytest.mark.parametrize(
    ("write", "marker"),
    [
        (write_sets, "f1_micro=0.2"),
        (write_masks, "mean_iou=0.1"),
        (write_coco, "crop_accuracy=0.2"),
    ],
)
def test_an_unchanged_gate_trains_nothing(gate, pytester, tmp_path, monkeypatch, write, marker):
    path = write(tmp_path / "data", made(60))
    options = (f"--datasize-store={tmp_path / 'store'}",)
    pytester.makeconftest("")
    _, [first] = gate(f"{marker}, dataset={str(path)!r}", *options)

    def fail(*arguments, **options):
        raise AssertionError("a model was trained")

    monkeypatch.setattr("pytest_datasize.trials.heads.heads.in_threads", fail)
    result, [second] = gate(f"{marker}, dataset={str(path)!r}", *options)
    assert second == first
    assert first["verdict"], result.stdout.str()
    metric, _, target = marker.partition("=")
    result, [other] = gate(f"{metric}={float(target) / 2}, dataset={str(path)!r}", *options)
    assert (other["scores"], other["timings"]) == (first["scores"], first["timings"])
    result, _ = gate(f"{marker}, dataset={str(path)!r}", *options, "--datasize-refresh")
    assert "a model was trained" in result.stdout.str()  # so the check can fail


def test_one_rare_label_is_on_both_sides_or_refused_by_name(gate, tmp_path):
    data = made(60)
    sets = data.sets.copy()
    sets[:, 3] = False
    sets[:2, 3] = True
    paths = write_images(tmp_path, data.images)
    lines = [f"path,{','.join(NAMES)}"]
    lines += [f"{p.name},{','.join(map(str, s * 1))}" for p, s in zip(paths, sets, strict=True)]
    (tmp_path / "sets.csv").write_text("\n".join(lines))
    result, _ = gate(f"average_precision=0.3, dataset={str(tmp_path / 'sets.csv')!r}")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*label 'three'*"])


TRAINERS = """
import numpy as np

def sets(train, test, *, seed, device):
    assert train.labels.dtype == bool and train[0][1].shape == (4,)
    return np.tile(train.labels.mean(axis=0), (len(test), 1))

def numbers(train, test, *, seed, device):
    assert isinstance(train[0][1], float)
    ink = lambda some: (some.pixels(32) > 100).mean(axis=(1, 2, 3))
    slope, start = np.polyfit(ink(train), train.labels, 1)
    return slope * ink(test) + start

def masks(train, test, *, seed, device):
    image, mask = train[0]
    assert mask.shape == image.shape[:2]
    return [(image[..., 0] > 100).astype(int) for image, _ in test]

def boxes(train, test, *, seed, device):
    target = train[0][1]
    assert target["boxes"].shape == (len(target["labels"]), 4)
    return {"found": [min(1.0, len(target["labels"]) / 4) for _, target in test]}

def bare(train, test, *, seed, device):
    return {"map50": 1 - 1 / len(train)}

def wrong(train, test, *, seed, device):
    return {"map50": [0.5, 0.5]}
"""


@pytest.mark.parametrize(
    ("write", "marker", "measured"),
    [
        (write_sets, "f1_samples=0.1, task='multilabel', trainer='own:sets'", True),
        (write_counts, "pearson=0.5, task='regression', trainer='own:numbers'", True),
        (write_masks, "pixel_accuracy=0.5, task='segmentation', trainer='own:masks'", True),
        (
            write_coco,
            "found=0.3, bounds={'found': (0, 1)}, task='detection', trainer='own:boxes'",
            True,
        ),
        (
            write_coco,
            "map50=0.3, bounds={'map50': (0, 1)}, task='detection', trainer='own:bare'",
            False,
        ),
    ],
)
def test_a_trainer_gets_the_targets_of_the_task(gate, tmp_path, pytester, write, marker, measured):
    pytester.makepyfile(own=TRAINERS)
    path = write(tmp_path / "data", made())
    result, [record] = gate(f"{marker}, dataset={str(path)!r}")
    result.assert_outcomes(passed=1)
    assert record["strategy"] == "own_training"
    luck, share = record["fit"]["test_covariance"][0][0], record["measured"]["mean"][0]
    bound = share * (1 - share) / record["n_test_distinct"]  # of values that are 0 or 1
    if measured:
        assert 0 < luck < 0.9 * bound or record["task"] in ("multilabel", "regression")
    else:  # that bound is all that is known of bare scores
        assert luck == pytest.approx(bound, rel=0.1)


def test_objects_of_one_class_need_a_trainer(gate, tmp_path, pytester):
    pytester.makepyfile(own=TRAINERS)
    data = made(60)
    path = write_coco(tmp_path / "data", data)
    file = path if path.is_file() else next(path.glob("*.json"))
    content = json.loads(file.read_text())
    for entry in content["annotations"]:
        entry["category_id"] = content["categories"][0]["id"]
    content["categories"] = [{**content["categories"][0], "name": "cell"}]
    file.write_text(json.dumps(content))
    result, _ = gate(f"crop_accuracy=0.5, dataset={str(path)!r}")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*all objects are of one class ('cell')*trainer=*"])
    marker = "found=0.3, bounds={'found': (0, 1)}, task='detection', trainer='own:boxes'"
    result, [record] = gate(f"{marker}, dataset={str(path)!r}")
    result.assert_outcomes(passed=1)
    assert list(record["class_counts"]) == ["cell"]


def test_values_per_image_must_be_as_many_as_there_are_test_images(gate, tmp_path, pytester):
    pytester.makepyfile(own=TRAINERS)
    path = write_coco(tmp_path / "data", made(60))
    marker = "map50=0.3, bounds={'map50': (0, 1)}, task='detection', trainer='own:wrong'"
    result, _ = gate(f"{marker}, dataset={str(path)!r}")
    result.stdout.fnmatch_lines(
        ["*'map50' has 2 values; expected one for each of the * test images*"]
    )


def test_plan_and_check_know_every_task(gate, tmp_path):
    for write, marker in ((write_masks, "mean_iou=0.1"), (write_coco, "crop_accuracy=0.2")):
        path = write(tmp_path / write.__name__, made())
        for mode in ("plan", "check"):
            result, [record] = gate(f"{marker}, dataset={str(path)!r}", f"--datasize={mode}")
            result.assert_outcomes(skipped=1)
            assert record["total"] == 160


def test_marker_and_yaml_are_the_same_gate(gate, tmp_path, pytester):
    path = write_sets(tmp_path / "data", made())
    (pytester.path / "datasize.yaml").write_text(
        f"requirements:\n  - {{subset_accuracy: 0.05, task: multilabel, dataset: {path}, "
        "repeats: 3, image_size: 48}\n".replace("{path}", str(path))
    )
    result = pytester.runpytest("datasize.yaml", "--datasize-json=y.json")
    result.assert_outcomes(passed=1)
    [record] = json.loads((pytester.path / "y.json").read_text())["requirements"]
    assert record["task"] == "multilabel"


@pytest.mark.parametrize(
    ("write", "task", "metric"),
    [
        (write_masks, "segmentation", "mean_iou"),
        (write_sets, "multilabel", "average_precision"),
        (write_counts, "regression", "r2"),
        (write_coco, "detection", "crop_accuracy"),
    ],
)
def test_init_writes_a_gate_for_what_the_labels_are(tmp_path, capsys, write, task, metric):
    from pytest_datasize.__main__ import main

    path = write(tmp_path / "data", made(60))
    asked = ["--task", task] if task == "detection" else []
    assert main(["init", str(path), "--into", str(tmp_path), "--no-probe", *asked]) == 0
    assert f"task: {task}" in (tmp_path / "datasize.yaml").read_text()
    assert f"requires({metric}=" in (tmp_path / "test_enough_images.py").read_text()


def test_masks_and_boxes_of_another_image_size_are_named(gate, tmp_path):
    from PIL import Image

    path = write_masks(tmp_path / "masks", made(40))
    wrong = Image.open(path / "masks" / "0007.png").resize((16, 32))
    wrong.save(path / "masks" / "0007.png")
    result, _ = gate(f"mean_iou=0.5, dataset={str(path)!r}")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*0007.png: 32 x 32 pixels, but its mask has 16 x 32*"])
    path = write_coco(tmp_path / "boxes", made(40))
    text = json.loads(path.read_text())
    text["annotations"][0]["bbox"] = [40, 2, 6, 6]
    path.write_text(json.dumps(text))
    result, _ = gate(f"crop_accuracy=0.5, dataset={str(path)!r}")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*lies outside the image of 32 x 32 pixels*"])


def test_a_preset_is_for_one_class_per_image(gate, tmp_path):
    path = write_counts(tmp_path / "data", made(40))
    result, _ = gate(f"r2=0.5, dataset={str(path)!r}, preset='keras-sample-size'")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*is a recipe for one class per image*"])


@pytest.mark.parametrize("sampling", ["balanced", "replacement"])
def test_sets_can_be_sampled_in_every_way(gate, tmp_path, sampling):
    path = write_sets(tmp_path / "data", made())
    _, [record] = gate(f"f1_samples=0.05, dataset={str(path)!r}, sampling={sampling!r}")
    assert record["sampling"] == sampling
    assert record["verdict"]


@pytest.mark.parametrize("task", ["multilabel", "regression", "segmentation", "detection"])
def test_test_images_may_be_given_for_every_task(gate, task):
    data = """
import sys
from mosaics import mosaics

def images(n, seed):
    made = mosaics(n, seed=seed)
    labels = {
        "multilabel": made.sets * 1,
        "regression": made.counts + 0.5,
        "segmentation": made.masks,
        "detection": made.targets,
    }
    return made.images, labels[%r]

@pytest.fixture(scope="session")
def datasize_dataset():
    return images(100, 1)

@pytest.fixture(scope="session")
def datasize_test_dataset():
    return images(60, 2)
"""
    metric = {
        "multilabel": "subset_accuracy=0.01",
        "regression": "mae=5",
        "segmentation": "dice=0.1",
        "detection": "crop_accuracy=0.2",
    }[task]
    result, [record] = gate(f"{metric}, task={task!r}", conftest=data % task)
    result.assert_outcomes(passed=1)
    assert (record["n_test"], record["available"]) == (60, 100)


def test_odd_names_are_escaped_in_every_report(gate, tmp_path, pytester):
    data = made()
    odd = ["<b>one</b>", "two\x1b[31m", "th|ree", "*zero*"]
    boxes = [[(odd[NAMES.index(name)], box) for name, box in own] for own in data.boxes]
    root = tmp_path / "data"
    paths = write_images(root, data.images)
    lines = [
        json.dumps({"path": path.name, "label": [name for name, _ in own]})
        for path, own in zip(paths, boxes, strict=True)
    ]
    (root / "data.jsonl").write_text("\n".join(lines))
    files = ["--datasize-html=r.html", "--datasize-markdown=r.md"]
    marker = f"recall_per_label=0.999, dataset={str(root / 'data.jsonl')!r}"
    result, _ = gate(marker, *files)
    result.assert_outcomes(failed=1)
    assert "\x1b[31m" not in result.stdout.str()
    assert "<b>one</b>" not in (pytester.path / "r.html").read_text()
