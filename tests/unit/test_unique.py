"""Every image counts once, wherever its copies are."""

import numpy as np
import pytest
import torch
from support import named, shapes, write_folder

from pytest_datasize import DatasetError, Study
from pytest_datasize.images.sources.load import load


def noise(n: int, seed: int = 0):
    """n images without anything to learn."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, 255, (n, 24, 24), dtype=np.uint8), np.arange(n) % 2


def test_copies_are_counted_once_and_told():
    images, labels = noise(40)
    loaded = load((np.concatenate([images] * 3), np.concatenate([labels] * 3)))
    kept, _ = named(loaded)
    assert len(kept) == 40
    assert kept.notes == ("80 exact copies in arrays 120 x 24 x 24 were counted once",)
    assert len(set(kept.digests)) == 40
    assert {kept.read(row).tobytes() for row in range(40)} == {i.tobytes() for i in images}


def test_copies_cannot_make_noise_learnable():
    """Four copies of every image: trained on one and tested on another, noise would score 1."""
    images, labels = noise(60)
    four = np.concatenate([images] * 4), np.concatenate([labels] * 4)
    backbone = torch.nn.Sequential(torch.nn.AvgPool2d(2), torch.nn.Flatten())
    result = Study(four, backbone=backbone, image_size=24, repeats=5).run()
    assert result.total == 60
    assert np.mean(result.scores["accuracy"][-1]) < 0.75


def test_images_under_two_labels_are_left_out_and_named(tmp_path):
    images, labels = shapes(20)
    write_folder(tmp_path, images, labels)
    write_folder(tmp_path, images[:2], [1, 0])
    kept, _ = named(load(str(tmp_path)))
    assert len(kept) == 18
    assert "2 images stand under two labels" in kept.notes[0]
    assert "left/0000.png = " in kept.notes[0]


def test_test_images_that_are_in_the_pool_are_left_out():
    images, labels = noise(40)
    fresh, fresh_labels = noise(10, seed=1)
    mixed = np.concatenate([images[30:], fresh]), np.concatenate([labels[30:], fresh_labels])
    kept, test = named(load((images, labels), mixed))
    assert len(test) == 10
    assert kept.notes == ("10 test images are also in the pool and were left out",)


def test_the_same_folder_as_pool_and_test_set_is_refused(shape_folder):
    with pytest.raises(DatasetError, match="120 test images are also in the pool"):
        named(load(str(shape_folder), str(shape_folder)))


def test_files_without_an_image_are_all_named(tmp_path):
    folder = write_folder(tmp_path, *shapes(20))
    for name in ("a", "b", "c"):
        (folder / "left" / f"{name}.png").write_bytes(b"")
    with pytest.raises(DatasetError, match="3 of 23 images cannot be read") as caught:
        named(load(str(folder)))
    assert all(f"{name}.png: empty file" in str(caught.value) for name in ("a", "b", "c"))


def test_a_link_to_data_that_are_not_there_is_named(tmp_path):
    folder = write_folder(tmp_path, *shapes(20))
    (folder / "third").symlink_to("nowhere")
    with pytest.raises(DatasetError, match=r"third is a link to nowhere.*dvc pull"):
        load(str(folder))


def test_an_image_that_changes_after_it_was_counted_is_named(tmp_path):
    """What was embedded for it would be kept under the name of what was counted."""
    from dataclasses import replace

    from pytest_datasize.embedding.backbone import load as load_backbone
    from pytest_datasize.embedding.embed import embed
    from pytest_datasize.embedding.embedder import Embedder
    from pytest_datasize.images.content_hash import read_contents
    from pytest_datasize.store import Store

    folder = write_folder(tmp_path, *shapes(20))
    images, _ = load(str(folder))
    counted = replace(images, digests=read_contents(images, Store()))
    (folder / "left" / "0004.png").write_bytes((folder / "left" / "0006.png").read_bytes())
    backbone = load_backbone(
        torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.Flatten()), "auto", 24
    )
    with pytest.raises(DatasetError, match=r"0004\.png: changed while the gate ran"):
        embed((counted,), Embedder(backbone, torch.device("cpu")), Store())


def test_images_that_vanish_after_they_were_listed_are_all_named(tmp_path):
    folder = write_folder(tmp_path, *shapes(20))
    loaded = load(str(folder))
    for name in ("0004.png", "0006.png"):
        (folder / "left" / name).unlink()
    with pytest.raises(DatasetError, match="2 of 20 images cannot be read") as caught:
        named(loaded)
    for name in ("0004.png", "0006.png"):
        assert str(caught.value).count(f"{name}: cannot be read: No such file") == 1
