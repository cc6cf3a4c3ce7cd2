"""Targets of every kind: guessed, matched, refused, and the same from every source."""

import json

import numpy as np
import pytest
from mosaics import (
    NAMES,
    mosaics,
    write_box_table,
    write_coco,
    write_images,
    write_masks,
    write_voc,
    write_yolo,
)
from PIL import Image

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.crops import crops
from pytest_datasize.images.image_set import Reading
from pytest_datasize.images.sources.load import load
from pytest_datasize.images.targets.outlines import Outline, Outlined, outline_of
from pytest_datasize.trials.plan import draw

N = 24
BACKGROUND = ("background", *NAMES)


@pytest.fixture(scope="module")
def made():
    return mosaics(N, empty=0.55)


def targets(dataset, task="auto"):
    return load(dataset, reading=Reading(task=task)).images.targets


def boxes_of(found):
    """(name, corners) of each image, in pixels, sorted."""
    return [
        sorted(
            (found.names[label], tuple(np.round(box).astype(int).tolist()))
            for label, box in zip(found.of_image(row)[1], found.pixels(row, (32, 32)), strict=True)
        )
        for row in range(len(found))
    ]


# -- guessed from the labels ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "task"),
    [
        (lambda made: made.sets, "multilabel"),
        (lambda made: made.sets.astype(float), "multilabel"),
        (lambda made: [[name for name, _ in boxes] for boxes in made.boxes], "multilabel"),
        (lambda made: made.counts + 0.25, "regression"),
        (lambda made: np.stack([made.counts, made.counts**2], axis=1), "regression"),
        (lambda made: made.masks, "segmentation"),
        (lambda made: made.targets, "detection"),
        (lambda made: made.counts, "classification"),
    ],
)
def test_the_task_is_guessed_from_the_labels_and_told(made, labels, task):
    images = load((made.images, labels(made))).images
    assert images.task == task
    assert task == "classification" or any(f"task: {task}" in note for note in images.notes)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.eye(4, dtype=int)[np.arange(N) % 4], "argmax.*multilabel"),
        (["a;b", "a", "b"] * 8, "task='multilabel'.*task='classification'"),
    ],
)
def test_labels_that_fit_two_tasks_are_refused_with_both(made, labels, says):
    with pytest.raises(DatasetError, match=f"(?s){says}"):
        load((made.images, labels))


@pytest.mark.parametrize(
    ("labels", "task", "says"),
    [
        ([0, 1] * 12, "segmentation", r"\(H, W\)"),
        ([0, 1] * 12, "detection", "boxes"),
        (["a", "b"] * 12, "regression", "takes a number"),
        ([1.0, None] * 12, "regression", "takes a number"),
        ([1.0] * 24, "regression", "same number"),
        (np.full((24, 2), 2), "multilabel", "0 and 1"),
        ([["a"], ["a", "b"]] * 12, "multilabel", "all images show the label 'a'"),
        (np.zeros((24, 4, 4), dtype=int), "segmentation", "one class"),
        ([{"boxes": [], "labels": []}] * 24, "detection", "no objects"),
    ],
)
def test_labels_of_another_task_are_refused_with_what_is_expected(made, labels, task, says):
    with pytest.raises(DatasetError, match=says):
        load((made.images, labels), reading=Reading(task=task))


@pytest.mark.parametrize("names", [("cell",), ("cell", "debris")])
def test_objects_of_one_class_in_every_image_can_be_drawn(made, names):
    objects = [{"boxes": [[0, 0, 4, 4]], "labels": [names[n % len(names)]]} for n in range(24)]
    images = load((made.images, objects), reading=Reading(task="detection")).images
    plan = draw(images, sizes=(4, 8, 12), repeats=2)
    assert plan.available == 24 - plan.n_test


# -- the same from every source -------------------------------------------------------------------


@pytest.mark.parametrize("write", [write_coco, write_yolo, write_voc, write_box_table])
def test_every_source_gives_the_same_boxes(made, tmp_path, write):
    path = write(tmp_path, made)
    found = targets(str(path), "detection")
    assert found.names == tuple(sorted(NAMES))
    assert boxes_of(found) == [sorted(boxes) for boxes in made.boxes]
    assert sum(found.amounts.values()) == made.counts.sum()


@pytest.mark.parametrize("write", [write_coco, write_yolo, write_voc, write_box_table])
def test_boxes_give_sets_of_labels_too(made, tmp_path, write):
    found = targets(str(write(tmp_path, made)), "multilabel")
    order = [NAMES.index(name) for name in found.names]
    assert np.array_equal(found.shown, made.sets[:, order])


@pytest.mark.parametrize("write", [write_coco, write_yolo, write_voc])
def test_images_of_several_classes_say_which_task_to_ask_for(made, tmp_path, write):
    with pytest.raises(DatasetError, match=r"task='detection'.*'multilabel'"):
        targets(str(write(tmp_path, made)))


@pytest.mark.parametrize(
    "write",
    [
        write_masks,
        lambda root, made: write_masks(root, made, "_mask"),
        lambda root, made: write_coco(root, made, "runs"),
    ],
)
def test_every_source_gives_the_same_masks(made, tmp_path, write):
    found = targets(str(write(tmp_path, made)), "segmentation")
    plain = [int(name) if name.isdigit() else BACKGROUND.index(name) for name in found.names]
    for row, mask in enumerate(made.masks):
        assert np.array_equal(np.array(plain)[found.read(row)], mask)


@pytest.mark.parametrize(
    "write",
    [
        lambda root, made: write_coco(root, made, "polygons"),
        lambda root, made: write_yolo(root, made, outlines=True),
    ],
)
def test_outlines_fill_the_pixels_inside(made, tmp_path, write):
    found = targets(str(write(tmp_path, made)), "segmentation")
    for row, boxes in enumerate(made.boxes):
        filled = np.zeros((32, 32), dtype=bool)
        for _, (x0, y0, x1, y1) in boxes:
            filled[y0:y1, x0:x1] = True
        assert np.array_equal(np.array(found.names)[found.read(row)] != "background", filled)


def test_images_without_objects_are_data_and_told(made, tmp_path):
    empty = int((made.counts == 0).sum())
    assert empty
    images = load(str(write_coco(tmp_path, made)), reading=Reading(task="detection")).images
    assert len(images) == N
    assert any(f"{empty} images" in note and "show nothing" in note for note in images.notes)


def test_columns_of_a_table_are_labels_numbers_or_masks(made, tmp_path):
    paths = write_images(tmp_path, made.images)
    header = f"path,{','.join(NAMES)}\n"
    rows = [
        f"{p.name},{','.join(map(str, own.astype(int)))}\n"
        for p, own in zip(paths, made.sets, strict=True)
    ]
    (tmp_path / "sets.csv").write_text(header + "".join(rows))
    found = targets(str(tmp_path / "sets.csv"))
    assert found.names == NAMES
    assert np.array_equal(found.shown, made.sets)
    rows = [f"{p.name},{c},{c / 3}\n" for p, c in zip(paths, made.counts, strict=True)]
    (tmp_path / "numbers.csv").write_text("path,digits,weight\n" + "".join(rows))
    found = targets(str(tmp_path / "numbers.csv"))
    assert found.units == ("digits", "weight")
    assert np.allclose(found.values[:, 0], made.counts)
    rows = [
        f"{p.name},{';'.join(n for n, _ in b)}\n" for p, b in zip(paths, made.boxes, strict=True)
    ]
    (tmp_path / "cells.csv").write_text("path,label\n" + "".join(rows))
    found = targets(str(tmp_path / "cells.csv"), "multilabel")
    assert np.array_equal(found.shown[:, [found.names.index(n) for n in NAMES]], made.sets)
    write_masks(tmp_path / "m", made)
    rows = [f"{p.name},m/masks/{p.name}\n" for p in paths]
    (tmp_path / "masks.csv").write_text("path,mask\n" + "".join(rows))
    assert np.array_equal(targets(str(tmp_path / "masks.csv")).read(3), made.masks[3])


def test_lists_of_labels_in_json_lines_are_sets(made, tmp_path):
    paths = write_images(tmp_path, made.images)
    lines = [
        json.dumps({"path": path.name, "labels": "x", "label": [name for name, _ in boxes]})
        for path, boxes in zip(paths, made.boxes, strict=True)
    ]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    assert targets(str(tmp_path / "data.jsonl")).amounts is None


def test_a_data_set_that_is_divided_keeps_its_parts(made, tmp_path):
    for part, some in (("train", slice(0, 16)), ("val", slice(16, 24))):
        folder = tmp_path / part
        write_images(folder / "images", made.images[some])
        for number, mask in enumerate(made.masks[some]):
            (folder / "masks").mkdir(exist_ok=True)
            Image.fromarray(mask.astype(np.uint8)).save(folder / "masks" / f"{number:04d}.png")
    loaded = load(str(tmp_path))
    assert (len(loaded.images), len(loaded.test)) == (16, 8)
    assert loaded.test.targets.names == loaded.images.targets.names
    assert np.array_equal(loaded.test.targets.read(2), made.masks[18])


def test_coloured_masks_have_one_class_for_each_colour(made, tmp_path):
    write_images(tmp_path / "images", made.images)
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 200]], np.uint8)
    write_images(tmp_path / "masks", colours[made.masks])
    found = targets(str(tmp_path))
    assert found.names[0] == "#000000"
    assert "#ff0000" in found.names
    assert np.array_equal(found.read(1) == 0, made.masks[1] == 0)


def test_void_pixels_are_not_judged(made):
    masks = made.masks.copy()
    masks[:, 0] = 255
    images = load((made.images, masks)).images
    assert "255" not in images.names
    assert (images.targets.read(0)[0] == -1).all()
    assert any("255" in note for note in images.notes)
    binary = np.where(made.masks > 0, 255, 0)  # 255 beside 0 alone is a class
    assert load((made.images, binary)).images.names == ("0", "255")


def test_lossy_masks_are_refused(made, tmp_path):
    write_images(tmp_path / "images", made.images)
    (tmp_path / "masks").mkdir()
    noise = np.random.default_rng(0)
    for number in range(N):
        mask = noise.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number:04d}.png")
    with pytest.raises(DatasetError, match="different values"):
        targets(str(tmp_path))


# -- damaged files --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda entry: entry.update(bbox=[1, 2, 3]), "four numbers"),
        (lambda entry: entry.update(bbox=None), "four numbers"),
        (lambda entry: entry.update(category_id=99), "not among the categories"),
    ],
)
def test_damaged_coco_boxes_are_named(made, tmp_path, change, says):
    path = write_coco(tmp_path, made)
    data = json.loads(path.read_text())
    change(data["annotations"][0])
    path.write_text(json.dumps(data))
    with pytest.raises(DatasetError, match=says):
        targets(str(path), "detection")


@pytest.mark.parametrize(
    ("segmentation", "says"),
    [
        ([[1, 2, 3, 4]], "at least three corners"),
        ([["a", 2, 3, 4, 5, 6]], "at least three corners"),
        ({"counts": [5, 7], "size": [32, 32]}, "add up to"),
        ({"counts": [5, -7]}, "whole numbers"),
        ("text", "is a str"),
    ],
)
def test_damaged_outlines_are_named(made, tmp_path, segmentation, says):
    path = write_coco(tmp_path, made, "polygons")
    data = json.loads(path.read_text())
    data["annotations"][0]["segmentation"] = segmentation
    path.write_text(json.dumps(data))
    with pytest.raises(DatasetError, match=says):
        targets(str(path), "segmentation")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<annotation><object>", "not valid XML"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><annotation>&b;</annotation>", "document type"),
        ("<annotation><object><name>one</name></object></annotation>", "no box"),
    ],
)
def test_damaged_xml_is_named(made, tmp_path, text, says):
    root = write_voc(tmp_path, made)
    (root / "Annotations" / "0003.xml").write_text(text)
    with pytest.raises(DatasetError, match=f"0003.xml.*{says}"):
        targets(str(root), "detection")


def test_boxes_without_an_area_are_left_out_and_told(made):
    given = made.targets
    given[0] = {"boxes": [[3, 3, 3, 9], [0, 0, 5, 5]], "labels": ["one", "two"]}
    images = load((made.images, given)).images
    assert any("1 boxes without an area" in note for note in images.notes)


def test_coco_run_lengths_are_unpacked_as_its_own_tools_write_them():
    """Compressed by pycocotools 2.0: mask.encode(np.asfortranarray([[0, 1], [1, 1]], 'uint8'))."""
    outline = outline_of(1, {"counts": "13", "size": [2, 2]}, "here", (2, 2))
    assert outline == Outline(1, runs=(1, 3))
    assert Outlined([[outline]], [(2, 2)])(0).tolist() == [[0, 1], [1, 1]]


# -- crops ----------------------------------------------------------------------------------------


def test_crops_show_the_objects(made):
    images = load((made.images, made.targets)).images
    found = crops(images)
    assert len(found) == made.counts.sum()
    first = next(row for row, boxes in enumerate(made.boxes) if boxes)
    _, (x0, y0, x1, y1) = made.boxes[first][0]
    crop = found.read(0)
    assert crop.shape[0] >= y1 - y0
    assert crop.shape[1] >= x1 - x0
    inside = made.images[first, y0:y1, x0:x1]
    assert any(
        np.array_equal(crop[y : y + y1 - y0, x : x + x1 - x0], inside)
        for y in range(crop.shape[0])
        for x in range(crop.shape[1])
    )


def test_masks_of_other_images_are_another_data_set(made):
    """The fingerprint depends on the targets, not on the images alone."""
    from pytest_datasize import Study

    plain = Study((made.images, made.masks)).fingerprint()
    changed = made.masks.copy()
    changed[0, 0, 0] = 1 - changed[0, 0, 0]
    assert Study((made.images, changed)).fingerprint() != plain
    assert Study((made.images, made.masks)).fingerprint() == plain


# -- objects of libraries -------------------------------------------------------------------------


def test_hugging_face_columns_of_every_task(made):
    datasets = pytest.importorskip("datasets")
    pictures = [Image.fromarray(image) for image in made.images]
    names = list(NAMES)
    number = datasets.ClassLabel(names=names)
    several = datasets.Features({"image": datasets.Image(), "labels": datasets.Sequence(number)})
    labels = [[names.index(name) for name, _ in boxes] for boxes in made.boxes]
    found = targets(datasets.Dataset.from_dict({"image": pictures, "labels": labels}, several))
    assert np.array_equal(found.shown, made.sets[:, [NAMES.index(name) for name in found.names]])

    boxes = datasets.Sequence(datasets.Value("float32"), length=4)
    objects = datasets.Features(
        {
            "image": datasets.Image(),
            "objects": datasets.Sequence({"bbox": boxes, "category": number}),
        }
    )
    given = [
        {
            "bbox": [[x0, y0, x1 - x0, y1 - y0] for _, (x0, y0, x1, y1) in boxes],
            "category": [names.index(name) for name, _ in boxes],
        }
        for boxes in made.boxes
    ]
    data = datasets.Dataset.from_dict({"image": pictures, "objects": given}, objects)
    assert boxes_of(targets(data)) == [sorted(boxes) for boxes in made.boxes]
    assert targets(data, "multilabel").task == "multilabel"

    masks = [Image.fromarray(mask.astype(np.uint8)) for mask in made.masks]
    both = datasets.Features({"image": datasets.Image(), "mask": datasets.Image()})
    found = targets(datasets.Dataset.from_dict({"image": pictures, "mask": masks}, both))
    assert np.array_equal(found.read(2), made.masks[2])

    numbers = {"image": pictures, "label": (made.counts + 0.5).tolist()}
    shapes = datasets.Features({"image": datasets.Image(), "label": datasets.Value("float32")})
    assert targets(datasets.Dataset.from_dict(numbers, shapes)).task == "regression"


def test_a_torch_data_set_of_detection_targets(made):
    class Objects:
        def __len__(self):
            return N

        def __getitem__(self, index):
            target = made.targets[index]
            labels = np.array([NAMES.index(name) for name in target["labels"]], dtype=np.int64)
            return made.images[index], {"boxes": target["boxes"], "labels": labels}

    found = targets(Objects())
    plain = [[(NAMES[int(name)], box) for name, box in own] for own in boxes_of(found)]
    assert [sorted(own) for own in plain] == [sorted(boxes) for boxes in made.boxes]


def test_unchanged_masks_are_not_read_again(made, tmp_path, monkeypatch):
    from pytest_datasize import Study
    from pytest_datasize.images.sources.mask_files import MaskFiles

    root = write_masks(tmp_path / "data", made)
    read = []
    whole = MaskFiles.__call__
    monkeypatch.setattr(
        MaskFiles, "__call__", lambda self, row: read.append(row) or whole(self, row)
    )
    first = Study(str(root), store=tmp_path / "store").fingerprint()
    assert len(read) == N
    assert Study(str(root), store=tmp_path / "store").fingerprint() == first
    assert len(read) == N
    changed = made.masks[5].copy()
    changed[0, 0] = 2
    Image.fromarray(changed.astype(np.uint8)).save(root / "masks" / "0005.png")
    assert Study(str(root), store=tmp_path / "store").fingerprint() != first
    assert len(read) == 2 * N
