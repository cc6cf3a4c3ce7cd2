"""The published recipes: their numbers, their fit, and that they run."""

import inspect
import re

import numpy as np
import pytest
import torch
from support import shapes

from pytest_datasize import RequirementError, Study
from pytest_datasize.curve.laws import fit_power2_least_squares
from pytest_datasize.requirement.options import OPTIONS
from pytest_datasize.trials import presets
from pytest_datasize.trials.plan import draw

SIZES = [165, 330, 825, 1651]
PUBLISHED = [
    [0.8202, 0.7466, 0.8011, 0.8447, 0.8229],
    [0.8610, 0.8774, 0.8501, 0.8937, 0.8910],
    [0.8910, 0.9237, 0.8856, 0.9101, 0.8910],
    [0.8937, 0.9373, 0.9128, 0.8719, 0.9128],
]


def test_the_published_accuracies_give_the_published_fit():
    means = np.mean(PUBLISHED, axis=1)
    theirs = presets.gradient_descent_fit(SIZES, means)
    assert theirs.a == pytest.approx(0.644564, abs=5e-6)
    assert theirs.b == pytest.approx(0.048097, abs=5e-6)
    assert theirs.predict(3303) == pytest.approx(0.95174, abs=1e-5)
    assert theirs.mean_absolute_error == pytest.approx(0.016099, abs=1e-6)
    a, b, error = fit_power2_least_squares(SIZES, means)
    note = presets.fit_note(SIZES, means, 3303)
    assert "0.6446 n^0.0481 (gradient descent) predicts 0.952 with 3,303 images" in note
    assert f"{a:.4f} n^{b:.4f} (exact least squares)" in note
    assert f"mean absolute error {error:.3f}" in note


def test_every_number_says_where_it_is_from():
    source = inspect.getsource(presets).split("PRESETS: dict")[1].split('"""Name')[0]
    lines = [line for line in source.splitlines() if re.search(r"[:=] *\(?\(?[\d.]+", line)]
    assert len(lines) > 25
    assert all(re.search(r"# \[[KF]\] \S", line) for line in lines)


def test_presets_are_those_that_the_option_allows():
    assert tuple(presets.PRESETS) == OPTIONS["preset"].choices
    for preset in presets.PRESETS.values():
        for name, value in preset.options.items():
            OPTIONS[name].parse(name, value, "preset")
    with pytest.raises(RequirementError, match="keras-sample-size"):
        presets.preset("keras")


@pytest.mark.parametrize("name", presets.PRESETS)
def test_a_preset_runs_with_a_small_backbone(name):
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 6, 3, stride=2), torch.nn.ReLU(), torch.nn.Conv2d(6, 6, 3)]
    backbone = torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d((1, 3)), torch.nn.Flatten())
    result = Study(
        shapes(200, noise=0.2),
        preset=name,
        backbone=backbone,
        image_size=24,
        device="cpu",
        repeats=2,
    ).run()
    published = presets.PRESETS[name]
    assert result.strategy == "fine_tuning"
    assert len(result.sizes) == len(published.options["sizes"])
    for line in published.differs:
        assert f"otherwise than published: {line}" in result.notes
    assert published.fits == any(note.startswith("recipe's fit") for note in result.notes)
    assert {"f1_micro", "f1_macro"} <= set(result.scores)
    assert result.scores["f1_micro"] == result.scores["accuracy"]
    if name == "keras-sample-size":
        assert (result.seed, result.law, result.sampling) == (42, "power2", "replacement")
        assert result.available == 180


def test_what_is_given_wins_over_the_preset():
    study = Study(shapes(40), preset="keras-sample-size", repeats=3, seed=1, augment=False)
    chosen = {name: study.options[name] for name in ("repeats", "seed", "augment", "image_size")}
    assert chosen == {"repeats": 3, "seed": 1, "augment": False, "image_size": 224}


def test_draws_with_replacement_hold_no_test_image():
    from pytest_datasize.images.sources.load import load

    images = load(shapes(100)).images
    plan = draw(images, sampling="replacement", test_fraction=0.1, repeats=3)
    for repeat in plan.repeats:
        assert not set(repeat.order) & set(repeat.test)
        assert len(repeat.order) == 90
        # of n draws from n images about 1 - 1/e are different
        assert 0.5 < len(set(repeat.order.tolist())) / 90 < 0.76


def test_a_marker_with_a_preset(repository):
    repository.makepyfile(
        """
import pytest, torch
from pytest_datasize import datasize

@pytest.fixture(scope="session")
def datasize_backbone():
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3, stride=2), torch.nn.ReLU(), torch.nn.Conv2d(6, 6, 3),
        torch.nn.AdaptiveAvgPool2d((1, 3)), torch.nn.Flatten(),
    )

@datasize.requires(accuracy=0.3, preset="keras-sample-size", sizes=[12, 30, 60])
def test_it(datasize_result):
    assert datasize_result.law == "power2"
    assert datasize_result.repeats == 4          # the ini file's
    assert datasize_result.image_size == 24
    assert datasize_result.sampling == "replacement"
"""
    )
    repository.runpytest().assert_outcomes(passed=1)
