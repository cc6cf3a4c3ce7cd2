"""Tests of flat and falling curves: recognised, seldom by mistake, and what is then required."""

import math

import numpy as np
import pytest

from pytest_datasize.curve.learning_curve import LearningCurve
from pytest_datasize.curve.trend import LEAST_GAIN

SIZES = [15, 23, 36, 56, 86, 133, 207, 320]


def fit(true, seed, *, repeats=10, n_test=200):
    """Trials on one test set: luck of its items, of training, and of what models differ on."""
    generator = np.random.default_rng(seed)
    difficulty = generator.random(n_test)
    scores = []
    for n in SIZES:
        level = true(n) + 0.1 / math.sqrt(n) * generator.normal(size=repeats)
        churn = generator.random((repeats, n_test)) < 0.1
        draw = np.where(churn, generator.random((repeats, n_test)), difficulty)
        scores.append((draw < level[:, None]).mean(axis=1).tolist())
    return LearningCurve.fit(SIZES, scores, n_test)


def improving(share):
    """A curve that loses this share of its error with every doubling."""
    exponent = -math.log2(1 - share)
    return lambda n: 1 - 0.4 * (n / SIZES[0]) ** -exponent


def called(true, direction, runs):
    return np.mean([fit(true, seed).trend.direction == direction for seed in range(runs)])


@pytest.mark.parametrize("share", [2 * LEAST_GAIN, 0.1, 0.2])
def test_a_curve_that_improves_is_seldom_called_flat(share):
    assert called(improving(share), "rising", 60) >= 0.98


def test_a_curve_that_starts_late_is_not_called_flat():
    def late(n):
        return 0.5 + (0.3 * math.log2(n / 86) / 2 if n > 86 else 0.0)

    assert called(late, "rising", 30) == 1.0


def test_guessing_is_flat_and_no_number_is_required():
    curves = [fit(lambda n: 1 / 3, seed) for seed in range(30)]
    assert np.mean([c.trend.direction == "flat" for c in curves]) >= 0.9
    flat = next(c for c in curves if c.trend.direction == "flat")
    assert (flat.trend.first, flat.trend.last) == (15, 320)
    assert abs(flat.trend.gain) < LEAST_GAIN
    assert flat.required(0.9) == math.inf
    assert flat.status(0.9) == "unreachable"
    assert flat.predict(10**6) == flat.predict(320)
    assert flat.ceiling.high > flat.interval(320).high  # nobody has looked there


def test_falling_scores_are_named():
    curves = [fit(improving(-0.08), seed) for seed in range(20)]
    assert {c.trend.direction for c in curves} <= {"falling", "flat"}
    assert np.mean([c.trend.direction == "falling" for c in curves]) >= 0.7
    assert curves[0].required(0.9) == math.inf


def test_a_curve_that_has_levelled_off_is_flat_from_there():
    def saturated(n):
        return 0.8 - 0.4 * math.exp(-n / 12)

    trends = [fit(saturated, seed, repeats=20, n_test=1000).trend for seed in range(20)]
    flat = [t for t in trends if t.direction == "flat"]
    assert len(flat) >= 10
    assert all(t.first >= 23 for t in flat)


def test_intervals_of_flat_curves_hold_the_truth():
    held = []
    for seed in range(60):
        low, high = fit(lambda n: 0.8, seed).interval(4 * SIZES[-1])
        held.append(low <= 0.8 <= high)
    assert np.mean(held) >= 0.84


def test_too_few_sizes_say_nothing():
    curve = LearningCurve.fit([50, 100, 200], [[0.7, 0.71]] * 3)
    assert curve.trend.direction == "rising"


def test_scores_without_bounds_have_a_trend():
    flat = LearningCurve.fit(
        [10, 20, 40, 80], [[-3.0, -3.1, -2.9]] * 4, bounds=(-math.inf, math.inf)
    )
    steep = LearningCurve.fit(
        [10, 20, 40, 80],
        [[-8.0, -8.1], [-6.0, -6.1], [-4.5, -4.4], [-3.0, -3.1]],
        bounds=(-math.inf, math.inf),
    )
    assert steep.trend.direction == "rising"
    assert flat.trend.direction in {"flat", "rising"}
