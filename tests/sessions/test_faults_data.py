"""Data that would be judged wrongly or with somebody else's error: right, or a clear error.

One row per fault and per sibling; adding one is a function that makes the data, and what is said.
"""

import io
import json
import os
import re
import shutil
import tarfile

import numpy as np
import pandas
import pytest
import torch
from PIL import Image
from support import shapes

from pytest_datasize.embedding.embed import Embeddings
from pytest_datasize.errors import DatasetError, RequirementError, TrainingError
from pytest_datasize.images.decode import decode
from pytest_datasize.images.image_set import Reading
from pytest_datasize.images.sources.files import Files
from pytest_datasize.images.sources.load import load
from pytest_datasize.images.sources.unlabelled import load_unlabelled
from pytest_datasize.images.undecodable import UndecodableError, UnreadableError
from pytest_datasize.requirement.requirement import Requirement
from pytest_datasize.requirement.targets import class_targets
from pytest_datasize.study.study import Study

IMAGES, LABELS = shapes(60)


def saved(folder, number, suffix="png"):
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(IMAGES[number % 60]).save(folder / f"{number:03}.{suffix}")


def classes(root, names=("cat", "dog"), each=12):
    for place, name in enumerate(names):
        for number in range(each):
            saved(root / name, 2 * number + place)
    return root


def parts(root):
    for part in ("training_set", "test_set"):
        classes(root / part)
    return root


def batches(root):
    for number in range(3):
        classes(root / f"batch_{number}")
    return root


def doubled(root):
    return classes(root / "PetImages").parent


def masks(root):
    classes(root)
    for path in list(root.rglob("*.png")):
        Image.open(path).convert("RGB").save(path.with_suffix(".jpg"))
    return root


def previews(root):
    classes(root)
    for path in list(root.rglob("*.png")):
        shutil.copy(path, path.with_stem(f"{path.stem}_small"))
    return root


def background(root):
    classes(root)
    saved(root / "__background__", 7)
    return root


def named(*patterns, classes=("cat", "dog")):
    """Return what makes a folder with files of these names, such as ``*/{}_mask.png``."""

    def make(root):
        for pattern in patterns:
            for place, name in enumerate(classes if "*" in pattern else [""]):
                for number in range(12):
                    path = root / pattern.replace("*", name).format(number)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(IMAGES[2 * number + place]).save(path)
        return root

    return make


ASKED_PARTS = "share the folders"
ASKED_COPY = "holds folders named like the classes beside it"
ASKED_COMPANIONS = "have a companion of the same name"
FOLDERS = {
    "parts with some classes of their own": (
        named("p1/a/{}.png", "p1/b/{}.png", "p2/b/{}.png", "p2/c/{}.png"),
        ASKED_PARTS,
    ),
    "parts with a picture of all": (
        lambda root: saved(parts(root) / "test_set", 3) or root,
        ASKED_PARTS,
    ),
    "parts in another case": (
        named("one/*/{}.png", "two/Cat/{}.png", "two/Dog/{}.png"),
        ASKED_PARTS,
    ),
    "folds that are split": (
        named(*(f"{fold}/{part}/*/{{}}.png" for fold in "12" for part in ("train", "test"))),
        ASKED_PARTS,
    ),
    "parts and another folder": (
        named("one/*/{}.png", "two/*/{}.png", "docs/x/{}.png"),
        ASKED_PARTS,
    ),
    "labels beside the classes": (named("*/{}.png", "labels/*/{}.png"), ASKED_COPY),
    "augmented copies beside the classes": (named("*/{}.png", "augmented/*/{}.png"), ASKED_COPY),
    "a class called train": (named("*/{}.png", "train/{}.png"), "if `train` is a class, set"),
    "folded twice": (named("a/b/*/{}.png"), "holds the folders cat, dog"),
    "masks with a beginning": (named("*/{}.png", "*/mask_{}.png"), ASKED_COMPANIONS),
    "masks without a separator": (named("*/{}.png", "*/{}mask.png"), ASKED_COMPANIONS),
    "masks of one class": (named("*/{}.png", "cat/{}_mask.png"), ASKED_COMPANIONS),
    "masks in a folder": (named("*/{}.png", "*/masks/{}.png"), ASKED_COMPANIONS),
    "masks in a folder beside images": (
        named("*/images/{}.png", "*/ground_truth/{}_x.png"),
        ASKED_COMPANIONS,
    ),
    "depth maps": (named("*/{}_rgb.png", "*/{}_depth.png"), ASKED_COMPANIONS),
    "thumbnails": (named("*/{}.png", "*/thumbs/{}.jpg"), ASKED_COMPANIONS),
    "augmented copies": (named("*/{}.png", "*/augmented/{}_flip.png"), ASKED_COMPANIONS),
    "copies of a file manager": (named("*/{}.png", "*/{} (1).png"), ASKED_COMPANIONS),
    "parts under other names": (parts, "classes (cat, dog), name one part with dataset="),
    "batches": (batches, "the folders batch_0, batch_1, batch_2"),
    "a doubled folder": (doubled, "Did you mean dataset='*PetImages'?"),
    "masks beside their images": (
        masks,
        "24 images have a companion of the same name",
    ),
    "previews beside their images": (previews, "with a fixed ending, such as *000*_small"),
    "a class that looks like a service folder": (background, "Rename the folder if it is a class"),
}


@pytest.mark.parametrize("fault", FOLDERS)
def test_a_folder_with_two_readings_is_asked_about(fault, tmp_path):
    make, said = FOLDERS[fault]
    with pytest.raises(DatasetError) as found:
        load(str(make(tmp_path / "data")))
    for part in said.split("*"):
        assert part in str(found.value)


def test_the_answer_is_a_level_of_the_check(tmp_path):
    for make, check in ((parts, "parts_as_classes"), (masks, "companions")):
        root = make(tmp_path / check)
        images = load(str(root), levels={check: "note"}).images
        assert len(images) == 48
        assert any(finding.check == check for finding in images.findings)


def test_a_class_may_be_called_train(tmp_path):
    root = classes(tmp_path / "vehicles", ("bus", "train"))
    with pytest.raises(DatasetError, match="split_names"):
        load(str(root))
    images = load(str(root), levels={"split_names": "note"}).images
    assert images.classes == ("bus", "train")


ORDINARY = [
    ["*/images/{}.png"],
    ["*/{}_left.png", "*/{}_right.png"],
    ["*/{}_0.png", "*/{}_1.png", "*/{}_2.png"],
    ["*/small/{}.png", "cat/large/{}.png", "dog/young/{}.png", "dog/old/{}.png"],
    ["cat/black/{}.png", "cat/white/{}.png", "dog/brown/{}.png", "dog/poodle/{}.png"],
    ["mask/{}.png", "no_mask/{}.png"],
    ["valid/{}.png", "invalid/{}.png"],
    ["cat/img{}.png", "dog/img{}0.png"],
]


def test_ordinary_folders_are_not_asked_about(tmp_path):
    root = classes(tmp_path / "a")
    for number in (30, 31, 32):
        saved(root / "cat", number, "jpg")  # JPEG and PNG side by side
        saved(root / "cat" / "second day", number)
        saved(root / "dog" / "first day", number)
    assert len(load(str(root)).images) == 33
    for number, patterns in enumerate(ORDINARY):
        assert len(load(str(named(*patterns)(tmp_path / f"{number}"))).images.classes) == 2
    numbered = tmp_path / "b"
    for name in ("x", "y"):
        for number in range(20):
            saved(numbered / name, number)
            os.rename(numbered / name / f"{number:03}.png", numbered / name / f"img-{number}.png")
    assert len(load(str(numbered)).images) == 40


class Items(torch.utils.data.Dataset):
    """A data set whose items are made by a function."""

    def __init__(self, item, **declared):
        self._item = item
        vars(self).update(declared)

    def __len__(self):
        return 60

    def __getitem__(self, index):
        return self._item(index)


def relabelled(index):
    return IMAGES[index], int(LABELS[index]) if index not in (17, 23, 41) else 1 - LABELS[index]


def test_declared_labels_are_compared_with_the_items():
    found = load(Items(relabelled, targets=LABELS.tolist())).images
    assert found.labels.tolist() == [int(relabelled(index)[1]) for index in range(60)]
    reordered = load(Items(lambda i: (IMAGES[i], int(LABELS[i])), labels=sorted(LABELS))).images
    assert reordered.labels.tolist() == LABELS.tolist()


class Relabelled(torch.utils.data.Subset):
    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image, 1 - label

    def __getitems__(self, indices):
        return [self[index] for index in indices]


def test_labels_of_a_subset_that_relabels_are_read_from_its_items():
    whole = Items(lambda i: (IMAGES[i], int(LABELS[i])), targets=LABELS.tolist())
    found = load(Relabelled(whole, range(0, 60, 3))).images
    assert found.labels.tolist() == (1 - LABELS[::3]).tolist()


@pytest.mark.parametrize("changes", [True, False])
def test_a_transform_of_hugging_face_is_told_or_refused(changes):
    datasets = pytest.importorskip("datasets")
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    content = {"image": [Image.fromarray(image) for image in IMAGES], "label": LABELS.tolist()}
    data = datasets.Dataset.from_dict(content, features=datasets.Features(features))

    def transform(rows):
        return {**rows, "label": [int(1 - n if changes else n) for n in rows["label"]]}

    data.set_transform(transform)
    if changes:
        with pytest.raises(DatasetError, match="makes 1 of the label 0 of row 0"):
            load(data)
    else:
        assert any("is not applied" in finding.text for finding in load(data).images.findings)


def test_two_labels_of_a_webdataset_sample_are_asked_about(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as shard:
        for number, said in ((0, b"cat"), (1, b"dog")):
            picture = io.BytesIO()
            Image.fromarray(IMAGES[number]).save(picture, "png")
            for end, data in (
                ("png", picture.getvalue()),
                ("cls", said),
                ("json", b'{"label": "cat"}'),
            ):
                member = tarfile.TarInfo(f"{number}.{end}")
                member.size = len(data)
                shard.addfile(member, io.BytesIO(data))
    with pytest.raises(DatasetError, match="says 'dog', the"):
        load(str(tmp_path / "a.tar"))


def flipped(index):
    return IMAGES[index][:, ::-1] if torch.rand(1) < 0.5 else IMAGES[index], int(LABELS[index])


def jittered(index):
    noise = np.random.default_rng().integers(0, 3, IMAGES[index].shape)
    return (IMAGES[index] // 2 + noise).astype(np.uint8), int(LABELS[index])


def every_third_read(index, reads=[0]):  # noqa: B006
    reads[0] += 1
    return IMAGES[index] // (1 + (reads[0] % 3 == 0)), int(LABELS[index])


def own_generator(index, random=np.random.default_rng(1)):  # noqa: B008
    return IMAGES[index][:: 1 - 2 * (random.random() < 0.2)], int(LABELS[index])


@pytest.mark.parametrize("item", [flipped, jittered, every_third_read, own_generator])
def test_items_that_change_are_refused(item):
    with pytest.raises(DatasetError, match="looks different each time it is read"):
        load(Items(item))


def test_a_lazy_array_that_changes_is_refused():
    class Lazy:
        shape = IMAGES.shape

        def __len__(self):
            return len(IMAGES)

        def __getitem__(self, index):
            return jittered(index)[0]

    with pytest.raises(DatasetError, match="of the array looks different"):
        load((Lazy(), LABELS))


def test_labels_that_change_are_refused():
    with pytest.raises(DatasetError, match="when it is read again"):
        load(Items(lambda index: (IMAGES[index], int(torch.randint(0, 2, ())))))


def test_an_item_that_changes_later_is_an_error_of_the_data():
    later = []

    def item(index):
        image = IMAGES[index][::-1] if index == 33 and later else IMAGES[index]
        return image, int(LABELS[index])

    images = load(Items(item)).images
    images.part([7, 33]).read(1)
    later.append(True)
    with pytest.raises(DatasetError, match="item 33 of Items looks different"):
        images.part([7, 33]).read(1)
    images.read(34)


def test_embeddings_of_other_pixels_are_an_error_of_the_data():
    found = Embeddings(torch.zeros(2, 3), (("a", "b"),), 2, None, 0.0)
    assert found.of(["b"]).shape == (1, 3)
    with pytest.raises(DatasetError, match="1 images were not the same"):
        found.of(["b", "c"])


def test_a_buffer_that_is_used_again_is_copied():
    buffer = np.empty_like(IMAGES[0])

    def item(index):
        buffer[:] = IMAGES[index]
        return buffer, int(LABELS[index])

    images = load(Items(item)).images
    first, second = images.read(0), images.read(1)
    assert (first == IMAGES[0]).all()
    assert (second == IMAGES[1]).all()


TENSORS = {
    "with gradients": lambda: torch.tensor(IMAGES / 255.0, requires_grad=True),
    "of bfloat16": lambda: torch.tensor(IMAGES / 255.0).to(torch.bfloat16),
}


@pytest.mark.parametrize("fault", TENSORS)
def test_tensors_that_numpy_does_not_read_are_read(fault):
    labels = torch.tensor(LABELS, dtype=torch.float32, requires_grad=True)
    images = load((TENSORS[fault](), labels)).images
    assert images.read(3).shape == (24, 24)
    assert images.class_counts == {"0": 30, "1": 30}


def test_an_array_that_cannot_be_loaded_names_the_image():
    class Lazy:
        shape = (60, 24, 24)

        def __len__(self):
            return 60

        def __getitem__(self, index):
            if index == 0:
                return IMAGES[0]
            raise KeyError("closed file")

    with pytest.raises(DatasetError, match=r"image .* of the array raised KeyError: .closed file"):
        load((Lazy(), LABELS)).images.read(1)


LABEL_FAULTS = {
    "None": (lambda i: None if i == 3 else "a", "labels are missing, first that of image 3"),
    "pd.NA": (lambda i: pandas.NA if i == 3 else "a", "labels are missing"),
    "pd.NaT": (lambda i: pandas.NaT if i == 3 else "a", "labels are missing"),
    "the word nan": (lambda i: "nan" if i == 3 else "a", "labels are missing"),
    "an empty text": (lambda i: " " if i == 3 else "a", "labels are missing"),
    "float NaN among texts": (lambda i: float("nan") if i == 3 else "a", "labels are missing"),
    "a dict": (lambda i: {"boxes": [[0, 0, 1, 1]]}, "the label of image 0 is a dict"),
    "a list": (lambda i: [0, 1] if i % 2 else [0], "the label of image 0 is a list"),
    "several labels": (lambda i: torch.tensor([0, 1, 2]), "same number"),
    "one set for all": (lambda i: torch.tensor([0, 1, 1]), "all images show the label '1'"),
    "an array": (lambda i: np.zeros(4), "no image has a label"),
    "an object": (lambda i: object(), "is a object; expected one class"),
}


@pytest.mark.parametrize("fault", LABEL_FAULTS)
@pytest.mark.parametrize("as_dataset", [True, False])
def test_labels_that_are_no_classes_are_refused_by_name(fault, as_dataset):
    label, said = LABEL_FAULTS[fault]
    if as_dataset:
        data = Items(lambda index: (IMAGES[index], label(index)))
    else:
        data = (IMAGES, [label(index) for index in range(60)])
    with pytest.raises(DatasetError) as found:
        load(data)
    assert said in str(found.value)


ARRAY_LABELS = {
    "a masked array": (np.ma.masked_array(LABELS, LABELS < 0, fill_value=0), None),
    "masked values": (np.ma.masked_array(LABELS, np.arange(60) == 4), "first that of image 4"),
    "a nullable column": (pandas.Series([None, *LABELS[1:]], dtype="Int64"), "labels are missing"),
    "categories": (pandas.Categorical([None, *"ab" * 29, "a"]), "labels are missing"),
    "a shifted index": (pandas.Series(LABELS, index=range(9, 69)), None),
    "-1 beside two classes": ([-1, *LABELS[1:]], "1 labels are -1"),
    "-1 and 1": (2 * LABELS - 1, None),
    "texts and numbers": ([1, "1"] * 30, "image 0 has 1, image 1 has '1'"),
    "texts and floats": (pandas.Series(["a", 1.0] * 30, index=range(9, 69)), "texts and numbers"),
    "not applicable": (["N/A", *"ab" * 29, "a"], "labels are missing"),
    "a defect named none": (["none", "hole"] * 30, None),
    "records": (np.zeros(60, [("a", int), ("b", int)]), "records or raw bytes"),
    "dates": (np.array(["2020-01-01"] * 60, "datetime64[D]"), "dates or times"),
    "a generator": ((label for label in LABELS), "labels are a generator"),
    "one text": ("ab" * 30, "one label per image"),
    "a dict": (dict.fromkeys(range(60)), "one label per image"),
    "leading zeros": (["01", "1"] * 30, "differ only in their case, spaces or zeros"),
}


@pytest.mark.parametrize("fault", ARRAY_LABELS)
def test_labels_of_arrays_are_classes_or_refused(fault):
    given, said = ARRAY_LABELS[fault]
    if said is None:
        assert len(load((IMAGES, given)).images.classes) == 2
    else:
        with pytest.raises(DatasetError, match=said):
            load((IMAGES, given))


GROUPS = {
    "a dict": (dict.fromkeys(range(60)), "group= is a dict"),
    "a set": (set(range(60)), "group= is a set"),
    "a match": (lambda path: re.match("image", path), "group= gives a value of type Match"),
    "parts of a path": (lambda path: path.split(), "group= gives a value of type list"),
    "a missing word": (["NA", *"ab" * 29, "a"], "image 0 of the array has no group"),
}


@pytest.mark.parametrize("fault", GROUPS)
def test_values_that_are_no_groups_are_refused(fault):
    given, said = GROUPS[fault]
    with pytest.raises(DatasetError, match=said):
        load((IMAGES, LABELS), reading=Reading(group=given))


def test_a_group_has_one_name_however_its_cell_is_written(tmp_path):
    """A group that is taken for two would be on both sides of a split."""
    classes(tmp_path)
    cells = ["7", "7 ", 7, 7.0, "8"]
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    rows = [
        {"path": path, "label": path[0], "patient": cells[number % 5]}
        for number, path in enumerate(files)
    ]
    table = tmp_path / "labels.jsonl"
    table.write_text("\n".join(map(json.dumps, rows)))
    found = load(f"manifest:{table}", reading=Reading(group="patient")).images
    assert found.group_names == ("7", "8")


DECLARED_CLASSES = {
    "255 for none": (lambda i: 255 if i < 3 else i % 2, ["cat", "dog"], "labels 255"),
    "-1 for none": (lambda i: -1 if i < 30 else 0, ["cat", "dog"], "labels -1"),
    "one name twice": (lambda i: i % 2, ["cat", "cat"], "two classes have the name 'cat'"),
}


@pytest.mark.parametrize("fault", DECLARED_CLASSES)
def test_labels_beyond_the_declared_classes_are_asked_about(fault):
    label, names, said = DECLARED_CLASSES[fault]
    with pytest.raises(DatasetError, match=said):
        load(Items(lambda index: (IMAGES[index], label(index)), classes=names))


@pytest.mark.parametrize("word", ["nan", "N/A", "null", ""])
def test_missing_labels_of_a_table_are_named_and_can_be_left_out(word, tmp_path):
    classes(tmp_path)
    rows = [f"{path.relative_to(tmp_path)},{path.parent.name}" for path in tmp_path.rglob("*.png")]
    rows[3] = rows[3].rpartition(",")[0] + f",{word}"
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows]))
    with pytest.raises(DatasetError, match=r"1 images without a label .*: \w+/\d+.png"):
        load(f"manifest:{tmp_path / 'labels.csv'}")
    found = load(f"manifest:{tmp_path / 'labels.csv'}", levels={"missing_labels": "note"})
    assert len(found.images) == 23


def test_items_that_cannot_be_decoded_are_listed():
    normalised = Items(lambda index: (IMAGES[index].astype(np.float32) - 128.0, int(LABELS[index])))
    with pytest.raises(DatasetError, match=r"60 of 60 images cannot be read|float pixels from"):
        Study(normalised, image_size=24, device="cpu").run()


ALIKE = {
    "NFC and NFD": ("caf\u00e9", "cafe\u0301", "how accents are stored"),
    "case": ("Cat", "cat", "their case, spaces or zeros"),
    "full width": ("cat", "\uff43at", "their case, spaces or zeros"),
    "a joiner that is not seen": ("cat", "ca\u200dt", "their case, spaces or zeros"),
    "a space at the end": ("cat", "cat ", "their case, spaces or zeros"),
}


@pytest.mark.parametrize("fault", ALIKE)
def test_classes_that_look_alike_are_asked_about(fault, tmp_path):
    first, second, said = ALIKE[fault]
    root = classes(tmp_path / "data", (first, second))
    if len(list(root.iterdir())) < 2:
        pytest.skip("this file system takes both for one name")
    with pytest.raises(DatasetError, match=said):
        load(str(root))


def test_accents_of_classes_and_targets_are_written_in_one_way(tmp_path):
    composed, apart = "caf\u00e9", "cafe\u0301"
    one = load((IMAGES, [apart if label else "tea" for label in LABELS])).images
    several = load((IMAGES, [[apart, "hot"] if label else ["tea"] for label in LABELS])).images
    for found in (one, several):
        assert composed in found.names
    for metric in ("recall_per_class", "precision_per_class"):
        given = Requirement.parse((), {metric: {apart: 0.9}}, "").targets
        assert class_targets(metric, given[metric], one.names) == {composed: 0.9}
    [point] = Requirement.parse(
        (), {"recall_at_precision": {"class": apart, "precision": 0.9, "recall": 0.8}}, ""
    ).targets.values()
    assert point["class"] == composed
    prices = Requirement.parse((), {"accuracy": 0.9, "cost_per_image": {apart: 2}}, "").options
    assert prices["cost_per_image"] == {composed: 2.0}
    with pytest.raises(RequirementError, match="it names a class twice"):
        Requirement.parse((), {"recall_per_class": {apart: 0.9, composed: 0.8}}, "")
    with pytest.raises(DatasetError, match=r"the labels .* differ only in how accents are stored"):
        load((IMAGES, [[apart, "hot"] if label else [composed, "tea"] for label in LABELS]))


@pytest.mark.parametrize("name", ["lost+found", ".others", "cat/__old__", "dog/@eaDir"])
def test_folders_left_out_for_their_name_are_told(name, tmp_path):
    root = classes(tmp_path / "data")
    saved(root / name, 3)
    [told] = load(str(root)).images.notes
    assert told.endswith(f"left out, 1 of them with images: {name.rpartition('/')[2]}")


def test_names_are_the_same_however_they_are_stored(tmp_path):
    pool = classes(tmp_path / "pool", ("caf\u00e9", "tea"))
    test = classes(tmp_path / "test", ("cafe\u0301", "tea"))
    loaded = load(str(pool), str(test))
    assert loaded.test.classes == loaded.images.classes == ("caf\u00e9", "tea")


def test_joined_data_sets_with_other_classes_are_refused():
    def item(index):
        return IMAGES[index], int(LABELS[index])

    one, other = Items(item, classes=["cat", "dog"]), Items(item, classes=["dog", "eel"])
    with pytest.raises(DatasetError, match="one number would mean two classes"):
        load(torch.utils.data.ConcatDataset([one, other]))
    joined = load(torch.utils.data.ConcatDataset([one, torch.utils.data.Subset(one, range(10))]))
    assert joined.images.classes == ("cat", "dog")


RETURNED = {
    "True as a score": (lambda n: {"accuracy": True}, "is a bool; expected a number"),
    "a text as a score": (lambda n: {"accuracy": "0.9"}, "is a str; expected a number"),
    "a complex score": (lambda n: {"accuracy": 0.9 + 0j}, "is a complex; expected a number"),
    "logits": (lambda n: np.tile([2.0, -1.0], (n, 1)), "Of logits, return the softmax"),
    "twice as many rows": (lambda n: np.full((2 * n, 2), 0.5), "of shape"),
    "complex probabilities": (lambda n: np.full((n, 2), 0.5 + 0j), "of shape"),
}


@pytest.mark.parametrize("fault", RETURNED)
def test_what_a_trainer_returns_is_checked(fault):
    made, said = RETURNED[fault]

    def trainer(train, test, *, seed, device):
        return made(len(test))

    study = Study((IMAGES, LABELS), trainer=trainer, sizes=[10, 20, 40], repeats=2, device="cpu")
    with pytest.raises(TrainingError, match=said):
        study.run()


def test_a_file_whose_times_were_restored_is_read_again(tmp_path):
    root = classes(tmp_path / "data")
    path = next(root.rglob("*.png"))
    images = load(str(root)).images
    row = [images.name(row) for row in range(len(images))].index(str(path))
    before, times = images.stamp(row), path.stat()
    other = bytearray(path.read_bytes())
    other[-20] ^= 1
    path.write_bytes(bytes(other))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_mtime_ns == times.st_mtime_ns
    assert images.stamp(row) != before


def test_only_regular_files_of_a_bearable_size_are_read(tmp_path):
    files = Files([tmp_path / "pipe.png", tmp_path / "huge.png"])
    os.mkfifo(files.paths[0])
    with files.paths[1].open("wb") as file:
        file.truncate(3 << 30)  # sparse: it takes no room
    for row, said in enumerate(("not a regular file", "more than an image may have")):
        with pytest.raises(UnreadableError, match=said):
            files.read(row)


def test_a_deployment_folder_has_a_boundary_too(tmp_path):
    outside = classes(tmp_path / "outside")
    inside = classes(tmp_path / "field", each=3)
    (inside / "cat" / "secret.png").symlink_to(next(outside.rglob("*.png")))
    with pytest.raises(DatasetError, match="leads outside"):
        load_unlabelled(str(inside), "deployment")
    assert len(load_unlabelled(str(inside), "deployment", allow_outside=True)) == 7


def test_twelve_bits_in_sixteen_are_scaled_alike(tmp_path):
    root = tmp_path / "data"
    for place, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for number in range(20):
            deep = IMAGES[2 * number + place].astype(np.uint16) << 4
            Image.fromarray(deep).save(root / name / f"{number:02}.png")
    images = load(str(root)).images
    assert images.depth == 12
    assert any("use 12 of 16 bits" in finding.text for finding in images.findings)
    picture = np.asarray(decode(images.read(0), depth=images.depth))
    assert (picture[:, :, 0] == IMAGES[0]).all()
    arrays = load((IMAGES.astype(np.uint16) << 4, LABELS)).images
    assert arrays.depth == 12
    whole = load((IMAGES.astype(np.uint16) << 8, LABELS)).images
    assert whole.depth == 16
    with pytest.raises(UndecodableError, match="more than the 12 bits"):
        decode(whole.read(0), depth=12)


@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("slash", ["/", "\\"])
def test_coco_files_of_windows_are_read(tmp_path, start, slash):
    classes(tmp_path / "images")
    paths = sorted((tmp_path / "images").rglob("*.png"))
    names = [path.relative_to(tmp_path).as_posix().replace("/", slash) for path in paths]
    document = {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(names)],
        "annotations": [
            {"id": number, "image_id": number, "category_id": int("dog" in name)}
            for number, name in enumerate(names)
        ],
        "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}],
    }
    path = tmp_path / "result.json"
    path.write_text(start + json.dumps(document), encoding="utf-8")
    images = load(f"coco:{path}").images
    assert images.class_counts == {"cat": 12, "dog": 12}
