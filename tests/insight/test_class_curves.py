"""All classes fitted together, and the images that a plan asks for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_datasize.curve.advice.class_curves import ClassCurves, fit_classes, prior_shift
from pytest_datasize.curve.advice.collection_plan import SCORES, plan_collection, within_budget
from pytest_datasize.curve.outcomes import gather

SIZES = (40, 80, 160, 320)


def outcomes_of(recall, n_test, seed, repeats=4):
    """Outcomes of a class whose true recall at every size is known."""
    generator = np.random.default_rng(seed)
    luck = generator.random(n_test)  # an image is hard at all sizes or at none
    hits = [[(luck < recall(n)).astype(float)] * repeats for n in SIZES]
    return gather(SIZES, hits, [np.arange(n_test)] * repeats, 400)


def true_recall(level, rise):
    return lambda n: 1 / (1 + np.exp(-(level + rise * np.log(n / SIZES[-1]))))


def fitted(n_tests, levels, shift=None, rise=0.6):
    found = {
        f"class {i}": outcomes_of(true_recall(level, rise), n, i)
        for i, (n, level) in enumerate(zip(n_tests, levels, strict=True))
    }
    share = np.array(n_tests) / sum(n_tests)
    return fit_classes(found, np.outer(SIZES, share), shift)


def test_a_rare_class_borrows_its_rise_from_the_others():
    curves = fitted([600] * 5 + [12], [1.5, 1.0, 1.2, 0.8, 1.4, 1.0])
    rare = curves.rise[:, -1]
    assert np.median(rare) == pytest.approx(0.6, abs=0.15)
    alone = fitted([12], [1.0]).rise[:, 0]
    assert rare.std() < 0.7 * alone.std()


def test_known_recalls_lie_in_the_intervals_and_more_images_help():
    levels = [1.5, 0.2, 1.0, -0.3, 0.7]
    curves = fitted([400] * 5, levels)
    held = []
    for factor in (1.0, 3.0):
        recalls = curves.recalls(factor * curves.images)
        truth = [true_recall(level, 0.6)(factor * SIZES[-1]) for level in levels]
        low, high = np.quantile(recalls, [0.02, 0.98], axis=0)
        held += ((low < truth) & (truth < high)).tolist()
    assert sum(held) >= 8
    assert (np.median(recalls, axis=0) > np.median(curves.recalls(curves.images), axis=0)).all()


def test_a_prior_that_grows_takes_from_the_class_it_is_confused_with():
    labels = np.repeat([0, 1, 2], 100)
    generator = np.random.default_rng(0)
    odds = generator.standard_normal((300, 3))
    odds[np.arange(300), labels] += 1.0
    odds[:200, 2] -= 50.0  # the third class is never confused
    odds[200:, 2] += 50.0
    p = np.exp(odds - odds.max(axis=1, keepdims=True))
    shift = np.array(prior_shift(labels, p / p.sum(axis=1, keepdims=True), 3))
    assert shift[0, 0] > 0.5 > -0.5 > shift[0, 1]
    assert np.abs(shift[2]).max() < 0.01
    assert np.abs(shift.sum(axis=1)).max() < 0.001


def made(levels, images, rise=0.8, noise=0.05):
    draws = np.random.default_rng(0).standard_normal((400, len(levels)))
    return ClassCurves(
        names=tuple(f"c{i}" for i in range(len(levels))),
        images=np.array(images, dtype=float),
        level=noise * draws + np.array(levels),
        rise=np.full_like(draws, rise),
        curvature=np.full(400, 0.2),
        misfit=0 * draws,
        shift_factor=1 + 0 * draws,
        shift=np.zeros((len(levels), len(levels))),
    )


WORST = SCORES["recall_per_class"]


def mean(recalls):
    return recalls.mean(axis=-1)


def test_the_plan_follows_the_need_and_the_prices():
    curves = made([2.0, 0.6, 0.6], [300, 60, 60])
    plan = plan_collection(curves, WORST, 200)
    assert plan.by_class.images["c0"] == 0
    assert plan.by_class.total == sum(plan.by_class.images.values()) == 200
    assert plan.by_class.score > plan.proportional
    dear = {"c0": 1.0, "c1": 20.0, "c2": 1.0}
    bought = within_budget(curves, mean, dear, 300.0)
    assert bought.images["c2"] > 3 * bought.images["c1"]
    assert bought.cost == sum(dear[name] * n for name, n in bought.images.items())


def test_a_class_that_cannot_help_is_not_bought():
    flat = made([0.0, 0.0], [100, 100], rise=-0.001)
    assert plan_collection(flat, WORST, 50).by_class.total == 0
    far = made([3.0, 0.0, 3.0], [100, 100, 100])
    assert set(plan_collection(far, WORST, 60).by_class.images.items()) == {
        ("c0", 0),
        ("c1", 60),
        ("c2", 0),
    }


@settings(max_examples=15, deadline=None)
@given(budget=st.floats(0, 500), price=st.floats(0.1, 5))
def test_a_budget_is_never_overspent(budget, price):
    curves = made([1.0, 0.0], [100, 50])
    prices = {"c0": price, "c1": 2 * price}
    spent = within_budget(curves, WORST, prices, budget)
    assert spent.cost <= budget
