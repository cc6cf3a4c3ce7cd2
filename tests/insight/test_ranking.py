"""What to label next: needs fewer labels than chance, and comes out of the command."""

import csv

import numpy as np
import pytest
import torch
from support import shapes, write_folder

from pytest_datasize.__main__ import main
from pytest_datasize.curve.advice.ranking import rank
from pytest_datasize.trials.heads.heads import HeadTask, fit_heads


def test_chosen_images_are_unsure(textile_embeddings):
    features, labels, _ = textile_embeddings
    task = HeadTask(np.arange(60), np.arange(60, 600), seed=0)
    [head] = fit_heads(torch.from_numpy(features), torch.from_numpy(labels), [task], 3)
    rest, p = features[60:], head.probabilities
    chosen = rank(rest, p, 30)
    assert len(set(chosen.tolist())) == 30
    margin = np.sort(p, axis=1)[:, -1] - np.sort(p, axis=1)[:, -2]
    assert margin[chosen].mean() < 0.75 * margin.mean()
    assert rank(rest, p, 1000).size == 540


def test_chosen_images_are_unlike_each_other():
    """Of 40 scenes that were photographed 15 times each, hardly one is chosen twice."""
    generator = np.random.default_rng(0)
    scene = np.repeat(np.arange(40), 15)
    features = generator.standard_normal((40, 32))[scene]
    features += 0.05 * generator.standard_normal(features.shape)
    first = generator.uniform(0.4, 0.6, 40)[scene]
    p = np.stack([first, 1 - first], axis=1)
    margin = np.abs(p[:, 0] - p[:, 1])
    chosen = rank(features.astype(np.float32), p.astype(np.float32), 20)
    assert len(set(scene[chosen])) > 2 * len(set(scene[np.argsort(margin)[:20]]))


@pytest.fixture
def folders(tmp_path):
    images, labels = shapes(120, seed=3)
    write_folder(tmp_path / "known", images[:60], labels[:60])
    write_folder(tmp_path / "new", images[40:], labels[40:] * 0, names=("all",))
    return tmp_path


def test_the_command_writes_images_that_are_not_labelled_yet(folders, capsys):
    out = folders / "next.csv"
    arguments = ["suggest", "--dataset", str(folders / "known"), "--unlabelled"]
    arguments += [str(folders / "new"), "--images", "15", "--image-size", "32"]
    arguments += ["--weights", "embedded", "--store", str(folders / "store")]
    assert main([*arguments, "--output", str(out)]) == 0
    rows = list(csv.DictReader(out.read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 15
    assert {row["likely"] for row in rows} <= {"left", "right"}
    fresh = [f"{number:04d}.png" for number in range(20, 80)]  # the first 20 are known
    assert all(row["image"].endswith(tuple(fresh)) for row in rows)
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 15
    assert "never test on them" in printed.err


def test_a_folder_without_images_is_named(folders, capsys):
    (folders / "empty").mkdir()
    arguments = ["suggest", "--dataset", str(folders / "known"), "--unlabelled"]
    assert main([*arguments, str(folders / "empty")]) == 2
    assert "holds no images" in capsys.readouterr().err
