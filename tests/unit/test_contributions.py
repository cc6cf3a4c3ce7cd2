"""Tests of scores and luck on small test splits: rare classes, ratios, classes of equal shares."""

import numpy as np
import pytest

from pytest_datasize.curve.contributions import contributions
from pytest_datasize.curve.metrics.classification import accuracy, auc, balanced_accuracy, f1_macro
from pytest_datasize.curve.outcomes import gather

MEMBERS = (100, 60, 10)  # the last class has two images in each of five test parts
HIT = (0.9, 0.8, 0.5)  # how often an image of each class is recognised
LABELS = np.repeat(np.arange(3), MEMBERS)
SHOWN = np.eye(3, dtype=bool)[LABELS]


def parts(generator):
    """Five stratified test parts that cover all images once."""
    shuffled = [generator.permutation(np.flatnonzero(c == LABELS)) for c in range(3)]
    return [np.concatenate([s[k::5] for s in shuffled]) for k in range(5)]


def predictions(generator, n=1):
    """Probabilities of n images of every row; a miss goes to a common class."""
    labels = np.tile(LABELS, n)
    hit = generator.random(len(labels)) < np.array(HIT)[labels]
    predicted = np.where(hit, labels, labels == 0)
    return labels, 0.05 + 0.9 * np.eye(3)[predicted] + 0.01 * generator.random((len(labels), 3))


def measured(metric, unbiased, seed):
    """Outcomes of one pool: a single size, five repeats."""
    generator = np.random.default_rng(seed)
    tested = parts(generator)
    _, p = predictions(generator)
    values = contributions(metric, LABELS, tested, [p[rows] for rows in tested], SHOWN, unbiased)
    return gather((10,), [values], tested, 1000, None, LABELS), values


@pytest.mark.parametrize(
    ("metric", "unbiased"), [(balanced_accuracy, True), (f1_macro, False), (auc, True)]
)
def test_the_luck_of_a_rare_class_is_counted(metric, unbiased):
    """The estimated luck of the mean score is its deviation over 300 fresh pools."""
    runs = [measured(metric, unbiased, seed)[0] for seed in range(300)]
    scores = [np.mean(run.scores[0]) for run in runs]
    estimated = np.sqrt(np.mean([run.test_covariance[0, 0] for run in runs]))
    assert 0.85 < estimated / np.std(scores) < 1.2


def test_macro_f1_of_small_splits_is_that_of_many_images():
    truth = f1_macro(*predictions(np.random.default_rng(0), 2000)).mean()
    together, alone = [], []
    for seed in range(200):
        generator = np.random.default_rng(seed)
        tested = parts(generator)
        _, p = predictions(generator)
        some = [p[rows] for rows in tested]
        together.append(
            np.mean([v.mean() for v in contributions(f1_macro, LABELS, tested, some, SHOWN)])
        )
        alone.append(
            np.mean([f1_macro(LABELS[r], q).mean() for r, q in zip(tested, some, strict=True)])
        )
    assert abs(np.mean(together) - truth) < 0.01
    assert np.mean(alone) < truth - 0.02  # what scoring every split by itself would say


@pytest.mark.parametrize("metric", [accuracy, balanced_accuracy, auc])
def test_scores_of_repeats_stay_their_own(metric):
    generator = np.random.default_rng(3)
    tested = parts(generator)
    _, p = predictions(generator)
    found = contributions(metric, LABELS, tested, [p[rows] for rows in tested], SHOWN, True)
    for values, rows in zip(found, tested, strict=True):
        assert values.mean() == pytest.approx(metric(LABELS[rows], p[rows]).mean())
        assert values.shape == rows.shape


def test_large_splits_are_scored_by_themselves():
    labels = np.tile(np.arange(3), 100)
    generator = np.random.default_rng(4)
    tested = [np.arange(0, 150), np.arange(150, 300)]
    p = [generator.dirichlet(np.ones(3), 150) for _ in tested]
    found = contributions(f1_macro, labels, tested, p, np.eye(3, dtype=bool)[labels])
    for values, rows, q in zip(found, tested, p, strict=True):
        assert np.array_equal(values, f1_macro(labels[rows], q))


def test_one_test_set_for_all_is_scored_trial_by_trial():
    rows = np.array([0, 1, 100, 101, 160, 161])
    generator = np.random.default_rng(5)
    p = [generator.dirichlet(np.ones(3), 6) for _ in range(3)]
    found = contributions(f1_macro, LABELS, [rows] * 3, p, SHOWN)
    assert np.array_equal(found[2], f1_macro(LABELS[rows], p[2]))


def test_scores_stay_within_their_bounds():
    """A linearised ratio may leave them: a part with more than its share of the best class."""
    for seed in range(50):
        generator = np.random.default_rng(seed)
        tested = parts(generator)
        right = generator.random(len(LABELS)) < 0.98
        p = 0.01 + 0.9 * np.eye(3)[np.where(right, LABELS, 0)]
        values = contributions(f1_macro, LABELS, tested, [p[rows] for rows in tested], SHOWN)
        scores = gather((10,), [values], tested, 1000).scores[0]
        assert 0.7 < min(scores) <= max(scores) <= 1.0


def test_test_parts_with_equal_shares_of_the_classes_differ_by_less():
    """Two classes, one always right and one never: every stratified part has the same score."""
    labels = np.repeat([0, 1], 50)
    tested = [np.concatenate([np.arange(k, 50, 5), np.arange(50 + k, 100, 5)]) for k in range(5)]
    values = [(labels[rows] == 0) * 1.0 for rows in tested]
    blind = gather((10,), [values], tested, 1000)
    aware = gather((10,), [values], tested, 1000, None, labels)
    assert blind.split_variance[0] == pytest.approx(0.25 / 20, rel=0.05)
    assert aware.split_variance[0] == pytest.approx(0.0, abs=1e-12)
    assert np.ptp(aware.scores[0]) == 0.0
