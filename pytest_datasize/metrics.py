"""Scores from predictions, all of them from one place; numpy alone.

Each metric takes ``(labels, probabilities)`` of one trial and returns a float in [0, 1],
higher is better. Labels are int64 of shape (m,); probabilities are floats of shape (m, C).
"""

from typing import Any

import numpy as np

from pytest_datasize.images.image_set import IntArray

FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]


def accuracy(labels: IntArray, probabilities: FloatArray) -> float:
    """Share of images whose most probable class is the right one.

    Examples
    --------
    >>> accuracy(np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]))
    0.6666666666666666
    """
    return float(np.mean(probabilities.argmax(axis=1) == labels))


def class_recalls(labels: IntArray, probabilities: FloatArray) -> FloatArray:
    """Recall of every class, shape (C,): the share of its images that are recognised."""
    hits = probabilities.argmax(axis=1) == labels
    n_classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=n_classes)
    recalls: FloatArray = np.bincount(labels, weights=hits, minlength=n_classes) / counts
    return recalls


def balanced_accuracy(labels: IntArray, probabilities: FloatArray) -> float:
    """Mean of the classes' recalls, so that every class counts alike."""
    return float(class_recalls(labels, probabilities).mean())


def recall_per_class(labels: IntArray, probabilities: FloatArray) -> float:
    """Recall of the worst class."""
    return float(class_recalls(labels, probabilities).min())


def f1_micro(labels: IntArray, probabilities: FloatArray) -> float:
    """F1 over all decisions pooled; with one label per image it equals the accuracy."""
    return accuracy(labels, probabilities)


def f1_macro(labels: IntArray, probabilities: FloatArray) -> float:
    """Mean of the classes' F1 = 2 TP / (2 TP + FP + FN), so that rare classes count fully."""
    predicted = probabilities.argmax(axis=1)
    n_classes = probabilities.shape[1]
    hits = np.bincount(labels[predicted == labels], minlength=n_classes)
    total = np.bincount(labels, minlength=n_classes) + np.bincount(predicted, minlength=n_classes)
    return float(np.mean(2 * hits / np.maximum(total, 1)))


def auc(labels: IntArray, probabilities: FloatArray) -> float:
    """Area under the ROC curve, each class against the rest, averaged over the classes.

    The probability that an image of the class gets a higher score for it than an image of
    another class, ties counting half (Hanley & McNeil 1982).

    Examples
    --------
    >>> auc(np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]))
    1.0
    """
    from scipy.stats import rankdata

    n_classes = probabilities.shape[1]
    ranks = rankdata(probabilities, axis=0)
    positive = np.bincount(labels, minlength=n_classes)
    negative = len(labels) - positive
    own = np.array([ranks[labels == c, c].sum() for c in range(n_classes)])
    area = (own - positive * (positive + 1) / 2) / (positive * negative)
    return float(area.mean())
