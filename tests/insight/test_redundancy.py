"""How many images near-copies are worth: known answers, and how often the interval holds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_datasize.curve.advice.redundancy import redundancy


def pool_of(groups, size, likeness, seed, singles=500):
    """Held-out values of a pool in which copies have a known intraclass correlation."""
    generator = np.random.default_rng(seed)
    near = np.concatenate([np.repeat(np.arange(groups), size), groups + np.arange(singles)])
    shared = generator.standard_normal(groups + singles)[near] * np.sqrt(likeness)
    own = generator.standard_normal(len(near)) * np.sqrt(1.0 - likeness)
    return near, shared + own


def kish(groups, size, likeness, singles=500):
    return singles + groups * size / (1 + (size - 1) * likeness)


@pytest.mark.parametrize(("likeness", "size"), [(0.0, 2), (0.5, 3), (0.9, 2), (1.0, 4)])
def test_a_known_likeness_gives_the_published_number(likeness, size):
    truth = kish(100, size, likeness)
    found = [
        redundancy(near, np.zeros(len(near), int), values)
        for near, values in (pool_of(100, size, likeness, seed) for seed in range(60))
    ]
    assert np.mean([one.effective for one in found]) == pytest.approx(truth, rel=0.02)
    held = np.mean([one.low - 1e-6 <= truth <= one.high + 1e-6 for one in found])
    assert held >= 0.8
    assert all(one.different == 600 for one in found)
    assert all(one.different <= one.low <= one.effective <= one.high <= one.images for one in found)


def test_classes_that_are_hard_as_a_whole_do_not_make_copies_alike():
    near, values = pool_of(100, 2, 0.0, 1)
    labels = (np.arange(len(near)) % 2 == 0).astype(int)
    labels[:200] = np.repeat(np.arange(100) % 2, 2)  # copies share their class
    found = redundancy(near, labels, values + 5.0 * labels)
    assert found.effective > 0.95 * found.images


def test_few_groups_or_none_held_out_leave_all_that_is_possible_open():
    near, values = pool_of(9, 2, 1.0, 0)
    for seen in (values, np.full(len(values), np.nan)):
        found = redundancy(near, np.zeros(len(near), int), seen)
        assert not found.measured
        assert (found.low, found.high) == (found.different, found.images) == (509, 518)


def test_without_copies_all_images_count():
    found = redundancy(np.arange(7), np.zeros(7, int), np.full(7, np.nan))
    assert (found.different, found.effective, found.low, found.high) == (7, 7, 7, 7)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=120), st.integers(0, 1000))
def test_the_number_lies_between_the_groups_and_the_images(near, seed):
    values = np.random.default_rng(seed).random(len(near))
    found = redundancy(np.array(near), np.arange(len(near)) % 3, values)
    assert found.different == len(set(near))
    assert found.different - 1e-9 <= found.low <= found.high <= len(near) + 1e-9
    assert found.different - 1e-9 <= found.effective <= len(near) + 1e-9
