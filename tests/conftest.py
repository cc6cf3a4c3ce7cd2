"""What tests share: real images, small image folders, and a small user's repository."""

import os
import sys
from pathlib import Path

# before numpy: threads of several workers on few cores would wait for one another, and use the
# time of a core while they do
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from support import CONFTEST, shapes, write_folder

pytest_plugins = ["pytester"]


TOGETHER = {
    "tests/engines/": "workers",
    "tests/sessions/test_engines.py": "workers",
    "tests/sessions/test_example.py": "example",
}
"""Tests → name of the group that one worker of pytest-xdist runs.

They share what is expensive to start or to fill, and two clusters at once starve each other.
"""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Distribute tests one by one, but for those that belong together."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return next((TOGETHER[start] for start in TOGETHER if nodeid.startswith(start)), nodeid)

    return Groups(config, log) if config.getoption("dist") == "load" else None


@pytest.fixture(scope="session")
def textiles() -> Path:
    """2,000 real JPEG images in three class folders."""
    import conformal_clip_data

    return conformal_clip_data.textile_simulated_root()


@pytest.fixture(scope="session")
def shape_folder(tmp_path_factory) -> Path:
    """120 small PNG images, 60 of each of two kinds."""
    return write_folder(tmp_path_factory.mktemp("shapes"), *shapes(120))


class Imported:
    """What sessions in this process have imported, but for the repository under test.

    Pytester forgets those modules after a session and after a test. Compiled ones such as torch's
    cannot be loaded twice in a process, protobuf's crash it, and all of them take time.
    """

    def __init__(self, temporary: Path) -> None:
        self._temporary = str(temporary)
        self._modules = {}

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self):
        """Remember the modules of a session that ends."""
        for name, module in list(sys.modules.items()):
            known = getattr(module, "__dict__", {})  # some modules have an answer to any name
            places = [known.get("__file__"), *known.get("__path__", ())]
            if not any(place and str(place).startswith(self._temporary) for place in places):
                self._modules[name] = module

    def restore(self) -> None:
        """Put back what was forgotten."""
        for name, module in self._modules.items():
            sys.modules.setdefault(name, module)


@pytest.fixture
def imported(tmp_path_factory):
    """Modules that stay imported; set up before pytester, which forgets them when it ends."""
    imported = Imported(tmp_path_factory.getbasetemp())
    yield imported
    imported.restore()


@pytest.fixture
def pytester(imported, pytester, monkeypatch):
    """Pytest's own, but what its sessions in this process import stays imported."""
    run = pytester.inline_run

    def inline_run(*arguments, plugins=(), **options):
        try:
            return run(*arguments, plugins=[*plugins, imported], **options)
        finally:
            imported.restore()

    monkeypatch.setattr(pytester, "inline_run", inline_run)
    return pytester


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
    for name in list(os.environ):
        if name.startswith(("GITHUB_", "MLFLOW_", "WANDB_", "CI_COMMIT")):
            monkeypatch.delenv(name)
