"""Tests of the learning curves: known curves recovered, promises kept, bad input named."""

from __future__ import annotations

import doctest
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from pytest_datasize.curve import laws as laws_module
from pytest_datasize.curve import learning_curve as curve_module
from pytest_datasize.curve.laws import LAWS, LinearScale, fit_power2_least_squares
from pytest_datasize.curve.learning_curve import Interval, LearningCurve
from pytest_datasize.curve.noise import means_covariance

SIZES = [50, 100, 200, 400, 800]
FLOWERS_SIZES = [165, 330, 825, 1651]
FLOWERS_SCORES = [  # published accuracies of the Keras recipe, 5 repeats a size
    [0.8202, 0.7466, 0.8011, 0.8447, 0.8229],
    [0.8610, 0.8774, 0.8501, 0.8937, 0.8910],
    [0.8910, 0.9237, 0.8856, 0.9101, 0.8910],
    [0.8937, 0.9373, 0.9128, 0.8719, 0.9128],
]

TRUE_CURVES: dict[str, Callable[[float], float]] = {  # a member of every law, as score(n)
    "power": lambda n: 0.95 - 2.0 * n**-0.5,
    "power2": lambda n: 0.4 * n**0.07,
    "exponential": lambda n: 0.9 - 0.5 * math.exp(-n / 400.0),
    "m4": lambda n: 0.1 + 0.85 / (1.0 + (n / 100.0) ** -1.0),
}


def simulate(
    true: Callable[[float], float],
    sizes: list[int],
    seed: int,
    *,
    repeats: int = 5,
    sd: float = 0.01,
) -> list[list[float]]:
    """Repeats with training noise that falls like a run's share of the error."""
    rng = np.random.default_rng(seed)
    return [
        np.clip(true(n) + sd * math.sqrt(sizes[-1] / n) * rng.normal(size=repeats), 0, 1).tolist()
        for n in sizes
    ]


def exact(true: Callable[[float], float], sizes: list[int] = SIZES) -> list[list[float]]:
    return [[true(n)] * 3 for n in sizes]


GOOD = exact(TRUE_CURVES["power"])


def flowers(**options: Any) -> LearningCurve:
    return LearningCurve.fit(FLOWERS_SIZES, FLOWERS_SCORES, n_test=367, **options)


# ---------------------------------------------------------------------------------- every law


@pytest.mark.parametrize("law", LAWS)
def test_law_recovers_its_own_curve(law: str) -> None:
    true = TRUE_CURVES[law]
    sizes = [25, *SIZES, 1600]
    fitted = LearningCurve.fit(sizes, exact(true, sizes), law=law)
    for n in sizes[1:]:
        assert_allclose(fitted.predict(n), true(n), atol=0.01)
    for n, tolerance in ((3200, 0.01), (12800, 0.02)):
        assert_allclose(fitted.predict(n), true(n), atol=tolerance)
        low, high = fitted.interval(n, level=0.99)
        assert low <= true(n) <= high


@pytest.mark.parametrize("law", LAWS)
def test_law_falls_on_its_working_scale(law: str) -> None:
    u = np.linspace(-3.0, 12.0, 60)
    for bounds in ((0.0, 1.0), (0.0, math.inf)):
        scale = LAWS[law].scale(bounds, 1e-3, 0.1)
        change = LAWS[law].change(u, scale)
        assert change.shape == (len(LAWS[law].log_prior(scale)), len(u))
        assert (np.diff(change, axis=1) <= 1e-12).all()
        assert_allclose(LAWS[law].change(np.zeros(1), scale), 0.0, atol=1e-12)
        scores = np.array([0.2, 0.9, 1.0])
        assert_allclose(scale.score(scale.z(scores)), scores)
        step = 1e-6
        assert_allclose(
            (scale.z(scores - step) - scale.z(scores)) / step, scale.slope(scores), rtol=1e-2
        )


@pytest.mark.parametrize("law", LAWS)
def test_law_keeps_the_contract_on_published_scores(law: str) -> None:
    fitted = flowers(law=law)
    assert fitted.law == law
    assert fitted.ceiling.low <= fitted.ceiling.mean <= fitted.ceiling.high <= 1.0
    n = fitted.required(0.91)
    assert n == round(n)
    assert fitted.predict(n) >= 0.91 > fitted.predict(n - 1)
    low, high = fitted.required_interval(0.91)
    assert low <= n <= high


def test_power2_needs_a_lower_bound() -> None:
    with pytest.raises(ValueError, match=r"power2.*finite lower bound.*law='power'"):
        LearningCurve.fit(SIZES, exact(TRUE_CURVES["power"]), law="power2", bounds=(-math.inf, 1))


# ----------------------------------------------------------------------- published and degenerate


def test_published_flowers_scores_do_not_rule_out_what_all_images_reached() -> None:
    fitted = flowers()
    assert fitted.status(0.95) != "unreachable"
    assert fitted.reachable(0.95)
    assert 0.91 <= fitted.predict(3303) <= 0.95
    assert fitted.interval(3303).high >= 0.93
    assert fitted.means[0] == pytest.approx(0.8071)


def test_recipe_least_squares_is_the_exact_optimum() -> None:
    means = np.array([np.mean(s) for s in FLOWERS_SCORES])
    a, b, mae = fit_power2_least_squares(FLOWERS_SIZES, means)
    assert_allclose([a, b], [0.644564, 0.048097], rtol=0.05)  # published, by gradient descent
    assert mae == pytest.approx(0.0161, abs=5e-4)

    def squares(a: float, b: float) -> float:
        return float(np.sum((a * np.array(FLOWERS_SIZES) ** b - means) ** 2))

    best = squares(a, b)
    assert best <= squares(0.644564, 0.048097)
    for da, db in ((1e-4, 0), (-1e-4, 0), (0, 1e-5), (0, -1e-5), (1e-3, -1e-4), (-1e-3, 1e-4)):
        assert squares(a + da, b + db) > best


DEGENERATE = {
    "perfect": [[1.0] * 3] * 5,
    "hopeless": [[0.0] * 3] * 5,
    "equal": [[0.7] * 3] * 5,
    "falling": [[0.8, 0.8], [0.78, 0.77], [0.75, 0.76], [0.72, 0.74], [0.7, 0.71]],
    "chance": [[0.4, 0.6], [0.55, 0.45], [0.5, 0.52], [0.44, 0.56], [0.6, 0.4]],
    "single": [[0.5], [0.6], [0.7], [0.75], [0.8]],
    "unequal": [[0.5, 0.6, 0.4], [0.6], [0.7, 0.72], [0.8], [0.81, 0.8]],
    "whole pool": [[0.5, 0.6], [0.6, 0.58], [0.7, 0.72], [0.8, 0.78], [0.81]],
}


@pytest.mark.parametrize("n_test", [None, 100])
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_scores_give_an_answer(name: str, law: str, n_test: int | None) -> None:
    fitted = LearningCurve.fit(SIZES, DEGENERATE[name], n_test, law=law)
    for n in (1, 50, 800, 3200, 10**9):
        low, high = fitted.interval(n)
        assert 0.0 <= low <= fitted.predict(n) <= high <= 1.0
    for target in (0.0, 0.5, 0.999, 1.0):
        low, high = fitted.required_interval(target)
        assert 1 <= low <= fitted.required(target) <= high
        assert fitted.status(target) in {"reached", "needed", "unreachable", "undecided"}
    assert fitted.required(0.0) == 1
    assert fitted.required(1.1) == math.inf
    assert fitted.status(1.1) == "unreachable"


def test_perfect_scores_have_reached_every_target() -> None:
    fitted = LearningCurve.fit(SIZES, DEGENERATE["perfect"], n_test=100)
    assert fitted.predict(800) == pytest.approx(1.0, abs=1e-3)
    assert fitted.status(0.99) == "reached"
    assert 0.9 < fitted.interval(800).low < 0.999  # 100 items cannot show more


def test_flat_curve_well_measured_makes_a_far_target_unreachable() -> None:
    flat = [[0.70, 0.71, 0.70, 0.69, 0.70]] * 6
    fitted = LearningCurve.fit([100, 200, 400, 800, 1600, 3200], flat)
    assert fitted.status(0.99) == "unreachable"
    assert fitted.required(0.99) == math.inf
    assert fitted.status(0.65) == "reached"


def test_required_beyond_the_evidence_is_undecided_or_a_number_never_a_sentinel() -> None:
    fitted = LearningCurve.fit([50, 100, 200], [[0.70, 0.74], [0.73, 0.71], [0.74, 0.73]])
    assert fitted.required(0.95) == math.inf
    assert fitted.status(0.95) == "undecided"


# ------------------------------------------------------------------------------------ the noise


def width(fitted: LearningCurve, n: int = 1600) -> float:
    low, high = fitted.interval(n)
    return high - low


def test_few_test_items_widen_the_interval() -> None:
    scores = simulate(TRUE_CURVES["power"], SIZES, seed=1, sd=0.003)
    widths = [width(LearningCurve.fit(SIZES, scores, n)) for n in (None, 10_000, 1000, 100)]
    assert widths == sorted(widths)
    assert widths[-1] > 2 * widths[0]


def test_binomial_luck_at_the_largest_size_has_its_textbook_width() -> None:
    scores = exact(lambda n: 0.8)
    low, high = LearningCurve.fit(SIZES, scores, n_test=400).interval(SIZES[-1])
    assert high - low == pytest.approx(2 * 1.645 * math.sqrt(0.8 * 0.2 / 400), rel=0.1)


def test_test_covariance_replaces_the_binomial_formula() -> None:
    scores = exact(lambda n: 0.8)
    common = np.full((5, 5), 0.03**2)
    fitted = LearningCurve.fit(SIZES, scores, n_test=50_000, test_covariance=common)
    low, high = fitted.interval(SIZES[-1])
    assert high - low == pytest.approx(2 * 1.645 * 0.03, rel=0.1)


def test_train_covariance_replaces_the_repeats() -> None:
    scores = simulate(TRUE_CURVES["power"], SIZES, seed=2)
    sure, unsure = (
        LearningCurve.fit(SIZES, scores, train_covariance=np.eye(5) * v) for v in (1e-8, 1e-3)
    )
    assert width(sure) < width(unsure)


def test_covariances_follow_the_order_of_the_sizes() -> None:
    scores = simulate(TRUE_CURVES["power"], SIZES, seed=3)
    variances = np.array([25.0, 16.0, 9.0, 4.0, 1.0]) * 1e-4
    ascending = LearningCurve.fit(SIZES, scores, train_covariance=np.diag(variances))
    descending = LearningCurve.fit(
        SIZES[::-1], scores[::-1], train_covariance=np.diag(variances[::-1])
    )
    assert ascending.interval(1600) == descending.interval(1600)


def test_a_finite_pool_widens_the_interval() -> None:
    scores = simulate(TRUE_CURVES["power"], SIZES, seed=4, sd=0.02)
    free, exhausted = (LearningCurve.fit(SIZES, scores, pool=p) for p in (10**9, SIZES[-1]))
    assert width(free) < width(exhausted)


def test_intervals_of_draws_with_replacement_hold_the_truth() -> None:
    """Scores are means over drawn images: repeats vary, and all share the luck of one pool."""
    rng = np.random.default_rng(0)
    pool, sizes, trials = 400, [50, 100, 200, 400], 100
    hits = {True: 0, False: 0}
    for _ in range(trials):
        images = 0.8 + 0.4 * rng.standard_normal(pool)
        scores = [
            [float(np.clip(rng.choice(images, n).mean(), 0, 1)) for _ in range(8)] for n in sizes
        ]
        for replacement in hits:
            low, high = LearningCurve.fit(
                sizes, scores, pool=pool, replacement=replacement
            ).interval(pool)
            hits[replacement] += low <= 0.8 <= high
    # the luck of a pool is a pure sum here, of which half is taken to be the same at every size:
    # 82 % of 250 such pools, 76 % without replacement=True
    assert hits[True] >= 76
    assert hits[False] < hits[True]  # the correction for the whole pool takes it for one run


def test_a_single_run_at_the_largest_size_alone_is_read_as_the_whole_pool() -> None:
    scores = simulate(TRUE_CURVES["power"], SIZES, seed=5)
    scores[-1] = scores[-1][:1]
    assumed, told = (LearningCurve.fit(SIZES, scores, pool=p) for p in (None, SIZES[-1]))
    assert assumed.interval(1600) == told.interval(1600)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Random power laws, a 300-item test set each; 90 % less 2.5 binomial deviations is 84 %."""
    rng = np.random.default_rng(0)
    hits = dict.fromkeys((800, 1600, 6400), 0)
    trials = 150
    for _ in range(trials):
        ceiling, slope = rng.uniform(0.8, 1.0), rng.uniform(0.2, 0.8)
        loss = rng.uniform(0.1, 0.3) * SIZES[0] ** slope
        items = rng.random(300)  # an item is right when its difficulty lies below the score

        def true(n: int, c: float = ceiling, a: float = loss, b: float = slope) -> float:
            return float(c - a * n**-b)

        scores = []
        for n in SIZES:
            runs = true(n) + 0.1 / math.sqrt(n) * rng.normal(size=4)
            scores.append([float(np.mean(items < run)) for run in runs])
        fitted = LearningCurve.fit(SIZES, scores, n_test=len(items))
        for n in hits:
            low, high = fitted.interval(n)
            hits[n] += low <= true(n) <= high
    for n, held in hits.items():
        assert 0.84 <= held / trials <= 0.99, (n, held / trials)


def common_luck(level: float, seed: int, n_test: int) -> LearningCurve:
    """Trials that are all scored on one test set, whose luck every size shares."""
    rng = np.random.default_rng(seed)
    sizes = [15, 30, 60, 120, 240, 480]
    difficulty = rng.random(n_test)
    true = [level - 0.3 * (n / sizes[-1]) ** -0.3 + 0.3 for n in sizes]
    hits = np.array([difficulty < max(score, 0.05) for score in true], dtype=float)
    centred = hits - hits.mean(axis=1, keepdims=True)
    return LearningCurve.fit(
        sizes,
        [[float(h.mean()), float(h.mean())] for h in hits],
        n_test,
        test_covariance=centred @ centred.T / n_test**2 + 1e-6 * np.eye(len(sizes)),
    )


@settings(max_examples=40, deadline=None)
@given(level=st.floats(0.6, 0.97), seed=st.integers(0, 10**6), n_test=st.sampled_from([50, 200]))
def test_the_curve_goes_through_its_largest_size(level: float, seed: int, n_test: int) -> None:
    """Luck that all sizes share moves the level, it does not bend the curve off its points."""
    fitted = common_luck(level, seed, n_test)
    low, high = fitted.interval(480)
    grain = 0.5 / n_test  # a perfect score of few images is no proof of a perfect model
    assert low - grain <= fitted.means[-1] <= high + grain
    assert fitted.predict(480) - fitted.means[-1] == pytest.approx(0.0, abs=0.015)


def test_fits_lie_on_their_points_on_average() -> None:
    """Within 0.1 points at the largest size; with the luck at observed slopes it was 0.7 below."""
    gaps = []
    for seed in range(120):
        fitted = common_luck(0.8, seed, 100)
        gaps.append(fitted.predict(480) - fitted.means[-1])
    assert abs(np.mean(gaps)) < 0.001


def pool_runs(seed: int, sizes: list[int], pool: int, repeats: int) -> list[list[float]]:
    """Scores 0.7 + mean of n images' values: repeats are subsamples of one pool."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=pool)
    orders = [rng.permutation(pool) for _ in range(repeats)]
    return [[float(0.7 + 0.3 * values[o[:n]].mean()) for o in orders] for n in sizes]


def test_the_luck_of_a_finite_pool_is_seen_though_its_runs_hardly_differ() -> None:
    """Against the variance over fresh pools; for a score that is a mean over images.

    At most as much is given, since half of this luck is taken to differ from size to size.
    """
    sizes, pool = [50, 100, 200, 320], 400
    runs = [pool_runs(seed, sizes, pool, 10) for seed in range(400)]
    seen = np.var([np.mean(run[-1]) for run in runs])
    given = [
        means_covariance(
            np.array(sizes, dtype=float),
            [np.array(s) for s in run],
            LinearScale(1.0),
            n_test=None,
            pool=pool,
            bounds=(-math.inf, math.inf),
            test_covariance=None,
            train_covariance=None,
            split_variance=None,
        )[-1, -1]
        for run in runs
    ]
    assert 0.5 < np.mean(given) / seen < 1.1


def test_items_on_which_repeats_differ_are_counted_once_with_the_whole_pool_too() -> None:
    """A single run with the whole pool; models disagree on six items of ten."""
    widths = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        difficulty, scores = rng.random(200), []
        for level in (0.6, 0.7, 0.75, 0.8):
            churn = rng.random((6, 200)) < 0.6
            draws = np.where(churn, rng.random((6, 200)), difficulty)
            scores.append((draws < level).mean(axis=1).tolist())
        scores[-1] = scores[-1][:1]
        fits = [LearningCurve.fit([50, 100, 200, 400], scores, 200, pool=p) for p in (400, 4000)]
        widths.append([width(fitted, 400) for fitted in fits])
    whole, part = np.mean(widths, axis=0)
    assert whole < 1.1 * part


# -------------------------------------------------------------------------- unbounded metrics


def test_unbounded_scores_recover_a_power_law_below_zero() -> None:
    def true(n: float) -> float:
        return float(-0.3 - 8.0 * n**-0.5)  # a negated loss

    fitted = LearningCurve.fit(SIZES, exact(true), bounds=(-math.inf, math.inf))
    assert_allclose(fitted.predict(1600), true(1600), atol=0.02)
    assert_allclose(fitted.predict(6400), true(6400), atol=0.05)
    assert fitted.ceiling.low <= -0.3 <= fitted.ceiling.high


@pytest.mark.parametrize("bounds", [(-math.inf, math.inf), (-math.inf, 0.0)])
@pytest.mark.parametrize("factor", [1e-3, 100.0])
def test_unbounded_scores_are_scale_equivariant(factor: float, bounds: tuple[float, float]) -> None:
    scores = np.array(simulate(TRUE_CURVES["power"], SIZES, seed=6)) - 1.0
    plain, scaled = (
        LearningCurve.fit(SIZES, (scores * f).tolist(), bounds=bounds) for f in (1.0, factor)
    )
    assert_allclose(scaled.interval(5000), np.array(plain.interval(5000)) * factor, rtol=1e-6)
    assert scaled.required(-0.1 * factor) == pytest.approx(plain.required(-0.1), abs=1)


def test_noiseless_covariances_are_accepted() -> None:
    nothing = np.zeros((5, 5))
    fitted = LearningCurve.fit(SIZES, GOOD, train_covariance=nothing, test_covariance=nothing)
    assert width(fitted, SIZES[-1]) < 1e-3


# ------------------------------------------------------------------------------ promises, any input

score = st.floats(0.0, 1.0)
curves = st.builds(
    lambda sizes, data, n_test: LearningCurve.fit(sorted(sizes), data[: len(sizes)], n_test),
    st.sets(st.integers(2, 5000), min_size=3, max_size=6),
    st.lists(st.lists(score, min_size=1, max_size=4), min_size=6, max_size=6),
    st.sampled_from([None, 50, 1000]),
)


@settings(max_examples=60, deadline=None)
@given(fitted=curves, target=score, ns=st.lists(st.integers(1, 10**6), min_size=2, max_size=6))
def test_promises(fitted: LearningCurve, target: float, ns: list[int]) -> None:
    ns = sorted(ns)
    predictions = [fitted.predict(n) for n in ns]
    assert predictions == sorted(predictions), "predict never falls"

    required = fitted.required(target)
    if math.isfinite(required):
        assert required == int(required) >= 1
        assert fitted.predict(required) >= target
        assert required == 1 or fitted.predict(required - 1) < target
    for n in (*ns, *([required] if math.isfinite(required) else [])):
        probability = fitted.probability(n, target)
        assert 0.0 <= probability <= 1.0
        assert (required <= n) == (probability >= 0.5)

    for n in ns:
        inner, outer = fitted.interval(n, 0.5), fitted.interval(n, 0.95)
        assert outer.low <= inner.low <= fitted.predict(n) <= inner.high <= outer.high
    inner, outer = (fitted.required_interval(target, level) for level in (0.5, 0.95))
    assert outer.low <= inner.low <= required <= inner.high <= outer.high


def test_order_of_sizes_and_repeats_does_not_matter() -> None:
    scores = simulate(TRUE_CURVES["power"], SIZES, seed=7)
    reference = LearningCurve.fit(SIZES, scores, 500)
    swapped = [[s[i] for i in (3, 1, 4, 0, 2)] for s in scores[::-1]]
    other = LearningCurve.fit(SIZES[::-1], swapped, 500)
    assert other.sizes == reference.sizes == tuple(SIZES)
    assert_allclose(other.interval(1600), reference.interval(1600), rtol=1e-9)


def test_fit_is_deterministic_and_leaves_the_global_generator_alone() -> None:
    np.random.seed(3)
    expected = np.random.random()
    np.random.seed(3)
    first, second = flowers(), flowers()
    assert first.interval(3303) == second.interval(3303)
    assert np.random.random() == expected


def test_results_are_frozen_and_of_builtin_types() -> None:
    fitted = flowers()
    with pytest.raises(AttributeError):
        fitted.law = "power2"  # type: ignore[misc]
    assert isinstance(fitted.interval(2000), Interval)
    values = [*fitted.interval(2000), *fitted.ceiling, fitted.predict(2000), fitted.required(0.9)]
    values += [*fitted.required_interval(0.9), fitted.probability(2000, 0.9), *fitted.scores[0]]
    assert {type(v) for v in values} == {float}
    assert {type(n) for n in fitted.sizes} == {int}
    assert fitted.interval(2000) == fitted.interval(2000, level=0.9)
    assert width(flowers(level=0.5)) < width(flowers())


# --------------------------------------------------------------------------------- error texts

BAD_INPUT = [
    ({"sizes": SIZES[:4]}, "4 sizes and 5 lists"),
    ({"sizes": SIZES[:2], "scores": GOOD[:2]}, "3 or more different sizes"),
    ({"sizes": [50, 50, 100, 200, 400]}, "different sizes"),
    ({"sizes": [0, 50, 100, 200, 400]}, "whole numbers from 1"),
    ({"sizes": [1.5, 50, 100, 200, 400]}, "whole numbers from 1"),
    ({"scores": [*GOOD[:4], []]}, "size 800 needs a list of one score or more"),
    ({"scores": [*GOOD[:4], [math.nan]]}, "finite, got .* at size 800"),
    ({"scores": [*GOOD[:4], [1.2]]}, r"bounds=\(0.0, 1.0\), got \[1.2\] at size 800"),
    ({"law": "spline"}, "unknown law 'spline'; choose one of power, power2, exponential, m4"),
    ({"n_test": 0}, "n_test must be a positive"),
    ({"pool": 100}, "pool=100 is smaller than the largest training size 800"),
    ({"bounds": (1.0, 0.0)}, "low < high"),
    ({"level": 1.0}, "level must lie between 0 and 1"),
    ({"test_covariance": np.eye(3)}, r"test_covariance must be a symmetric 5 x 5 matrix"),
    ({"train_covariance": -np.eye(5)}, "train_covariance must be positive semidefinite"),
]


@pytest.mark.parametrize(("change", "text"), BAD_INPUT, ids=[text for _, text in BAD_INPUT])
def test_bad_input_is_named(change: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        LearningCurve.fit(**{"sizes": SIZES, "scores": GOOD, **change})


def test_bad_questions_are_named() -> None:
    fitted = flowers()
    with pytest.raises(ValueError, match="at least 1, got 0"):
        fitted.predict(0)
    with pytest.raises(ValueError, match="level"):
        fitted.interval(100, level=0.0)


@pytest.mark.parametrize("module", [curve_module, laws_module])
def test_docstring_examples(module: Any) -> None:
    assert doctest.testmod(module).failed == 0
