"""Nearly the same images: found by what a real backbone sees in real images."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from pytest_datasize import DatasetError
from pytest_datasize.embedding.backbone import load as load_backbone
from pytest_datasize.images.image_set import ImageSet, Loaded
from pytest_datasize.images.near_duplicates import keep_apart, limit, pairs
from pytest_datasize.trials.plan import draw


def again(picture: Image.Image) -> Image.Image:
    """Save and load it as JPEG of quality 95."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=95)
    return Image.open(io.BytesIO(stream.getvalue())).convert("RGB")


@pytest.fixture(scope="module")
def textile_features(textiles):
    """Of 60 textiles; of the first 12 saved again; of the same made a little brighter."""
    backbone = load_backbone("tf_efficientnet_lite0", "auto", None)
    paths = sorted(textiles.rglob("*.jpg"))[::33][:60]
    pictures = [Image.open(path).convert("RGB") for path in paths]
    copies = [again(picture) for picture in pictures[:12]]
    brighter = [ImageEnhance.Brightness(picture).enhance(1.05) for picture in pictures[:12]]
    with torch.inference_mode():
        batch = torch.stack([backbone.preprocess(p) for p in (*pictures, *copies, *brighter)])
        features = backbone.model(batch).half().numpy()
    return features[:60], features[60:72], features[72:]


def test_copies_of_real_images_are_found_and_others_are_not(textile_features):
    pool, copies, brighter = textile_features
    for changed in (copies, brighter):
        found = pairs(changed, pool)
        assert [(pair.row, pair.twin) for pair in found] == [(row, row) for row in range(12)]
    assert pairs(pool[30:], pool[:30]) == []
    assert 0 < limit(pool) < 0.01


def labelled(n: int, start: int = 0) -> ImageSet:
    names = [f"image {start + row}" for row in range(n)]
    return ImageSet("test", ("a", "b"), np.arange(n) % 2, lambda i: b"", names.__getitem__)


def random_features(n: int, seed: int = 0):
    return np.random.default_rng(seed).normal(size=(n, 64))


def test_test_images_nearly_in_the_pool_are_left_out_and_named():
    pool, fresh = random_features(50), random_features(10, 1)
    features = np.concatenate([pool, fresh, pool[7:9] * 1.01 + 1e-3])
    kept, rows = keep_apart(Loaded(labelled(50), labelled(12, 50)), features)
    assert len(kept.test) == 10
    assert rows.tolist() == list(range(60))
    assert kept.images.findings[0].names == ("image 60 ~ image 7", "image 61 ~ image 8")
    assert kept.images.findings[0].check == "near_duplicates"
    with pytest.raises(DatasetError, match="no test image of class 'a' is left"):
        keep_apart(
            Loaded(labelled(50), labelled(2, 50)),
            np.concatenate([pool, pool[:1] * 1.01 + 1e-3, fresh[:1]]),
        )


def test_near_duplicates_in_the_pool_never_straddle_a_split():
    features = random_features(60)
    features[50:] = features[:10] + 1e-3
    kept, rows = keep_apart(Loaded(labelled(60)), features)
    assert len(rows) == 60
    assert (kept.images.groups[50:] == kept.images.groups[:10]).all()
    assert len(set(kept.images.groups)) == 50
    for repeat in draw(kept.images, repeats=5).repeats:
        assert not set(repeat.test % 50) & set(repeat.order % 50)
    alone, _ = keep_apart(Loaded(labelled(60)), random_features(60))
    assert alone.images.groups is None
    assert alone.images.findings == ()


def test_few_images_or_none_alike_flag_nothing():
    assert limit(random_features(5)) == 0.0
    assert pairs(random_features(5), random_features(5)) == []
    assert pairs(np.zeros((3, 8)), np.ones((30, 8))) == []
