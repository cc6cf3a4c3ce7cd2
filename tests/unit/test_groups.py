"""Images that belong together: never on both sides of a split, and counted as what they are."""

import re
import uuid
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pytest_datasize import DatasetError, Study
from pytest_datasize.curve.outcomes import bare, gather
from pytest_datasize.images.groups import (
    numbers,
    text_of,
    values_of,
    with_groups,
    without_shared_groups,
)
from pytest_datasize.images.image_set import ImageSet, Loaded
from pytest_datasize.trials.plan import draw


def image_set(labels, groups) -> ImageSet:
    names = tuple(f"class {label}" for label in range(int(max(labels)) + 1))
    images = ImageSet("test", names, np.asarray(labels), read=lambda i: b"", name=str)
    return with_groups(images, [f"g{group}" for group in groups])


@st.composite
def grouped_sets(draw):
    """Patients with 1 to 9 images each, of one class or of several."""
    seed, n_classes = draw(st.integers(0, 10**6)), draw(st.integers(2, 4))
    mixed = draw(st.booleans())
    generator = np.random.default_rng(seed)
    labels, groups = [], []
    for group in range(draw(st.integers(6 * n_classes, 40))):
        size = int(generator.integers(1, 10))
        own = generator.integers(0, n_classes, size) if mixed else [group % n_classes] * size
        labels += list(own)
        groups += [group] * size
    return image_set([int(label) for label in labels], groups)


@given(grouped_sets(), st.integers(0, 3), st.sampled_from([0.1, 0.2, 0.3, 0.5]))
def test_no_group_stands_on_both_sides_and_every_class_on_each(images, seed, fraction):
    plan = draw(images, repeats=7, seed=seed, test_fraction=fraction)
    for repeat in plan.repeats:
        assert not set(images.groups[repeat.order]) & set(images.groups[repeat.test])
        assert len(repeat.order) == plan.available == len(set(repeat.order))
        assert set(images.labels[repeat.test]) == set(range(len(images.classes)))
        for size in plan.sizes:
            found = np.bincount(images.labels[repeat.order[:size]], minlength=len(images.classes))
            assert found.min() >= 2


@given(grouped_sets(), st.integers(0, 3))
def test_subsamples_take_group_after_group(images, seed):
    """Of a class, no image of another group comes before the group begun is used up."""
    plan = draw(images, repeats=2, seed=seed)
    for repeat in plan.repeats:
        for label in range(len(images.classes)):
            rows = repeat.order[images.labels[repeat.order] == label]
            changes = np.flatnonzero(np.diff(images.groups[rows])) + 1
            assert len(changes) + 1 == len(set(images.groups[rows]))


@given(
    grouped_sets(),
    st.integers(0, 3),
    st.sampled_from([0.2, 0.3]),
    st.sampled_from(["stratified", "balanced"]),
)
def test_with_groups_as_the_unit_every_subsample_is_a_number_of_whole_groups(
    images, seed, fraction, sampling
):
    options = {"seed": seed, "test_fraction": fraction, "sampling": sampling, "unit": "group"}
    plan = draw(images, repeats=4, **options)
    sizes = np.bincount(images.groups)
    for repeat in plan.repeats:
        tested = set(images.groups[repeat.test])
        assert len(tested) + plan.available <= len(set(images.groups))
        before: set[int] = set()
        for size in plan.sizes:
            rows = repeat.training(size)
            drawn = set(images.groups[rows])
            assert len(drawn) == size
            assert not drawn & tested
            assert before <= drawn
            assert len(rows) == len(set(rows)) == sizes[list(drawn)].sum() == repeat.images(size)
            counts = np.bincount(images.labels[rows], minlength=len(images.classes))
            assert counts.min() >= 2
            before = drawn
    again, more = draw(images, repeats=4, **options), draw(images, repeats=7, **options)
    for one, same, other in zip(plan.repeats, again.repeats, more.repeats, strict=False):
        assert (one.order == same.order).all()
        shared = min(len(one.order), len(other.order))
        assert (one.order[:shared] == other.order[:shared]).all()


@given(st.integers(2, 4), st.integers(0, 3), st.sampled_from(["stratified", "balanced"]))
def test_copies_change_no_number_of_groups(copies, seed, sampling):
    """k images of every group: the sizes, the groups drawn and tested are those of one image."""
    labels = np.arange(60) % 3
    one = draw(image_set(labels, range(60)), seed=seed, sampling=sampling)
    many = image_set(labels.repeat(copies), np.arange(60).repeat(copies))
    plan = draw(many, seed=seed, sampling=sampling, unit="group")
    assert (plan.sizes, plan.available, plan.n_test) == (
        one.sizes,
        one.available,
        one.n_test * copies,
    )


def test_stratified_groups_keep_the_class_shares():
    groups = np.arange(90).repeat(3)
    labels = (np.arange(90) % 3 == 0).astype(int).repeat(3)
    plan = draw(image_set(labels, groups), unit="group")
    for size, _, repeat in plan.trials():
        rare = labels[repeat.training(size)].sum() / 3
        assert abs(rare - size / 3) <= 2


def test_a_class_that_is_rare_in_every_group_stands_in_the_smallest_subsample():
    """30 groups of ten images; five of them show a second class in a single image."""
    labels = np.zeros(300, dtype=int)
    labels[[0, 10, 20, 30, 40, 50, 60]] = 1
    plan = draw(image_set(labels, np.arange(300) // 10), unit="group", repeats=5)
    for repeat in plan.repeats:
        assert labels[repeat.training(plan.sizes[0])].sum() >= 2


def test_groups_drawn_with_replacement_come_several_times():
    images = image_set(np.arange(60) % 2, np.arange(60) // 2 * 2 + np.arange(60) % 2)
    plan = draw(images, unit="group", sampling="replacement", n_fixed_test=10, repeats=3)
    assert plan.sizes[-1] == plan.available == 60
    for repeat in plan.repeats:
        rows = repeat.training(plan.available)
        assert len(set(rows)) < len(rows)


@pytest.mark.parametrize("copies", [1, 4])
def test_neither_names_nor_their_order_decide_which_groups_are_drawn(copies):
    kinds, groups = (np.arange(48) % 3).repeat(copies), np.arange(48).repeat(copies)
    digests = tuple(sha256(f"{row}".encode()).hexdigest() for row in range(len(kinds)))
    found = []
    for renamed in ((0, 1, 2), (2, 0, 1)):
        rows = np.random.default_rng(renamed[0]).permutation(len(kinds))
        images = image_set(np.array(renamed)[kinds][rows], (groups[rows] + renamed[0]) % 48)
        images = replace(images, digests=tuple(digests[row] for row in rows))
        plan = draw(images, unit="group", seed=1)
        found.append(
            [
                [images.digests[row] for row in repeat.training(size)]
                for size, _, repeat in plan.trials()
            ]
        )
    assert found[0] == found[1]


def test_names_of_groups_change_no_score():
    images, labels, groups = patients(24, 2)
    backbone = torch.nn.Sequential(torch.nn.AvgPool2d(6), torch.nn.Flatten())
    options = {"backbone": backbone, "image_size": 24, "repeats": 2, "device": "cpu"}
    one, other = (
        Study((images, labels), group=names, unit="group", **options).run().scores["accuracy"]
        for names in (groups, (groups * 7 + 3) % 24)
    )
    assert one == other


@pytest.mark.parametrize(
    ("groups", "options", "says"),
    [
        (4, {}, "3 groups to train on, without those that are held out, are too few .* at least 4"),
        (40, {"sizes": (1, 8, 16)}, r"1 is outside 2 \(the groups .* twice\) to 32"),
        (40, {"sizes": (8, 16, 40)}, r"40 is outside 2 .* to 32 \(all groups of test"),
    ],
)
def test_the_error_for_too_few_groups_says_how_many_are_needed(groups, options, says):
    labels = np.arange(groups * 6) % 2  # every group has both classes
    images = image_set(labels, np.arange(groups * 6) // 6)
    with pytest.raises(DatasetError, match=says):
        draw(images, unit="group", **options)


def test_bare_scores_count_groups_by_their_effective_number():
    """All images of a group may be right or wrong together: 4 equal groups are 4 images."""
    scores, rows = [[0.5], [0.5], [0.5]], [np.arange(40)]
    four = bare((1, 2, 3), [[0.5]] * 3, [np.arange(4)], 9)
    equal = bare((1, 2, 3), scores, rows, 9, groups=np.arange(40) // 10)
    assert equal.test_covariance == pytest.approx(four.test_covariance)
    unequal = bare((1, 2, 3), scores, rows, 9, groups=np.maximum(np.arange(40) - 36, 0))
    assert unequal.test_covariance[0, 0] > 2 * four.test_covariance[0, 0]


def test_parts_are_near_the_share_and_disjoint_over_a_block():
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(100), generator.integers(1, 20, 100))
    labels = (groups % 3 == 0).astype(int)
    plan = draw(image_set(labels, groups), repeats=10, test_fraction=0.2)
    for block in (plan.repeats[:5], plan.repeats[5:]):
        tested = np.concatenate([repeat.test for repeat in block])
        assert sorted(tested) == list(range(len(labels)))
    for repeat in plan.repeats:
        for label in (0, 1):
            share = (labels[repeat.test] == label).sum() / (labels == label).sum()
            assert share == pytest.approx(0.2, abs=0.02)
    assert plan.available >= 0.78 * len(labels)
    assert (plan.repeats[0].test.shape != plan.repeats[5].test.shape) or (
        plan.repeats[0].test != plan.repeats[5].test
    ).any()


def test_more_repeats_change_no_earlier_test_part():
    images = image_set(np.arange(120) % 2, np.arange(120) // 4)
    few, many = draw(images, repeats=3), draw(images, repeats=12)
    for one, other in zip(few.repeats, many.repeats, strict=False):
        assert (one.test == other.test).all()


def test_groups_of_one_image_are_stratified_like_none_at_all():
    images = image_set(np.arange(150) % 3, np.arange(150))
    plan = draw(images, repeats=5, test_fraction=0.2)
    for repeat in plan.repeats:
        assert np.bincount(images.labels[repeat.test]).tolist() == [10, 10, 10]
    assert plan.available == 120


def test_a_class_of_one_group_is_refused_by_name():
    with pytest.raises(DatasetError, match="all images of class 'class 1' are of one group"):
        draw(image_set([0] * 30 + [1] * 10, [*range(30), *[99] * 10]))


def test_a_class_of_two_groups_lends_them_to_all_parts():
    images = image_set([0] * 60 + [1] * 20, [*range(60), *[98] * 10, *[99] * 10])
    plan = draw(images, repeats=5)
    for repeat in plan.repeats:
        assert (images.labels[repeat.test] == 1).sum() == 10


@pytest.mark.parametrize(
    ("values", "shape"),
    [
        (np.zeros((3, 2)), "(3, 2)"),
        (np.array(7), "()"),
        ([[0, 1], [0, 1], [0, 1]], "(3, 2)"),
        (list(np.zeros((3, 2))), "(3, 2)"),
    ],
)
def test_values_have_one_dimension(values, shape):
    images = ImageSet("x", ("a",), np.zeros(3, int), None, str)
    for option in ("group", "slices"):
        with pytest.raises(DatasetError, match=re.escape(f"{option}= has the shape {shape}; give")):
            values_of(values, images, option)
    assert values_of(np.arange(3), images) == [0, 1, 2]
    assert values_of([("a", 1), ("a", 2), ("b", 1)], images) == [("a", 1), ("a", 2), ("b", 1)]


def test_test_images_of_a_group_of_the_pool_are_left_out():
    pool = image_set([0, 0, 1, 1], "aabb")
    test = image_set([0, 1, 0, 1], "acdd")
    kept, tested = without_shared_groups(Loaded(pool, test))
    assert len(tested) == 3
    assert "1 test images belong to 1 groups of the pool" in kept.notes[0]
    assert "ga" in kept.notes[0]
    joined = numbers(kept, tested)
    assert len(set(joined[:4]) | set(joined[4:])) == 4
    with pytest.raises(DatasetError, match="no test image of class 'class 0' is left"):
        without_shared_groups(Loaded(pool, image_set([0, 1], "ac")))


def scores_of_patients(generator, patients: int, frames: int, sizes):
    """Whether each frame is recognised; frames of a patient share nine tenths of their luck."""
    ability = generator.random(patients).repeat(frames)
    luck = np.where(generator.random(len(ability)) < 0.9, ability, generator.random(len(ability)))
    return [[(luck < p).astype(float)] * 5 for p in sizes]


def test_the_covariance_is_that_of_fresh_patients():
    generator = np.random.default_rng(0)
    groups = np.arange(40).repeat(8)
    rows = [np.arange(320)] * 5
    means, aware, blind = [], [], []
    for _ in range(300):
        values = scores_of_patients(generator, 40, 8, (0.6, 0.7, 0.8))
        found = gather((10, 20, 40), values, rows, 1000, groups)
        means.append([np.mean(scores) for scores in found.scores])
        aware.append(found.test_covariance)
        blind.append(gather((10, 20, 40), values, rows, 1000).test_covariance)
    truth = np.cov(np.transpose(means))
    assert np.mean(aware, axis=0) == pytest.approx(truth, rel=0.2)
    assert np.mean(blind, axis=0).max() < 0.3 * truth.max()


def test_the_variance_between_splits_is_that_of_patients():
    generator = np.random.default_rng(1)
    groups = np.arange(100).repeat(4)
    measured, told = [], []
    for _ in range(200):
        values = scores_of_patients(generator, 100, 4, (0.7,))[0][0]
        parts = np.array_split(generator.permutation(100), 5)
        rows = [np.flatnonzero(np.isin(groups, part)) for part in parts]
        found = gather((10,), [[values[row] for row in rows]], rows, 1000, groups)
        told.append(found.split_variance[0])
        measured.append(np.var(found.scores[0], ddof=1))
    assert np.mean(told) == pytest.approx(np.mean(measured), rel=0.15)


def test_groups_of_one_image_change_no_covariance_but_for_the_correction():
    values = [[np.random.default_rng(0).random(50).round()] * 2] * 3
    rows = [np.arange(50)] * 2
    plain, alone = (gather((1, 2, 3), values, rows, 9, groups) for groups in (None, np.arange(50)))
    assert alone.test_covariance == pytest.approx(plain.test_covariance * 50 / 49, rel=1e-3)


def patients(n: int, frames: int, seed: int = 0):
    """Every patient has a look of his own, which says nothing of the label."""
    generator = np.random.default_rng(seed)
    looks = generator.integers(0, 255, (n, 24, 24))
    labels = generator.permutation(np.arange(n) % 2)
    images = looks.repeat(frames, axis=0) + generator.normal(0, 10, (n * frames, 24, 24))
    return (
        np.clip(images, 0, 255).astype(np.uint8),
        labels.repeat(frames),
        np.arange(n).repeat(frames),
    )


def test_the_classic_false_pass_is_not_one_with_groups():
    """Frames of one patient on both sides make pure noise score high."""
    images, labels, groups = patients(30, 6)
    backbone = torch.nn.Sequential(torch.nn.AvgPool2d(2), torch.nn.Flatten())
    options = {"backbone": backbone, "image_size": 24, "repeats": 4, "device": "cpu"}
    blind = Study((images, labels), checks="alike=ignore", **options).run()
    aware = Study((images, labels), group=groups, **options).run()
    assert np.mean(blind.scores["accuracy"][-1]) > 0.95
    assert np.mean(aware.scores["accuracy"][-1]) < 0.65
    assert blind.verdict(accuracy=0.9).passed
    assert not aware.verdict(accuracy=0.9).passed


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.datetime64("2020-01-01", "ns"), "2020-01-01T00:00:00.000000000"),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (np.int64(3), "3"),
        (2.0, "2"),
        (" 7 ", "7"),
    ],
)
def test_what_has_a_text_may_name_a_group(value, text):
    images = image_set([0, 1], [0, 1])
    assert text_of(value, images, "group") == text


@pytest.mark.parametrize("value", [["a"], {"a": 1}, object(), re.match("a", "a"), print, iter("a")])
def test_what_has_none_is_refused(value):
    images = image_set([0, 1], [0, 1])
    with pytest.raises(DatasetError, match="gives a value of type"):
        text_of(value, images, "group")
