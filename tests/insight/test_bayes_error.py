"""Bounds of the Bayes error from nearest neighbours, where the Bayes error is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

from pytest_datasize.curve.advice.bayes_error import bound, cover_hart
from pytest_datasize.curve.advice.neighbour_errors import (
    MOST_AMONG,
    MOST_ASKED,
    NeighbourError,
    neighbour_errors,
    sampled,
)


def gaussians(n, dimensions, apart, seed, share=0.5):
    """Points of two classes with unit variance, and the Bayes error with equal shares."""
    generator = np.random.default_rng(seed)
    labels = (generator.random(n) < share).astype(int)
    points = generator.standard_normal((n, dimensions))
    points[:, 0] += apart * labels
    return points, labels, float(norm.cdf(-apart / 2))


@pytest.mark.parametrize("dimensions", [1, 2, 5])
@pytest.mark.parametrize("apart", [1.0, 2.0, 4.0])
def test_the_bounds_hold_for_two_gaussians(dimensions, apart):
    below = above = 0
    for seed in range(10):
        points, labels, truth = gaussians(600, dimensions, apart, seed)
        found = bound(neighbour_errors(points, labels)["accuracy"], 2)
        assert found.least_low <= found.least <= found.least_high
        assert found.error_low <= found.error <= found.error_high
        below += found.least_low <= truth
        above += truth <= found.error_high
    assert below >= 9
    assert above >= 9


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("wrong", [0.0, 0.05, 0.2, 0.4])
def test_labels_wrong_at_random_make_the_lower_bound_an_equation(classes, wrong):
    right = np.full(classes, wrong / (classes - 1))
    right[0] = 1 - wrong
    error = 1 - right @ right  # two independent labels differ
    assert cover_hart(error, classes) == pytest.approx(min(wrong, 1 - 1 / classes), abs=1e-9)


def test_the_formula_bounds_every_posterior():
    generator = np.random.default_rng(0)
    for classes in (2, 3, 7):
        posterior = generator.dirichlet(np.full(classes, 0.5), size=2000)
        bayes, neighbour = 1 - posterior.max(1).mean(), 1 - (posterior**2).sum(1).mean()
        assert cover_hart(neighbour, classes) <= bayes <= neighbour
    assert cover_hart(1.0, 3) == pytest.approx(2 / 3)  # worse than chance is no more than chance


@pytest.fixture(scope="module")
def digits():
    found = load_digits()
    return found.data, found.target


def noisy(labels, share, seed=0):
    """Labels of which a share is replaced by another class, at random."""
    generator = np.random.default_rng(seed)
    wrong = generator.random(len(labels)) < share
    return np.where(wrong, (labels + generator.integers(1, 10, len(labels))) % 10, labels)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3])
def test_noise_in_the_labels_of_real_images_is_bracketed(digits, share):
    points, labels = digits
    found = bound(neighbour_errors(points, noisy(labels, share))["accuracy"], 10)
    assert found.least_low <= share <= found.error_high
    assert found.least == pytest.approx(share, abs=0.03)


def test_clean_images_allow_almost_everything(digits):
    found = bound(neighbour_errors(*digits)["accuracy"], 10)
    assert found.error_high < 0.03
    assert found.least_high < found.error_high


def test_the_best_of_several_forms_counts_and_widens_the_interval(digits):
    points, labels = digits
    blocks = np.concatenate(
        [np.random.default_rng(0).standard_normal((len(points), 70)), points], 1
    )
    found = neighbour_errors(blocks, labels, widths=(70, 64))["accuracy"]
    by_space = {one.space: one.error for one in found}
    assert len(by_space) == 4
    assert by_space["last layer"] > 0.8  # noise
    seen = bound(found, 10)
    assert seen.best.space == "all layers, standardised"
    alone = bound([seen.best], 10)
    assert seen.error_low < alone.error_low < alone.error_high < seen.error_high


def test_neighbours_of_the_same_group_do_not_count():
    """Four frames of each patient, whose diagnosis is no more than chance."""
    generator = np.random.default_rng(1)
    patients = np.repeat(np.arange(100), 4)
    labels = generator.integers(0, 2, 100)[patients]
    points = generator.standard_normal((100, 3))[patients] + 0.01 * generator.standard_normal(
        (400, 3)
    )
    leaking = bound(neighbour_errors(points, labels)["accuracy"], 2)
    grouped = bound(neighbour_errors(points, labels, together=[patients])["accuracy"], 2)
    assert leaking.error == 0.0
    assert grouped.error == pytest.approx(0.5, abs=0.15)
    assert grouped.best.worth < 150  # frames of a patient are no independent evidence


def test_groups_of_either_kind_are_left_out():
    points = np.array([[0.0], [0.01], [0.02], [5.0], [5.01], [5.02]])
    labels = np.array([0, 0, 0, 1, 1, 1])
    copies, patients = np.array([0, 0, 1, 2, 2, 3]), np.array([0, 1, 0, 2, 3, 2])
    found = neighbour_errors(points, labels, together=[copies, patients])["accuracy"]
    standardised = next(one for one in found if one.space.endswith("standardised"))
    assert standardised.error == pytest.approx(1 / 3)  # images 0 and 3 know only the other class


def test_images_that_are_each_others_neighbours_count_once():
    """Pairs of one label each: either both are right, or both are wrong."""
    places = np.repeat(np.arange(200), 2) * 10.0
    points = (places + np.tile([0.0, 1.0], 200))[:, None]
    labels = np.random.default_rng(0).integers(0, 2, 400)
    found = neighbour_errors(points, labels)["accuracy"]
    standardised = next(one for one in found if one.space.endswith("standardised"))
    assert standardised.error == np.mean(labels[::2] != labels[1::2])
    assert standardised.worth == pytest.approx(200, rel=0.35)


def test_all_in_one_group_bound_nothing():
    points, labels, _ = gaussians(40, 2, 1.0, 0)
    assert neighbour_errors(points, labels, together=[np.zeros(40, dtype=int)]) == {}
    with pytest.raises(ValueError, match="empty"):
        bound([], 2)


def test_balanced_accuracy_counts_every_class_alike():
    points, labels, truth = gaussians(3000, 2, 2.0, 3, share=0.1)
    found = neighbour_errors(points, labels)
    plain, balanced = (bound(found[name], 2) for name in ("accuracy", "balanced_accuracy"))
    assert plain.error_high < truth  # always naming the frequent class is right in 90 %
    assert balanced.least_low <= truth <= balanced.error_high
    assert balanced.error_high - balanced.error_low > plain.error_high - plain.error_low


def test_a_test_set_is_asked_among_the_pool():
    points, labels, _ = gaussians(300, 2, 6.0, 0)
    other, flipped, _ = gaussians(100, 2, 6.0, 1)
    sample = sampled(300, 100, 2)
    found = neighbour_errors(
        np.concatenate([points, other]),
        np.concatenate([labels, 1 - flipped]),
        asked=sample.asked,
        among=sample.among,
    )["accuracy"]
    assert min(one.error for one in found) > 0.9


def test_of_many_images_a_sample_is_drawn_that_the_seed_decides():
    first, same, other = (sampled(50_000, 0, 100, seed) for seed in (1, 1, 2))
    assert (len(first.rows), len(first.asked)) == (MOST_AMONG, MOST_ASKED)
    assert np.array_equal(first.rows, same.rows)
    assert not np.array_equal(first.rows, other.rows)
    assert np.array_equal(first.rows, np.unique(first.rows))
    assert len(sampled(50_000, 9_000, 1_000_000).rows) <= 200  # memory, not time


def test_an_error_that_still_falls_is_distinguished_from_one_that_does_not():
    generator = np.random.default_rng(0)
    labels = np.arange(2000) % 2
    hard = generator.standard_normal((2000, 30)) + 0.5 * labels[:, None]  # of many dimensions
    easy = generator.standard_normal((2000, 1)) + 2.0 * labels[:, None]
    for points, falls in ((hard, True), (easy, False)):
        found = bound(neighbour_errors(points, labels)["accuracy"], 2)
        assert (found.best.drop_low > 0) is falls
        assert (found.later < found.least_low) is falls


def test_intervals_are_jeffreys_of_the_independent_images():
    one = NeighbourError("x", 0.0, worth=10, drop=0.0, drop_low=0.0, drop_high=0.0)
    none, many = bound([one], 2), bound([replace(one, worth=1000)], 2)
    assert none.error_low == many.error_low == 0.0
    assert none.error_high > 0.1 > 0.01 > many.error_high


def test_the_number_of_threads_changes_no_bit(digits):
    points, labels = digits
    wide = np.concatenate([points, points[:, ::-1]], axis=1).astype(np.float16)
    found = []
    for threads in (1, 2, 3):
        with threadpool_limits(threads):
            found.append(neighbour_errors(wide, labels, (96, 32)))
    assert found[0] == found[1] == found[2]
    assert any("principal axes" in one.space for one in found[0]["accuracy"])
