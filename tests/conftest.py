"""What tests share: real images, small image folders, and a small user's repository."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest_plugins = ["pytester"]


@pytest.fixture(scope="session")
def textiles() -> Path:
    """2,000 real JPEG images in three class folders."""
    import conformal_clip_data

    return conformal_clip_data.textile_simulated_root()


def shapes(n: int, seed: int = 0, side: int = 24, noise: float = 0.35):
    """n noisy greyscale images of two kinds, bright on the left or on the right; balanced."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    ramp = np.linspace(0.4, 0.6, side)
    clean = np.where(labels[:, None, None] == 1, ramp, ramp[::-1]) * np.ones((n, side, side))
    noisy = np.clip(clean + noise * generator.standard_normal((n, side, side)), 0, 1)
    return (noisy * 255).astype(np.uint8), labels


def write_folder(root: Path, images, labels, names=("left", "right")) -> Path:
    """Write images as PNG files in class-per-subfolder layout."""
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = root / names[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index:04d}.png")
    return root


@pytest.fixture(scope="session")
def shape_folder(tmp_path_factory) -> Path:
    """120 small PNG images, 60 of each of two kinds."""
    return write_folder(tmp_path_factory.mktemp("shapes"), *shapes(120))


CONFTEST = """
import pytest, torch

@pytest.fixture(scope="session")
def datasize_backbone():
    # four column means: a real module, small enough for a test
    return torch.nn.Sequential(torch.nn.AvgPool2d((24, 6)), torch.nn.Flatten())
"""


@pytest.fixture
def repository(pytester, shape_folder):
    """A user's repository with 120 images and a small backbone; gates run in a second."""
    pytester.makeconftest(
        CONFTEST
        + f"""
@pytest.fixture(scope="session")
def datasize_dataset():
    return {str(shape_folder)!r}
"""
    )
    pytester.makeini("[pytest]\naddopts = --strict-markers -p no:cacheprovider\n"
                     "datasize_image_size = 24\ndatasize_repeats = 4\n"
                     "filterwarnings = error\n")
    return pytester
