"""What is kept is valid in another folder, and not with another version of what calculates."""

import shutil
import sys
from pathlib import Path

import pytest
import torch
from support import shapes, write_folder

from pytest_datasize import Study
from pytest_datasize.requirement.versions import DECODING, EMBEDDING, EVIDENCE
from pytest_datasize.store import Store

GATES = """
from pytest_datasize import datasize
import pytest

SMALL = {"dataset": "data", "sizes": [10, 24, 60], "repeats": 2}
NET = {"backbone": "local-dir:net", "image_size": 24}

@datasize.requires(accuracy=0.1, **SMALL, **NET)
def test_folder(): ...

@datasize.requires(accuracy=0.1, **SMALL, backbone="test_resnet", weights="net/model.safetensors",
                   image_size=24)
def test_file(): ...

@datasize.requires(accuracy=0.1, **SMALL, trainer="theirs:train")
def test_trainer(): ...

@datasize.represents(deployment="field", dataset="data", **NET)
def test_field(): ...
"""

TRAINER = """
def train(train, test, *, seed, device):
    from helper import labels
    return labels(test)
"""

HELPER = """
import numpy as np

def labels(test):
    return np.arange(len(test)) % 2
"""


def weights_of(seed: int, folder: Path) -> None:
    """Write a small network as a local folder."""
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    folder.mkdir(exist_ok=True)
    model = timm.create_model("test_resnet", num_classes=10)
    save_file(model.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text('{"architecture": "test_resnet", "num_classes": 10}')


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A project with everything in it that a gate may name by a path."""
    root = tmp_path_factory.mktemp("first")
    write_folder(root / "data", *shapes(120))
    write_folder(root / "field", *shapes(40, seed=2))
    weights_of(0, root / "net")
    for name, text in (("test_gate", GATES), ("theirs", TRAINER), ("helper", HELPER)):
        (root / f"{name}.py").write_text(text)
    (root / "conftest.py").write_text("")
    (root / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\n")
    return root


@pytest.fixture
def elsewhere(checkout, pytester):
    """A copy of the project in another folder, with the record that was written in the first."""

    def session(root, *arguments):
        place = f"--rootdir={root}", f"--config-file={root / 'pytest.ini'}"
        return pytester.runpytest_inprocess(root, *place, "--datasize-store=off", *arguments)

    if not (checkout / "datasize.lock.json").exists():
        session(checkout, "--datasize-lock").assert_outcomes(passed=4)
    root = shutil.copytree(checkout, pytester.path / "second")
    return root, lambda *arguments: session(root, "--datasize=locked", *arguments)


def test_a_record_is_valid_in_another_folder(checkout, elsewhere):
    root, locked = elsewhere
    assert "/first" not in (root / "datasize.lock.json").read_text()
    locked().assert_outcomes(passed=4)


@pytest.mark.parametrize(
    ("change", "gates", "says"),
    [
        ("weights", ("folder", "file", "field"), "* was 'local-dir|*+*', is 'local-dir|*+*'*"),
        ("architecture", ("folder", "field"), "*backbone was 'local-dir|*+*', is *"),
        ("helper", ("trainer",), "*trainer was 'theirs:train *', is 'theirs:train *'*"),
        ("closure", ("trainer",), "*trainer is an object that another session cannot identify*"),
    ],
)
def test_what_a_path_or_a_name_leads_to_is_compared(elsewhere, change, gates, says):
    root, locked = elsewhere
    if change == "weights":
        weights_of(1, root / "net")
    elif change == "architecture":
        config = root / "net" / "config.json"
        config.write_text(config.read_text().replace("}", ', "model_args": {"output_stride": 8}}'))
    elif change == "helper":
        (root / "helper.py").write_text(HELPER.replace("% 2", "% 2 * 1"))
    else:
        text = "def make(epochs):\n    def train(train, test, *, seed, device): return epochs\n"
        (root / "theirs.py").write_text(f"{text}    return train\n\ntrain = make(3)\n")
    result = locked()
    result.assert_outcomes(errors=len(gates), passed=4 - len(gates))
    result.stdout.fnmatch_lines([says])
    for gate in gates:
        result.stdout.fnmatch_lines([f"*ERROR*test_{gate}*"])


# -- versions --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(shape_folder, tmp_path_factory):
    """A store with the evidence of a small study."""
    folder = tmp_path_factory.mktemp("measured") / "store"
    run(shape_folder, folder)
    return folder


def study(images, store, **options) -> Study:
    columns = torch.nn.Sequential(torch.nn.AvgPool2d((24, 6)), torch.nn.Flatten())
    given = {"backbone": columns, "image_size": 24, "sizes": [10, 24, 60], "repeats": 2, **options}
    return Study(images, store=store, **given)


def run(images, folder) -> tuple[int, int, bool]:
    """Return the evidences and spaces of embeddings after a run, and if images were known."""
    with Store(folder) as store:
        known = study(images, store).context.pool.known
        study(images, store).run()
        found = len(store.all("evidence"))
    return found, len(list((folder / "embeddings").iterdir())), known


def upgraded(monkeypatch, root: Path, package: str) -> None:
    """Let another version of a package be installed, as its metadata say."""
    place = root / "site" / f"{package.replace('-', '_')}-999.0.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 999.0\n")
    monkeypatch.setattr(sys, "path", [str(root / "site"), *sys.path])


@pytest.mark.parametrize("package", EVIDENCE)
def test_an_upgrade_reuses_nothing_that_depends_on_it(
    package, measured, shape_folder, tmp_path, monkeypatch
):
    folder = shutil.copytree(measured, tmp_path / "store")
    assert run(shape_folder, folder) == (1, 2, True)  # embeddings and hashes
    upgraded(monkeypatch, tmp_path, package)
    spaces = 4 if package in DECODING else 3 if package in EMBEDDING else 2
    assert run(shape_folder, folder) == (2, spaces, package not in DECODING)


def test_single_trials_and_names_of_weights_depend_on_versions(
    measured, shape_folder, tmp_path, monkeypatch
):
    weights_of(0, tmp_path / "net")
    options = {"backbone": f"local-dir:{tmp_path / 'net'}", "strategy": "fine_tuning"}
    with Store(tmp_path / "store") as store:
        assert study(shape_folder, store, **options).context.backbone.loaded.named
        one = study(shape_folder, store, **options).context
        assert one.backbone.loaded.named
        before = one.trials_key()
        assert before == study(shape_folder, store, **options).context.trials_key() is not None
        upgraded(monkeypatch, tmp_path, "torchvision")
        other = study(shape_folder, store, **options).context
        assert other.trials_key() is None  # not known before the weights are loaded again
        assert other.backbone.loaded.named
        upgrade = other.trials_key()
        assert upgrade not in (None, before)
        # a store outlives a change of the training between two releases
        monkeypatch.setattr("pytest_datasize.requirement.versions.METHOD", "another")
        assert other.trials_key() not in (None, before, upgrade)


def test_a_trainer_depends_on_the_packages_that_it_imports(shape_folder, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    text = "def train(train, test, *, seed, device):\n    from sklearn.svm import SVC\n"
    (tmp_path / "theirs_of_sklearn.py").write_text(text)
    before = study(shape_folder, Store(), trainer="theirs_of_sklearn:train").context.family()
    again = study(shape_folder, Store(), trainer="theirs_of_sklearn:train").context.family()
    upgraded(monkeypatch, tmp_path, "scikit-learn")
    after = study(shape_folder, Store(), trainer="theirs_of_sklearn:train").context.family()
    assert before == again is not None
    assert after not in (None, before)
