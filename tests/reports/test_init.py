"""From a folder of images to a first gate, by one command."""

import subprocess
import sys

import numpy as np
import pytest
import yaml
from support import shapes, write_folder

from pytest_datasize.__main__ import main


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "data" / "it's", *shapes(60, seed=5, noise=0.05))
    return tmp_path


DATA = "data/it's"


def test_a_target_that_was_given_becomes_a_gate_that_runs(repository, capsys):
    assert main(["init", DATA, "--target", "0.6", "--ci", "gitlab"]) == 0
    said = capsys.readouterr().out
    assert "60 images in 2 classes (left 30, right 30)" in said
    assert "gate: accuracy=0.6" in said
    settings = yaml.safe_load((repository / "datasize.yaml").read_text())
    assert settings == {"defaults": {"dataset": DATA}}
    assert yaml.safe_load((repository / ".gitlab/datasize.yml").read_text())["enough-images"]
    options = ["-p", "no:cacheprovider", "--datasize-second-look=off", f"--rootdir={repository}"]
    command = [sys.executable, "-m", "pytest", *options]
    result = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    assert "accuracy 0.6" in result.stdout


def test_a_probe_measures_the_target_and_what_it_cannot_tell_only_warns(repository, capsys):
    assert main(["init", DATA]) == 0
    text = (repository / "test_enough_images.py").read_text()
    assert "accuracy=0." in text
    assert "a quick probe scores" in capsys.readouterr().out
    noise = np.random.default_rng(1).integers(0, 256, (60, 24, 24), np.uint8)
    write_folder(repository / "noise", noise, np.arange(60) % 2)
    (repository / "test_enough_images.py").unlink()
    assert main(["init", "noise"]) == 0
    assert 'level="warning"' in (repository / "test_enough_images.py").read_text()


def test_a_dry_run_writes_nothing_and_nothing_is_overwritten(repository, capsys):
    assert main(["init", DATA, "--no-probe", "--dry-run"]) == 0
    assert sorted(path.name for path in repository.iterdir()) == ["data"]
    (repository / "datasize.yaml").write_text("defaults: {}\n")
    (repository / "tests").mkdir()
    assert main(["init", DATA, "--no-probe"]) == 0
    assert (repository / "datasize.yaml").read_text() == "defaults: {}\n"
    assert "datasize.yaml: is there already, not changed" in capsys.readouterr().out
    assert 'level="warning"' in (repository / "tests/test_enough_images.py").read_text()


def test_what_a_check_calls_an_error_is_mended_first(repository, capsys):
    image = next((repository / "data" / "it's").rglob("*.png"))
    image.write_bytes(b"no image")
    assert main(["init", DATA]) in (1, 2)
    said = capsys.readouterr()
    assert image.name in said.out + said.err
    assert not (repository / "datasize.yaml").exists()


def test_a_folder_that_does_not_exist_is_named(repository, capsys):
    assert main(["init", "nowhere"]) == 2
    assert "nowhere: no such file or folder" in capsys.readouterr().err


def test_classes_of_very_different_size_are_judged_alike(repository, capsys):
    for path in sorted((repository / "data" / "it's" / "left").iterdir())[6:]:
        path.unlink()
    assert main(["init", DATA, "--target", "0.6"]) == 0
    assert "balanced_accuracy=0.6" in (repository / "test_enough_images.py").read_text()
