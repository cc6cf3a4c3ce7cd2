"""What tests share: real images, small image folders, and a small user's repository."""

from pathlib import Path

import matplotlib.backends.backend_svg
import matplotlib.figure  # noqa: F401
import pytest
import scipy.sparse.csgraph  # noqa: F401
import timm  # noqa: F401  (these can be loaded once a process: before pytester does)
import torch  # noqa: F401
import torchvision  # noqa: F401
from support import CONFTEST, shapes, write_folder

pytest_plugins = ["pytester"]


@pytest.fixture(scope="session")
def textiles() -> Path:
    """2,000 real JPEG images in three class folders."""
    import conformal_clip_data

    return conformal_clip_data.textile_simulated_root()


@pytest.fixture(scope="session")
def shape_folder(tmp_path_factory) -> Path:
    """120 small PNG images, 60 of each of two kinds."""
    return write_folder(tmp_path_factory.mktemp("shapes"), *shapes(120))


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
    pytester.makeini(
        "[pytest]\naddopts = --strict-markers -p no:cacheprovider\nfilterwarnings = error\n"
        "datasize_image_size = 24\ndatasize_repeats = 4\n"
    )
    return pytester


@pytest.fixture(autouse=True)
def _nothing_is_published(monkeypatch):
    """These tests may run in a job of GitHub, or where a tracker is set up."""
    import os

    for name in list(os.environ):
        if name.startswith(("GITHUB_", "MLFLOW_", "WANDB_", "CI_COMMIT")):
            monkeypatch.delenv(name)
