"""Shared fixtures: real images, small image folders, and a small repository of a user."""

import os
import sys
from pathlib import Path

# set before numpy is imported: on few cores, the threads of several workers would spend their time
# waiting for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from support import CONFTEST, shapes, write_folder

pytest_plugins = ["pytester"]


TOGETHER = {
    "tests/engines/": "workers",
    "tests/sessions/test_engines.py": "workers",
    "tests/sessions/test_example.py": "example",
    "tests/sessions/test_ladder.py": "ladder",
    "tests/gpu/": "gpu",
}
"""Prefix of a node id → name of a group of tests that run on one worker of pytest-xdist.

The tests of a group share a cluster or a store that is expensive to set up, and two clusters at the
same time compete for the cores.
"""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Distribute tests one by one, except the tests of a group."""
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
    """120 small PNG images, 60 of each of two classes."""
    return write_folder(tmp_path_factory.mktemp("shapes"), *shapes(120))


class Imported:
    """The modules that sessions in this process import, except those of the repository under test.

    Pytester removes them from ``sys.modules`` after each session and each test. Importing them
    again takes time, fails for compiled modules such as torch, and crashes with protobuf.
    """

    def __init__(self, temporary: Path) -> None:
        self._temporary = str(temporary)
        self._modules = {}

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self):
        """Record the modules when a session ends."""
        self.record()

    def record(self) -> None:
        """Record the modules that are imported now."""
        for name, module in list(sys.modules.items()):
            known = getattr(module, "__dict__", {})  # some modules answer to every attribute
            places = [known.get("__file__"), *known.get("__path__", ())]
            if not any(place and str(place).startswith(self._temporary) for place in places):
                self._modules[name] = module

    def restore(self) -> None:
        """Add the removed modules to ``sys.modules`` again."""
        for name, module in self._modules.items():
            sys.modules.setdefault(name, module)


@pytest.fixture
def imported(tmp_path_factory):
    """Keep modules imported; set up before pytester, which removes them in its teardown."""
    imported = Imported(tmp_path_factory.getbasetemp())
    yield imported
    imported.restore()


@pytest.fixture
def pytester(imported, pytester, monkeypatch):
    """Pytest's own fixture, except that modules stay imported between in-process sessions."""
    run = pytester.inline_run

    def inline_run(*arguments, plugins=(), **options):
        try:
            return run(*arguments, plugins=[*plugins, imported], **options)
        finally:
            imported.restore()

    monkeypatch.setattr(pytester, "inline_run", inline_run)
    yield pytester
    imported.record()  # also what the test imported outside of a session


@pytest.fixture
def repository(pytester, shape_folder):
    """A repository of a user with 120 images and a small backbone; a gate runs in a second."""
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
    """Disable publishers: tests may run in a GitHub job, or on a machine with a tracker."""
    for name in list(os.environ):
        if name.startswith(("GITHUB_", "MLFLOW_", "WANDB_", "CI_COMMIT")):
            monkeypatch.delenv(name)
