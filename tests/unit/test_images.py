"""Sources and decoding, on real encoded files."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from support import shapes, write_folder
from torch.utils.data import Dataset, Subset, TensorDataset
from torchvision.datasets import FakeData, ImageFolder

from pytest_datasize import DatasetError
from pytest_datasize.images.decode import content_of, decode
from pytest_datasize.images.sources.load import SOURCES, load


class Pairs(Dataset):
    """A data set as people write it: images and nothing else declared."""

    def __init__(self, images, labels):
        self.items = list(zip(images, labels, strict=True))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


# -- sources ------------------------------------------------------------------------------------


def test_real_textile_folder(textiles):
    images, test = load(str(textiles))
    assert images.class_counts == {"global": 500, "local": 500, "nominal": 1000}
    assert test is None
    assert decode(images.read(0)).size == (250, 250)
    assert images.name(0).endswith("global/textile_0001.jpg")


@pytest.mark.parametrize("held_out", ["test", "val", "validation"])
def test_a_split_folder_brings_its_test_images(tmp_path, held_out):
    images, labels = shapes(40)
    write_folder(tmp_path / "train", images[:30], labels[:30])
    write_folder(tmp_path / held_out, images[30:], labels[30:])
    pool, test = load(str(tmp_path))
    assert (len(pool), len(test)) == (30, 10)
    assert held_out in pool.notes[0]


def test_validation_images_join_the_pool_where_there_are_test_images(tmp_path):
    images, labels = shapes(60)
    for part, rows in (("train", slice(30)), ("val", slice(30, 40)), ("test", slice(40, 60))):
        write_folder(tmp_path / part, images[rows], labels[rows])
    pool, test = load(str(tmp_path))
    assert (len(pool), len(test)) == (40, 20)


def test_what_is_no_image_is_left_out_and_told(tmp_path):
    write_folder(tmp_path, *shapes(8))
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / "left" / "notes.txt").write_text("x")
    (tmp_path / "left" / ".hidden.png").write_text("x")
    images, _ = load(str(tmp_path))
    assert images.classes == ("left", "right")
    assert len(images) == 8
    assert images.notes == (
        "2 files that are not images were left out (hidden, .txt)",
        "1 hidden or service folders were left out: .ipynb_checkpoints",
    )


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (lambda root: root / "missing", "does not exist"),
        (lambda root: root, "is empty"),
        (lambda root: (root / "a.dvc").write_text("x") and root, "run `dvc pull`"),
        (lambda root: Image.new("L", (4, 4)).save(root / "1.png") or root, "lie directly in it"),
        (lambda root: (root / "cat").mkdir() or root, "cat holds no image"),
        (lambda root: (root / "train" / "cat").mkdir(parents=True) or root, "already split"),
    ],
)
def test_a_folder_that_cannot_be_judged_says_why(tmp_path, prepare, says):
    with pytest.raises(DatasetError, match=says):
        load(str(prepare(tmp_path)))


def test_one_class_only(tmp_path):
    images, labels = shapes(4)
    write_folder(tmp_path, images, labels * 0)
    with pytest.raises(DatasetError, match="only one class"):
        load(str(tmp_path))


@pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_arrays_of_any_depth(channels, dtype):
    scale = {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
    images = (np.random.default_rng(0).random((6, 5, 7, *channels)) * scale).astype(dtype)
    loaded, _ = load((images, ["b", "a"] * 3))
    picture = decode(loaded.read(3))
    assert (picture.mode, picture.size) == ("RGB", (7, 5))
    assert loaded.class_counts == {"a": 3, "b": 3}
    if channels in ((), (3,)):
        expected = np.broadcast_to(
            images[3].astype(float).reshape(5, 7, -1) / scale * 255, (5, 7, 3)
        )
        assert np.abs(np.asarray(picture) - expected).max() <= 1


def test_labels_of_any_kind_become_names():
    images = np.zeros((4, 8, 8), "uint8")
    for labels, names in (
        ([7, 3, 7, 100], ("3", "7", "100")),
        (np.array([1.0, 0.0, 1.0, 0.0]), ("0", "1")),
        (np.array(["x", "y", "x", "y"], object), ("x", "y")),
        (torch.tensor([0, 1, 0, 1]), ("0", "1")),
    ):
        assert load((images, labels))[0].classes == names


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([0, 1, 0], "4 images but 3 labels"),
        ([0.5, 1, 0, np.inf], r"label of image 3 is inf; .* all finite"),
        ([np.nan, 1, 0, 1], "missing"),
        ([None, "a", "a", "b"], "missing"),
        (np.eye(4), "argmax"),
        ([1, 1, 1, 1], "only one class"),
    ],
)
def test_wrong_labels_are_refused(labels, says):
    with pytest.raises(DatasetError, match=says):
        load((np.zeros((4, 8, 8), "uint8"), labels))


def test_torch_and_torchvision_datasets(shape_folder):
    folder = ImageFolder(shape_folder)
    images, labels = shapes(12)
    for dataset, classes, n in (
        (folder, ("left", "right"), 120),
        (Subset(folder, range(0, 120, 3)), ("left", "right"), 40),
        (Pairs([Image.fromarray(image) for image in images], labels), ("0", "1"), 12),
        (
            TensorDataset(torch.rand(12, 3, 24, 24), torch.tensor([0, 1, 2] * 4)),
            ("0", "1", "2"),
            12,
        ),
        (FakeData(20, (3, 16, 16), num_classes=2), ("0", "1"), 20),
    ):
        loaded, _ = load(dataset)
        assert (loaded.classes, len(loaded)) == (classes, n)
        assert decode(loaded.read(5)).mode == "RGB"


def test_channels_first_tensors_are_the_same_picture():
    tensor = torch.rand(4, 3, 8, 10)
    (loaded, _), (other, _) = (
        load((tensor, [0, 1, 0, 1])),
        load((tensor.permute(0, 2, 3, 1).numpy(), [0, 1, 0, 1])),
    )
    assert (np.asarray(decode(loaded.read(1))) == np.asarray(decode(other.read(1)))).all()


def test_random_transforms_are_refused():
    class Random(Pairs):
        def __getitem__(self, index):
            return torch.rand(3, 8, 8), self.items[index][1]

    with pytest.raises(DatasetError, match="random transforms"):
        load(Random(*shapes(8)))


def test_a_dataset_that_fails_or_yields_something_else_is_named():
    with pytest.raises(DatasetError, match="expected \\(image, label\\)"):
        load(TensorDataset(torch.rand(4, 3, 8, 8)))

    class Broken(Pairs):
        def __getitem__(self, index):
            raise KeyError("gone")

    with pytest.raises(DatasetError, match="item 0 raised KeyError"):
        load(Broken(*shapes(8)))


@pytest.mark.parametrize("dataset", [{"a": 1}, 3.5, [1, 2, 3], object()])
def test_anything_else_is_refused_with_what_is_expected(dataset):
    with pytest.raises(DatasetError, match="Expected a folder"):
        load(dataset)


def test_test_classes_are_matched_by_name(tmp_path):
    images, labels = shapes(20)
    write_folder(tmp_path / "pool", images, labels, ("b", "c"))
    write_folder(tmp_path / "swapped", images, labels, ("c", "b"))
    write_folder(tmp_path / "strange", images, labels, ("b", "z"))
    write_folder(tmp_path / "pool3", images[:9], [0, 1, 2] * 3, ("b", "c", "d"))
    pool, test = load(str(tmp_path / "pool"), str(tmp_path / "swapped"))
    assert test.classes == pool.classes
    assert test.name(0).endswith("0001.png")
    with pytest.raises(DatasetError, match="class 'z' is not among"):
        load(str(tmp_path / "pool"), str(tmp_path / "strange"))
    with pytest.raises(DatasetError, match="no test image of class 'd'"):
        load(str(tmp_path / "pool3"), str(tmp_path / "swapped"))


def test_every_source_has_both_functions():
    from importlib import import_module

    for module in SOURCES.values():
        source = import_module(module)
        assert callable(source.accepts)
        assert callable(source.load)


def test_a_content_is_named_by_its_pixels(tmp_path):
    pixels = shapes(1)[0][0]
    for name in ("a.png", "b.bmp", "c.tiff"):
        Image.fromarray(pixels).save(tmp_path / name)
    names = {content_of(decode(path.read_bytes())) for path in tmp_path.iterdir()}
    assert names == {content_of(decode(pixels))}
    assert content_of(decode(pixels[:, :12])) not in names
    assert content_of(decode(pixels.reshape(12, 48))) not in names
