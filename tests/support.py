"""Small images and a small backbone, for tests that need a few real files."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
from _pytest._io import TerminalWriter
from PIL import Image

from pytest_datasize.images.content_hash import read_contents
from pytest_datasize.images.duplicates import unique
from pytest_datasize.images.image_set import Loaded
from pytest_datasize.reports.formats import terminal
from pytest_datasize.store import Store


def shapes(n: int, seed: int = 0, side: int = 24, noise: float = 0.6):
    """Return n noisy greyscale images and labels of two balanced classes, bright left or right."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    ramp = np.linspace(0.45, 0.55, side)
    clean = np.where(labels[:, None, None] == 1, ramp, ramp[::-1]) * np.ones((n, side, side))
    noisy = np.clip(clean + noise * generator.standard_normal((n, side, side)), 0, 1)
    return (noisy * 255).astype(np.uint8), labels


def stripes(n: int, seed: int = 0, side: int = 32, noise: float = 1.0):
    """Return n noisy images and labels of two balanced classes: stripes, lying or upright.

    Position and width of the stripes differ, so that frozen random features tell the classes apart
    only in part; a trained network does with some dozen images.
    """
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    places = np.arange(side)
    images = np.empty((n, side, side))
    for image, label in zip(images, labels, strict=True):
        phase, width = generator.uniform(0, 2 * np.pi), generator.uniform(0.9, 1.4)
        wave = np.sin(width * places + phase)
        image[:] = wave[:, None] if label else wave[None, :]
        image += noise * generator.standard_normal((side, side))
    return (np.clip((images + 3) / 6, 0, 1) * 255).astype(np.uint8), labels


def stages(*, normed: bool, cells: tuple[int, int]):
    """Return a backbone of three small stages with 12 features per cell, from a fixed seed."""
    import torch  # not needed by tests that only write files

    generator = torch.Generator().manual_seed(0)
    layers = []
    for inputs, outputs in ((3, 8), (8, 8), (8, 12)):
        convolution = torch.nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
        torch.nn.init.normal_(convolution.weight, std=0.4, generator=generator)
        torch.nn.init.zeros_(convolution.bias)
        stage = [convolution]
        if normed:
            stage.append(torch.nn.BatchNorm2d(outputs))
            stage[-1].running_mean.uniform_(-0.1, 0.1, generator=generator)
        layers.append(torch.nn.Sequential(*stage, torch.nn.ReLU()))
    return torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(cells), torch.nn.Flatten())


def write_folder(root: Path, images, labels, names=("left", "right")) -> Path:
    """Write images as PNG files in class-per-subfolder layout."""
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = root / names[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index:04d}.png")
    return root


ODD_NAMES = (
    "<script>alert(1)</script>",
    "red \x1b[31m\n::error::|pipe| `tick` @all",
    "long" * 75,
)
"""Class names that break reports without escaping."""

CONFTEST = """
import pytest

@pytest.fixture(scope="session")
def datasize_backbone():
    import torch
    # four column means: a real module, small enough for a test
    return torch.nn.Sequential(torch.nn.AvgPool2d((24, 6)), torch.nn.Flatten())
"""


def stored_embeddings(store: Path) -> int:
    """Return the number of files with embeddings or hashes in a store."""
    return len(list(store.glob("embeddings/*.f16")))


def named(loaded: Loaded) -> Loaded:
    """Decode every image, compute its content hash, and merge exact copies."""
    parts = [replace(part, digests=read_contents(part, Store())) for part in loaded if part]
    return unique(Loaded(*parts))


class Terminal:
    """As much of pytest's terminal reporter as a section needs, over a real writer."""

    def __init__(self, width=100, encoding="utf-8", markup=False, verbosity=0):
        self.bytes = io.BytesIO()
        file = io.TextIOWrapper(self.bytes, encoding=encoding, write_through=True)
        self._tw = TerminalWriter(file)
        self._tw.fullwidth, self._tw.hasmarkup = width, markup
        self.verbosity = verbosity
        self.write, self.write_line = self._tw.write, self._tw.line

    def section(self, title):
        self._tw.sep("=", title)

    def shown(self, records):
        terminal.write(self, records)
        return self.bytes.getvalue().decode(self._tw._file.encoding)
