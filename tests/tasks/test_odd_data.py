"""Odd and damaged data of every task: nothing is left out in silence, and errors name the cause."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
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

from pytest_datasize.curve.metrics.regression import pearson, r2
from pytest_datasize.errors import DatasetError
from pytest_datasize.images.crops import crops
from pytest_datasize.images.image_set import Reading
from pytest_datasize.images.sources.load import load
from pytest_datasize.images.undecodable import UndecodableError

N = 24


@pytest.fixture(scope="module")
def made():
    return mosaics(N, empty=0.55)


def read(dataset, task="auto", test=None, **levels):
    return load(dataset, test, reading=Reading(task=task), levels=levels)


def changed(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    return str(path)


# -- left out, and told ---------------------------------------------------------------------------


def coco_without_an_image(root, made):
    return changed(write_coco(root, made), lambda data: data["images"].pop())


def yolo_without_an_image(root, made):
    path = write_yolo(root, made)
    (root / "images" / "train" / "0023.png").unlink()
    return str(path)


def voc_without_annotation(root, made):
    write_voc(root, made)
    (root / "Annotations" / "0023.xml").unlink()
    return str(root)


def voc_list_of_more(root, made):
    write_voc(root, made)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for name, stems in (("train", range(12)), ("val", range(12, 25))):
        lines = "".join(f"{stem:04d}\n" for stem in stems)
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text(lines)
    return str(root)


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (coco_without_an_image, "annotations that are not in its list of images.*: 23"),
        (yolo_without_an_image, "1 label files without an image.*0023.txt"),
        (voc_without_annotation, "1 images without an XML file.*0023.png"),
        (voc_list_of_more, "1 files that are not there.*0024"),
    ],
)
def test_annotations_and_images_that_do_not_meet_are_told(tmp_path, write, says):
    data = mosaics(N, seed=3, empty=0.2)  # the last image has objects
    with pytest.raises(DatasetError, match=says):
        read(write(tmp_path, data), "detection")


def test_masks_without_an_image_are_told(made, tmp_path):
    write_masks(tmp_path, made)
    (tmp_path / "images" / "0005.png").unlink()
    with pytest.raises(DatasetError, match=r"1 masks of images that are not there.*0005\.png"):
        read(str(tmp_path))


def test_two_masks_of_one_image_are_refused(made, tmp_path):
    write_masks(tmp_path, made, "_mask")
    mask = tmp_path / "masks" / "0005_mask.png"
    (tmp_path / "masks" / "0005_gt.png").write_bytes(mask.read_bytes())
    with pytest.raises(DatasetError, match=r"0005_gt\.png and .*0005_mask\.png are masks of one"):
        read(str(tmp_path))


def test_a_box_without_a_class_is_not_an_image_without_objects(made, tmp_path):
    path = write_box_table(tmp_path, made)
    with path.open("a") as file:
        file.write("images/0003.png,,1,2,9,9\n")
    with pytest.raises(DatasetError, match="has a box without a class in class"):
        read(str(path))


@pytest.mark.parametrize("change", ["same stem", "two files"])
def test_voc_files_that_may_belong_to_two_images_are_refused(made, tmp_path, change):
    write_voc(tmp_path, made)
    if change == "same stem":
        images = next(tmp_path.rglob("0003.png")).parent
        (images / "more").mkdir()
        shutil.copy(images / "0004.png", images / "more" / "0003.png")
        said = r"0003\.png and .*more/0003\.png have one name"
    else:
        annotation = (tmp_path / "Annotations" / "0003.xml").read_text()
        first = "<annotation><filename>0004.png</filename>"
        (tmp_path / "Annotations" / "x.xml").write_text(first + annotation.partition(">")[2])
        said = r"0004\.xml and .*x\.xml are annotations of one image"
    with pytest.raises(DatasetError, match=said):
        read(str(tmp_path), "detection")


def test_images_in_no_list_of_voc_are_told(made, tmp_path):
    write_voc(tmp_path, made)
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("".join(f"{number:04d}\n" for number in range(10)))
    (lists / "test.txt").write_text("".join(f"{number:04d}.png\n" for number in range(10, 20)))
    found = read(str(tmp_path), "multilabel")
    assert (len(found.images), len(found.test)) == (10, 10)
    assert any("4 images are in none of the lists" in note for note in found.images.notes)


def all_yolo_labels(change):
    def write(root, made):
        path = write_yolo(root, made)
        for file in root.rglob("*.txt"):
            file.write_bytes(change(file.read_text()))
        return str(path)

    return write


def yolo_names(text):
    def write(root, made):
        write_yolo(root, made).unlink()
        (root / "labels" / "classes.txt").write_text(text)
        return str(root)

    return write


def in_pixels(text):
    lines = [line.split() for line in text.splitlines()]
    shown = [[name, *(f"{float(share) * 32:g}" for share in box)] for name, *box in lines]
    return "\n".join(" ".join(line) for line in shown).encode()


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (all_yolo_labels(in_pixels), "expected shares of the image's width and height"),
        (all_yolo_labels(lambda text: text.replace(" ", ",").encode()), "before a space; it begin"),
        (yolo_names("\n".join([*NAMES[:2], "", *NAMES[2:]])), "line 3 is empty"),
        (yolo_names("\n".join([*NAMES, NAMES[0]])), f"two classes have the name '{NAMES[0]}'"),
    ],
)
def test_label_files_of_yolo_that_may_mean_something_else(made, tmp_path, write, says):
    with pytest.raises(DatasetError, match=says):
        read(write(tmp_path, made), "detection")


def test_label_files_with_a_byte_order_mark_or_key_points_and_names_beside_them(made, tmp_path):
    plain = read(str(write_yolo(tmp_path / "plain", made)), "detection").images
    write = all_yolo_labels(lambda text: b"\xef\xbb\xbf" + text.encode())
    assert read(write(tmp_path / "mark", made), "detection").images.amounts == plain.amounts
    write = all_yolo_labels(
        lambda text: "".join(f"{line} .1 .1 .2 .2\n" for line in text.splitlines()).encode()
    )
    path = write(tmp_path / "points", made)
    with open(path, "a") as file:
        file.write("kpt_shape: [2, 2]\n")
    with pytest.raises(DatasetError, match="boxes, not outlines"):
        read(path, "segmentation")
    boxes = read(path, "detection").images.targets
    assert boxes.corners.tolist() == plain.targets.corners.tolist()
    path = yolo_names("\n".join([*NAMES, ""]))(tmp_path / "names", made)
    assert read(path, "detection").images.targets.names == plain.targets.names


def test_a_label_file_whose_suffix_is_in_capitals_is_told(made, tmp_path):
    path = write_yolo(tmp_path, made)
    file = next(tmp_path.rglob("0003.txt"))
    file.rename(file.with_suffix(".TXT"))
    with pytest.raises(DatasetError, match=r"1 label files without an image.*0003\.TXT"):
        read(str(path), "detection")


def one_id_twice(data):
    data["categories"].append({"id": data["categories"][0]["id"], "name": "another"})


def one_name_twice(data):
    data["categories"][1]["name"] = data["categories"][0]["name"]


def no_number(data):
    data["annotations"][0]["bbox"][0] = float("nan")


def shares_of_sides(data):
    for entry in data["annotations"]:
        entry["bbox"] = [side / 32 for side in entry["bbox"]]


def turned_run_lengths(data):
    data["annotations"][0]["segmentation"]["size"] = [64, 16]


@pytest.mark.parametrize(
    ("change", "task", "says"),
    [
        (one_id_twice, "multilabel", "the id .* is that of two categories, .* and 'another'"),
        (one_name_twice, "multilabel", "the categories .* have the name"),
        (no_number, "detection", r"no `bbox` of four numbers, all finite \(found \[nan"),
        (shares_of_sides, "detection", "look like shares of the image's sides; expected pixels"),
        (
            turned_run_lengths,
            "segmentation",
            r"run lengths is \[64, 16\], h.* image has \[32, 32\]",
        ),
    ],
)
def test_coco_annotations_that_may_mean_something_else(made, tmp_path, change, task, says):
    with pytest.raises(DatasetError, match=says):
        read(changed(write_coco(tmp_path, made, "runs"), change), task)


# -- labels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (["a", None], "a label of image 1 is missing"),
        (["a", float("nan")], r"a label of image 1 is missing \(nan\)"),
        (["a", ""], r"a label of image 1 is missing \(''\)"),
        ([2, -1], "a label of image 1 is -1, which usually means that there is none"),
        ([["a"]], "a label of image 1 is a list"),
        (["a", "A"], "the labels 'A' and 'a' differ only in their case"),
    ],
)
def test_sets_with_what_is_no_label_are_refused(made, labels, says):
    given = [labels if number % 2 else ["b"] for number in range(N)]
    with pytest.raises(DatasetError, match=says):
        read((made.images, given), "multilabel")
    boxes = [{"boxes": [[1, 1, 9, 9]] * len(own), "labels": own} for own in given]
    with pytest.raises(DatasetError, match=says.replace("the labels", "the classes")):
        read((made.images, boxes), "detection")


def test_one_label_has_one_name_whatever_its_type(made):
    given = [[1, np.int64(1), torch.tensor(1), 1.0] if n % 2 else [b"0"] for n in range(N)]
    assert read((made.images, given), "multilabel").images.targets.names == ("0", "1")


def table(root, made, header, row):
    paths = write_images(root, made.images)
    lines = [header, *(f"{path.name},{row(number)}" for number, path in enumerate(paths))]
    (root / "labels.csv").write_text("\n".join(lines))
    return str(root / "labels.csv")


@pytest.mark.parametrize(
    ("header", "row", "task", "says"),
    [
        (
            "path,label",
            lambda n: "\"['a', 'b']\"" if n % 2 else "\"['a']\"",
            "auto",
            "lists written",
        ),
        ("path,label", lambda n: "\"['a', 'b']\"", "multilabel", "like a list written as text"),
        (
            "path,x,y",
            lambda n: f"{n % 2},{'' if n == 4 else 1}",
            "multilabel",
            "y has no number in e",
        ),
        (
            "path,x,y",
            lambda n: f"{n % 2},{-(n == 4)}",
            "multilabel",
            r"image 4 has the value -1\.0",
        ),
        ("path,label", lambda n: "inf" if n == 4 else n / 7, "regression", "image 4 is 'inf'"),
        ("path,label", lambda n: '"a' if n == 4 else "b", "auto", "begins in line 6 cannot be"),
    ],
)
def test_cells_that_may_mean_something_else_are_named(made, tmp_path, header, row, task, says):
    with pytest.raises(DatasetError, match=says):
        read(table(tmp_path, made, header, row), task)


def test_which_columns_were_read_is_told(made, tmp_path):
    path = table(tmp_path / "a", made, "path,label,class", lambda n: f"{'ab'[n % 2]},{n % 3}")
    assert any("column label, not from class" in note for note in read(path).images.notes)
    path = table(tmp_path / "b", made, "path,weight,age", lambda n: f"{n / 7},{n}")
    notes = read(path, "regression").images.notes
    assert any("the labels are the columns weight, age" in note for note in notes)
    path = table(tmp_path / "c", made, "path,x,y", lambda n: f"{n % 2 == 0},{n % 3 == 0}")
    assert read(path, "multilabel").images.targets.names == ("x", "y")


def test_the_order_of_objects_changes_nothing(made):
    turned = [{key: values[::-1] for key, values in target.items()} for target in made.targets]
    first, other = (
        read((made.images, targets), "detection", (made.images, targets))
        for targets in (made.targets, turned)
    )
    for one, same in zip(first, other, strict=True):
        assert (one.targets.corners == same.targets.corners).all()
        assert (one.targets.labels == same.targets.labels).all()


def test_a_trainer_gets_no_target_of_an_image_of_another_size(made, tmp_path):
    masks = read((made.images, made.masks)).images.targets
    with pytest.raises(UndecodableError, match="16 x 32 pixels, but its mask has 32 x 32"):
        masks.target(0, (16, 32))
    path = write_coco(tmp_path, made)
    row = json.loads(path.read_text())["annotations"][0]["image_id"]
    boxes = read(str(path), "detection").images.targets
    with pytest.raises(UndecodableError, match="its annotations say 32 x 32"):
        boxes.target(row, (16, 32))
    boxes = read((made.images, [{"boxes": [[40, 0, 50, 9]], "labels": ["a"]}] * N)).images.targets
    with pytest.raises(UndecodableError, match="lies outside the image of 32 x 32"):
        boxes.target(0, (32, 32))


# -- masks ----------------------------------------------------------------------------------------


def test_masks_saved_as_jpeg_are_refused(made, tmp_path):
    write_images(tmp_path / "images", made.images)
    (tmp_path / "masks").mkdir()
    for number, mask in enumerate(made.masks):
        grey = Image.fromarray(((mask > 0) * 255).astype(np.uint8))
        grey.save(tmp_path / "masks" / f"{number:04d}.jpg")
    with pytest.raises(DatasetError, match="JPEG changes the values of pixels; save masks as PNG"):
        read(str(tmp_path))


def test_void_is_void_in_a_part_that_shows_nothing_else(made, tmp_path):
    def part(name, masks):
        write_masks(tmp_path / name, made._replace(masks=masks))

    bordered = np.where(made.masks > 0, 1, 0)
    bordered[:, 0] = 255
    part("train", bordered)
    part("val", np.where(bordered == 1, 0, bordered))  # 0 and 255 only
    part("test", np.where(bordered == 255, 0, bordered))
    found = read(str(tmp_path))
    assert found.images.names == found.test.names == ("0", "1")
    for row in (0, N):  # of train and of val
        assert (found.images.targets.read(row)[0] == -1).all()
    assert found.images.targets.areas.sum() == 2 * N * 31 * 32


PALETTE = np.array([[0, 0, 0], [255, 255, 255], [0, 0, 255], [0, 255, 0], [255, 0, 0]], np.uint8)


def test_blue_is_a_class_and_white_is_one_in_every_mask(made, tmp_path):
    """As in DeepGlobe and ISPRS: white and blue are classes, and some masks show only white."""
    write_images(tmp_path / "images", made.images)
    (tmp_path / "masks").mkdir()
    masks = made.masks.copy()
    masks[0] = masks[0] > 0  # black and white
    for number, mask in enumerate(masks):
        Image.fromarray(PALETTE[mask]).save(tmp_path / "masks" / f"{number:04d}.png")
    found = read(str(tmp_path)).images.targets
    assert found.names == ("#000000", "#0000ff", "#00ff00", "#ff0000", "#ffffff")
    assert found.void is None
    place = np.array([found.names.index(f"#{bytes(colour).hex()}") for colour in PALETTE])
    assert all(np.array_equal(found.read(row), place[masks[row]]) for row in range(N))
    assert found.areas.sum() == masks.size


def test_greys_in_three_channels_are_their_numbers_also_beside_plain_masks(made, tmp_path):
    write_masks(tmp_path, made)
    for number in range(0, N, 2):
        three = np.stack([made.masks[number].astype(np.uint8)] * 3, axis=-1)
        Image.fromarray(three).save(tmp_path / "masks" / f"{number:04d}.png")
    found = read(str(tmp_path)).images.targets
    assert found.names == ("0", "1", "2", "3", "4")
    assert all(np.array_equal(found.read(row), made.masks[row]) for row in range(N))


def test_masks_of_16_bits_keep_their_numbers(made, tmp_path):
    write_images(tmp_path / "images", made.images)
    (tmp_path / "masks").mkdir()
    for number, mask in enumerate(made.masks):
        deep = Image.fromarray((mask * 1000).astype(np.uint16))
        deep.save(tmp_path / "masks" / f"{number:04d}.png")
    found = read(str(tmp_path)).images.targets
    assert found.names == ("0", "1000", "2000", "3000", "4000")
    assert np.array_equal(found.read(3), made.masks[3])


def test_masks_of_which_nothing_is_judged_are_told(made):
    masks = made.masks.copy()
    masks[:3] = 255
    found = read((made.images, masks)).images
    assert any("3 masks have no pixel that is judged" in note for note in found.notes)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: data["annotations"][0].update(area="big"), ""),
        (
            lambda data: data["annotations"][0].update(
                segmentation={"counts": [10**13], "size": [32, 32]}
            ),
            "add up to 10,000,000,000,000 pixels",
        ),
        (lambda data: data["images"][0].update(width=10**6, height=10**6), "is too large"),
    ],
)
def test_a_file_can_claim_any_size(made, tmp_path, change, says):
    path = changed(write_coco(tmp_path, made, "polygons"), change)
    if not says:
        assert len(read(path, "segmentation").images) == N
        return
    with pytest.raises(DatasetError, match=says):
        read(path, "segmentation")


def test_an_image_of_outlines_that_cannot_be_opened_is_named(made, tmp_path):
    path = write_yolo(tmp_path, made, outlines=True)
    (tmp_path / "images" / "train" / "0004.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"0004\.png"):
        read(str(path), "segmentation")


# -- boxes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        {"boxes": np.ones((4, 5)), "labels": ["one"] * 5},
        {"boxes": [[1, 2, 3, 4], [1, 2]], "labels": ["one", "two"]},
        {"boxes": [[1, 2, 3, 4]], "labels": None},
    ],
)
def test_boxes_of_another_shape_are_named(made, target):
    targets = [*made.targets]
    targets[3] = target
    with pytest.raises(DatasetError, match=r"boxes of image 3 are no array of shape \(n, 4\)"):
        read((made.images, targets))


def turned(path):
    """Give an image an EXIF orientation: it is shown turned by a quarter."""
    wide = Image.open(path).resize((40, 32))
    exif = wide.getexif()
    exif[0x0112] = 6
    wide.save(path, exif=exif)


def coco_turned(root, made):
    path = write_coco(root, made)
    turned(root / "images" / "0007.png")
    return changed(path, lambda data: data["images"][7].update(width=40, height=32))


def voc_turned(root, made):
    write_voc(root, made)
    turned(root / "JPEGImages" / "0007.png")
    path = root / "Annotations" / "0007.xml"
    size = "<size><width>40</width><height>32</height></size></annotation>"
    path.write_text(path.read_text().replace("</annotation>", size))
    return str(root)


@pytest.mark.parametrize("write", [coco_turned, voc_turned])
def test_boxes_of_an_image_that_its_exif_data_turn_are_refused(tmp_path, write):
    data = mosaics(N, seed=3, empty=0.2)
    images = read(write(tmp_path, data), "detection").images
    both = replace(images, targets=images.targets.joined([images.targets]))
    for found in (images, images.part(np.arange(N)), both):
        objects = crops(found)
        with pytest.raises(UndecodableError, match="32 x 40 pixels, its annotations say 40 x 32"):
            objects.read(int(found.targets.starts[7]))
        assert objects.read(int(found.targets.starts[8])).shape[2] == 3


def hugging_face(made, change=lambda objects: None):
    """Rows with a list of objects each, as ``Dataset.from_list`` makes them."""
    datasets = pytest.importorskip("datasets")
    number = datasets.ClassLabel(names=list(NAMES))
    box = datasets.Sequence(datasets.Value("float32"), length=4)
    features = datasets.Features(
        {"image": datasets.Image(), "objects": [{"bbox": box, "category": number}]}
    )
    objects = [
        [
            {"bbox": [x0, y0, x1 - x0, y1 - y0], "category": NAMES.index(name)}
            for name, (x0, y0, x1, y1) in boxes
        ]
        for boxes in made.boxes
    ]
    change(objects)
    pictures = [Image.fromarray(image) for image in made.images]
    return datasets.Dataset.from_dict({"image": pictures, "objects": objects}, features)


def test_a_list_of_objects_in_each_row(made):
    found = read(hugging_face(made)).images.targets
    for row, boxes in enumerate(made.boxes):
        corners, labels = found.of_image(row)
        own = zip([found.names[label] for label in labels], corners.tolist(), strict=True)
        assert sorted((name, tuple(box)) for name, box in own) == sorted(boxes)


@pytest.mark.parametrize(
    ("part", "says"),
    [({"category": -1}, "has no class"), ({"bbox": None}, "no box of four numbers")],
)
def test_an_object_whose_class_is_unknown_is_not_of_the_last_class(made, part, says):
    def change(objects):
        next(own for own in objects if own)[0].update(part)

    with pytest.raises(DatasetError, match=says):
        read(hugging_face(made, change))


# -- numbers and names ----------------------------------------------------------------------------


def test_numbers_whose_squares_overflow_are_refused(made):
    with pytest.raises(DatasetError, match="use another unit"):
        read((made.images, np.linspace(0.5, 1e300, N)))


def test_equal_numbers_do_not_vary_by_the_rounding_of_their_mean(made):
    equal = np.full((44, 1), 0.1)
    assert equal.mean(axis=0)[0] != 0.1  # by rounding
    predicted = np.linspace(0.0, 0.2, 44)[:, None]
    for metric in (r2, pearson):
        assert not metric(equal, predicted).any()
    assert not pearson(predicted, equal).any()
    with pytest.raises(DatasetError, match="the same number"):
        read((made.images, np.full(N, 0.3)), "regression")


def test_a_range_without_test_images_is_named(made):
    other = mosaics(10, seed=5)
    numbers = np.linspace(0.5, 9.5, N)
    with pytest.raises(DatasetError, match="no test image with a number in the range 'up to"):
        read((made.images, numbers), "regression", (other.images, np.full(10, 9.25)))


def test_more_labels_than_images_are_too_few_images():
    from support import stages

    from pytest_datasize.study.study import Study

    data = mosaics(40, seed=2)
    sets = np.random.default_rng(0).random((40, 60)) < 0.4
    study = Study((data.images, sets), backbone=stages(normed=True, cells=(1, 1)), image_size=48)
    with pytest.raises(DatasetError, match=r"31 images .* too few .* at least 122"):
        study.plan()


def test_class_names_with_separators_are_read_in_time(made):
    names = [f"crop {number};leaf {number}" for number in range(20_000)]
    from pytest_datasize.images.targets.read import guessed

    assert guessed(names, "labels") == "classification"
    with pytest.raises(DatasetError, match="one class or several"):
        guessed([*names, "leaf 7"], "labels")


def test_a_stray_xml_file_does_not_make_folders_of_classes_pascal_voc(made, tmp_path):
    for name in ("one", "two"):
        write_images(tmp_path / name, made.images[:6])
    (tmp_path / "pom.xml").write_text("<project/>")
    assert load(str(tmp_path)).images.class_counts == {"one": 6, "two": 6}


def test_a_table_of_boxes_guesses_as_coco_does(made, tmp_path):
    with pytest.raises(DatasetError, match=r"several classes.*task='detection'.*--datasize-task"):
        load(str(write_box_table(tmp_path / "several", made)))
    first = [image[:1] for image in made.boxes]
    path = write_box_table(tmp_path / "one", made._replace(boxes=first))
    images = read(str(path), missing_labels="note").images
    assert images.task == "classification"
    assert sum(images.class_counts.values()) == sum(map(len, first))


def test_a_table_with_one_1_in_every_row_is_told(made, tmp_path):
    paths = write_images(tmp_path, made.images)
    rows = [f"{path.name},{n % 2},{1 - n % 2}" for n, path in enumerate(paths)]
    (tmp_path / "t.csv").write_text("\n".join(["path,odd,even", *rows]))
    images = load(str(tmp_path / "t.csv")).images
    assert images.classes == ("even", "odd")
    assert any("task: classification, as every row" in note for note in images.notes)


def test_pixels_of_minus_one_are_not_judged(made):
    masks = made.masks.astype(int)
    masks[:, :4] = -1
    images = load((made.images, masks), reading=Reading(task="segmentation")).images
    assert "-1" not in images.names
    assert images.targets.void == -1
    assert (images.targets.read(0)[:4] == -1).all()
    assert any("pixels of the value -1 are not judged" in note for note in images.notes)
