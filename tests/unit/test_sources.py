"""One data set in every layout that people keep: the same images and labels come out of each."""

import csv
import gzip
import io
import json
import pickle
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import named, shapes, write_folder

from pytest_datasize import DatasetError
from pytest_datasize.images.decode import decode
from pytest_datasize.images.image_set import Reading
from pytest_datasize.images.sources.load import SOURCES, load
from pytest_datasize.requirement.registries import SOURCES_BY_NAME

IMAGES, LABELS = shapes(24)
NAMES = ("left", "right")


def png(index: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(IMAGES[index]).save(stream, "PNG")
    return stream.getvalue()


def flat(folder: Path, rows=range(24)) -> Path:
    """Images with no word of their class."""
    folder.mkdir(parents=True, exist_ok=True)
    for row in rows:
        (folder / f"{row:03}.png").write_bytes(png(row))
    return folder


def rows_of(root: Path, split=False, missing=False):
    flat(root / "images")
    rows = [{"path": f"images/{row:03}.png", "label": NAMES[LABELS[row]]} for row in range(24)]
    for number, row in enumerate(rows):
        if split:
            row["split"] = "train" if number < 16 else "test"
        row["patient"] = f"p{number // 4}"
    return rows


def write_csv(root: Path, name="labels.csv", **options) -> Path:
    rows = rows_of(root, **options)
    with (root / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], delimiter="\t" if name.endswith("tsv") else ",")
        writer.writeheader()
        writer.writerows(rows)
    return root / name


def write_json_lines(root: Path) -> Path:
    path = root / "labels.jsonl"
    path.write_text("\n".join(map(json.dumps, rows_of(root))))
    return path


def write_parquet(root: Path) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = root / "labels.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows_of(root)), path)
    return path


def write_coco(root: Path, rows=range(24), name="annotations/instances_all.json") -> Path:
    flat(root / "images", rows)
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {
        "images": [{"id": row, "file_name": f"{row:03}.png"} for row in rows],
        "annotations": [{"image_id": row, "category_id": 7 + int(LABELS[row])} for row in rows] * 2,
        "categories": [{"id": 7, "name": "left"}, {"id": 8, "name": "right"}],
    }
    path.write_text(json.dumps(data))
    return root


def write_yolo(root: Path, parts=(("train", range(24)),)) -> Path:
    for part, rows in parts:
        flat(root / "images" / part, rows)
        labels = root / "labels" / part
        labels.mkdir(parents=True)
        for row in rows:
            (labels / f"{row:03}.txt").write_text(f"{LABELS[row]} 0.5 0.5 1 1\n" * 2)
    lines = [f"{part}: images/{part}" for part, _ in parts]
    (root / "data.yaml").write_text("\n".join([*lines, "names: [left, right]"]))
    return root


def write_tar(path: Path, rows=range(24), with_json=False) -> Path:
    with tarfile.open(path, "w") as archive:
        for row in rows:
            label = NAMES[LABELS[row]]
            side = json.dumps({"label": label, "patient": row // 4}) if with_json else label
            files = {"png": png(row), "json" if with_json else "cls": side.encode()}
            for ending, content in files.items():
                entry = tarfile.TarInfo(f"{row:03}.{ending}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return path


def hugging_face(rows=range(24)):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=list(NAMES)),
            "patient": datasets.Value("string"),
        }
    )
    content = {
        "image": [{"bytes": png(row), "path": None} for row in rows],
        "label": [int(LABELS[row]) for row in rows],
        "patient": [f"p{row // 4}" for row in rows],
    }
    return datasets.Dataset.from_dict(content, features=features)


def saved(root: Path) -> Path:
    hugging_face().save_to_disk(str(root / "saved"))
    return root / "saved"


WHOLE = {
    "folder": lambda root: write_folder(root, IMAGES, LABELS),
    "csv": write_csv,
    "tsv": lambda root: write_csv(root, "labels.tsv"),
    "a folder with one table": lambda root: write_csv(root).parent,
    "jsonl": write_json_lines,
    "parquet": write_parquet,
    "coco": write_coco,
    "yolo": write_yolo,
    "webdataset": lambda root: write_tar(root / "all.tar"),
    "webdataset with json": lambda root: write_tar(root / "all.tar", with_json=True).parent,
    "hugging face": lambda root: hugging_face(),
    "hugging face on disk": saved,
}


@pytest.mark.parametrize("layout", WHOLE)
def test_every_layout_gives_the_same_images(tmp_path, layout):
    made = WHOLE[layout](tmp_path)
    images, test = load(str(made) if isinstance(made, Path) else made)
    assert test is None
    assert images.class_counts == {"left": 12, "right": 12}
    found = {decode(images.read(row)).tobytes(): NAMES[images.labels[row]] for row in range(24)}
    wanted = {decode(png(row)).tobytes(): NAMES[LABELS[row]] for row in range(24)}
    assert found == wanted
    with ThreadPoolExecutor(8) as pool:  # read by several threads, as a gate does
        again = list(pool.map(lambda row: decode(images.read(row)).tobytes(), range(24)))
    assert set(again) == set(wanted)


@pytest.mark.parametrize("layout", WHOLE)
def test_images_of_every_layout_can_be_sent_to_another_process(tmp_path, layout):
    made = WHOLE[layout](tmp_path)
    assert_same_when_pickled(load(str(made) if isinstance(made, Path) else made).images)


def assert_same_when_pickled(images):
    """A process that is spawned reads the same bytes, also of a part of the images."""
    for some in (images, images.part([5, 3, 8])):
        again = pickle.loads(pickle.dumps(some))
        assert again.labels.tolist() == some.labels.tolist()
        for row in range(len(some)):
            assert np.array_equal(again.read(row), some.read(row))
            assert again.name(row) == some.name(row)
            assert again.stamp(row) == some.stamp(row)
            if some.key is not None:
                assert again.key(row) == some.key(row)


SPLIT = {
    "csv": lambda root: write_csv(root, split=True),
    "tables": lambda root: (
        write_csv(root, "train.csv"),
        (root / "test.csv").write_text((root / "train.csv").read_text()),
        (root / "train.csv").write_text(
            "".join((root / "train.csv").read_text().splitlines(True)[:17])
        ),
        (root / "test.csv").write_text(
            "path,label,patient\n" + "".join((root / "test.csv").read_text().splitlines(True)[17:])
        ),
        root,
    )[-1],
    "coco": lambda root: (
        write_coco(root, range(16), "annotations/instances_train.json"),
        write_coco(root, range(16, 24), "annotations/instances_val.json"),
    )[-1],
    "yolo": lambda root: write_yolo(root, (("train", range(16)), ("val", range(16, 24)))),
    "webdataset": lambda root: (
        write_tar(root / "train-000.tar", range(8)),
        write_tar(root / "train-001.tar", range(8, 16)),
        write_tar(root / "test-000.tar", range(16, 24)),
        root,
    )[-1],
    "hugging face": lambda root: pytest.importorskip("datasets").DatasetDict(
        train=hugging_face(range(8)),
        validation=hugging_face(range(8, 16)),
        test=hugging_face(range(16, 24)),
    ),
}


@pytest.mark.parametrize("layout", SPLIT)
def test_parts_become_pool_and_test_images(tmp_path, layout):
    made = SPLIT[layout](tmp_path)
    pool, test = load(str(made) if isinstance(made, Path) else made)
    assert (len(pool), len(test)) == (16, 8)
    assert_same_when_pickled(pool)
    assert "already split" in pool.notes[-1]
    read = {decode(test.read(row)).tobytes() for row in range(8)}
    assert read == {decode(png(row)).tobytes() for row in range(16, 24)}
    assert [NAMES[label] for label in test.labels] == [test.classes[label] for label in test.labels]


FILES = ("folder", "csv", "coco", "yolo", "webdataset", "hugging face on disk")


@pytest.mark.parametrize("layout", FILES)
def test_a_stamp_changes_with_the_file(tmp_path, layout):
    made = WHOLE[layout](tmp_path)
    before = [load(str(made)).images.stamp(row) for row in range(24)]
    assert None not in before
    assert len(set(before)) == 24
    assert before == [load(str(made)).images.stamp(row) for row in range(24)]
    if layout == "webdataset":
        write_tar(tmp_path / "all.tar", [*range(1, 24), 0])
    elif layout != "hugging face on disk":
        for path in tmp_path.rglob("*.png"):
            path.write_bytes(path.read_bytes() + b"x")
    else:
        return
    assert set(before).isdisjoint(load(str(made)).images.stamp(row) for row in range(24))


@pytest.mark.parametrize(
    "layout", ["csv", "jsonl", "parquet", "webdataset with json", "hugging face"]
)
def test_a_column_says_what_belongs_together(tmp_path, layout):
    made = WHOLE[layout](tmp_path)
    given = str(made) if isinstance(made, Path) else made
    images, _ = load(given, reading=Reading(group="patient"))
    assert len(images.group_names) == 6
    assert (np.bincount(images.groups) == 4).all()
    with pytest.raises(DatasetError, match="group='person' is not one of the columns"):
        load(given, reading=Reading(group="person"))


@pytest.mark.parametrize("layout", ["csv", "folder", "webdataset"])
def test_a_pattern_or_a_function_says_what_belongs_together(tmp_path, layout):
    made = str(WHOLE[layout](tmp_path))
    for group in (r"(\d)\.png$", lambda path: path[-5]):
        images, _ = load(made, reading=Reading(group=group))
        assert images.group_names == tuple("0123456789")
    with pytest.raises(DatasetError, match=r"does not match .*\.png; every image needs a group"):
        load(made, reading=Reading(group=r"(x+)\.png"))


def test_values_say_what_belongs_together():
    images, _ = load((IMAGES, LABELS), reading=Reading(group=np.arange(24) // 3))
    assert images.groups.tolist() != []
    assert len(images.group_names) == 8
    with pytest.raises(DatasetError, match="3 values for 24 images"):
        load((IMAGES, LABELS), reading=Reading(group=[1, 2, 3]))
    with pytest.raises(DatasetError, match="has no group"):
        load((IMAGES, LABELS), reading=Reading(group=[None, *range(23)]))


def test_two_layouts_that_fit_are_refused_and_one_can_be_named(tmp_path):
    write_folder(tmp_path, IMAGES, LABELS)
    (tmp_path / "labels.csv").write_text("path,label\nleft/0000.png,a\nright/0001.png,b\n")
    with pytest.raises(DatasetError, match=r"as folder and as manifest.*dataset='manifest:"):
        load(str(tmp_path))
    assert len(load(f"folder:{tmp_path}").images) == 24
    assert load(f"manifest:{tmp_path}").images.classes == ("a", "b")


def test_a_table_without_header_and_one_from_windows(tmp_path):
    flat(tmp_path / "images")
    (tmp_path / "a.csv").write_text("images/000.png;cat\nimages/001.png;dog\n")
    (tmp_path / "b.csv").write_bytes(
        "\ufefffilename,class\r\nimages\\000.png,cat\r\nimages\\001.png,dog\r\n".encode()
    )
    for name in ("a.csv", "b.csv"):
        assert load(str(tmp_path / name)).images.class_counts == {"cat": 1, "dog": 1}


def test_missing_files_and_labels_are_errors_that_settings_can_allow(tmp_path):
    flat(tmp_path)
    rows = [f"{row:03}.png,{NAMES[LABELS[row]]}" for row in range(24)]
    path = tmp_path / "labels.csv"
    path.write_text(
        "\n".join(["path,label", *rows, "gone.png,left", "000.png,", "gone too.png,right"])
    )
    with pytest.raises(DatasetError, match="1 images without a label") as caught:
        load(str(path))
    assert "gone.png" in str(caught.value)
    assert "gone too.png" in str(caught.value)
    assert "missing_labels: note, missing_files: note" in str(caught.value)
    allowed = {"missing_labels": "note", "missing_files": "warning"}
    images, _ = load(str(path), levels=allowed)
    assert len(images) == 24
    assert {finding.check for finding in images.findings} == set(allowed)


def test_images_of_several_classes_are_no_classification(tmp_path):
    write_yolo(tmp_path)
    (tmp_path / "labels/train/003.txt").write_text("0 .5 .5 1 1\n1 .5 .5 1 1\n")
    (tmp_path / "labels/train/004.txt").write_text("")
    with pytest.raises(DatasetError, match="1 images of several classes") as caught:
        load(str(tmp_path))
    assert "003.png" in str(caught.value)
    assert "004.png" in str(caught.value)
    assert (
        len(load(str(tmp_path), levels={"several_labels": "note", "missing_labels": "note"})[0])
        == 22
    )


def test_images_that_hugging_face_has_the_paths_of_have_no_stamp(tmp_path):
    """They can change while the cached table of paths does not."""
    datasets = pytest.importorskip("datasets")
    for row in (0, 1):
        flat(tmp_path / "images" / NAMES[row], [row])
    cache = str(tmp_path / "cache")
    found = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path / "images"), split="train", cache_dir=cache
    )
    assert found.cache_files
    assert load(found, None).images.stamps == (None, None)
    found.save_to_disk(str(tmp_path / "saved"))  # which embeds the images
    assert None not in load(tmp_path / "saved", None).images.stamps


def test_unlabelled_rows_of_hugging_face(tmp_path):
    datasets = pytest.importorskip("datasets")
    dataset = hugging_face()
    values = [int(label) for label in LABELS]
    values[3] = -1
    changed = dataset.remove_columns("label").add_column("label", values)
    changed = changed.cast_column("label", datasets.ClassLabel(names=list(NAMES)))
    with pytest.raises(DatasetError, match="row 3"):
        load(changed)
    assert len(load(changed, levels={"missing_labels": "note"}).images) == 23


def test_hugging_face_columns_that_cannot_be_told_are_refused():
    dataset = hugging_face()
    with pytest.raises(DatasetError, match="no image column among label"):
        load(dataset.remove_columns("image"))
    with pytest.raises(DatasetError, match="no label column"):
        load(dataset.remove_columns("label"))
    with pytest.raises(DatasetError, match="without streaming=True"):
        load(dataset.to_iterable_dataset())


@pytest.mark.parametrize("pattern", ["part-{000..001}.tar", "part-*.tar"])
def test_shards_by_pattern(tmp_path, pattern):
    write_tar(tmp_path / "part-000.tar", range(10))
    write_tar(tmp_path / "part-001.tar", range(10, 24))
    assert len(load(str(tmp_path / pattern)).images) == 24
    with pytest.raises(DatasetError, match=r"part-002\.tar does not exist"):
        load(str(tmp_path / "part-{000..002}.tar"))


def damaged_header(content: bytes) -> bytes:
    third = content.index(b"001.png")
    return content[:third] + b"x" * 300 + content[third + 300 :]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda content: content[: len(content) // 2], "copy it again"),
        (lambda content: content[: len(content) // 1024 * 512], "copy it again"),
        (damaged_header, "damaged or cut off"),
        (lambda content: b"", "not a readable tar file"),
        (lambda content: b"x" * 5000, "not a readable tar file"),
        (gzip.compress, "must be uncompressed"),
    ],
)
def test_a_damaged_shard_is_never_read_as_a_short_one(tmp_path, damage, says):
    path = write_tar(tmp_path / "all.tar")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DatasetError, match=says):
        load(str(path))


def test_torchvision_by_name(tmp_path):
    from torchvision.datasets import FashionMNIST

    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 255, (40, 28, 28), dtype=np.uint8)
    labels = (np.arange(40) % 10).astype(np.uint8)
    for part, rows in (("train", slice(0, 30)), ("t10k", slice(30, 40))):
        images = pixels[rows]
        header = b"\x00\x00\x08\x03" + b"".join(
            int(side).to_bytes(4, "big") for side in images.shape
        )
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = b"\x00\x00\x08\x01" + len(images).to_bytes(4, "big")
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(header + labels[rows].tobytes())
    pool, test = load(f"torchvision:FashionMNIST@{tmp_path}")
    assert (len(pool), len(test)) == (30, 10)
    assert sorted(pool.classes) == sorted(FashionMNIST.classes)
    names = [pool.classes[label] for label in pool.labels]
    assert names == [FashionMNIST.classes[label] for label in labels[:30]]
    assert (decode(pool.read(7)).getchannel(0).tobytes()) == pixels[7].tobytes()
    assert_same_when_pickled(pool)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("torchvision:FashionMNIST@nowhere", "Nothing is fetched"),
        ("torchvision:CIFAR10@nowhere", "Nothing is fetched"),
        ("torchvision:Flowers102@nowhere", "Nothing is fetched"),
        ("torchvision:FashonMNIST", "is not known here"),
        ("torchvision:LSUN", "is not known here"),
    ],
)
def test_torchvision_without_its_files(tmp_path, monkeypatch, name, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError, match=says):
        load(name)


def test_the_names_of_torchvision_are_its_own():
    from torchvision import datasets

    from pytest_datasize.images.sources.torchvision_dataset import NAMES

    assert all(hasattr(datasets, name) for name in NAMES)


def test_names_of_sources_are_those_that_settings_know():
    assert set(SOURCES_BY_NAME) == set(SOURCES) - {"arrays", "torch"}


# -- what may not be read -----------------------------------------------------------------------


def outside(tmp_path: Path) -> Path:
    secret = tmp_path / "secret"
    write_folder(secret, IMAGES, LABELS)
    return secret


def linked_file(root: Path, secret: Path) -> str:
    write_folder(root, IMAGES[:20], LABELS[:20])
    (root / "left" / "link.png").symlink_to(secret / "left" / "0022.png")
    return str(root)


def linked_folder(root: Path, secret: Path) -> str:
    write_folder(root, IMAGES[:20], LABELS[:20])
    (root / "left" / "more").symlink_to(secret / "left")
    return str(root)


def linked_class(root: Path, secret: Path) -> str:
    write_folder(root, IMAGES[:20], LABELS[:20])
    (root / "third").symlink_to(secret / "left")
    return str(root)


def upward_path(root: Path, secret: Path) -> str:
    root.mkdir()
    (root / "a.csv").write_text(
        "path,label\n../secret/left/0000.png,a\n../secret/right/0001.png,b\n"
    )
    return str(root / "a.csv")


def absolute_path(root: Path, secret: Path) -> str:
    root.mkdir()
    (root / "a.csv").write_text(
        f"path,label\n{secret}/left/0000.png,a\n{secret}/right/0001.png,b\n"
    )
    return str(root / "a.csv")


def path_through_a_link(root: Path, secret: Path) -> str:
    root.mkdir()
    (root / "inner").symlink_to(secret)
    (root / "a.csv").write_text("path,label\ninner/left/0000.png,a\ninner/right/0001.png,b\n")
    return str(root / "a.csv")


def coco_path(root: Path, secret: Path) -> str:
    write_coco(root)
    path = root / "annotations/instances_all.json"
    path.write_text(path.read_text().replace('"000.png"', '"../../secret/left/0000.png"'))
    return str(root)


def yolo_path(root: Path, secret: Path) -> str:
    write_yolo(root)
    text = (root / "data.yaml").read_text()
    (root / "data.yaml").write_text(text.replace("images/train", str(secret)))
    return str(root)


ESCAPES = (
    *(linked_file, linked_folder, linked_class, upward_path, absolute_path, path_through_a_link),
    *(coco_path, yolo_path),
)


@pytest.mark.parametrize("escape", ESCAPES)
def test_nothing_outside_is_read_unless_allowed(tmp_path, escape):
    dataset = escape(tmp_path / "root", outside(tmp_path))
    with pytest.raises(DatasetError, match=r"outside .*allow_outside=True"):
        load(dataset)
    if escape is not yolo_path:
        images, _ = load(dataset, reading=Reading(allow_outside=True))
        assert all(decode(images.read(row)) for row in range(len(images)))


def test_links_within_the_folder_are_followed_once(tmp_path):
    write_folder(tmp_path, IMAGES, LABELS)
    (tmp_path / "left" / "again").symlink_to(tmp_path / "left")
    (tmp_path / "left" / "copy.png").symlink_to(tmp_path / "left" / "0000.png")
    assert len(named(load(str(tmp_path))).images) == 24


@pytest.mark.parametrize("name", ["../x.png", "/etc/x.png", "a/../../x.png"])
def test_a_shard_with_a_path_that_leads_outside_is_refused(tmp_path, name):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(DatasetError, match="leads outside"):
        load(str(path))


def test_links_in_a_shard_are_not_followed(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            entry = tarfile.TarInfo(f"{kind.decode()}.png")
            entry.type, entry.linkname = kind, "/etc/passwd"
            archive.addfile(entry)
    with pytest.raises(DatasetError, match="no image with a class"):
        load(str(path))


def test_nothing_is_fetched(tmp_path):
    (tmp_path / "a.csv").write_text("path,label\nhttps://example.org/1.png,a\n")
    with pytest.raises(DatasetError, match="web address; nothing is fetched"):
        load(str(tmp_path / "a.csv"))


def test_a_name_cannot_break_a_line(tmp_path):
    folder = write_folder(tmp_path, IMAGES, LABELS)
    (folder / "left" / "a\n::error::\x1b[31m.png").write_bytes(b"")
    with pytest.raises(DatasetError) as caught:
        named(load(str(folder)))
    assert r"a\n::error::\x1b[31m.png: empty file" in str(caught.value)


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    import sys

    table, dataset = write_parquet(tmp_path / "t" if (tmp_path / "t").mkdir() is None else 0), None
    dataset = saved(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DatasetError, match=r"pip install pytest-datasize\[parquet\]"):
        load(str(table))
    with pytest.raises(DatasetError, match=r"pip install pytest-datasize\[huggingface\]"):
        load(str(dataset))
