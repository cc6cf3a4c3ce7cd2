"""What a study will cost, and what a budget leaves out."""

import json
from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import save_file
from support import shapes

from pytest_datasize import RequirementError, Study
from pytest_datasize.images.sources.load import load
from pytest_datasize.trials.budget import Cost, trim_to_budget
from pytest_datasize.trials.plan import draw
from pytest_datasize.trials.recipe import FINE_TUNING, Recipe
from pytest_datasize.trials.strategies import fine_tuning


@pytest.fixture(scope="module")
def plan():
    return draw(load(shapes(200)).images, repeats=10)


def test_repeats_go_first_then_the_largest_sizes(plan):
    recipe = Recipe(validation=0.2, batch=8, epochs=20, least_steps=1)
    cost = Cost(forwards=200, once=5.0, stored=0, recipe=recipe, step=0.01, epoch=0.0)
    everything = cost.seconds(plan)
    # half of 20 epochs of 80 % of the images, and forward passes of the rest and of the test
    learnt = 10 * 10 * 0.8 * sum(plan.sizes)
    scored = 10 * (10 * 0.2 * sum(plan.sizes) + 40 * len(plan.sizes))
    assert everything == pytest.approx(5 + 0.01 * (learnt + scored / 3), rel=0.03)
    assert cost.backwards(plan) == pytest.approx(learnt, rel=0.03)
    fixed = replace(cost, recipe=replace(recipe, patience=None))  # no early stopping: twice as many
    assert fixed.backwards(plan) == pytest.approx(2 * learnt, rel=0.03)
    many = replace(cost, recipe=replace(recipe, least_steps=100))
    assert many.backwards(plan) > 3 * cost.backwards(plan)
    assert trim_to_budget(plan, cost, everything) == (plan, "")

    fewer, said = trim_to_budget(plan, cost, everything / 2)
    assert fewer.sizes == plan.sizes
    assert 2 < len(fewer.repeats) < 10
    assert cost.seconds(fewer) <= everything / 2
    assert f"{len(fewer.repeats)} of 10 repeats" in said
    assert (fewer.repeats[0].order == plan.repeats[0].order).all()

    smaller, said = trim_to_budget(plan, cost, everything / 8)
    assert len(smaller.repeats) == 2
    assert 3 < len(smaller.sizes) < len(plan.sizes)
    assert smaller.sizes == plan.sizes[: len(smaller.sizes)]
    assert f"sizes up to {smaller.sizes[-1]} instead of 160" in said

    least, said = trim_to_budget(plan, cost, 1.0)
    assert (len(least.repeats), len(least.sizes)) == (2, 3)
    assert "the budget is exceeded" in said


BACKBONE = """
import pytest, torch
from pytest_datasize import datasize

@pytest.fixture(scope="session")
def datasize_backbone():
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3, stride=2), torch.nn.ReLU(), torch.nn.Conv2d(6, 6, 3),
        torch.nn.AdaptiveAvgPool2d((1, 3)), torch.nn.Flatten(),
    )
"""


def test_the_plan_says_what_each_strategy_costs(repository):
    repository.makepyfile(
        BACKBONE
        + """
@datasize.requires(accuracy=0.6)
def test_a(): ...
@datasize.requires(accuracy=0.6, augment=True)
def test_b(): ...
@datasize.requires(accuracy=0.6, strategy="fine_tuning")
def test_c(): ...
@datasize.requires(accuracy=0.6, strategy="from_scratch", budget="1s")
def test_d(): ...
@datasize.requires(accuracy=0.6, trainer=print)
def test_e(): ...
"""
    )
    result = repository.runpytest("--datasize=plan")
    result.assert_outcomes(skipped=5)
    result.stdout.fnmatch_lines(
        [
            "*test_a: *",
            "*cost * 120 images forward once, 0 backward; *",
            "*test_b: *",
            "*cost * 600 images forward once, 0 backward; *",
            "*test_c: *",
            "*cost * 120 images forward once, *,??? backward; *",
            "*test_d: *",
            "*cost * 120 images forward once, * backward; *",
            "*test_e: *",
            "*cost * unknown: the trainer's own",
        ]
    )


def test_a_budget_is_kept_and_told(repository):
    repository.makepyfile(
        BACKBONE
        + """
@datasize.requires(accuracy=0.3, strategy="from_scratch", repeats=200)
def test_it(datasize_result):
    assert datasize_result.repeats < 200
    assert any(note.startswith("budget of 4 s: ") for note in datasize_result.notes)

@datasize.requires(accuracy=0.3, trainer=print)
def test_trainer(): ...
"""
    )
    result = repository.runpytest("--datasize-budget=4s")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*no one knows how long the trainer takes*"])


def test_an_estimate_counts_the_gradients_that_are_then_taken(monkeypatch):
    one_cycle = replace(FINE_TUNING, cycles=1)  # further cycles depend on the images
    monkeypatch.setattr("pytest_datasize.trials.cost.FINE_TUNING", one_cycle)
    monkeypatch.setattr(fine_tuning, "FINE_TUNING", one_cycle)
    torch.manual_seed(0)
    taken, real = [], torch.nn.functional.cross_entropy

    def counted(logits, *args, **options):
        taken.append(len(logits) if logits.requires_grad else 0)
        return real(logits, *args, **options)

    layers = [torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.ReLU(), torch.nn.Conv2d(8, 16, 3)]
    backbone = torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    study = Study(
        shapes(300, side=48),
        backbone=backbone,
        image_size=48,
        strategy="fine_tuning",
        sizes=(20, 60, 160),
        repeats=2,
        device="cpu",
    )
    expected = study.plan()
    assert expected.seconds > 0
    monkeypatch.setattr(torch.nn.functional, "cross_entropy", counted)
    study.run()
    assert sum(taken) == expected.backwards


def test_a_budget_that_is_no_time_is_refused():
    with pytest.raises(RequirementError, match="budget"):
        Study(shapes(40), budget="soon")


def test_a_plan_that_was_made_before_needs_no_torch(repository):
    folder = repository.mkdir("net")
    model = timm.create_model("test_resnet", num_classes=10)
    save_file(model.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text('{"architecture": "test_resnet", "num_classes": 10}')
    repository.makepyfile(
        "import atexit, sys\n"
        "from pytest_datasize import datasize\n"
        "atexit.register(lambda: print('torch' in sys.modules))\n"
        "@datasize.requires(accuracy=0.9, backbone='local-dir:net')\n"
        "def test_it(): ...\n"
    )
    plan = "--datasize=plan", "--datasize-store=store", "--datasize-json=plan.json", "-v"
    found = []
    for torch_was_needed in ("True", "False"):
        result = repository.runpytest_subprocess(*plan)
        result.assert_outcomes(skipped=1)
        assert result.outlines[-1] == torch_was_needed
        found.append(json.loads((repository.path / "plan.json").read_text())["requirements"])
    assert found[0] == found[1]
    result = repository.runpytest_subprocess(*plan, "--datasize-image-size=32")
    assert result.outlines[-1] == "True"
