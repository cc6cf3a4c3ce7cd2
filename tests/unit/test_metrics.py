"""Every metric of every task against scikit-learn, and its error bars against simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from pytest_datasize.requirement.tasks import TASKS, function_of


def _macro(scorer, **options):
    return lambda y, p: scorer(y, p, average="macro", zero_division=0, **options)


REFERENCE = {
    "classification": {
        "accuracy": lambda y, p: reference.accuracy_score(y, p.argmax(1)),
        "balanced_accuracy": lambda y, p: reference.balanced_accuracy_score(y, p.argmax(1)),
        "f1_micro": lambda y, p: reference.f1_score(y, p.argmax(1), average="micro"),
        "f1_macro": lambda y, p: reference.f1_score(
            y, p.argmax(1), average="macro", zero_division=0, labels=range(p.shape[1])
        ),
        "auc": lambda y, p: np.mean(
            [reference.roc_auc_score(y == c, p[:, c]) for c in range(p.shape[1])]
        ),
        "recall_per_class": lambda y, p: reference.recall_score(y, p.argmax(1), average=None),
        "precision_per_class": lambda y, p: reference.precision_score(
            y, p.argmax(1), average=None, zero_division=0, labels=range(p.shape[1])
        ),
        "top5_accuracy": lambda y, p: (
            reference.top_k_accuracy_score(
                y,
                -np.argsort(np.argsort(-p, axis=1, kind="stable"), axis=1),  # without ties
                k=min(5, p.shape[1] - 1),
                labels=range(p.shape[1]),
            )
            if p.shape[1] > 5
            else 1.0
        ),
        "log_loss": lambda y, p: reference.log_loss(y, p, labels=range(p.shape[1])),
    },
    "multilabel": {
        "average_precision": reference.average_precision_score,
        "auc": reference.roc_auc_score,
        "f1_macro": lambda y, p: reference.f1_score(y, p >= 0.5, average="macro", zero_division=0),
        "f1_micro": lambda y, p: reference.f1_score(y, p >= 0.5, average="micro", zero_division=0),
        "f1_samples": lambda y, p: reference.f1_score(
            y, p >= 0.5, average="samples", zero_division=1.0
        ),
        "subset_accuracy": lambda y, p: reference.accuracy_score(y, p >= 0.5),
        "recall_per_label": lambda y, p: reference.recall_score(y, p >= 0.5, average=None),
        "average_precision_per_label": lambda y, p: reference.average_precision_score(
            y, p, average=None
        ),
    },
    "regression": {
        "r2": reference.r2_score,
        "mae": reference.mean_absolute_error,
        "rmse": reference.root_mean_squared_error,
        "pearson": lambda y, p: np.mean(
            [np.corrcoef(y[:, k], p[:, k])[0, 1] for k in range(y.shape[1])]
        ),
    },
}
AREAS = {
    "mean_iou": _macro(reference.jaccard_score),
    "dice": _macro(reference.f1_score),
    "pixel_accuracy": reference.accuracy_score,
    "crop_accuracy": reference.accuracy_score,
    "crop_f1_macro": _macro(reference.f1_score),
    "iou_per_class": lambda y, p: reference.jaccard_score(y, p, average=None),
    "recall_per_class": lambda y, p: reference.recall_score(y, p, average=None),
    "crop_recall_per_class": lambda y, p: reference.recall_score(y, p, average=None),
}


def draw(task, generator, n, n_classes, skill):
    """Return true labels and predictions of n images."""
    if task == "classification":
        labels = np.concatenate([np.arange(n_classes), generator.integers(0, n_classes, n)])
        logits = generator.standard_normal((len(labels), n_classes)).round(1)  # with ties
        logits[np.arange(len(labels)), labels] += skill
        return labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if task == "multilabel":
        shown = generator.random((n, n_classes)) < np.linspace(0.2, 0.7, n_classes)
        shown[:n_classes] |= np.eye(n_classes, dtype=bool)
        shown[n_classes : 2 * n_classes] = False
        logits = generator.standard_normal((n, n_classes)).round(1) + skill * (shown - 0.5)
        return shown, 1 / (1 + np.exp(-logits))
    if task == "regression":
        true = generator.standard_normal((n, n_classes)) * 3 + 1
        return true, skill / 3 * true + generator.standard_normal(true.shape)
    raise AssertionError(task)


CASES = [
    (task, name)
    for task in REFERENCE
    for name, metric in TASKS[task].metrics.items()
    if not metric.given  # tests/tasks/test_operating_points.py
]
AREA_CASES = [
    (task, metric) for task in ("segmentation", "detection") for metric in TASKS[task].metrics
]


def test_every_metric_has_a_reference():
    assert {(task, name) for task in REFERENCE for name in REFERENCE[task]} == set(CASES)
    assert set(AREAS) == {metric for _, metric in AREA_CASES}


@pytest.mark.parametrize(("task", "metric"), CASES)
@given(
    seed=st.integers(0, 10_000),
    n_classes=st.integers(2, 6),
    n=st.integers(14, 60),
    skill=st.floats(0, 3),
)
def test_metric_equals_its_reference(task, metric, seed, n_classes, n, skill):
    truth, predicted = draw(task, np.random.default_rng(seed), n, n_classes, skill)
    entry = TASKS[task].metrics[metric]
    found = function_of(entry)(truth, predicted)
    expected = REFERENCE[task][metric](truth, predicted)
    if entry.of_class:
        assert len(found) == n_classes
        score = np.array([values.mean() for values in found])
        assert all(
            len(values) == (np.sum(truth.T[c] if truth.ndim == 2 else truth == c))
            if entry.members
            else len(values) == len(truth)
            for c, values in enumerate(found)
        )
    else:
        assert found.shape == (len(truth),)
        score = found.mean()
    assert score == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("task", "metric"), AREA_CASES)
@given(seed=st.integers(0, 10_000), n_classes=st.integers(2, 5), n=st.integers(2, 8))
def test_metric_of_areas_equals_its_reference(task, metric, seed, n_classes, n):
    generator = np.random.default_rng(seed)
    true = generator.integers(0, n_classes, (n, 40))
    true[:, :n_classes] = np.arange(n_classes)
    wrong = generator.random(true.shape) < 0.3
    predicted = np.where(wrong, generator.integers(0, n_classes, true.shape), true)
    eye = np.eye(n_classes, dtype=int)
    areas = np.stack(
        [
            eye[true].sum(1),
            eye[predicted].sum(1),
            (eye[true] * (true == predicted)[..., None]).sum(1),
        ],
        axis=2,
    )
    entry = TASKS[task].metrics[metric]
    found = function_of(entry)(areas[..., 0] > 0, areas)
    score = np.array([v.mean() for v in found]) if entry.of_class else found.mean()
    assert score == pytest.approx(AREAS[metric](true.ravel(), predicted.ravel()), abs=1e-9)


@pytest.mark.parametrize(("task", "metric"), CASES)
def test_contributions_tell_how_far_the_luck_of_the_test_images_moves_the_score(task, metric):
    """Their standard error against the spread over 400 fresh test sets of 300 images."""
    generator = np.random.default_rng(1)
    function = function_of(TASKS[task].metrics[metric])

    def score_and_error():
        truth, predicted = draw(task, generator, 300, 6 if metric.startswith("top5") else 3, 1.5)
        contributions = function(truth, predicted)
        if isinstance(contributions, list):
            contributions = contributions[1]
        return contributions.mean(), contributions.std() / np.sqrt(len(contributions))

    scores, errors = np.array([score_and_error() for _ in range(400)]).T
    assert np.mean(errors) == pytest.approx(np.std(scores), rel=0.12)
