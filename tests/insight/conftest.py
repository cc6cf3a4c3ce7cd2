"""Embeddings of real images: three kinds of textile, seen by the default backbone."""

import numpy as np
import pytest
import torch
from support import shapes

from pytest_datasize import Study


@pytest.fixture(scope="session")
def textile_embeddings(textiles):
    """600 real images at 64 pixels: features (600, 1280), labels, the image set."""
    from pytest_datasize.embedding.backbone import load
    from pytest_datasize.embedding.embed import embed
    from pytest_datasize.embedding.embedder import Embedder
    from pytest_datasize.images.image_set import ImageSet
    from pytest_datasize.images.sources import load as sources
    from pytest_datasize.store import Store

    whole = sources.load(str(textiles)).images
    rows = np.random.default_rng(0).permutation(len(whole))[:600]
    some = ImageSet(
        whole.source,
        whole.classes,
        whole.labels[rows],
        lambda i: whole.read(rows[i]),
        lambda i: whole.name(rows[i]),
    )
    backbone = load("tf_efficientnet_lite0", "embedded", 64)
    with Store() as store:
        found = embed([some], Embedder(backbone, torch.device("cpu"), "float32"), store)
    return found.features.numpy(), some.labels, some


@pytest.fixture(scope="session")
def flipped():
    """Evidence over 200 images of which 5 % stand under the wrong label, and which those are."""
    images, labels = shapes(200, noise=0.15)
    wrong = np.random.default_rng(1).permutation(200)[:10]
    given = labels.copy()
    given[wrong] = 1 - given[wrong]
    backbone = torch.nn.Sequential(torch.nn.AvgPool2d((24, 6)), torch.nn.Flatten())
    study = Study((images, given), backbone=backbone, image_size=24, device="cpu")
    return study.run(), images, given, set(wrong.tolist())
