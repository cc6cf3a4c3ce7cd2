"""Heads of every task against scikit-learn, and against what is known of planted data."""

import numpy as np
import pytest
import torch
from mosaics import NAMES, mosaics
from sklearn.linear_model import LogisticRegression, RidgeCV
from support import stages

from pytest_datasize import Study
from pytest_datasize.embedding.dense import Maps
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.images.targets.real_numbers import Numbers
from pytest_datasize.images.targets.sets import Sets
from pytest_datasize.trials.heads.heads import HeadTask, fit_heads
from pytest_datasize.trials.heads.ridge import STRENGTHS, fit_ridge
from pytest_datasize.trials.plan import draw
from pytest_datasize.trials.tasks.places import areas_on_grid


def planted(n, d, labels, seed=0):
    """Return features, and labels that a linear model can tell in part."""
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((n, d)) * np.geomspace(3, 0.1, d)
    scores = features @ generator.standard_normal((d, labels))
    return features.astype(np.float32), scores, generator


def study(dataset, **options):
    given = {
        "image_size": 48,
        "device": "cpu",
        "repeats": 3,
        "backbone": stages(normed=True, cells=(1, 1)),
    }
    return Study(dataset, **{**given, **options})


@pytest.mark.parametrize("n", [40, 300])
def test_each_label_is_a_logistic_regression_of_its_own(n):
    features, scores, generator = planted(500, 24, 5)
    shown = scores + 2 * generator.logistic(size=scores.shape) > np.quantile(scores, 0.6, axis=0)
    task = HeadTask(np.arange(n), np.arange(400, 500), seed=0)
    strata = np.zeros(500, dtype=np.int64)
    tensors = torch.from_numpy(features), torch.from_numpy(shown)
    [head] = fit_heads(*tensors, [task], 5, strengths=[0.1], strata=strata)
    scale = np.sqrt(features[:n].var(axis=0).mean())
    for label in range(5):
        model = LogisticRegression(C=1 / (0.1 * n), max_iter=5000, tol=1e-8)
        model.fit(features[:n] / scale, shown[:n, label])
        expected = model.predict_proba(features[400:] / scale)[:, 1]
        assert head.probabilities[:, label] == pytest.approx(expected, abs=3e-3)


def test_a_rare_label_gets_another_strength_than_a_frequent_one():
    """Alone or beside others, a label has the same probabilities: its strength is its own."""
    features, scores, generator = planted(600, 16, 3, seed=3)
    noisy = scores + np.array([0.1, 3.0, 8.0]) * generator.logistic(size=scores.shape)
    shown = noisy > np.quantile(noisy, [0.5, 0.9, 0.95])[np.arange(3)]
    task = HeadTask(np.arange(400), np.arange(400, 600), seed=0)
    strata = np.zeros(600, dtype=np.int64)
    x = torch.from_numpy(features)
    [all_three] = fit_heads(x, torch.from_numpy(shown), [task], 3, strata=strata)
    for label in range(3):
        own = torch.from_numpy(shown[:, [label]])
        [alone] = fit_heads(x, own, [task], 1, strata=strata)
        assert alone.probabilities[:, 0] == pytest.approx(
            all_three.probabilities[:, label], abs=5e-3
        )


@pytest.mark.parametrize("n", [12, 80, 400])
def test_numbers_are_predicted_as_by_ridge_with_leave_one_out(n):
    features, scores, generator = planted(500, 24, 2)
    numbers = scores + 5 * generator.standard_normal(scores.shape)
    task = HeadTask(np.arange(n), np.arange(400, 500), seed=0)
    [head] = fit_ridge(torch.from_numpy(features), numbers, [task])
    rows = features[:n].astype(np.float64)
    variance = rows.var(axis=0).mean()
    for k in range(2):
        grid = [strength * n * variance for strength in STRENGTHS]
        model = RidgeCV(alphas=grid).fit(rows, numbers[:n, k])
        expected = model.predict(features[400:].astype(np.float64))
        assert head.probabilities[:, k] == pytest.approx(expected, abs=1e-6)


def test_an_image_is_left_out_with_all_its_views():
    """Copies of the training images as further views must not make the strength weaker."""
    features, scores, generator = planted(120, 24, 1)
    numbers = scores + 8 * generator.standard_normal(scores.shape)
    twice = torch.from_numpy(np.concatenate([features, features]))
    rows = np.arange(100)
    plain = HeadTask(rows, np.arange(100, 120), seed=0)
    viewed = HeadTask(np.concatenate([rows, rows + 120]), np.arange(100, 120), seed=0, views=2)
    [one] = fit_ridge(torch.from_numpy(features), numbers, [plain])
    [other] = fit_ridge(twice, np.concatenate([numbers, numbers]), [viewed])
    assert other.strength == pytest.approx(one.strength, rel=1e-6)
    assert other.probabilities == pytest.approx(one.probabilities, abs=1e-4)


@pytest.mark.parametrize("views", [1, 2])
def test_groups_of_copies_are_left_out_as_a_whole(views):
    """Three copies of every image, known as a group, choose the strength that one of each does."""
    features, scores, generator = planted(120, 24, 1)
    numbers = scores + 8 * generator.standard_normal(scores.shape)
    rows, test = np.arange(100), np.arange(100, 120)
    [one] = fit_ridge(torch.from_numpy(features), numbers, [HeadTask(rows, test, seed=0)])
    thrice = np.concatenate([rows] * 3)
    twice = torch.from_numpy(np.concatenate([features] * views))
    train = np.concatenate([thrice + 120 * view for view in range(views)])
    known = HeadTask(train, test, seed=0, views=views, groups=thrice)
    blind = HeadTask(train, test, seed=0, views=views)
    [other], [wrong] = (
        fit_ridge(twice, np.concatenate([numbers] * views), [task]) for task in (known, blind)
    )
    assert other.strength == pytest.approx(one.strength, rel=1e-6)
    assert other.probabilities == pytest.approx(one.probabilities, abs=1e-4)
    assert wrong.strength < one.strength / 2


def test_logits_of_maps_are_those_of_their_places():
    """Interpolating logits is the same as a linear model of interpolated features."""
    generator = torch.Generator().manual_seed(0)
    maps = Maps((3, 5), (6, 3))
    rows = torch.randn(2, 3 * 36 + 5 * 9, generator=generator)
    weights = torch.randn(4, 8, generator=generator)
    bias = torch.randn(4, generator=generator)
    chosen = torch.arange(36).expand(2, -1)
    expected = maps.places(rows, chosen) @ weights.T + bias
    found = maps.logits(rows, weights, bias, 6).flatten(2).transpose(1, 2)
    assert torch.allclose(found, expected, atol=1e-4)


def test_every_pixel_of_a_mask_is_counted_once():
    generator = np.random.default_rng(0)
    for height, width, side in ((32, 32, 8), (50, 31, 7), (5, 90, 12)):
        mask = generator.integers(-1, 4, (height, width))
        areas = areas_on_grid(mask, side, 4)
        assert areas.sum((0, 1)).tolist() == [int((mask == label).sum()) for label in range(4)]


def test_masks_that_the_features_show_are_found():
    """Bright squares on a dark ground, each as large as a place of the maps."""
    generator = np.random.default_rng(0)
    masks = np.kron(generator.random((60, 6, 6)) < 0.4, np.ones((1, 8, 8))).astype(np.int64)
    masks[:, :8, :8], masks[:, :8, 8:16] = 0, 1
    images = (40 + 160 * masks + generator.integers(0, 20, masks.shape)).astype(np.uint8)
    shades = torch.nn.Sequential(
        torch.nn.AvgPool2d(4),
        torch.nn.Conv2d(3, 4, 1),
        torch.nn.AvgPool2d(2),
        torch.nn.Conv2d(4, 4, 1),
    )
    with torch.no_grad():
        for layer in (shades[1], shades[3]):
            layer.weight.fill_(0.5).add_(torch.arange(4.0)[:, None, None, None] / 10)
            layer.bias.zero_()
    result = study((images, masks), backbone=shades).run()
    assert np.mean(result.scores["mean_iou"][-1]) > 0.97


def test_the_share_of_a_class_comes_back_although_places_are_drawn_by_class():
    """Unlearnable masks: the best prediction is the frequent class everywhere."""
    generator = np.random.default_rng(0)
    masks = (generator.random((60, 48, 48)) < 0.1).astype(np.int64)
    images = generator.integers(0, 255, (60, 48, 48), dtype=np.uint8)
    result = study((images, masks)).run()
    assert np.mean(result.scores["pixel_accuracy"][-1]) > 0.88


def test_crops_are_classified_and_counted_by_image():
    made = mosaics(120, seed=2)
    result = study((made.images, made.targets)).run()
    assert result.task == "detection"
    assert result.amounts == {
        name: sum(own == name for boxes in made.boxes for own, _ in boxes) for name in sorted(NAMES)
    }
    scores = result.scores["crop_accuracy"]
    assert np.mean(scores[-1]) > 0.5  # four classes
    assert np.mean(scores[-1]) > np.mean(scores[0])


# -- splits and subsamples ------------------------------------------------------------------------


def images_of(targets):
    settled = targets.settled("here")
    classes, labels = settled.strata
    digests = tuple(f"{row:032x}" for row in np.random.default_rng(0).permutation(len(targets)))
    return ImageSet("here", classes, labels, bytes, str, targets=settled, digests=digests)


def test_every_label_keeps_its_share_in_every_split_and_comes_twice_in_every_subsample():
    generator = np.random.default_rng(0)
    shares = np.array([0.5, 0.3, 0.1, 0.02])
    shown = generator.random((500, 4)) < shares
    images = images_of(Sets(tuple("abcd"), shown))
    plan = draw(images, repeats=10)
    for repeat in plan.repeats:
        assert not set(repeat.test) & set(repeat.order)
        assert abs(len(repeat.test) - 100) <= 3
        assert shown[repeat.test].mean(axis=0) == pytest.approx(shown.mean(axis=0), abs=0.015)
        for size in plan.sizes:
            assert (shown[repeat.order[:size]].sum(axis=0) >= 2).all()
    tested = np.concatenate([repeat.test for repeat in plan.repeats[:5]])
    assert len(np.unique(tested)) > 480  # the parts of five repeats hardly overlap


def test_subsamples_have_all_ranges_of_a_number():
    generator = np.random.default_rng(0)
    images = images_of(Numbers.of(generator.exponential(size=300)))
    plan = draw(images, repeats=3)
    _, ranges = images.targets.strata
    for repeat in plan.repeats:
        counts = np.bincount(ranges[repeat.test], minlength=5)
        assert counts.max() - counts.min() <= 1
        for size in plan.sizes:
            counts = np.bincount(ranges[repeat.order[:size]], minlength=5)
            assert counts.max() - counts.min() <= 2


def test_groups_stay_on_one_side_with_sets_of_labels():
    made = mosaics(120, seed=4)
    patients = np.arange(120) // 4
    result = study((made.images, made.sets.astype(int)), group=patients)
    images = result.images()
    plan = result.context.draw(images, None)
    for repeat in plan.repeats:
        assert not set(images.groups[repeat.test]) & set(images.groups[repeat.order])


# -- networks, engines, reproducibility -----------------------------------------------------------

TASKS = {
    "multilabel": lambda made: (made.images, made.sets.astype(int)),
    "regression": lambda made: (made.images, made.counts + 0.5),
    "segmentation": lambda made: (made.images, made.masks),
    "detection": lambda made: (made.images, made.targets),
}


@pytest.mark.parametrize("strategy", ["fine_tuning", "from_scratch"])
@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_networks_learn_sets_and_numbers(task, strategy):
    made = mosaics(160, seed=5)
    options = {"strategy": strategy, "sizes": (8, 16, 120), "repeats": 2, "image_size": 32}
    result = study(TASKS[task](made), **options).run()
    assert result.task == task
    metric, learned = {"multilabel": ("auc", 0.65), "regression": ("r2", 0.5)}[task]
    assert np.mean(result.scores[metric][-1]) > learned


@pytest.mark.parametrize("task", TASKS)
def test_the_same_images_give_the_same_scores_in_any_order(task):
    made = mosaics(80, seed=6)
    order = np.random.default_rng(0).permutation(80)
    other = made._replace(
        images=made.images[order], boxes=[made.boxes[row] for row in order], masks=made.masks[order]
    )
    found = [study(TASKS[task](some), repeats=2).run().scores for some in (made, made, other)]
    assert found[0] == found[1]
    for metric, scores in found[0].items():
        assert np.array(found[2][metric]) == pytest.approx(np.array(scores), abs=2e-3)


@pytest.mark.parametrize("task", TASKS)
def test_workers_give_the_same_evidence(task):
    made = mosaics(80, seed=7)
    here = study(TASKS[task](made), repeats=2).run()
    there = study(TASKS[task](made), repeats=2, engine="processes", workers=2).run()
    assert there.scores == here.scores
