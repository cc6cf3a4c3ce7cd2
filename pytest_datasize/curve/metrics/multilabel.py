"""Metrics of sets of labels: the contribution of every test image to a score.

Each metric takes ``(sets, probabilities)``: whether an image shows a label, bool of shape (m, L),
and how probable each label is, shape (m, L). A label is predicted from a probability of 0.5. See
:mod:`pytest_datasize.curve.metrics.classification` for what contributions are.
"""

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.curve.metrics.classification import beaten_shares
from pytest_datasize.curve.metrics.ratio import ratio

Sets = NDArray[np.bool_]

THRESHOLD = 0.5


def average_precision_per_label(
    sets: Sets, probabilities: NDArray[np.floating]
) -> list[NDArray[np.floating]]:
    """Average precision of every label: its precision at the rank of each image that shows it.

    The precision at a rank is the share of the images that show the label among those with at least
    that probability; its mean over the images that show the label is the area under the curve of
    precision and recall (without interpolation, as in scikit-learn).

    Examples
    --------
    >>> [values] = average_precision_per_label(
    ...     np.array([[True], [False], [True]]), np.array([[0.9], [0.8], [0.7]])
    ... )
    >>> round(float(values.mean()), 4)
    0.8333
    """
    return [
        _average_precision(own, score) for own, score in zip(sets.T, probabilities.T, strict=True)
    ]


def average_precision(sets: Sets, probabilities: NDArray[np.floating]) -> NDArray[np.floating]:
    """Mean of the labels' average precisions."""
    return _mean(average_precision_per_label(sets, probabilities))


def _average_precision(own: Sets, scores: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the average precision of one label plus the influence of each image.

    With N1(x) and N0(x) the shares of all images that show the label, or not, and score at least
    x, the precision is p = N1 / (N1 + N0), and the average precision its mean over images that
    show the label. An image changes the mean by its own precision, and p at all lower scores.
    """
    m, shown = len(own), own.mean()
    if not shown:
        return np.zeros(m)
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], own[order]
    last = np.searchsorted(-ranked, -ranked, "right")  # ties count together
    above = last / m
    precision = np.cumsum(hits)[last - 1] / last
    whole = precision[hits].mean()
    # what the images with lower scores, or the same, gain or lose by one image above them
    gain = np.cumsum((hits * (1.0 - precision) / above)[::-1])[::-1] / m
    loss = np.cumsum((hits * precision / above)[::-1])[::-1] / m
    first = np.searchsorted(-ranked, -ranked, "left")
    change = np.where(hits, gain[first], -loss[first])
    influence = (hits * (precision - whole) + change) / shown
    found = np.empty(m)
    found[order] = whole + influence
    return found


def auc(sets: Sets, probabilities: NDArray[np.floating]) -> NDArray[np.floating]:
    """Area under the ROC curve, averaged over the labels (DeLong et al. 1988).

    A label that all test images show, or none, says nothing: it counts as 0.5.
    """
    return _mean([_area(own, score) for own, score in zip(sets.T, probabilities.T, strict=True)])


def _area(own: Sets, scores: NDArray[np.floating]) -> NDArray[np.floating]:
    if own.all() or not own.any():
        return np.full(len(own), 0.5)
    beaten = np.empty(len(own))
    beaten[own] = beaten_shares(scores[own], scores[~own])
    beaten[~own] = 1.0 - beaten_shares(scores[~own], scores[own])
    area = beaten[own].mean()
    found: NDArray[np.floating] = area + (beaten - area) / np.where(own, own.mean(), 1 - own.mean())
    return found


def f1_macro(sets: Sets, probabilities: NDArray[np.floating]) -> NDArray[np.floating]:
    """Mean of the labels' F1 = 2 TP / (2 TP + FP + FN), so that rare labels count fully."""
    predicted = probabilities >= THRESHOLD
    either = sets * 1.0 + predicted
    return _mean([ratio(a, b) for a, b in zip((2.0 * (sets & predicted)).T, either.T, strict=True)])


def f1_micro(sets: Sets, probabilities: NDArray[np.floating]) -> NDArray[np.floating]:
    """F1 over the decisions on all labels pooled, so that frequent labels count most."""
    predicted = probabilities >= THRESHOLD
    either = (sets * 1.0 + predicted).sum(axis=1)
    return ratio((2.0 * (sets & predicted)).sum(axis=1), either)


def f1_samples(sets: Sets, probabilities: NDArray[np.floating]) -> NDArray[np.floating]:
    """F1 of each image's labels, averaged over images; 1 where rightly no label is predicted."""
    predicted = probabilities >= THRESHOLD
    both = 2.0 * (sets & predicted).sum(axis=1)
    either = sets.sum(axis=1) + predicted.sum(axis=1)
    found: NDArray[np.floating] = np.where(either > 0, both / np.maximum(either, 1), 1.0)
    return found


def subset_accuracy(sets: Sets, probabilities: NDArray[np.floating]) -> NDArray[np.floating]:
    """Share of images whose labels are all predicted, and no others."""
    found: NDArray[np.floating] = (
        ((probabilities >= THRESHOLD) == sets).all(axis=1).astype(np.float64)
    )
    return found


def recall_per_label(sets: Sets, probabilities: NDArray[np.floating]) -> list[NDArray[np.floating]]:
    """Recall of every label: L arrays, each of the images that show the label, in order."""
    predicted = probabilities >= THRESHOLD
    return [hits[own].astype(np.float64) for own, hits in zip(sets.T, predicted.T, strict=True)]


def _mean(contributions: list[NDArray[np.floating]]) -> NDArray[np.floating]:
    found: NDArray[np.floating] = np.mean(contributions, axis=0)
    return found
