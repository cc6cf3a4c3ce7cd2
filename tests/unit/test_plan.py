"""Promises of the plan: nested, stratified, without replacement, reproducible."""

from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pytest_datasize import DatasetError, Study
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.trials.plan import draw


def image_set(*counts: int) -> ImageSet:
    labels = np.repeat(np.arange(len(counts)), counts)
    names = tuple(f"class {label}" for label in range(len(counts)))
    return ImageSet("test", names, labels, read=lambda i: b"", name=str)


counts = st.lists(st.integers(12, 80), min_size=2, max_size=5)
fractions = st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.7])


@given(counts, st.integers(0, 5), fractions, st.sampled_from(["stratified", "balanced"]))
def test_training_and_test_images_never_meet(counts, seed, fraction, sampling):
    images = image_set(*counts)
    plan = draw(images, repeats=7, seed=seed, test_fraction=fraction, sampling=sampling)
    for repeat in plan.repeats:
        both = np.concatenate([repeat.order, repeat.test])
        assert sorted(both) == list(range(len(images)))
        assert len(repeat.order) == plan.available
        assert len(repeat.test) == plan.n_test
        assert set(images.labels[repeat.test]) == set(range(len(counts)))


@given(counts, st.integers(0, 5), st.sampled_from(["stratified", "balanced"]))
def test_every_subsample_holds_two_of_every_class(counts, seed, sampling):
    images = image_set(*counts)
    plan = draw(images, repeats=3, seed=seed, sampling=sampling)
    for size, _, repeat in plan.trials():
        found = np.bincount(images.labels[repeat.order[:size]], minlength=len(counts))
        assert found.min() >= 2


@given(counts, st.integers(0, 5))
def test_stratified_subsamples_keep_the_class_shares(counts, seed):
    images = image_set(*counts)
    plan = draw(images, repeats=2, seed=seed)
    pool = np.bincount(images.labels[plan.repeats[0].order])
    for size, _, repeat in plan.trials():
        found = np.bincount(images.labels[repeat.order[:size]], minlength=len(counts))
        # the two early images of a rare class may push the others back by one each
        assert np.abs(found - size * pool / pool.sum()).max() <= 2 + len(counts)


@given(counts, st.integers(0, 5))
def test_balanced_subsamples_are_equal_until_a_class_is_used_up(counts, seed):
    images = image_set(*counts)
    plan = draw(images, repeats=2, seed=seed, sampling="balanced")
    for size, _, repeat in plan.trials():
        found = np.bincount(images.labels[repeat.order[:size]], minlength=len(counts))
        pool = np.bincount(images.labels[repeat.order])
        assert found[found < pool].max(initial=0) - found.min() <= 1 or found.min() in pool


def test_test_parts_do_not_overlap_until_every_image_was_tested():
    plan = draw(image_set(50, 100), repeats=10, test_fraction=0.2)
    for block in (plan.repeats[:5], plan.repeats[5:]):
        tested = np.concatenate([repeat.test for repeat in block])
        assert sorted(tested) == list(range(150))
    assert plan.n_test == 30


def test_more_repeats_change_no_earlier_one():
    few, many = draw(image_set(30, 30), repeats=3), draw(image_set(30, 30), repeats=12)
    for one, other in zip(few.repeats, many.repeats, strict=False):
        assert (one.order == other.order).all()
        assert (one.test == other.test).all()


def test_the_seed_decides_and_the_global_state_is_left_alone():
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    same, again, other = (draw(image_set(30, 30), seed=seed) for seed in (1, 1, 2))
    assert (np.random.get_state()[1] == before).all()
    assert (same.repeats[0].order == again.repeats[0].order).all()
    assert (same.repeats[0].order != other.repeats[0].order).any()


def test_default_sizes_are_geometric_from_a_few_per_class_to_the_whole_pool():
    plan = draw(image_set(500, 500, 1000))
    assert (plan.sizes[0], plan.sizes[-1], len(plan.sizes)) == (15, 1600, 8)
    ratios = np.divide(plan.sizes[1:], plan.sizes[:-1])
    assert ratios.max() / ratios.min() < 1.1


def test_shares_are_of_the_pool():
    assert draw(image_set(50, 50), sizes=(0.1, 0.5, 1.0)).sizes == (8, 40, 80)


def test_a_fixed_test_set_leaves_the_pool_whole_and_trains_it_once():
    plan = draw(image_set(40, 40), n_fixed_test=25, repeats=5)
    assert plan.available == plan.sizes[-1] == 80
    assert all((repeat.test == np.arange(80, 105)).all() for repeat in plan.repeats)
    assert len(plan.trials()) == 5 * (len(plan.sizes) - 1) + 1


@pytest.mark.parametrize("groups", [None, np.arange(80) // 4])
def test_draws_with_replacement_differ_in_every_repeat_at_every_size(groups):
    images = replace(image_set(40, 40), groups=groups)
    plan = draw(images, n_fixed_test=25, repeats=5, sampling="replacement")
    assert plan.sizes[-1] == plan.available
    assert len(plan.trials()) == 5 * len(plan.sizes)
    whole = [repeat.order for size, _, repeat in plan.trials() if size == plan.available]
    assert len({tuple(sorted(rows)) for rows in whole}) == 5


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"sizes": (2, 20, 40)}, "2 is outside 4"),
        ({"sizes": (10, 20, 400)}, "400 is outside"),
        ({"sizes": (0.01, 0.5, 1.0)}, r"\(the share 0\.01 of the pool\) is outside 4"),
        ({"sizes": (0.5, 0.501, 0.502)}, "fewer than 3 sizes"),
    ],
)
def test_sizes_that_cannot_be_had_are_refused(arguments, says):
    with pytest.raises(DatasetError, match=says):
        draw(image_set(40, 40), **arguments)


def test_a_class_with_too_few_images_is_named():
    with pytest.raises(DatasetError, match="'class 1' has 2 images; at least 3"):
        draw(image_set(40, 2))
    with pytest.raises(DatasetError, match="too few for a learning curve"):
        draw(image_set(3, 3))


@pytest.mark.parametrize("counts", [(1100, *[4] * 99), (400, *[4] * 99), (300, *[4] * 19)])
def test_rare_classes_stand_in_the_smallest_subsample(counts):
    images = image_set(*counts)
    plan = draw(images)
    for repeat in plan.repeats:
        found = np.bincount(images.labels[repeat.order[: plan.sizes[0]]], minlength=len(counts))
        assert found.min() >= 2


def hashed(counts: tuple[int, ...], classes: tuple[int, ...], removed: int = 0) -> ImageSet:
    """Images with content hashes; `classes` numbers the classes, as their names would."""
    kinds = np.repeat(np.arange(len(counts)), counts)
    digests = [sha256(f"{kind}/{row}".encode()).hexdigest() for row, kind in enumerate(kinds)]
    rows = sorted(range(removed, len(kinds)), key=digests.__getitem__)
    labels = np.array(classes)[kinds[rows]]
    names = tuple(f"class {label}" for label in range(len(counts)))
    chosen = tuple(digests[row] for row in rows)
    return ImageSet("test", names, labels, read=lambda i: b"", name=str, digests=chosen)


def drawn_contents(images: ImageSet, **options: Any) -> list[tuple[list[str], set[str]]]:
    """Content hashes that each repeat trains on, in order, and tests on."""
    plan = draw(images, repeats=6, seed=3, **options)
    return [
        ([images.digests[row] for row in one.order], {images.digests[row] for row in one.test})
        for one in plan.repeats
    ]


@pytest.mark.parametrize("sampling", ["stratified", "balanced", "replacement"])
@pytest.mark.parametrize("grouped", [False, True])
def test_neither_names_nor_order_of_classes_decide_what_is_drawn(sampling, grouped):
    one, other = hashed((40, 30, 50), (0, 1, 2)), hashed((40, 30, 50), (2, 0, 1))
    if grouped:
        groups = np.array([int(digest, 16) % 17 for digest in one.digests])
        one = replace(one, groups=groups)
        other = replace(other, groups=(groups + 5) % 17)  # other names, same groups
    assert drawn_contents(one, sampling=sampling) == drawn_contents(other, sampling=sampling)


def test_an_image_that_is_removed_moves_hardly_any_other():
    whole, less = (drawn_contents(hashed((40, 30, 50), (0, 1, 2), gone)) for gone in (0, 1))
    for (order, test), (other_order, other_test) in zip(whole, less, strict=True):
        assert len(test ^ other_test) <= 3
        assert len(set(order[:60]) ^ set(other_order[:60])) <= 6


@pytest.mark.parametrize(
    "options", [{}, {"strategy": "fine_tuning", "repeats": 2, "sizes": (0.2, 0.4, 0.8)}]
)
def test_renamed_classes_and_reordered_images_give_the_same_numbers(options):
    generator = np.random.default_rng(0)
    kinds = np.arange(60) % 3
    clean = np.linspace(0.3, 0.7, 3)[kinds][:, None, None]
    noise = 0.3 * generator.standard_normal((60, 24, 24))
    pixels = (np.clip(clean + noise, 0, 1) * 255).astype(np.uint8)
    backbone = nn.Sequential(nn.Conv2d(3, 4, 5, stride=4), nn.ReLU(), nn.Flatten())
    found = []
    for names in (("a", "b", "c"), ("z", "a", "m")):
        order = generator.permutation(60)
        labels = np.array(names)[kinds][order]
        study = Study(
            (pixels[order], labels), backbone=backbone, image_size=24, device="cpu", **options
        )
        found.append(study.run().scores["accuracy"])
    assert found[0] == found[1]
