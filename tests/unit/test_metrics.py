"""Every metric against scikit-learn, and the table against what a requirement may name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from pytest_datasize.requirement.tasks import METRICS
from pytest_datasize.study.scoring import metric_function

REFERENCE = {
    "accuracy": lambda y, p: reference.accuracy_score(y, p.argmax(1)),
    "balanced_accuracy": lambda y, p: reference.balanced_accuracy_score(y, p.argmax(1)),
    "f1_micro": lambda y, p: reference.f1_score(y, p.argmax(1), average="micro"),
    "f1_macro": lambda y, p: reference.f1_score(
        y, p.argmax(1), average="macro", zero_division=0, labels=range(p.shape[1])
    ),
    "auc": lambda y, p: np.mean(
        [reference.roc_auc_score(y == c, p[:, c]) for c in range(p.shape[1])]
    ),
    "recall_per_class": lambda y, p: reference.recall_score(y, p.argmax(1), average=None).min(),
}


def test_every_metric_has_a_reference():
    assert set(REFERENCE) == set(METRICS)


@pytest.mark.parametrize("metric", METRICS)
@given(
    seed=st.integers(0, 10_000),
    n_classes=st.integers(2, 6),
    n=st.integers(12, 60),
    skill=st.floats(0, 3),
)
def test_metric_equals_its_reference(metric, seed, n_classes, n, skill):
    generator = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(n_classes), generator.integers(0, n_classes, n)])
    logits = generator.standard_normal((len(labels), n_classes)).round(1)  # with ties
    logits[np.arange(len(labels)), labels] += skill
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    contributions = metric_function(metric)(labels, probabilities)
    if metric == "recall_per_class":
        assert [len(hits) for hits in contributions] == np.bincount(labels).tolist()
        score = min(hits.mean() for hits in contributions)
    else:
        assert contributions.shape == labels.shape
        score = contributions.mean()
    assert score == pytest.approx(REFERENCE[metric](labels, probabilities), abs=1e-9)


@pytest.mark.parametrize("metric", METRICS)
def test_contributions_tell_how_far_the_luck_of_the_test_images_moves_the_score(metric):
    """Their standard error against the spread over 400 fresh test sets of 300 images."""
    generator = np.random.default_rng(1)

    def score_and_error():
        labels = generator.choice(3, 300, p=[0.2, 0.3, 0.5])
        logits = generator.standard_normal((300, 3))
        logits[np.arange(300), labels] += np.array([0.6, 1.2, 2.0])[labels]
        contributions = metric_function(metric)(labels, np.exp(logits))
        if metric == "recall_per_class":
            contributions = contributions[0]
        return contributions.mean(), contributions.std() / np.sqrt(len(contributions))

    scores, errors = np.array([score_and_error() for _ in range(400)]).T
    assert np.mean(errors) == pytest.approx(np.std(scores), rel=0.12)
