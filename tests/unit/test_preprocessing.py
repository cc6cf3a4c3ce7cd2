"""The preprocessing of models without one of their own, which does not import timm."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pytest_datasize.embedding.preprocessing import IMAGENET, Preprocessing
from pytest_datasize.embedding.timm_layers import is_drop_path, is_same_convolution, not_traced

TESTS = Path(__file__).parents[1]


def plain_module() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten())


@pytest.mark.parametrize("side", [None, 7, 32, 96, 224])
def test_it_is_what_timm_would_do(side):
    import timm.data

    found = Preprocessing.of(plain_module(), side)
    config = timm.data.resolve_model_data_config(plain_module())
    assert config == IMAGENET
    if side is not None:
        config["input_size"] = (3, side, side)
    assert found.config == config
    theirs = timm.data.create_transform(**config, is_training=False, normalize=False)
    generator = np.random.default_rng(0)
    for shape in [(300, 280, 3), (40, 3, 3), (9, 500, 3), (1, 1, 3), (side or 224, 57, 3)]:
        picture = Image.fromarray(generator.integers(256, size=shape, dtype=np.uint8))
        assert torch.equal(found.crop(picture), theirs(picture)), shape


def test_a_model_of_timm_keeps_its_own():
    import timm

    model = timm.create_model("tf_efficientnet_lite1")
    found = Preprocessing.of(model, None)
    assert found.config["input_size"] == (3, 240, 240)
    assert found.config["crop_pct"] == 0.882


def test_layers_of_timm_are_recognised():
    import timm.layers

    assert is_drop_path(timm.layers.DropPath(0.1))
    assert is_same_convolution(timm.layers.Conv2dSame(3, 4, 3))
    assert not is_same_convolution(torch.nn.Conv2d(3, 4, 3))
    functions, layers = not_traced()
    assert set(functions) == set(timm.layers.get_notrace_functions())
    assert set(layers) == set(timm.layers.get_notrace_modules())


def test_a_gate_on_a_module_of_its_own_imports_neither_timm_nor_torchvision():
    code = """
import sys
from support import shapes, stages
from pytest_datasize import Study

options = {"image_size": 24, "repeats": 2, "device": "cpu"}
Study(shapes(60), backbone=stages(normed=True, cells=(1, 1)), **options).run()
print([name for name in ("timm", "torchvision", "scipy.stats") if name in sys.modules])
"""
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=TESTS, check=True)
    assert done.stdout == "[]\n"
