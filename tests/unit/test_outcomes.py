"""The luck of test images, measured image by image, on simulated trials whose truth is known."""

import numpy as np
import pytest

from pytest_datasize.curve.learning_curve import LearningCurve
from pytest_datasize.curve.outcomes import Outcomes, gather
from pytest_datasize.curve.self_check import (
    advise,
    deciding_advice,
    images_to_tell,
    margin,
    self_check,
)
from pytest_datasize.curve.verdict import Status, Verdict, judge
from pytest_datasize.study.stopping import Certainty, decided, level, looks

SIZES = (20, 40, 80, 160, 320)


def accuracy(n):
    return 0.9 - 1.2 * np.asarray(n, float) ** -0.5


def trials(
    generator, n_images=300, repeats=10, split=True, sizes=SIZES, churn=0.1, training_luck=0.01
) -> Outcomes:
    """Simulated correctness of every test image in every trial.

    An image has a difficulty u, uniform: most models get it right when u < accuracy, a share
    `churn` of decisions falls by chance, and a training subsample shifts all decisions a little.
    """
    difficulty = generator.random(n_images)
    folds = generator.permutation(n_images).reshape(5, -1)
    tested = [np.sort(folds[r % 5]) if split else np.arange(n_images) for r in range(repeats)]
    contributions = []
    for n in sizes:
        scores = []
        for rows in tested:
            p = accuracy(n) + training_luck * generator.standard_normal() * (sizes[0] / n) ** 0.5
            by_chance = generator.random(len(rows)) < churn
            draw = np.where(by_chance, generator.random(len(rows)), difficulty[rows])
            scores.append((draw < p).astype(float))
        contributions.append(scores)
    return gather(sizes, contributions, tested, pool=100_000)


def test_scores_are_means_of_contributions():
    values = [[np.array([1.0, 0.0]), np.array([1.0, 1.0])]] * 3
    outcomes = gather((5, 10, 20), values, [np.array([0, 1]), np.array([2, 3])], pool=50)
    assert outcomes.scores == ((0.5, 1.0),) * 3
    assert outcomes.n_test == 4
    # 3 of 4 right, and half an image right and half an image wrong
    assert outcomes.test_covariance == pytest.approx(
        np.full((3, 3), (0.75 * 0.25 + (0.25**2 + 0.75**2) / 2 / 4) / 4)
    )


def test_a_perfect_score_on_few_images_proves_little():
    """Against the Beta posterior of 20 hits in 20 with Jeffreys' prior: P(p >= 0.95) = 0.85."""
    perfect = [[np.ones(4) for _ in range(5)] for _ in range(5)]
    outcomes = gather(SIZES, perfect, list(np.arange(20).reshape(5, 4)), pool=1000)
    assert outcomes.test_covariance.min() > 0
    assert outcomes.curve().probability(320, 0.95) < 0.95


@pytest.mark.parametrize(("members", "least"), [(100, 0.85), (20, 0.78), (6, 0.75)])
def test_intervals_of_a_rare_class_hold_the_truth(members, least):
    """Recall of a class of which every test part holds only a few images, or one."""
    generator = np.random.default_rng(8)
    held = []
    for _ in range(120):
        difficulty = generator.random(members)
        parts = [np.sort(p) for p in np.array_split(generator.permutation(members), 5)] * 2
        values = [
            [
                (difficulty[part] < accuracy(n) + 0.02 * generator.standard_normal()).astype(float)
                for part in parts
            ]
            for n in SIZES
        ]
        low, high = gather(SIZES, values, parts, pool=100_000).curve().interval(320)
        held.append(low <= accuracy(320) <= high)
    assert np.mean(held) >= least


@pytest.mark.parametrize("split", [True, False])
def test_the_measured_covariance_is_the_one_of_fresh_test_sets(split):
    generator = np.random.default_rng(0)
    runs = [trials(generator, split=split) for _ in range(400)]
    means = np.array([[np.mean(s) for s in run.scores] for run in runs])
    measured = np.mean([run.test_covariance for run in runs], axis=0)
    assert measured == pytest.approx(np.cov(means.T), rel=0.25)
    assert np.mean([run.split_variance for run in runs], axis=0).max() == pytest.approx(
        0.25 / 60 if split else 0.0, rel=0.1
    )


@pytest.mark.parametrize("split", [True, False])
def test_intervals_hold_the_truth_as_often_as_they_say(split):
    """90 % intervals at the largest size and at four times it, over 150 simulated studies."""
    generator = np.random.default_rng(1)
    curves = [trials(generator, split=split).curve() for _ in range(150)]
    for n in (SIZES[-1], 4 * SIZES[-1]):
        intervals = np.array([curve.interval(n) for curve in curves])
        held = np.mean((intervals[:, 0] <= accuracy(n)) & (accuracy(n) <= intervals[:, 1]))
        assert 0.85 <= held <= 1.0


def test_knowing_the_images_narrows_intervals_of_a_fixed_test_set():
    """Against the scores alone, which cannot tell test luck from training luck."""
    generator = np.random.default_rng(2)
    runs = [trials(generator, split=True) for _ in range(40)]
    known = np.mean([np.ptp(run.curve().interval(640)) for run in runs])
    blind = np.mean(
        [
            np.ptp(
                LearningCurve.fit(
                    run.sizes, run.scores, pool=run.pool, test_covariance=run.test_covariance
                ).interval(640)
            )
            for run in runs
        ]
    )
    assert known < 0.9 * blind


def test_the_self_check_predicts_the_sizes_it_has_not_seen():
    found = self_check(trials(np.random.default_rng(3)))
    assert (found.left_out, found.size) == (2, 320)
    assert found.held
    assert found.predicted == pytest.approx(accuracy(320), abs=0.06)
    assert self_check(trials(np.random.default_rng(3)).first(4)).left_out == 1
    assert self_check(trials(np.random.default_rng(3)).first(3)) is None


def test_the_test_margin_falls_with_the_root_of_the_number_of_images():
    few, many = (trials(np.random.default_rng(4), n_images=n) for n in (100, 1600))
    assert margin(few) == pytest.approx(4 * margin(many), rel=0.3)
    needed = images_to_tell(few, 0.80, 0.82)
    assert needed == pytest.approx(100 * (margin(few) / 0.02) ** 2, rel=0.01)
    assert images_to_tell(few, 0.5, 0.9) is None
    assert images_to_tell(few, 0.9, 0.9) is None


def test_advice_decides_what_was_undecided():
    """What is advised is simulated, and does decide the verdict."""
    outcomes = trials(np.random.default_rng(5), n_images=200)
    curve = outcomes.curve()
    target = curve.predict(320) - 0.025
    judged = judge("accuracy", target, {None: curve}, 320, 0.9)
    assert judged.status is Status.UNDECIDED
    found = advise(outcomes, curve, judged).deciding
    assert found.test_images > 200
    assert curve.probability(found.training_images, target) >= 0.9
    assert curve.probability(found.training_images - 1, target) < 0.9
    more = trials(np.random.default_rng(5), n_images=5 * (found.test_images // 5 + 1)).curve()
    width = np.ptp(more.interval(320)) / np.ptp(curve.interval(320))
    assert width < 0.9
    assert str(found).endswith("training images")
    assert advise(outcomes, curve, judge("accuracy", 0.5, {None: curve}, 320)).deciding is None
    hopeless = deciding_advice(outcomes, curve, 0.9999, 320, 0.9)
    assert hopeless.training_images is None


# -- sequential plan ------------------------------------------------------------------------------


def test_early_looks_ask_for_more():
    assert looks(10) == (4, 7, 10)
    assert looks(2) == (2,)
    assert level(0.9, 0.4) > level(0.9, 0.7) > level(0.9, 1.0) == pytest.approx(0.9)


def sequential(generator, target: float, confidence: float) -> tuple[Verdict, int]:
    """What a study does: look, and stop when every target is decided."""
    whole = trials(generator, n_images=500)
    for n in looks(10):
        part = Outcomes(
            whole.sizes,
            tuple(scores[:n] for scores in whole.scores),
            whole.n_test,
            whole.test_covariance * 10 / n,
            whole.split_variance,
            whole.pool,
        )
        asked = level(confidence, n / 10)
        verdict = Verdict((judge("accuracy", target, {None: part.curve()}, 320, asked),))
        if decided(verdict):
            break
    return verdict, n


def test_the_error_rate_of_the_sequential_plan_is_kept():
    """At a target just above the truth, the hardest case, at most 10 % may pass at 0.9."""
    generator = np.random.default_rng(6)
    found = [sequential(generator, accuracy(320) + 0.001, 0.9) for _ in range(150)]
    assert np.mean([verdict.passed for verdict, _ in found]) <= 0.12


def test_clear_cases_stop_early():
    generator = np.random.default_rng(7)
    for target in (0.6, 0.97):
        assert all(sequential(generator, target, 0.9)[1] == 4 for _ in range(10))


def test_certainty_asks_every_target():
    class Result:
        def verdict(self, confidence, **targets):
            curve = LearningCurve.fit(SIZES, [[a] * 5 for a in accuracy(SIZES)], 2000)
            return Verdict(
                tuple(
                    judge(metric, target, {None: curve}, 320, confidence)
                    for metric, target in targets.items()
                )
            )

    assert Certainty({"accuracy": 0.7}, 0.9)(Result(), 1.0)
    border = float(accuracy(320))
    assert not Certainty({"accuracy": 0.7, "auc": border}, 0.9)(Result(), 1.0)
