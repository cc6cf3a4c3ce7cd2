"""Rank unlabelled images to label next: uncertain ones that differ from each other.

Zhdanov 2019, "Diverse mini-batch Active Learning", arXiv:1901.05954: the most uncertain images are
clustered in the embedding, each weighted by its uncertainty, into as many clusters as can be
labelled; the image nearest to each centre is labelled. ``benchmarks/collection.py --suggest`` has
the labels it saves.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.curve.advice.two_sample import unit
from pytest_datasize.curve.seeds import Purpose, stream

CANDIDATES: Final = 10
"""Images to cluster, as a multiple of those that can be labelled."""

_ROUNDS: Final = 10


def margins(probabilities: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the probability of the first class minus that of the second, shape (N,)."""
    ordered = np.sort(probabilities, axis=1)
    difference: NDArray[np.floating] = ordered[:, -1] - ordered[:, -2]
    return difference


def rank(
    features: NDArray[np.floating],
    probabilities: NDArray[np.floating],
    number: int,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Choose the images to label next.

    Parameters
    ----------
    features, probabilities
        Embeddings and class probabilities of the unlabelled images, shapes (N, D) and (N, C).
    number
        Images to choose; all N if there are fewer.
    seed
        Seed of the first centres.

    Returns
    -------
    ndarray of int64
        Rows of the chosen images, the least certain first.

    Examples
    --------
    >>> points = np.array([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [0.5, 0.5]])
    >>> unsure = np.array([[0.5, 0.5], [0.51, 0.49], [0.6, 0.4], [1.0, 0.0]])
    >>> rank(points, unsure, 2).tolist()
    [0, 2]
    """
    margin = margins(probabilities)
    kept = np.argsort(margin, kind="stable")[: CANDIDATES * number]
    if len(kept) <= number:
        return np.asarray(kept, dtype=np.int64)
    rows, weight = unit(features[kept]), (1.0 - margin[kept] + 1e-6).astype(np.float32)
    centres = _centres(rows, weight, number, stream(seed, Purpose.RANKING))
    likeness = rows @ centres.T - 0.5 * (centres**2).sum(axis=1)
    cluster, nearness = likeness.argmax(axis=1), likeness.max(axis=1)
    order = np.lexsort((-nearness, cluster))
    first = order[np.unique(cluster[order], return_index=True)[1]]
    rest = np.setdiff1d(np.arange(len(kept)), first)  # in the order of uncertainty
    chosen = np.sort(np.concatenate([first, rest[: number - len(first)]]))
    return np.asarray(kept[chosen], dtype=np.int64)


def _centres(
    rows: NDArray[np.floating],
    weight: NDArray[np.floating],
    number: int,
    generator: np.random.Generator,
) -> NDArray[np.floating]:
    """Return the centres of weighted k-means."""
    share = weight.astype(np.float64) / weight.sum(dtype=np.float64)
    centres = rows[generator.choice(len(rows), number, replace=False, p=share)]
    for _ in range(_ROUNDS):
        nearest = (rows @ centres.T - 0.5 * (centres**2).sum(axis=1)).argmax(axis=1)
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, rows * weight[:, None])
        total = np.bincount(nearest, weight, number).astype(np.float32)[:, None]
        centres = np.where(total > 0.0, sums / np.maximum(total, 1e-9), centres)
    return centres
