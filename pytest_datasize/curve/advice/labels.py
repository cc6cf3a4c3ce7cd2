"""Find doubtful labels: held-out predictions contradict them, by confident learning.

Northcutt, Jiang & Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels",
JAIR 70: an image is confidently of class j where its held-out probability of j is at least the mean
one of the images labelled j. Images that are confidently of another class than their label are
suspects; here their prediction must also contradict the label in (nearly) every trial that did not
train on them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

NEARLY_ALL: Final = 0.8
"""Share of an image's held-out predictions that must contradict its label."""


@dataclass(frozen=True)
class Suspect:
    """One image whose label is doubtful.

    Attributes
    ----------
    row
        Its row among the labelled images.
    label, likely
        Its class in the data set, and its most probable class.
    probability
        Held-out probability of the likely class among the two.
    """

    row: int
    label: int
    likely: int
    probability: float


@dataclass(frozen=True)
class HeldOut:
    """Held-out predictions, averaged per image over the trials that did not train on it.

    Attributes
    ----------
    probabilities
        Shape (N, C); NaN for an image that was never held out.
    contradicted
        Share of the trials that predicted another class than the label, (N,).
    """

    probabilities: NDArray[np.floating]
    contradicted: NDArray[np.floating]


def held_out(
    labels: NDArray[np.int64],
    tested: Sequence[NDArray[np.int64]],
    predictions: Sequence[NDArray[np.floating]],
    n_classes: int,
) -> HeldOut:
    """Average the predictions of every image.

    Parameters
    ----------
    labels
        Classes, shape (N,).
    tested, predictions
        Per trial: rows of its test images, and class probabilities of them.
    """
    sums = np.zeros((len(labels), n_classes))
    wrong, counts = np.zeros(len(labels)), np.zeros(len(labels))
    for rows, probabilities in zip(tested, predictions, strict=True):
        sums[rows] += probabilities
        wrong[rows] += probabilities.argmax(axis=1) != labels[rows]
        counts[rows] += 1
    with np.errstate(invalid="ignore"):
        return HeldOut(sums / counts[:, None], wrong / counts)


def suspects(labels: NDArray[np.int64], found: HeldOut) -> list[Suspect]:
    """Return the images whose label is doubtful, the most doubtful first.

    Examples
    --------
    >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.05, 0.95]])
    >>> labels = np.array([0, 0, 1, 1, 0])
    >>> seen = HeldOut(p, (p.argmax(axis=1) != labels).astype(float))
    >>> suspects(labels, seen)
    [Suspect(row=4, label=0, likely=1, probability=0.95)]
    """
    rows = np.flatnonzero(np.isfinite(found.contradicted))
    p, given = found.probabilities[rows], labels[rows]
    n_classes = p.shape[1]
    present = [label for label in range(n_classes) if (given == label).any()]
    threshold = np.full(n_classes, np.inf)
    for label in present:
        threshold[label] = p[given == label, label].mean()
    confident = np.where(p >= threshold, p, -1.0)
    likely = confident.argmax(axis=1)
    doubtful = (
        (confident.max(axis=1) >= 0.0)
        & (likely != given)
        & (found.contradicted[rows] >= NEARLY_ALL)
    )
    own = p[np.arange(len(rows)), given]
    other = p[np.arange(len(rows)), likely]
    chosen = np.flatnonzero(doubtful)
    chosen = chosen[np.argsort(own[chosen] - other[chosen], kind="stable")]
    return [
        Suspect(
            int(rows[i]),
            int(given[i]),
            int(likely[i]),
            round(float(other[i] / (other[i] + own[i])), 4),
        )
        for i in chosen
    ]
