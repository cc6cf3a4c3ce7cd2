"""Features of all stages: which models have them, what heads see, and what that is worth."""

import json
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from support import shapes

from pytest_datasize import BackboneError, RequirementError, Study
from pytest_datasize.embedding.backbone import load
from pytest_datasize.embedding.embed import embed
from pytest_datasize.embedding.embedder import Embedder
from pytest_datasize.embedding.precision import prepare
from pytest_datasize.embedding.stages import MOST_FEATURES, MOST_OF_BLOCKS, MOST_STAGES, with_stages
from pytest_datasize.images.decode import decode
from pytest_datasize.images.sources.load import load as load_images
from pytest_datasize.store import Store
from pytest_datasize.trials.heads.main_axes import AXES, main_axes
from pytest_datasize.trials.strategies import fine_tuning


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
    assert 1 < len(staged.widths) <= 1 + MOST_STAGES + 3 * ("vit" in name)
    assert sum(staged.widths[1:]) <= MOST_FEATURES
    assert staged.key != backbone.key


def block(before, after, stride):
    """Two convolutions with a branch around them, as in a ResNet; a branch shows no stage."""

    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Conv2d(before, after, 1)
            self.second = torch.nn.Conv2d(after, after, 3, stride, padding=1)
            self.around = torch.nn.Conv2d(before, after, 1, stride)
            self.relu = torch.nn.ReLU(inplace=True)

        def forward(self, images):
            return self.relu(self.second(self.relu(self.first(images))) + self.around(images))

    return Block()


def own_network():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(inplace=True)),
        torch.nn.Sequential(block(8, 16, 2), block(16, 16, 1)),
        torch.nn.Sequential(block(16, 32, 2), block(32, 32, 1)),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(32, 7),
    )


def noise(n, side, seed=0):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


def test_stages_of_any_module_are_found_by_its_data_flow():
    module = own_network().eval()
    staged = with_stages(load(module, "auto", 32))
    images = noise(3, 32)
    with torch.inference_mode():
        found, maps = staged.model(images), [images]
        for part in module[:3]:
            maps.append(part(maps[-1]))
        pooled = [torch.nn.functional.adaptive_avg_pool2d(one, 2).flatten(1) for one in maps[1:]]
        expected = torch.cat([module(images), *pooled], 1)
    assert staged.widths == (7, 32, 64, 128)
    assert staged.layers == "last layer and 3 stages"
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name", ["resnet50", "regnetx_002"])
def test_the_data_flow_shows_the_stages_that_timm_lists(name):
    listed = with_stages(load(name, "random", 64))
    shown = with_stages(load(Hidden(listed.model.model), "auto", 64))
    assert shown.widths == listed.widths
    with torch.inference_mode():
        assert torch.equal(shown.model(noise(2, 64)), listed.model(noise(2, 64)))


class Hidden(torch.nn.Module):
    """A model of which only the output is known."""

    def __init__(self, model):
        super().__init__()
        self.inner = model

    def forward(self, images):
        return self.inner.forward_head(self.inner.forward_features(images), pre_logits=True)


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("resnet18", "layer4#0"),
        ("mobilenet_v2", "features#0"),
        ("efficientnet_b0", "features#0"),
        ("swin_t", "permute#0"),
        ("googlenet", "inception5b#0"),
    ],
)
def test_models_of_torchvision_have_stages(name, last):
    options = {"init_weights": False} if name == "googlenet" else {}
    backbone = load(getattr(torchvision.models, name)(weights=None, **options), "auto", 64)
    staged = with_stages(backbone)
    assert 4 <= len(staged.widths) - 1 <= MOST_STAGES
    assert staged.model.taps.names[-1] == last
    assert with_stages(backbone).key == staged.key != backbone.key


@pytest.mark.parametrize(
    "module",
    [
        torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.Flatten()),
        torch.nn.Conv2d(3, 4, 3),
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 5), torch.nn.ReLU()),
    ],
)
def test_a_model_without_stages_gives_its_last_layer_and_says_so(module):
    backbone = load(module, "auto", 16)
    found = with_stages(backbone)
    assert found.note == "features: last layer only, because no stages were found in this model"
    assert (found.widths, found.key, found.model) == ((), backbone.key, backbone.model)


def test_a_module_of_ones_own_keeps_its_output_unless_stages_are_asked_for():
    backbone = load(own_network(), "auto", 16)
    assert with_stages(backbone, own=False) is backbone
    assert study(own_network()).options["features"] == "last"
    plain, last, stages = (
        study(own_network(), image_size=32, **features).run()
        for features in ({}, {"features": "last"}, {"features": "stages"})
    )
    assert plain.scores == last.scores != stages.scores
    assert (plain.features, stages.features) == ("last layer", "last layer and 3 stages")


class Encoder(torch.nn.Module):
    """A small transformer of torch's own layers, with a class token."""

    def __init__(self):
        super().__init__()
        self.patches = torch.nn.Conv2d(3, 32, 8, 8)
        self.token = torch.nn.Parameter(torch.zeros(1, 1, 32))
        layer = torch.nn.TransformerEncoderLayer(32, 2, 64, batch_first=True)
        self.encoder = torch.nn.TransformerEncoder(layer, 6)

    def forward(self, images):
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(tokens), -1, -1), tokens], 1)
        return self.encoder(tokens)[:, 0]


def transformer(kind):
    torch.manual_seed(0)
    if kind == "torch":
        return Encoder().eval(), "encoder.layers"
    if kind == "torchvision":
        shape = {"num_layers": 6, "num_heads": 2, "hidden_dim": 32, "mlp_dim": 64}
        found = torchvision.models.VisionTransformer(image_size=32, patch_size=8, **shape)
        return found.eval(), "encoder.layers"
    shape = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 6, "num_heads": 2}
    model = {
        "vit": timm.models.VisionTransformer,
        "distilled": timm.models.VisionTransformerDistilled,
        "beit": timm.models.Beit,
        "eva": timm.models.Eva,
    }[kind]
    return model(**shape, num_classes=0).eval(), "blocks"


@pytest.mark.parametrize("kind", ["vit", "distilled", "beit", "eva", "torchvision", "torch"])
def test_of_a_transformer_class_token_and_mean_of_four_blocks_are_taken(kind):
    module, blocks = transformer(kind)
    staged = with_stages(load(module, "auto", 32))
    assert staged.layers == "last layer and 4 blocks (class token and mean)"
    outputs = []
    for block in module.get_submodule(blocks).children():
        block.register_forward_hook(lambda _, inputs, output: outputs.append(output))
    with torch.inference_mode():
        last, found = load(module, "auto", 32).model(noise(2, 32)), staged.model(noise(2, 32))
        outputs.clear()
        module(noise(2, 32))
    expected, patches = [last], 16
    for number in (1, 2, 4, 5):
        expected += [outputs[number][:, 0], outputs[number][:, -patches:].mean(1)]
    torch.testing.assert_close(found, torch.cat(expected, 1))
    assert staged.widths == tuple(part.shape[1] for part in expected)


@pytest.mark.parametrize(
    ("name", "number", "kind"),
    [
        ("vit_tiny_patch16_224", 4, "blocks (class token and mean)"),
        ("deit_tiny_distilled_patch16_224", 4, "blocks (class token and mean)"),
        ("swin_tiny_patch4_window7_224", 4, "stages"),
        ("mixer_s32_224", 5, "stages"),
    ],
)
def test_transformers_of_timm(name, number, kind):
    staged = with_stages(load(name, "random", None if "mixer" in name else 64))
    assert staged.layers == f"last layer and {number} {kind}"
    assert sum(staged.widths[1:]) <= MOST_OF_BLOCKS


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_bits_of_stages_do_not_depend_on_threads(precision, monkeypatch):
    from pytest_datasize.embedding import embed as embed_module

    monkeypatch.setattr(embed_module, "MEMORY_BOUND", 0)
    images = load_images(shapes(60, side=32))[0]
    backbone = with_stages(load(own_network(), "auto", 32))
    found = []
    for threads in (1, 2, 4):
        monkeypatch.setattr(embed_module, "n_threads", lambda threads=threads: threads)
        embedder = Embedder(backbone, torch.device("cpu"), precision)
        found.append(embed_module.embed([images], embedder, Store()).features[:])
    assert all(torch.equal(found[0], other) for other in found[1:])
    with torch.inference_mode():
        pixels = [backbone.preprocess(decode(images.read(row))) for row in range(60)]
        expected = backbone.model(torch.stack(pixels))
    torch.testing.assert_close(found[0].float(), expected, rtol=0.05, atol=0.02)


def test_layers_that_are_fused_still_give_their_stages():
    """Every tapped layer is replaced when it is fused with the one before it."""
    torch.manual_seed(0)
    parts = [
        torch.nn.Sequential(
            torch.nn.Conv2d(before, after, 3, 2, 1, bias=False),
            torch.nn.BatchNorm2d(after),
            torch.nn.ReLU(),
        )
        for before, after in ((3, 8), (8, 16), (16, 32))
    ]
    module = torch.nn.Sequential(*(layer for part in parts for layer in part)).eval()
    staged = with_stages(load(module, "auto", 32))
    assert staged.model.taps.names == ("2#0", "5#0", "#0")
    sample = noise(4, 32)
    inference = prepare(staged, torch.device("cpu"), sample, "float32")
    assert len(inference.sites) == 3
    with torch.inference_mode():
        torch.testing.assert_close(inference.model(sample), staged.model(sample))


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


def test_stages_that_a_model_gives_in_unknown_shapes_are_found_by_its_data_flow():
    from dataclasses import replace

    from pytest_datasize.embedding.backbone import Features

    plain = load("test_efficientnet", "random", 64)
    odd = with_stages(replace(plain, model=Features(Odd(plain.model.model))))
    assert odd.model.taps is not None  # found by the data flow instead
    assert len(odd.widths) > 2


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


class Columns(torch.nn.Module):
    """A model of timm's interface that sees each column of pixels alone: it has no stages."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(96, 16)

    def forward(self, images):
        return self.layer(images.permute(0, 3, 1, 2).flatten(2)).mean(1)


def test_results_say_that_only_the_last_layer_could_be_used(small):
    note = "features: last layer only, because no stages were found in this model"
    found = study(Columns(), image_size=32, features="stages").run()
    assert found.notes.count(note) == 1
    assert found.features == "last layer"
    assert note not in study(Columns(), image_size=32).run().notes  # its output, as by default
    assert note not in study(small).run().notes


@pytest.mark.parametrize("strategy", ["feature_extraction", "fine_tuning"])
def test_stages_that_are_too_wide_are_left_out_and_the_result_says_so(small, strategy, monkeypatch):
    monkeypatch.setattr("pytest_datasize.embedding.stages.MOST_FEATURES", 1)
    short = replace(fine_tuning.FINE_TUNING, epochs=2, cycles=1, least_steps=4)
    monkeypatch.setattr(fine_tuning, "FINE_TUNING", short)
    given = {"sizes": (8, 16, 24), "repeats": 2, "strategy": strategy}
    features = {"features": "stages"} if strategy == "feature_extraction" else {}
    notes = study(small, **given, **features).run().notes
    assert notes.count("features: last layer only, because no stages were found in this model") == 1


def loud(factor):
    """Middle activations of about ``factor``, and a small output."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(8, 8, 3, padding=1),
        torch.nn.MaxPool2d(2),
    )
    with torch.no_grad():
        module[0].weight *= factor
        module[0].bias *= factor
        module[3].weight /= factor
    return module.eval()


@pytest.mark.parametrize("factor", [2.0**18, 2.0**-18])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_stages_beyond_the_range_of_half_precision_are_scaled_into_it(factor, precision):
    images = load_images(shapes(40, side=32))[0]
    backbone = with_stages(load(loud(factor), "auto", 32))
    embedder = Embedder(backbone, torch.device("cpu"), precision)
    found = embed([images], embedder, Store()).features.float()
    with torch.inference_mode():
        pixels = [backbone.preprocess(decode(images.read(row))) for row in range(40)]
        blocks = backbone.model.blocks(torch.stack(pixels))
    assert (blocks[1].max() > 65504) == (factor > 1)
    parts = zip(found.split(backbone.widths, 1), blocks, backbone.model.scales, strict=True)
    for part, block, scale in parts:
        allowed = 0.02 * float(block.abs().max()) * scale
        torch.testing.assert_close(part, block * scale, rtol=0.02, atol=allowed)
    plain = study(loud(1.0), image_size=32, features="stages", precision="float32").run()
    other = study(loud(factor), image_size=32, features="stages", precision="float32").run()
    assert other.scores == plain.scores


def test_usual_activations_are_not_scaled(small):
    for backbone in (load(small), load(own_network(), "auto", 32)):
        assert set(with_stages(backbone).model.scales) == {1.0}


def test_stages_that_overflow_in_float16_are_not_computed_in_it():
    backbone = with_stages(load(loud(1e5), "auto", 32))
    sample = backbone.normalise((noise(4, 32) * 255).to(torch.uint8))
    assert prepare(backbone, torch.device("cpu"), sample, "float16").precision == "float32"
    with pytest.raises(BackboneError, match="cannot calculate in it"):
        embed(
            [load_images(shapes(9, side=32))[0]],
            Embedder(backbone, torch.device("cpu"), "float16"),
            Store(),
        )


class Steep(torch.nn.Module):
    """Its first stage is huge for bright images alone, its output for none."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Conv2d(3, 4, 1)
        self.steep = torch.nn.Threshold(2.0, 0.0)  # no pixel is brighter than 2.65
        self.grow = torch.nn.Conv2d(3, 4, 1, bias=False)
        torch.nn.init.constant_(self.grow.weight, 1e6)
        self.sum = torch.nn.Identity()
        self.last = torch.nn.Conv2d(4, 4, 1)

    def forward(self, images):
        bright = self.steep(torch.nn.functional.avg_pool2d(images, 32))
        found = self.sum(self.first(images) + self.grow(bright))
        return self.last(torch.nn.functional.max_pool2d(torch.tanh(found), 2))


class Glaring(torch.nn.Module):
    """Beyond the range of float16 for bright images alone."""

    def forward(self, images):
        return images.mean((2, 3)).relu() * 3e4 + images[:, :, 0, 0]


@pytest.fixture
def dark_and_bright():
    """Forty dark images, and the same with a white one."""
    dark = np.zeros((40, 32, 32, 3), np.uint8)
    dark[:, 0, 0] = np.arange(40)[:, None]
    bright = np.concatenate([dark, np.full((1, 32, 32, 3), 255, np.uint8)])
    return [load_images((part, np.arange(len(part)) % 2))[0] for part in (dark, bright)]


@pytest.mark.parametrize(
    ("module", "precision", "says"),
    [
        (Steep(), "float32", r"a stage beyond the range.*features='last'"),
        (Glaring(), "float16", r"not finite in float16.*precision='float32'"),
    ],
)
def test_what_does_not_fit_on_a_later_image_is_an_error(module, precision, says, dark_and_bright):
    dark, bright = dark_and_bright
    embedder = Embedder(with_stages(load(module, "auto", 32)), torch.device("cpu"), precision)
    embed([dark], embedder, Store())
    with pytest.raises(BackboneError, match=says):
        embed([bright], embedder, Store())
