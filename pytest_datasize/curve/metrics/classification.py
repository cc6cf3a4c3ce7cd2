"""Compute all metrics from predictions, with the contribution of every test image.

Each metric takes ``(labels, probabilities)`` of one trial and returns one *contribution* per test
image. Their mean is the score, in [0, 1], higher is better; their spread gives the sampling
variance of the score due to the test images. For an average over images they are its terms; for
the others they are the score plus the influence of each image (Hampel 1974, "The influence curve
and its role in robust estimation"), so that every metric has error bars, not accuracy alone. A
metric of single classes returns one such array for each class, which is then judged separately.

Labels are int64 of shape (m,), each class at least once; probabilities are of shape (m, C).
"""

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.curve.metrics.ratio import ratio


def accuracy(
    labels: NDArray[np.int64], probabilities: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Share of images whose most probable class is the right one.

    Examples
    --------
    >>> accuracy(np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])).tolist()
    [1.0, 0.0, 1.0]
    """
    hits: NDArray[np.floating] = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    return hits


def recall_per_class(
    labels: NDArray[np.int64], probabilities: NDArray[np.floating]
) -> list[NDArray[np.floating]]:
    """Recall of every class, the share of its images that are recognised.

    A list of C arrays: each holds the contributions of the images of its class, in order.
    """
    hits = accuracy(labels, probabilities)
    return [hits[labels == label] for label in range(probabilities.shape[1])]


def balanced_accuracy(
    labels: NDArray[np.int64], probabilities: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Mean of the classes' recalls, so that every class counts alike."""
    recalls = np.array([hits.mean() for hits in recall_per_class(labels, probabilities)])
    share = np.bincount(labels, minlength=len(recalls)) / len(labels)
    hits = accuracy(labels, probabilities)
    # an image affects only the recall of its own class
    influence = (hits - recalls[labels]) / (share[labels] * len(recalls))
    contributions: NDArray[np.floating] = recalls.mean() + influence
    return contributions


def f1_micro(
    labels: NDArray[np.int64], probabilities: NDArray[np.floating]
) -> NDArray[np.floating]:
    """F1 over all decisions pooled; with one label per image it equals the accuracy."""
    return accuracy(labels, probabilities)


def f1_macro(
    labels: NDArray[np.int64], probabilities: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Mean of the classes' F1 = 2 TP / (2 TP + FP + FN), so that rare classes count fully."""
    classes = np.arange(probabilities.shape[1])
    true, predicted = (
        column[:, None] == classes for column in (labels, probabilities.argmax(axis=1))
    )
    both, either = 2.0 * (true & predicted), true * 1.0 + predicted
    scale = either.mean(axis=0)  # never 0: every class has a test image
    f1 = both.mean(axis=0) / scale
    contributions: NDArray[np.floating] = (f1 + (both - f1 * either) / scale).mean(axis=1)
    return contributions


def auc(labels: NDArray[np.int64], probabilities: NDArray[np.floating]) -> NDArray[np.floating]:
    """Area under the ROC curve, each class against the rest, averaged over the classes.

    The probability that an image of the class gets a higher score for it than an image of
    another class, ties counting half. An image's contribution is the share of opponents it beats
    (DeLong, DeLong & Clarke-Pearson 1988).

    Examples
    --------
    >>> auc(np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])).tolist()
    [1.0, 1.0, 1.0]
    """
    total = np.zeros(len(labels))
    for label in range(probabilities.shape[1]):
        score, own = probabilities[:, label], labels == label
        beaten = np.empty(len(labels))
        beaten[own] = beaten_shares(score[own], score[~own])
        beaten[~own] = 1.0 - beaten_shares(score[~own], score[own])
        area = beaten[own].mean()
        share = np.where(own, own.mean(), 1.0 - own.mean())
        total += area + (beaten - area) / share
    contributions: NDArray[np.floating] = total / probabilities.shape[1]
    return contributions


def beaten_shares(
    scores: NDArray[np.floating], opponents: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Return the share of opponents below each score, ties counting half."""
    ranked = np.sort(opponents)
    below = np.searchsorted(ranked, scores, "left") + np.searchsorted(ranked, scores, "right")
    shares: NDArray[np.floating] = below / (2.0 * len(ranked))
    return shares


def precision_per_class(
    labels: NDArray[np.int64], probabilities: NDArray[np.floating]
) -> list[NDArray[np.floating]]:
    """Precision of every class, the share of the images given to it that are of it.

    A list of C arrays of shape (m,). A class that no image is given to has a precision of 0.
    """
    predicted = probabilities.argmax(axis=1)
    return [
        ratio((labels == label) & (predicted == label), predicted == label)
        for label in range(probabilities.shape[1])
    ]


def top5_accuracy(
    labels: NDArray[np.int64], probabilities: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Share of images whose class is among the five most probable ones.

    Of equally probable classes the first ones count as more probable.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]
    hits: NDArray[np.floating] = (order == labels[:, None]).any(axis=1).astype(np.float64)
    return hits


def log_loss(
    labels: NDArray[np.int64], probabilities: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Minus the logarithm of the probability of the right class; lower is better.

    Probabilities are at least the resolution of double precision, 2.2e-16.
    """
    right = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    losses: NDArray[np.floating] = -np.log(np.clip(right, np.finfo(np.float64).eps, 1.0))
    return losses
