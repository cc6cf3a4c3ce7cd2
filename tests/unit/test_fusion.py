"""Fused layers give what they gave apart, on real architectures and on the odd ones."""

import copy

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import shapes
from timm.layers import Conv2dSame, StdConv2d
from torch import nn

from pytest_datasize.embedding import fusion
from pytest_datasize.embedding.backbone import load
from pytest_datasize.embedding.embed import embed
from pytest_datasize.embedding.embedder import Embedder
from pytest_datasize.embedding.fusion import FusedConvolution, watch
from pytest_datasize.embedding.precision import prepare
from pytest_datasize.images.sources.load import load as load_images
from pytest_datasize.store import Store

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _as_if_frozen():
    with torch.inference_mode():
        yield


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def fuse(model, images):
    return fusion.fuse(model, watch(model, images)[1])


def as_if_trained(model):
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
    return model.eval()


def kinds(model):
    return {type(module) for module in model.modules()}


@pytest.mark.parametrize("side", [64, 75])
@pytest.mark.parametrize(
    "name",
    ["resnet10t", "mobilenetv3_small_050", "tf_efficientnet_lite0", "tf_mobilenetv3_small_075"],
)
def test_real_architectures_are_the_same_to_rounding(name, side):
    model = as_if_trained(timm.create_model(name, pretrained=False, num_classes=0))
    images, fused = noise(3, 3, side, side), copy.deepcopy(model)
    assert fuse(fused, images[:1])
    assert FusedConvolution in kinds(fused)
    assert not any(issubclass(kind, nn.BatchNorm2d) for kind in kinds(fused))
    torch.testing.assert_close(fused(images), model(images), rtol=1e-3, atol=1e-4)
    half = torch.bfloat16
    seen = fused.to(half)(images.to(half)).float(), model.to(half)(images.to(half)).float()
    torch.testing.assert_close(*seen, rtol=0.1, atol=0.1 * float(seen[1].std()))


@settings(max_examples=60, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    sides=st.tuples(st.integers(5, 14), st.integers(5, 14)),
    grouped=st.booleans(),
    biased=st.booleans(),
)
def test_padding_after_the_last_pixel_moves_into_the_kernel(kernel, stride, sides, grouped, biased):
    layer = Conv2dSame(
        4, 8, kernel, stride=stride, groups=4 if grouped else 1, bias=biased
    ).requires_grad_(False)
    images = noise(2, 4, *sides)
    expected = layer(images)
    model = nn.Sequential(layer)
    usual = max(kernel) <= 5 and max(stride) <= 2
    assert fuse(model, images[:1]) == usual
    torch.testing.assert_close(model(images), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "activation", [nn.ReLU(), nn.ReLU6(), nn.Hardtanh(-0.3, 0.2), nn.Hardswish(), nn.SiLU()]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_activations_that_onednn_knows(activation, dtype):
    model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), activation).eval()
    images = 4 * noise(2, 3, 9, 9)
    expected = model(images)
    assert fuse(model, images[:1])
    assert kinds(model) >= {FusedConvolution, nn.Identity}
    found = model.to(dtype)(images.to(dtype)).float()
    exact = dtype is torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5 if exact else 0.05, atol=0.05)
    if not exact:  # as it was but for the rounding of half precision
        assert 0 < float((found - expected).abs().max()) < 0.1


class Shared(nn.Module):
    """One activation for two convolutions, the second of them of a sum."""

    def __init__(self):
        super().__init__()
        self.one, self.other, self.act = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.ReLU()

    def forward(self, images):
        return self.act(images + self.other(self.act(self.one(images))))


class Bent(nn.SiLU):
    """What a subclass does is its own."""

    def forward(self, values):
        return super().forward(values) + 1


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(StdConv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
        nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), nn.ReLU()),
        nn.Sequential(nn.Conv2d(3, 4, 3, padding="same"), nn.ReLU()),
        nn.Sequential(Conv2dSame(3, 4, 3, stride=2, dilation=2)),
        nn.Conv2d(3, 4, 3),
        nn.Sequential(nn.Flatten(), nn.Linear(3 * 9 * 9, 2), nn.ReLU()),
    ],
    ids=lambda model: type(model).__name__,
)
def test_what_cannot_be_fused_is_left_alone(model):
    model.eval()
    before, images = copy.deepcopy(model), noise(2, 3, 9, 9)
    assert not fuse(model, images[:1])
    assert kinds(model) == kinds(before)
    torch.testing.assert_close(model(images), before(images), rtol=0, atol=0)


@pytest.mark.parametrize("model", [Shared(), nn.Sequential(nn.Conv2d(3, 4, 3), Bent())])
def test_what_an_activation_does_beside_is_left_to_it(model):
    before, images = copy.deepcopy(model.eval()), noise(2, 3, 9, 9)
    assert fuse(model, images[:1])  # the convolutions, whose weights are put in order
    assert {nn.ReLU, Bent} & kinds(model)
    torch.testing.assert_close(model(images), before(images))


def test_a_fused_padding_refuses_another_size():
    model = nn.Sequential(Conv2dSame(3, 4, 3, stride=2))
    assert fuse(model, noise(1, 3, 8, 8))
    with pytest.raises(RuntimeError, match=r"fused for inputs of \(8, 8\)"):
        model(noise(1, 3, 9, 9))


class Twice(nn.Module):
    """A convolution that is used with and without what follows it."""

    def __init__(self):
        super().__init__()
        self.convolution, self.norm, self.act = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()
        self.norm.running_mean.fill_(0.5)

    def forward(self, images):
        made = self.convolution(images)
        return (self.act(self.norm(made)) + made).mean((2, 3))


class Asking(nn.Module):
    """Asks a convolution for what a fused one does not have, as timm's DaViT does."""

    def __init__(self):
        super().__init__()
        self.convolution, self.act = nn.Conv2d(3, 4, 3), nn.ReLU()

    def forward(self, images):
        most = self.convolution.kernel_size[0]
        return self.act(self.convolution(images))[..., most:, most:].mean((2, 3))


class Unlike(nn.Module):
    """What a convolution made counts twice, but not for an image of one colour."""

    def __init__(self):
        super().__init__()
        self.convolution, self.act = nn.Conv2d(3, 4, 3), nn.ReLU()

    def forward(self, images):
        made = self.convolution(images)
        twice = images.std(dim=(1, 2, 3), keepdim=True) > 0.1
        return (1000 + self.act(made) + torch.where(twice, made, 0)).mean((2, 3))


class Named(nn.Module):
    """Gives a convolution its input by name."""

    def __init__(self):
        super().__init__()
        self.convolution, self.act = nn.Conv2d(3, 4, 3), nn.ReLU()

    def forward(self, images):
        return self.act(self.convolution(input=images)).mean((2, 3))


class Paired(nn.Conv2d):
    """Hands something on beside what it made."""

    def forward(self, images):
        return super().forward(images), images


@pytest.mark.parametrize("module", [Twice, Asking, Unlike, Named])
def test_what_would_change_the_embeddings_or_fail_is_not_taken(module):
    backbone, images = load(module(), image_size=32), noise(4, 3, 32, 32)
    images[0] = 0.5
    inference = prepare(backbone, CPU, images, "float32")
    assert not inference.sites
    torch.testing.assert_close(inference.model(images), backbone.model(images))


def test_half_precision_is_not_taken_where_it_changes_the_embeddings():
    class Fragile(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution, self.act = nn.Conv2d(3, 4, 3), nn.ReLU()

        def forward(self, images):
            return torch.sin(1e4 * self.act(self.convolution(images)).mean((2, 3)))

    backbone, images = load(Fragile(), image_size=32), noise(2, 3, 32, 32)
    inference = prepare(backbone, CPU, images)
    assert inference.precision == "float32"
    assert all(one.dtype is torch.float32 for one in inference.model.parameters())


def test_whatever_a_layer_returns_the_model_runs():
    class Loose(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution, self.other = Paired(3, 4, 3), nn.Conv2d(4, 4, 3)
            self.other.register_forward_hook(lambda module, inputs, output: (output, 1))

        def forward(self, images):
            made, _ = self.convolution(images)
            return self.other(made)[0].mean((2, 3))

    backbone, images = load(Loose(), image_size=32), noise(2, 3, 32, 32)
    model = prepare(backbone, CPU, images, "float32").model
    torch.testing.assert_close(model(images), backbone.model(images))


def test_a_module_of_the_users_own_is_looked_at_anew(tmp_path):
    """Its layers may be used otherwise, and have the names and give the numbers of before."""

    class Before(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other, self.act = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.ReLU()

        def forward(self, images):
            bent = self.act(self.one(images))
            return torch.relu(self.other(bent)).mean((2, 3))

    class After(Before):
        def forward(self, images):
            return self.act(self.other(self.act(self.one(images)))).mean((2, 3))

    Before.__qualname__ = After.__qualname__ = "Own"
    before, after = Before(), After()
    after.load_state_dict(before.state_dict())
    some, more = (load_images(shapes(count, side=32)).images for count in (6, 12))
    models = [load(module, image_size=32) for module in (before, after)]
    assert models[0].key == models[1].key
    with Store(tmp_path) as store:
        embed([some], Embedder(models[0], CPU), store)
        found = embed([more], Embedder(models[1], CPU), store)
    assert found.computed == 6
    expected = embed([more], Embedder(models[1], CPU, "float32"), Store()).features.float()
    torch.testing.assert_close(found.features.float(), expected, rtol=0.05, atol=0.05)


def test_a_kernel_that_would_become_too_wide_is_left_alone():
    model = nn.Sequential(Conv2dSame(8, 8, 7, stride=2))
    assert not fuse(model, noise(1, 8, 16, 16))


def test_what_overflows_stays_visible_in_float16():
    model = nn.Sequential(nn.Conv2d(2, 1, 1, bias=False), nn.ReLU()).eval()
    model[0].weight.copy_(torch.tensor([1.0, -1.0]).view(1, 2, 1, 1))
    assert fuse(model, noise(1, 2, 4, 4))
    found = model.half()(torch.full((1, 2, 4, 4), torch.inf, dtype=torch.float16))
    assert found.isnan().all()


def test_what_was_found_before_is_made_again():
    backbone = load(timm.create_model("resnet10t", pretrained=False), image_size=64)
    images = noise(4, 3, 64, 64)
    first = prepare(backbone, CPU, images)
    again = prepare(backbone, CPU, images[:1], first.precision, first.sites)
    assert (again.precision, again.sites) == (first.precision, first.sites)
    seen = images.to(first.dtype)
    assert torch.equal(first.model(seen), again.model(seen))


# -- private operators that are missing, changed or broken -----------------------------------------


def missing(*arguments):
    raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute")


def raising(*arguments):
    raise RuntimeError("could not create a primitive descriptor")


def shorter(images, weight, bias, activation):
    """Another signature."""


def wrong(images, weight, bias, padding, stride, dilation, groups, *activation):
    return nn.functional.conv2d(images, weight, bias, stride, padding, dilation, groups)


@pytest.fixture
def operators(monkeypatch):
    """Replaces PyTorch's private operators, and lets them be tried again."""

    def replaced(name, function):
        fusion.onednn.cache_clear()
        monkeypatch.setattr(torch.ops.mkldnn, name, function, raising=False)

    yield replaced
    monkeypatch.undo()
    fusion.onednn.cache_clear()


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("_convolution_pointwise", missing),
        ("_convolution_pointwise", raising),
        ("_convolution_pointwise", shorter),
        ("_convolution_pointwise", wrong),
        ("_reorder_convolution_weight", missing),
        ("_reorder_convolution_weight", raising),
        ("_reorder_convolution_weight", shorter),
        ("_is_mkldnn_bf16_supported", missing),
    ],
)
def test_operators_that_are_not_what_they_were_are_not_used(operators, name, function):
    operators(name, function)
    check_that_batch_norm_alone_is_fused()


@pytest.mark.parametrize("version", ["2.5.1", "2.15.0a0+git1", "3.0.0", "unknown"])
def test_versions_beyond_the_bounds_do_without(operators, monkeypatch, version):
    fusion.onednn.cache_clear()
    monkeypatch.setattr(torch, "__version__", version)
    check_that_batch_norm_alone_is_fused()


def check_that_batch_norm_alone_is_fused():
    model = as_if_trained(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))
    fused, images = copy.deepcopy(model), noise(2, 3, 9, 9)
    assert fuse(fused, images[:1])
    assert kinds(fused) == {nn.Sequential, nn.Conv2d, nn.Identity, nn.ReLU}
    torch.testing.assert_close(fused(images), model(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["convolve", "reorder"])
def test_an_operator_that_fails_later_is_replaced_by_the_public_one(monkeypatch, name):
    model = as_if_trained(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))
    fused, images = copy.deepcopy(model), noise(2, 3, 9, 9)
    assert fuse(fused, images[:1])
    broken = fusion.onednn()._replace(**{name: raising})
    monkeypatch.setattr(fusion, "onednn", lambda: broken)
    torch.testing.assert_close(fused(images), model(images), rtol=1e-5, atol=1e-5)


def test_the_operators_of_this_version_are_used():
    first, last = fusion.ONEDNN_VERSIONS
    if not first <= tuple(map(int, torch.__version__.split(".")[:2])) < last:
        pytest.skip("this PyTorch is beyond the bounds")
    assert fusion.onednn() is not None
