"""A backbone cut in two is the backbone: the same numbers, and only the top's weights trained."""

import copy

import pytest
import timm
import torch

from pytest_datasize import BackboneError
from pytest_datasize.embedding.backbone import load
from pytest_datasize.trials.networks.cut import cut, trained_parameters

FAMILIES = {
    "resnet18": (64, "layer4"),
    "tf_efficientnet_lite0": (64, "blocks.6"),
    "convnext_atto": (64, "stages.3"),
    "mobilenetv3_small_100": (64, "blocks.4"),
    "vit_tiny_patch16_224": (None, "blocks.10"),
    "densenet121": (64, "features.denseblock4"),
}


@pytest.fixture(scope="module", params=FAMILIES)
def backbone(request):
    torch.manual_seed(0)
    model = timm.create_model(request.param, pretrained=False)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # statistics unlike those of a fresh layer
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 2.0)
    side, first = FAMILIES[request.param]
    return load(model, image_size=side), first


def test_trunk_and_top_give_what_the_whole_model_gives(backbone):
    backbone, first = backbone
    found = cut(backbone)
    assert not found.whole
    assert 0 < found.unfrozen < found.stages
    assert found.trainable[0].startswith(f"model.{first}.")
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(3, 3, backbone.image_size, backbone.image_size, generator=generator)
    with torch.inference_mode():
        expected = backbone.model(images)
        together = found.top(found.trunk(images))
    torch.testing.assert_close(together, expected, rtol=1e-4, atol=1e-4 * float(expected.std()))


def test_gradients_reach_the_unfrozen_stages_and_no_batch_norm(backbone):
    backbone, _ = backbone
    found = cut(backbone)
    top = copy.deepcopy(found.top)
    parameters = trained_parameters(top, found.trainable)
    assert len(parameters) == len(found.trainable) > 2
    for parameter in parameters:
        parameter.requires_grad_(True)
    with torch.no_grad():
        activations = found.trunk(torch.randn(2, 3, backbone.image_size, backbone.image_size))
    top(activations).square().sum().backward()
    assert all(parameter.grad is not None for parameter in parameters)
    assert all(p.grad is None for p in top.parameters() if not p.requires_grad)
    norms = {
        f"{path}.{name}"
        for path, module in backbone.model.named_modules()
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
        for name, _ in module.named_parameters()
    }
    assert not norms & set(found.trainable)
    assert not any(p.requires_grad for p in backbone.model.parameters())  # the original is left


def test_the_whole_model_is_unfrozen_on_demand():
    backbone = load(timm.create_model("resnet18", pretrained=False), image_size=64)
    found = cut(backbone, unfreeze=99)
    assert (found.unfrozen, found.stages, found.whole) == (4, 4, "")
    assert isinstance(found.trunk, torch.nn.Identity)
    assert "model.conv1.weight" in found.trainable
    assert not any(name.startswith("model.fc") for name in found.trainable)


class Branching(torch.nn.Module):
    """Decides by its input: no trace can follow it."""

    def __init__(self):
        super().__init__()
        self.stage1 = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 4, 3))
        self.stage2 = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3), torch.nn.Conv2d(4, 4, 3))

    def forward(self, images):
        found = self.stage1(images)
        return self.stage2(found) if found.mean() > -1e9 else found


class Skipping(torch.nn.Module):
    """The images themselves are needed at the end: nothing can be cut off below."""

    def __init__(self):
        super().__init__()
        self.inner = Branching()

    def forward(self, images):
        found = self.inner.stage2(self.inner.stage1(images))
        return torch.cat([found.mean(dim=(2, 3)), images.mean(dim=(2, 3))], dim=1)


def test_what_cannot_be_cut_trains_whole_and_says_so():
    found = cut(load(Branching(), image_size=32), unfreeze=1)
    assert "traced" in found.whole
    assert found.trainable[0] == "model.stage2.0.weight"
    assert len(found.trainable) == 4


def test_a_long_way_round_is_not_cut_short():
    backbone = load(Skipping(), image_size=32)
    found = cut(backbone, unfreeze=1)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(found.trunk(images), images)
    torch.testing.assert_close(found.top(found.trunk(images)), backbone.model(images))


def test_a_backbone_without_weights_cannot_be_fine_tuned():
    backbone = load(torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.Flatten()), image_size=16)
    with pytest.raises(BackboneError, match="no weights to train"):
        cut(backbone)
