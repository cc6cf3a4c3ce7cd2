"""A conftest that changes process-wide settings changes no number, and keeps its settings."""

import json
import shutil

import pytest

POLLUTION = """
import numpy as np, torch
from PIL import GifImagePlugin, Image, ImageFile, TiffImagePlugin

def pytest_configure():
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    np.seterr(all="raise")
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.set_float32_matmul_precision("medium")
    torch.use_deterministic_algorithms(True)
    torch.autograd.set_detect_anomaly(True)
    torch.set_autocast_enabled("cpu", True)
    torch.backends.cudnn.benchmark = True
    torch.backends.mkldnn.enabled = False
    TiffImagePlugin.READ_LIBTIFF = True
    GifImagePlugin.LOADING_STRATEGY = GifImagePlugin.LoadingStrategy.RGB_ALWAYS
    Image.MAX_IMAGE_PIXELS = 100

def settings():
    return (ImageFile.LOAD_TRUNCATED_IMAGES, np.geterr()["under"], torch.get_default_dtype(),
            torch.is_grad_enabled(), torch.get_float32_matmul_precision(),
            torch.get_deterministic_debug_mode(), torch.is_anomaly_enabled(),
            torch.is_autocast_enabled("cpu"), torch.backends.cudnn.benchmark,
            torch.backends.mkldnn.enabled, TiffImagePlugin.READ_LIBTIFF,
            GifImagePlugin.LOADING_STRATEGY.name)

def given():
    return (True, "raise", torch.float64, False, "medium", 2, True, True, True, False, True,
            "RGB_ALWAYS")
"""

GATE = """
import pytest, torch
from pytest_datasize import datasize
{extra}
@pytest.fixture(scope="session")
def datasize_backbone():
    def layer(channels, made):
        return torch.nn.Conv2d(channels, made, 3, stride=2, dtype=torch.float32)
    torch.manual_seed(0)
    return torch.nn.Sequential(layer(3, 8), torch.nn.ReLU(), layer(8, 16), torch.nn.ReLU())

@datasize.requires(accuracy=0.3, {options})
def test_it(): {body}
"""

TRAINER = """
import numpy as np, torch

def train(train, test, *, seed, device):
    assert torch.get_default_dtype() == {dtype}, "the user's own setting"
    counts = np.bincount(train.labels, minlength=2) + 1.0
    return np.tile(counts / counts.sum(), (len(test), 1))
"""


def scores(repository, name):
    result = repository.runpytest_subprocess(f"--datasize-json={name}", "--datasize-store=off")
    [record] = json.loads((repository.path / name).read_text())["requirements"]
    return result, (record["scores"], record["required"], record["score_at_available"])


@pytest.mark.parametrize(
    "options",
    [
        "second_look='off'",
        "strategy='fine_tuning', sizes=[9, 20, 40], repeats=2",
    ],
)
def test_the_numbers_are_the_same_and_the_settings_stay(repository, options):
    repository.makepyfile(GATE.format(extra="", options=options, body="..."))
    _, plain = scores(repository, "plain.json")
    before = (repository.path / "conftest.py").read_text()
    (repository.path / "conftest.py").write_text(before + POLLUTION)
    extra = "from conftest import given, settings\n"
    body = "assert settings() == given()"
    repository.makepyfile(GATE.format(extra=extra, options=options, body=body))
    result, polluted = scores(repository, "polluted.json")
    result.assert_outcomes(passed=1)
    assert polluted == plain


def test_a_trainer_sees_the_settings_of_its_user(repository):
    before = (repository.path / "conftest.py").read_text()
    (repository.path / "conftest.py").write_text(before + POLLUTION)
    repository.makepyfile(theirs=TRAINER.format(dtype="torch.float64"))
    repository.makepyfile(
        GATE.format(extra="", options="trainer='theirs:train', sizes=[10, 30, 90]", body="...")
    )
    repository.runpytest_subprocess().assert_outcomes(passed=1)


def test_a_cut_file_is_found_although_the_user_allows_it(repository, shape_folder):
    data = shutil.copytree(shape_folder, repository.path / "data")
    before = (repository.path / "conftest.py").read_text()
    (repository.path / "conftest.py").write_text(before + POLLUTION)
    repository.makepyfile(GATE.format(extra="", options="dataset='data'", body="..."))
    image = next(data.rglob("*.png"))
    image.write_bytes(image.read_bytes()[:-60])
    result = repository.runpytest_subprocess("--datasize=check")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*{image.name}*"])
