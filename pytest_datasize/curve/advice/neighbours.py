"""Search nearest neighbours in the embedding: how well it separates the classes, and outliers.

If an image's nearest neighbour mostly has its class, the frozen backbone already separates the
classes: transfer helps much. It costs nothing beyond the embeddings that a gate has anyway.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from pytest_datasize.curve.advice.two_sample import unit
from pytest_datasize.curve.seeds import Purpose, stream

NEAR: Final = 0.8
FAR: Final = 0.4
"""Limits of the agreement beyond chance (as a share of the possible maximum): from the first the
domain is near, up to the second it is far. A convention of this plugin; reports show the number."""

MOST: Final = 10_000
"""Most images among which neighbours are searched; of a larger pool, a sample."""

_MOST_QUERIES: Final = 4000
_BLOCK: Final = 1024


@dataclass(frozen=True)
class Agreement:
    """How often an image and its nearest neighbour share a label.

    Attributes
    ----------
    share, low, high
        That share, and its 90 % interval.
    chance
        The share expected for random neighbours.
    images
        Images whose neighbours were searched.
    """

    share: float
    low: float
    high: float
    chance: float
    images: int

    @property
    def skill(self) -> float:
        """Agreement beyond chance, as a share of the possible maximum."""
        return (self.share - self.chance) / max(1.0 - self.chance, 1e-9)

    @property
    def domain(self) -> str:
        """``near``, ``middling`` or ``far``."""
        return "near" if self.skill >= NEAR else "far" if self.skill <= FAR else "middling"


def agreement(
    features: NDArray[np.floating], labels: NDArray[np.int64], seed: int = 0
) -> Agreement:
    """Compare the label of every image (of many, a sample) with that of its nearest neighbour.

    Parameters
    ----------
    features
        Embeddings, shape (N, D).
    labels
        Classes, shape (N,).
    seed
        Seed of the sample.

    Examples
    --------
    >>> points = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    >>> found = agreement(points, np.array([0, 0, 1, 1]))
    >>> found.share, found.domain
    (1.0, 'near')
    """
    queries = np.arange(len(labels))
    if len(labels) > _MOST_QUERIES:
        queries = stream(seed, Purpose.ASKED_IMAGES).permutation(len(labels))[:_MOST_QUERIES]
    nearest, _ = nearest_of(features[queries], features, own=queries)
    hits = int((labels[nearest] == labels[queries]).sum())
    low, high = share_interval(hits, len(queries))
    shares = np.bincount(labels) / len(labels)
    return Agreement(hits / len(queries), low, high, float(shares @ shares), len(queries))


def sampled(images: int, seed: int = 0) -> NDArray[np.int64]:
    """Return the rows among which neighbours are searched, ascending: all, or :data:`MOST`."""
    if images <= MOST:
        return np.arange(images)
    chosen = stream(seed, Purpose.SAMPLED_IMAGES).choice(images, MOST, replace=False)
    rows: NDArray[np.int64] = np.sort(chosen)
    return rows


def nearest_of(
    queries: NDArray[np.floating],
    among: NDArray[np.floating],
    own: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
    """Return the row of the nearest neighbour of each query, and its cosine distance.

    Parameters
    ----------
    queries, among
        Embeddings, shapes (M, D) and (N, D).
    own
        Rows of ``among`` that are the queries themselves and are excluded, shape (M,).
    """
    known = unit(among)
    rows = np.empty(len(queries), dtype=np.int64)
    distances = np.empty(len(queries))
    for start in range(0, len(queries), _BLOCK):
        block = slice(start, start + _BLOCK)
        alike = unit(queries[block]) @ known.T
        if own is not None:
            alike[np.arange(len(alike)), own[block]] = -2.0
        rows[block] = alike.argmax(axis=1)
        distances[block] = np.maximum(1.0 - alike.max(axis=1), 0.0)
    return rows, distances


def share_interval(hits: float, images: float, level: float = 0.9) -> tuple[float, float]:
    """Return the interval of a share (Jeffreys); counts may be weighted.

    Examples
    --------
    >>> low, high = share_interval(90, 100)
    >>> round(low, 2), round(high, 2)
    (0.84, 0.94)
    """
    tail = (1.0 - level) / 2.0
    rest = images - hits
    low = float(betaincinv(hits + 0.5, rest + 0.5, tail)) if hits > 0.0 else 0.0
    high = float(betaincinv(hits + 0.5, rest + 0.5, 1.0 - tail)) if rest > 0.0 else 1.0
    return low, high
