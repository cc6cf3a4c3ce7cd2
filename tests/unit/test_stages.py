"""Features of all stages: which models have them, what heads see, and what that is worth."""

import json

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from support import shapes

from pytest_datasize import RequirementError, Study
from pytest_datasize.embedding.backbone import load
from pytest_datasize.embedding.stages import MOST_FEATURES, MOST_STAGES, with_stages
from pytest_datasize.store import Store
from pytest_datasize.trials.heads.main_axes import AXES, main_axes


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A timm model of five stages that takes a millisecond, with random weights, in a folder."""
    folder = tmp_path_factory.mktemp("small")
    torch.manual_seed(0)
    model = timm.create_model("test_efficientnet", num_classes=10)
    save_file(model.state_dict(), folder / "model.safetensors")
    config = {"input_size": [3, 32, 32], "num_classes": 10, "classifier": "classifier"}
    text = {"architecture": "test_efficientnet", "num_classes": 10, "pretrained_cfg": config}
    (folder / "config.json").write_text(json.dumps(text))
    return f"local-dir:{folder}"


@pytest.mark.parametrize(
    "name",
    ["test_efficientnet", "test_resnet", "test_vit", "test_convnext", "test_mambaout", "resnet50"],
)
def test_the_last_layer_comes_first_and_the_width_is_bounded(name):
    backbone = load(name, "random", 64)
    staged = with_stages(backbone)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found, last = staged.model(images), backbone.model(images)
    assert found.shape == (2, sum(staged.widths))
    assert torch.equal(found[:, : staged.widths[0]], last)
    assert 1 < len(staged.widths) <= 1 + MOST_STAGES
    assert sum(staged.widths[1:]) <= MOST_FEATURES
    assert staged.key != backbone.key


def test_a_module_of_ones_own_keeps_its_output():
    module = torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.Flatten())
    backbone = load(module, "auto", 16)
    assert with_stages(backbone) is backbone


class Odd(torch.nn.Module):
    """A wrapped model whose intermediate outputs are of no shape that is known."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward_intermediates(self, images, **options):
        return images, [images.flatten(1)]

    def forward_features(self, images):
        return self.model.forward_features(images)

    def forward_head(self, features, pre_logits=False):
        return self.model.forward_head(features, pre_logits=pre_logits)


def test_a_model_whose_stages_cannot_be_taken_gives_its_last_layer():
    from dataclasses import replace

    from pytest_datasize.embedding.backbone import Features

    plain = load("test_efficientnet", "random", 64)
    odd = replace(plain, model=Features(Odd(plain.model.model)))
    assert with_stages(odd) is odd


def study(small, store=None, **options):
    images, labels = shapes(120, side=32, noise=0.9)
    given = {"backbone": small, "repeats": 3, "sizes": (12, 24, 48), "device": "cpu", **options}
    return Study((images, labels), store=store, **given)


def test_what_is_named_by_its_strategy_stays_what_it_was(small):
    assert study(small).options["features"] == "stages"
    assert study(small, strategy="feature_extraction").options["features"] == "last"
    assert study(small, preset="flowers-transfer").options["features"] == "last"
    both = {"strategy": "feature_extraction", "features": "stages"}
    assert study(small, **both).options["features"] == "stages"
    plain = study(small, strategy="feature_extraction").run()
    assert plain.scores == study(small, features="last").run().scores
    assert plain.scores != study(small).run().scores
    with pytest.raises(RequirementError, match=r"features='last layer'.*auto, last, stages"):
        study(small, features="last layer")


def test_a_grown_pool_keeps_the_rows_of_its_old_images(small, tmp_path):
    images, labels = shapes(120, side=32, noise=0.9)
    given = {"backbone": small, "repeats": 3, "sizes": (12, 24, 48), "device": "cpu"}
    done = []
    with Store(tmp_path) as store:
        Study((images[:100], labels[:100]), store=store, **given).run()
        grown = Study(
            (images, labels),
            store=store,
            on_progress=lambda stage, n, total: done.append((stage, n)),
            **given,
        )
        scores = grown.run().scores
    assert ("embedding images", 100) in done  # known at once, the others one batch after the other
    assert scores == Study((images, labels), **given).run().scores


def test_workers_give_the_same_bits(small):
    here = study(small).run()
    there = study(small, engine="processes", workers=2).run()
    assert here.scores == there.scores


@pytest.mark.parametrize("dead", [0, 700])
def test_axes_do_not_depend_on_units_and_lose_nothing(dead):
    generator = np.random.default_rng(0)
    basis = generator.standard_normal((40, 900))
    rows = (generator.standard_normal((300, 40)) @ basis).astype(np.float32)
    rows[:, :dead] = 0
    rows[:, 800:] *= 1000  # a stage in other units
    features = torch.from_numpy(rows)
    found = main_axes(features, (800, 100))
    assert len(found) == 300
    assert found.shape[1] <= AXES
    assert found.isfinite().all()
    parts = [part - part.mean(0) for part in features.split([800, 100], 1)]
    scaled = torch.cat([part / part.square().mean().sqrt() for part in parts], 1)
    expected = torch.cdist(scaled, scaled)
    torch.testing.assert_close(torch.cdist(found, found), expected, atol=0.05, rtol=5e-3)


def test_features_of_one_block_are_left_alone():
    features = torch.rand(5, 3)
    assert main_axes(features, ()) is features
    assert main_axes(features, (3,)) is features


def test_stages_halve_the_error_on_digits():
    """Real ImageNet weights on scans of handwriting, far from what the last layer was made for."""
    digits = load_digits()
    rows = np.random.default_rng(0).permutation(len(digits.target))[:450]
    data = (digits.images[rows] * 15.9).astype(np.uint8), digits.target[rows]
    given = {"image_size": 64, "sizes": (50, 120, 300), "repeats": 5, "device": "cpu"}
    error = {}
    for features in ("last", "stages"):
        scores = Study(data, features=features, **given).run().scores["accuracy"]
        error[features] = [1 - float(np.mean(repeats)) for repeats in scores]
    assert error["stages"][-1] < 0.6 * error["last"][-1]
    assert error["stages"][0] < error["last"][0]
