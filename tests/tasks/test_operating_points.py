"""Operating points: thresholds against scikit-learn, and gates whose right answer is known."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mosaics import mosaics, write_images
from scipy.optimize import brentq
from scipy.stats import norm
from sklearn import metrics as reference
from support import CONFTEST, shapes, write_folder

from pytest_datasize import RequirementError, Study
from pytest_datasize.curve.metrics.operating_points import (
    achieved,
    highest_with_sensitivity,
    lowest_with_precision,
    lowest_with_specificity,
)
from pytest_datasize.requirement.tasks import TASKS
from pytest_datasize.study.metric_outcomes import Scored, _threshold_covariance, point_outcomes
from pytest_datasize.trials.heads.heads import HeadTask, fit_heads

SHARES = st.sampled_from([0.5, 0.6, 0.75, 0.8, 0.9, 0.95, 0.99])
PRECISION = {"class": "right", "precision": 0.8}


def drawn(seed, n):
    """Return which images show the class, and scores with ties."""
    rng = np.random.default_rng(seed)
    shown = rng.random(n) < 0.4
    shown[:2] = True, False
    return shown, (rng.standard_normal(n) + shown).round(1)


@given(seed=st.integers(0, 10_000), n=st.integers(2, 60), share=SHARES)
def test_thresholds_are_those_of_the_curves_of_scikit_learn(seed, n, share):
    shown, scores = drawn(seed, n)
    precision, _, levels = reference.precision_recall_curve(shown, scores)
    good = levels[precision[:-1] >= share - 1e-9]
    found = lowest_with_precision(shown, scores, share)
    assert found == (good.min() if len(good) else np.inf)
    wrong, right, levels = reference.roc_curve(shown, scores, drop_intermediate=False)
    assert lowest_with_specificity(shown, scores, share) == levels[1 - wrong >= share - 1e-9].min()
    assert highest_with_sensitivity(shown, scores, share) == levels[right >= share - 1e-9].max()


@given(seed=st.integers(0, 10_000), n=st.integers(2, 60), share=SHARES)
def test_a_chosen_threshold_gives_what_is_required_of_it(seed, n, share):
    shown, scores = drawn(seed, n)
    for choose, given_ in (
        (lowest_with_precision, "precision"),
        (lowest_with_specificity, "specificity"),
        (highest_with_sensitivity, "sensitivity"),
    ):
        found = achieved(given_, shown, scores >= choose(shown, scores, share))
        assert found is None or found >= share - 1e-9


def test_without_images_to_choose_from_the_worst_is_assumed():
    nothing = np.zeros(0, np.bool_), np.zeros(0), 0.9
    assert lowest_with_precision(*nothing) == np.inf  # nothing is flagged: recall 0
    assert lowest_with_specificity(*nothing) == np.inf
    assert highest_with_sensitivity(*nothing) == -np.inf  # everything is: each a false alarm
    shown = np.array([False, True])
    assert lowest_with_precision(shown, np.array([0.9, 0.1]), 0.9) == np.inf


@pytest.mark.parametrize("name", ["recall_at_precision", "false_alarm_rate"])
def test_the_score_is_that_of_scikit_learn_and_its_luck_that_of_its_images(name):
    """A threshold chosen on very many images: the score varies with the test images alone."""
    metric = TASKS["classification"].metrics[name]
    rng = np.random.default_rng(0)

    def outcomes():
        labels = np.arange(400) % 4
        flagged = (rng.standard_normal(400) + 1.5 * (labels == 2) > 0.7).astype(float)
        shown = labels[:, None] == np.arange(4)
        scored = Scored((10, 20), labels, shown, labels, [np.arange(400)], [], 10**9)
        return labels == 2, flagged, point_outcomes(metric, scored, 2, [[flagged]] * 2, 0.9)

    own, flagged, found = outcomes()
    expected = (
        reference.recall_score(own, flagged)
        if metric.members
        else 1 - reference.recall_score(~own, flagged == 0)
    )
    assert found.given == ((pytest.approx(expected),),) * 2
    assert found.n_test == (100 if metric.members else 300)
    assert found.sign == (1 if metric.members else -1)
    drawn = [outcomes()[2] for _ in range(400)]
    measured = np.mean([one.test_covariance[-1, -1] for one in drawn])
    assert measured == pytest.approx(np.var([one.scores[-1][0] for one in drawn]), rel=0.2)


SPECIAL = {
    "recall_at_precision": (lowest_with_precision, 0.9),
    "sensitivity_at_specificity": (lowest_with_specificity, 0.95),
    "false_alarm_rate": (highest_with_sensitivity, 0.9),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_intervals_hold_the_truth_of_thresholds_from_one_small_pool(name):
    """The score of a class is normal, so that the expected score of a threshold is known.

    Without the luck of the pool, which all repeats share, 90 % intervals hold less than 80 %.
    """
    choose, share = SPECIAL[name]
    metric = TASKS["classification"].metrics[name]
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    own, sizes = labels == 1, (16, 28, 50, 90, 160)

    def score_of_truth(threshold):
        return norm.sf(threshold - D * metric.members)

    held = []
    train = np.arange(160)
    fresh = [rng.standard_normal(160) + D * own[train] for _ in range(500)]
    truth = np.mean([score_of_truth(choose(own[train], x, share)) for x in fresh])
    for _ in range(60):
        scores = rng.standard_normal(200) + D * own
        order = rng.permutation(100)
        parts = [np.sort(np.concatenate([2 * order[k::5], 2 * order[k::5] + 1])) for k in range(5)]
        rest = [np.setdiff1d(np.arange(200), part) for part in parts]
        rest = [rows.reshape(-1, 2)[rng.permutation(80)].ravel() for rows in rest]
        flagged = [
            [
                (scores[part] >= choose(own[rows[:n]], scores[rows[:n]], share)) * 1.0
                for part, rows in zip(parts, rest, strict=True)
            ]
            for n in sizes
        ]
        shown = np.stack([~own, own], axis=1)
        scored = Scored(sizes, labels, shown, labels, parts, [], 200)
        found = point_outcomes(metric, scored, 1, flagged, share)
        low, high = found.curve().interval(160, 0.9)
        held.append(low < found.sign * truth < high)
    assert 0.83 <= np.mean(held) <= 0.99


def test_the_luck_of_thresholds_shrinks_with_the_pool_and_not_with_other_test_images():
    choose, share = SPECIAL["sensitivity_at_specificity"]
    metric = TASKS["classification"].metrics["sensitivity_at_specificity"]
    rng = np.random.default_rng(0)
    labels = np.arange(4000) % 2
    scores = rng.standard_normal(4000) + D * labels
    threshold = choose(labels == 1, scores, share)
    shown = np.stack([labels == 0, labels == 1], axis=1)

    def variance(pool, n_test, apart):
        rows = (pool if apart else 0) + np.arange(n_test)
        truth = np.resize(shown, (pool + n_test, 2))
        flagged = [[(scores[rows % 4000] >= threshold) * 1.0]] * 2
        scored = Scored((10, 20), labels, truth, truth[:, 1] * 1, [rows], [], pool)
        return point_outcomes(metric, scored, 1, flagged, share).test_covariance[-1, -1]

    tested = [variance(10**6, n, True) for n in (1000, 4000)]
    assert tested[0] == pytest.approx(4 * tested[1], rel=0.1)  # only the test images count
    chosen = [variance(pool, 4000, True) - tested[1] for pool in (200, 800)]
    assert chosen[0] == pytest.approx(4 * chosen[1], rel=0.05)
    slope = norm.pdf(threshold - D) / norm.pdf(threshold)  # of the ROC curve, here known
    assert chosen[0] == pytest.approx(slope**2 * share * (1 - share) / 100, rel=0.2)
    # tested on the pool: classes are tested and chosen on apart, so that variances add up
    assert variance(4000, 4000, False) == pytest.approx(tested[1] + chosen[0] / 20, rel=0.05)


def test_the_luck_of_thresholds_is_that_of_images_also_where_groups_are_counted():
    metric, rng = TASKS["classification"].metrics["recall_at_precision"], np.random.default_rng(0)
    labels, rows = np.arange(400) % 2, np.arange(400)
    shown = np.stack([labels == 0, labels == 1], axis=1)
    flagged = [[(rng.standard_normal(400) + labels > 0.5) * 1.0]] * 2
    plain = Scored((10, 20), labels, shown, labels, [rows], [], 400, rows // 10)
    counted = plain._replace(pool=40, images=400)
    one, other = (
        _threshold_covariance(metric, scored, shown[:, 1], flagged, 0.7)
        for scored in (plain, counted)
    )
    assert other == pytest.approx(one)
    assert one[-1, -1] > 0


def heads(labels, groups, n=160, **options):
    rng = np.random.default_rng(0)
    strata = labels if labels.ndim == 1 else labels @ [1, 2]
    features = torch.from_numpy(
        (strata[:, None] == np.arange(4)) * 1.5 + rng.standard_normal((len(labels), 4))
    ).float()
    given_ = {} if labels.ndim == 1 else {"strata": strata.astype(np.int64)}
    [head] = fit_heads(
        features,
        torch.from_numpy(labels),
        [HeadTask(np.arange(n), np.arange(n, len(labels)), seed=3)],
        2,
        fold_groups=groups,
        **given_,
        **options,
    )
    return features, head


@pytest.mark.parametrize("several", [False, True])
def test_training_images_are_predicted_by_heads_without_them(several):
    """Each fold is that of a head which is fitted without it, in scikit-learn's terms as well."""
    from pytest_datasize.trials.heads.heads import _complete_splits

    labels = np.arange(200) % 2
    if several:
        labels = np.stack([labels == 1, np.arange(200) % 3 == 0], axis=1)
    features, head = heads(labels, np.arange(200), strengths=[0.1])
    assert head.held.shape == (160, 2)
    strata = labels[:160] if not several else (labels[:160] @ [1, 2]).astype(np.int64)
    folds = _complete_splits(strata, np.arange(160), seed=3)
    assert folds.sum(axis=0).tolist() == [1] * 160
    for fold in folds:
        task = HeadTask(np.flatnonzero(~fold), np.flatnonzero(fold), seed=0)
        given_ = {} if not several else {"strata": (labels @ [1, 2]).astype(np.int64)}
        [alone] = fit_heads(
            features, torch.from_numpy(labels), [task], 2, strengths=[0.1], **given_
        )
        # the penalty's unit is the variance of all training images here, and of fewer there
        np.testing.assert_allclose(head.held[fold], alone.probabilities, atol=0.02)
    plain = heads(labels, None, strengths=[0.1])[1]
    assert plain.held is None
    np.testing.assert_array_equal(plain.probabilities, head.probabilities)


def test_groups_stay_in_one_fold_and_a_class_of_one_group_leaves_nothing_out():
    from pytest_datasize.trials.heads.heads import _complete_splits

    labels, groups = np.arange(60) % 2, np.arange(60) // 4
    folds = _complete_splits(labels, groups, seed=0)
    assert (folds.sum(axis=0) == 3).all()  # 60 images, 128 predictions: three repeats
    assert all(len(set(groups[fold]) & set(groups[~fold])) == 0 for fold in folds)
    groups[labels == 1] = 99
    assert len(_complete_splits(labels, groups, seed=0)) == 0
    assert heads(np.arange(200) % 2, np.arange(200) % 2)[1].held is None


# -- gates ----------------------------------------------------------------------------------------

D = 2.0
"""Distance of the two classes' mean brightness, in standard deviations: both are normal."""

TRUTH = {
    "sensitivity_at_specificity": norm.sf(norm.ppf(0.95) - D),
    "false_alarm_rate": norm.sf(D + norm.ppf(1 - 0.9)),
    "recall_at_precision": norm.sf(
        brentq(lambda t: norm.sf(t - D) / (norm.sf(t - D) + norm.sf(t)) - 0.9, -2, 4) - D
    ),
}
"""Best possible scores: the classes differ in brightness only."""

ASKED = """
    recall_at_precision={'class': 'crack', 'precision': 0.9, 'recall': RECALL},
    sensitivity_at_specificity={'class': 'crack', 'specificity': 0.95, 'sensitivity': 0.4},
    false_alarm_rate={'class': 'crack', 'sensitivity': 0.9, 'rate': 0.4},
"""


@pytest.fixture(scope="module")
def cracks(tmp_path_factory):
    """600 images whose class decides how bright they are on average."""
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 2
    level = 110 + 12 * (D * labels + rng.standard_normal(600))
    pixels = level[:, None, None] + 30 * rng.standard_normal((600, 24, 24))
    root = tmp_path_factory.mktemp("cracks")
    names = ("good", "crack")
    return write_folder(root, np.clip(pixels, 0, 255).astype(np.uint8), labels, names)


@pytest.fixture
def gate(pytester, cracks, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    pytester.makeconftest(CONFTEST)
    pytester.makeini(
        "[pytest]\naddopts = --strict-markers -p no:cacheprovider\nfilterwarnings = error\n"
        f"datasize_dataset = {cracks}\ndatasize_image_size = 24\n"
    )

    def run(marker, *options, ini="datasize_strategy=feature_extraction"):
        pytester.makepyfile(
            test_gate="from pytest_datasize import datasize\n"
            f"@datasize.requires({marker})\ndef test_gate(): ...\n"
        )
        result = pytester.runpytest_inprocess(
            "--datasize-json=r.json", "--datasize-store=store", "-o", ini, *options
        )
        path = pytester.path / "r.json"
        return result, json.loads(path.read_text())["requirements"] if path.exists() else []

    return run


def test_a_check_looks_at_the_classes_of_the_option_too(gate):
    option = "accuracy=0.8, operating_points={'recall_at_precision': {'class': CLASS, "
    option += "'precision': 0.9}}"
    result, [record] = gate(option.replace("CLASS", "'crak'"), "--datasize=check")
    result.assert_outcomes(errors=1)
    assert "no class is named 'crak'; did you mean 'crack'?" in record["message"]
    result, _ = gate(option.replace("CLASS", "'crack'"), "--datasize=check")
    result.assert_outcomes(skipped=1)


def test_projected_scores_are_those_of_the_best_threshold(gate, pytester):
    result, records = gate(ASKED.replace("RECALL", "0.4"), "--datasize-html=r.html")
    result.assert_outcomes(passed=1)
    assert len(records) == 3
    for record in records:
        truth = TRUTH[record["metric"]]
        low, high = (record[f"score_at_available_{end}"] for end in ("low", "high"))
        assert low < truth < high, record["metric"]
        assert high - low < 0.25
        assert record["class"] == "crack"
        assert (record["fit"]["sign"] < 0) == (record["metric"] == "false_alarm_rate")
        assert record["fit"]["n_test"] == 300
        assert record["class_targets"] is None
        assert record["guessing"] is None
    assert {record["metric"]: record["operating_point"] for record in records} == {
        "recall_at_precision": {"precision": 0.9},
        "sensitivity_at_specificity": {"specificity": 0.95},
        "false_alarm_rate": {"sensitivity": 0.9},
    }
    result.stdout.fnmatch_lines(["*recall 'crack' 0.4 at precision 0.9*"])
    notes = [note for note in records[0]["notes"] if "thresholds are chosen" in note]
    achieved_there = [float(note.rpartition(" ")[2]) for note in notes]
    np.testing.assert_allclose(achieved_there, [0.9, 0.9, 0.95], atol=0.03)
    page = (pytester.path / "r.html").read_text()
    assert "recall of &#39;crack&#39; at precision 0.9" in page


def test_a_gate_that_is_not_met_names_class_and_point(gate):
    result, [record] = gate(
        "recall_at_precision={'class': 'crack', 'precision': 0.9, 'recall': 0.99}"
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["OUT OF REACH: recall 0.99 of 'crack' at precision 0.9 (*"])
    assert "recall 0.99 of 'crack' at precision 0.9" in record["message"]


def test_a_precision_that_flagging_everything_has_proves_nothing():
    found = Study(
        shapes(60),
        backbone=torch.nn.Sequential(torch.nn.AvgPool2d((24, 6)), torch.nn.Flatten()),
        image_size=24,
        repeats=2,
        device="cpu",
        operating_points={"recall_at_precision": {"class": "1", "precision": 0.45}},
    ).run()
    assert any("proves nothing: 50 % of the test images show '1'" in one for one in found.notes)


def test_other_metrics_have_the_numbers_that_they_have_without(gate, pytester):
    """Operating points add fits, and change none; targets without them have their old keys."""
    gate("accuracy=0.6", "--datasize-store=plain")
    _, [plain] = gate("accuracy=0.6")
    point = "recall_at_precision={'class': 'crack', 'precision': 0.9, 'recall': 0.3}"
    _, records = gate(f"accuracy=0.6, {point}")
    [accuracy] = [record for record in records if record["metric"] == "accuracy"]
    assert accuracy["scores"] == plain["scores"]
    assert accuracy["required"] == plain["required"]
    # a stored result is found again, and another goal at the same point trains nothing
    result, _ = gate(f"accuracy=0.6, {point.replace('0.3', '0.99')}")
    result.assert_outcomes(failed=1)
    from pytest_datasize.store import Store

    with Store(pytester.path / "store") as store:
        assert len(store.all("evidence")) == 2


@pytest.mark.parametrize(
    ("marker", "says"),
    [
        ("{'class': 'crak', 'precision': 0.9, 'recall': 0.8}", "*'crak'; did you mean 'crack'?*"),
        ("{'precision': 0.9, 'recall': 0.8}", "*it lacks class*Expected a class, the precision*"),
        ("0.8", "*recall_at_precision=0.8 is not allowed*"),
    ],
)
@pytest.mark.parametrize("mode", ["run", "plan"])
def test_wrong_operating_points_are_errors(gate, marker, says, mode):
    result, _ = gate(f"recall_at_precision={marker}", f"--datasize={mode}")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([says])


def test_the_error_for_a_trainer_says_what_to_do(gate):
    result, _ = gate(
        "recall_at_precision={'class': 'crack', 'precision': 0.9, 'recall': 0.8}, trainer=print"
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*needs a threshold*trainer=*a name of your own*"])


def test_what_it_recommends_to_a_trainer_works(gate, pytester):
    pytester.makepyfile(
        mine="def train(train, test, *, seed, device):\n"
        "    return {'found': [float(i % 10 > 0) for i, _ in enumerate(test)]}\n"
    )
    pytester.syspathinsert()
    result, [record] = gate("found=0.8, bounds={'found': (0, 1)}, trainer='mine:train'")
    result.assert_outcomes(passed=1)
    assert record["score_at_available"] == pytest.approx(0.9, abs=0.01)


def test_a_point_of_another_task_is_an_error(gate):
    result, _ = gate(
        "recall_at_precision={'class': 'crack', 'precision': 0.9, 'recall': 0.8}, "
        "task='segmentation'"
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*is a metric of classification and multilabel, not of task=*"])


def test_a_ladder_climbs_with_operating_points(gate, pytester, shape_folder):
    """The second look takes its thresholds from the images that it holds out."""
    pytester.makeconftest(
        CONFTEST.replace("torch.nn.AvgPool2d((24, 6))", "torch.nn.Conv2d(3, 4, (24, 6), (24, 6))")
    )
    result, [record] = gate(
        "recall_at_precision={'class': 'right', 'precision': 0.9, 'recall': 0.99}, "
        f"second_look='60s', repeats=2, sizes=(10, 24, 60), dataset={str(shape_folder)!r}",
        ini="datasize_strategy=auto",
    )
    result.assert_outcomes(failed=1)
    tried = {model["name"]: model["score"] for model in record["models"]}
    assert tried["second look"] is not None
    assert 0 < tried["second look"] < 1


def test_networks_choose_thresholds_on_images_held_out():
    backbone = torch.nn.Sequential(torch.nn.Conv2d(3, 4, (24, 6), (24, 6)), torch.nn.Flatten())
    found = Study(
        shapes(120, noise=0.3),
        backbone=backbone,
        image_size=24,
        strategy="from_scratch",
        sizes=(8, 20, 60),
        repeats=2,
        device="cpu",
        operating_points={"recall_at_precision": {"class": "1", "precision": 0.6}},
    ).run()
    scores = found.scores["recall_at_precision"]
    assert all(0 <= score <= 1 for repeats in scores for score in repeats)
    assert found.class_outcomes["recall_at_precision"].keys() == {"1"}
    assert min(scores[-1]) > 0.5


def test_groups_of_one_patient_choose_no_threshold_for_each_other(tmp_path):
    """Every image of a class comes from one group: nothing can be held out, so recall is 0."""
    images, labels = shapes(60, noise=0.2)
    patients = np.where(labels == 1, np.arange(60) // 30, 10 + np.arange(60) // 6)
    given_ = {
        "backbone": torch.nn.Sequential(torch.nn.AvgPool2d((24, 6)), torch.nn.Flatten()),
        "image_size": 24,
        "repeats": 2,
        "device": "cpu",
        "operating_points": {"recall_at_precision": {"class": "1", "precision": 0.6}},
    }
    found = Study((images, labels), group=patients.tolist(), **given_).run()
    assert set(found.scores["recall_at_precision"][-1]) == {0.0}
    assert any("the thresholds flag no test image" in note for note in found.notes)
    apart = Study((images, labels), **given_).run()
    assert min(apart.scores["recall_at_precision"][-1]) > 0.5


def test_sets_of_labels_have_operating_points(tmp_path):
    data = mosaics(120, seed=1)
    paths = write_images(tmp_path, data.images)
    from mosaics import NAMES

    lines = [f"path,{','.join(NAMES)}"]
    lines += [
        f"{p.name},{','.join(map(str, s * 1))}" for p, s in zip(paths, data.sets, strict=True)
    ]
    (tmp_path / "sets.csv").write_text("\n".join(lines))
    point = {"class": NAMES[0], "specificity": 0.8}
    found = Study(
        str(tmp_path / "sets.csv"),
        task="multilabel",
        backbone=torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.Flatten()),
        image_size=32,
        repeats=2,
        device="cpu",
        operating_points={"sensitivity_at_specificity": point},
    ).run()
    verdict = found.verdict(sensitivity_at_specificity={**point, "sensitivity": 0.3})
    assert verdict.judgements[0].class_name == NAMES[0]
    assert 0.2 < verdict.judgements[0].score < 1
    with pytest.raises(RequirementError, match="was measured, not"):
        found.verdict(sensitivity_at_specificity={**point, "specificity": 0.9, "sensitivity": 0.3})
    with pytest.raises(RequirementError, match="recall_at_precision was not measured"):
        found.verdict(recall_at_precision={**PRECISION, "recall": 0.3})
