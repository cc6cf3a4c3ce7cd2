"""The fixtures that people override and use."""

import json
from pathlib import Path

from support import CONFTEST, shapes, write_folder

GATE = "from pytest_datasize import datasize\nimport pytest\n"
OPTIONS = "image_size=24, repeats=3"


def test_every_fixture_shows_how_it_is_used(pytester):
    text = pytester.runpytest("--fixtures").stdout.str()
    names = (
        "dataset",
        "test_dataset",
        "backbone",
        "trainer",
        "augment",
        "result",
        "study",
        "compare",
    )
    for name in names:
        section = text.split(f"\ndatasize_{name} ")[1].split("\ndatasize_")[0]
        assert f"def datasize_{name}" in section or f"(datasize_{name})" in section
    assert "_datasize_evidence" not in text


def test_the_result_is_the_evidence(repository):
    repository.makepyfile(
        GATE
        + """
@datasize.requires(accuracy=0.6)
def test_it(datasize_result):
    curve = datasize_result.curves["accuracy"]
    assert datasize_result.available == 96 and datasize_result.total == 120
    assert len(datasize_result.scores["accuracy"]) == len(datasize_result.sizes)
    low, high = curve.interval(96, level=0.9)
    assert low < curve.predict(96) < high
    assert curve.ceiling.low <= curve.ceiling.mean <= curve.ceiling.high
    assert datasize_result.verdict(accuracy=0.6).passed

def test_unmarked(datasize_result): ...
"""
    )
    result = repository.runpytest()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["datasize_result needs a requirement*"])


def test_a_study_by_hand_shares_settings_and_embeddings(repository):
    repository.makepyfile(
        GATE
        + """
@datasize.requires(accuracy=0.6)
def test_gate(): ...

def test_study(datasize_study, datasize_dataset):
    result = datasize_study(sizes=[10, 20, 40]).run()
    assert result.sizes == (10, 20, 40)
    assert len(result.scores["accuracy"][0]) == 4   # from the ini file
    assert datasize_study(datasize_dataset, seed=1).run().seed == 1

def test_wrong(datasize_study):
    datasize_study(repets=3)
"""
    )
    result = repository.runpytest()
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*unknown name 'repets'*"])
    assert "gates.py" not in result.stdout.str()


def test_arrays_and_datasets_from_fixtures_and_a_test_set(pytester):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        GATE
        + f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from support import shapes
import torch

class TestArrays:
    @pytest.fixture
    def datasize_dataset(self): return shapes(100)
    @pytest.fixture
    def datasize_test_dataset(self): return shapes(60, seed=1)

    @datasize.requires(accuracy=0.6, {OPTIONS})
    def test_it(self, datasize_result):
        assert (datasize_result.available, datasize_result.n_test) == (100, 60)
        assert len(datasize_result.scores["accuracy"][-1]) == 1   # one whole pool, one model

class TestTorch:
    @pytest.fixture
    def datasize_dataset(self):
        images, labels = shapes(100)
        tensors = torch.from_numpy(images[:, None]), torch.tensor(labels)
        return torch.utils.data.TensorDataset(*tensors)

    @datasize.requires(accuracy=0.6, {OPTIONS})
    def test_it(self): ...
"""
    )
    pytester.runpytest().assert_outcomes(passed=2)


def test_no_data_set_says_the_three_ways_to_give_one(pytester):
    pytester.makepyfile(GATE + "@datasize.requires(accuracy=0.9)\ndef test_it(): ...\n")
    result = pytester.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["no data set: give dataset=*datasize_dataset*defaults*"])


def test_a_fixture_of_the_wrong_kind_is_named(pytester):
    pytester.makeconftest("import pytest\n@pytest.fixture\ndef datasize_dataset(): return 5\n")
    pytester.makepyfile(GATE + "@datasize.requires(accuracy=0.9)\ndef test_it(): ...\n")
    result = pytester.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["fixture datasize_dataset: dataset=5 is not allowed*"])


def test_unreadable_images_are_all_named_and_nothing_is_trained(repository, tmp_path):
    folder = write_folder(tmp_path / "damaged", *shapes(60))
    (folder / "left" / "0000.png").write_bytes(b"")
    (folder / "right" / "0001.png").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    repository.makepyfile(
        GATE
        + f"""
def train(train, test, *, seed, device):
    open("trained", "w").close()
    return {{"accuracy": 0.5}}

@datasize.requires(accuracy=0.6, trainer=train, dataset={str(folder)!r})
def test_it(): ...

@datasize.requires(accuracy=0.6, dataset={str(folder)!r})
def test_heads(): ...
"""
    )
    result = repository.runpytest("--datasize-json=out.json")
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(
        [
            "2 of 60 images cannot be read*",
            "*left/0000.png: empty file",
            "*right/0001.png: git-LFS pointer*git lfs pull*",
        ]
    )
    assert not (repository.path / "trained").exists()
    records = json.loads((repository.path / "out.json").read_text())["requirements"]
    assert [record["verdict"] for record in records] == ["error", "error"]
    for name in ("left/0000.png", "right/0001.png"):
        (folder / name).unlink()
    repository.runpytest("-k", "test_it").assert_outcomes(failed=1)
    assert (repository.path / "trained").exists()
