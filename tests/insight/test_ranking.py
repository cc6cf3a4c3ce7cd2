"""What to label next: needs fewer labels than chance, and comes out of the command."""

import csv

import numpy as np
import pytest
import torch
from support import shapes, write_folder

from pytest_datasize.__main__ import main
from pytest_datasize.curve.advice.ranking import rank
from pytest_datasize.trials.heads.heads import HeadTask, fit_heads


def test_chosen_images_are_unsure_and_unlike_each_other(textile_embeddings):
    features, labels, _ = textile_embeddings
    splits = [np.split(np.roll(np.arange(600), 97 * turn), [60]) for turn in range(4)]
    tasks = [HeadTask(train, rest, seed=0) for train, rest in splits]
    heads = fit_heads(torch.from_numpy(features), torch.from_numpy(labels), tasks, 3)
    less_alike = []
    for (_, rows), head in zip(splits, heads, strict=True):
        rest, p = features[rows], head.probabilities
        chosen = rank(rest, p, 30)
        assert len(set(chosen.tolist())) == 30
        margin = np.sort(p, axis=1)[:, -1] - np.sort(p, axis=1)[:, -2]
        assert margin[chosen].mean() < 0.75 * margin.mean()
        unit = rest / np.linalg.norm(rest.astype(np.float32), axis=1, keepdims=True)
        nearest = [
            np.mean(np.sort(unit[rows] @ unit[rows].T, axis=1)[:, -2])
            for rows in (np.argsort(margin)[:30], chosen)
        ]
        less_alike.append(nearest[0] - nearest[1])
    assert np.mean(less_alike) > 0
    assert rank(rest, p, 1000).size == 540


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
