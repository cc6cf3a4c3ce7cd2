"""Measure the error of the nearest neighbour in several forms of an embedding, without training.

:mod:`pytest_datasize.curve.advice.bayes_error` bounds the Bayes error by these errors.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pytest_datasize.curve.seeds import Purpose, stream

MOST_AMONG: Final = 4_000
"""Most images among which neighbours are searched; a larger pool is sampled."""

MOST_ASKED: Final = 2_000
"""Most images whose neighbours are searched: the standard error is then about a point."""

_ROOM: Final = 2**25
"""Most numbers of an embedding in float64 that are in memory at a time (256 MiB)."""

_BLOCK: Final = 512
_AXES: Final = 64
_WIDEST: Final = 2_048  # of wider embeddings, principal axes take too long
_DIGITS: Final = 9  # distances that differ by rounding alone are ties, on every machine

_NORMAL: Final = 1.645
"""Half the width of a normal 90 % interval, in standard deviations."""


@dataclass(frozen=True)
class NeighbourError:
    """Error of the nearest neighbour in one embedding.

    Attributes
    ----------
    space
        The embedding, in words.
    error
        Share of images whose nearest neighbour has another label; of balanced accuracy, the mean
        of these shares over the classes.
    worth
        Effective number of independent images: fewer than were asked, since two images are often
        each other's nearest neighbour, and images of a group are alike.
    drop, drop_low, drop_high
        How much larger the error is among half of the images, and its 90 % interval.
    """

    space: str
    error: float
    worth: float
    drop: float
    drop_low: float
    drop_high: float


def neighbour_errors(
    features: NDArray[np.floating],
    labels: NDArray[np.int64],
    widths: Sequence[int] = (),
    together: Sequence[NDArray[np.int64]] = (),
    asked: NDArray[np.int64] | None = None,
    among: NDArray[np.int64] | None = None,
    seed: int = 0,
) -> dict[str, list[NeighbourError]]:
    """Return the errors of the nearest neighbour in several forms of an embedding.

    An image is not its own neighbour, and images that belong together are not neighbours: copies
    and images of one patient would make the error too small.

    Parameters
    ----------
    features
        Embeddings, shape (N, D); of many images those of :func:`sampled`.
    labels
        Classes, shape (N,).
    widths
        Widths of the blocks of features, the last layer's first; empty if there is one block.
    together
        Arrays of shape (N,): images with the same number in one of them belong together.
    asked
        Rows whose neighbours are searched, shape (M,); None for all rows.
    among
        Rows among which they are searched; None for all rows. With a test set, those of the pool.
    seed
        Seed of the halves.

    Returns
    -------
    dict
        ``accuracy`` and ``balanced_accuracy`` → the error in each form; the second among as many
        images of each class. Empty if no image has a neighbour.

    Examples
    --------
    >>> points = np.array([[0.0, 1.0], [0.1, 1.0], [1.0, 0.0], [1.0, 0.1]])
    >>> found = neighbour_errors(points, np.array([0, 0, 1, 1]))
    >>> {one.space: one.error for one in found["accuracy"]}
    {'last layer': 0.0, 'last layer, standardised': 0.0}
    """
    every = np.arange(len(labels))
    asked, among = (every if rows is None else rows for rows in (asked, among))
    search = _Search(labels, asked, among, together, seed)
    found: dict[str, list[NeighbourError]] = {"accuracy": [], "balanced_accuracy": []}
    for space, points in _spaces(np.asarray(features), widths, among):
        for name, one in search.errors(space, points).items():
            found[name].append(one)
    return {name: errors for name, errors in found.items() if errors}


class Sample(NamedTuple):
    """The images whose neighbours are searched.

    Attributes
    ----------
    rows
        Rows of all images that are needed, ascending.
    asked, among
        Places in `rows`: images whose neighbours are searched, and those that may be neighbours.
    """

    rows: NDArray[np.int64]
    asked: NDArray[np.int64]
    among: NDArray[np.int64]


def sampled(pool: int, test: int, width: int, seed: int = 0) -> Sample:
    """Draw the images whose neighbours are searched: all, or a sample of many.

    Parameters
    ----------
    pool, test
        Images of the pool and, in the rows after them, of a test set (0: there is none). If there
        is one, its images are asked, as they are those that scores are of.
    width
        Features of an image: of very wide ones, fewer images are taken.
    seed
        Seed of the sample.

    Examples
    --------
    >>> found = sampled(10_000, 0, 1280)
    >>> len(found.rows), len(found.asked), len(found.among)
    (4000, 2000, 4000)
    >>> found = sampled(3, 2, 1280)
    >>> found.rows.tolist(), found.asked.tolist(), found.among.tolist()
    ([0, 1, 2, 3, 4], [3, 4], [0, 1, 2])
    """
    generator = stream(seed, Purpose.BAYES_ERROR)
    most = max(_ROOM // max(width, 1), 64)

    def drawn(images: int, number: int) -> NDArray[np.int64]:
        rows: NDArray[np.int64] = np.sort(generator.permutation(images)[:number])
        return rows

    known = drawn(pool, min(MOST_AMONG, most))
    among = np.arange(len(known))
    if not test:
        return Sample(known, drawn(len(known), MOST_ASKED), among)
    tested = pool + drawn(test, min(MOST_ASKED, most))
    return Sample(np.concatenate([known, tested]), len(known) + np.arange(len(tested)), among)


class _Search:
    """Searches the neighbours of the same images in several embeddings."""

    def __init__(
        self,
        labels: NDArray[np.int64],
        asked: NDArray[np.int64],
        among: NDArray[np.int64],
        together: Sequence[NDArray[np.int64]],
        seed: int,
    ) -> None:
        self._labels, self._asked, self._among = labels, asked, among
        self._together = [np.arange(len(labels)), *together]
        generator = stream(seed, Purpose.BAYES_ERROR, 1)
        order = generator.permutation(len(among))
        place = np.empty(len(among), dtype=np.int64)
        place[order] = np.arange(len(among))
        known = labels[among]
        of_class = _places_in_class(known, place)
        fewest = int(np.bincount(known)[np.unique(known)].min())
        self._parts = [of_class >= 0, of_class * 2 < np.bincount(known)[known]]
        """All images, and half of each class; then as many of each class as of the rarest."""
        if fewest * len(np.unique(known)) < len(known):
            self._parts += [of_class < fewest, of_class * 2 < fewest]

    def errors(self, space: str, points: NDArray[np.float64]) -> dict[str, NeighbourError]:
        """Return the error among all images, and among as many of each class."""
        nearest = self._nearest(points)
        known = (nearest >= 0).all(axis=0)
        if not known.any():
            return {}
        nearest, rows = nearest[:, known], self._asked[known]
        labels = self._labels[rows]
        wrong = (self._labels[nearest] != labels).astype(np.float64)
        clusters = self._clusters(rows, nearest)
        even = np.full(len(rows), 1.0 / len(rows))
        classes, counts = np.unique(labels, return_inverse=True, return_counts=True)[1:]
        equal = 1.0 / (len(counts) * counts[classes])
        return {
            "accuracy": _error(space, wrong[0], wrong[1], even, clusters),
            "balanced_accuracy": _error(space, wrong[-2], wrong[-1], equal, clusters),
        }

    def _nearest(self, points: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the nearest neighbour of each image in each part of the images; -1 for none."""
        known = points[self._among]
        length = np.einsum("nd,nd->n", known, known)
        found = np.full((len(self._parts), len(self._asked)), -1)
        for start in range(0, len(self._asked), _BLOCK):
            block = slice(start, start + _BLOCK)
            rows = self._asked[block]
            squares = np.einsum("nd,nd->n", points[rows], points[rows])
            distances = squares[:, None] + length - 2.0 * points[rows] @ known.T
            distances = np.round(distances, _DIGITS)
            for numbers in self._together:
                distances[numbers[rows][:, None] == numbers[self._among]] = np.inf
            for number, part in enumerate(self._parts):
                seen = np.where(part, distances, np.inf)
                places = seen.argmin(axis=1)
                has = np.isfinite(seen[np.arange(len(rows)), places])
                found[number, block] = np.where(has, self._among[places], -1)
        return found

    def _clusters(self, rows: NDArray[np.int64], nearest: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number the sets of images whose errors are dependent.

        Whether a neighbour has the same label depends on both labels. So images are dependent if
        they are neighbours, belong together, or are linked through others that do.
        """
        links = [(rows, one) for one in nearest]
        node = len(self._labels)  # each group is a node of its own, beside the images
        for numbers in self._together[1:]:
            links.append((rows, node + numbers[rows]))
            node += int(numbers.max()) + 1
        one, other = (np.concatenate(ends) for ends in zip(*links, strict=True))
        graph = coo_array((np.ones(len(one), dtype=bool), (one, other)), shape=(node, node))
        numbers = connected_components(graph, directed=False)[1][rows]
        found: NDArray[np.int64] = np.unique(numbers, return_inverse=True)[1].astype(np.int64)
        return found


def _places_in_class(labels: NDArray[np.int64], place: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the place of every image among those of its class, in the order of `place`."""
    order = np.lexsort((place, labels))
    _, starts = np.unique(labels[order], return_index=True)
    found = np.empty(len(labels), dtype=np.int64)
    first = np.repeat(starts, np.diff([*starts, len(labels)]))
    found[order] = np.arange(len(labels)) - first
    return found


def _error(
    space: str,
    wrong: NDArray[np.float64],
    halved: NDArray[np.float64],
    weights: NDArray[np.float64],
    clusters: NDArray[np.int64],
) -> NeighbourError:
    """Return a weighted error, its effective number of images, and its drop from half of them."""
    error = round(float(weights @ wrong), 12)  # the last bits depend on the library
    alone = _variance(wrong, weights, np.arange(len(wrong)))
    if alone > 0.0:
        excess = max(_variance(wrong, weights, clusters) / alone, 1.0)
        worth = 1.0 / float(weights @ weights) / excess
    else:  # without spread it is unknown how alike dependent images are: each set counts once
        sums = np.bincount(clusters, weights=weights)
        worth = 1.0 / float(sums @ sums)
    change = halved - wrong
    drop = round(float(weights @ change), 12)
    spread = _variance(change, weights, clusters) ** 0.5
    low, high = (round(drop + end * spread, 12) for end in (-_NORMAL, _NORMAL))
    return NeighbourError(space, error, round(worth, 6), drop, low, high)


def _variance(
    values: NDArray[np.float64], weights: NDArray[np.float64], clusters: NDArray[np.int64]
) -> float:
    """Return the variance of a weighted mean whose values are dependent within clusters."""
    off = weights * (values - weights @ values)
    sums = np.bincount(clusters, weights=off)
    return float(sums @ sums)


def _spaces(
    features: NDArray[Any], widths: Sequence[int], among: NDArray[np.int64]
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield forms of an embedding, as points whose Euclidean distances are compared.

    All but the standardised last layer are normalised to directions, which separated real classes
    better. Standardising alone loses no information, whatever the number of features.
    """
    last = features[:, : widths[0]] if widths else features
    yield "last layer", _unit(last.astype(np.float64))
    scaled = _standardised(last, among)
    yield "last layer, standardised", scaled
    if _AXES < scaled.shape[1] <= _WIDEST:
        _, axes = np.linalg.eigh(scaled[among].T @ scaled[among])
        yield f"last layer, {_AXES} principal axes", _unit(scaled @ axes[:, -_AXES:])
    del scaled
    if len(widths) > 1:
        yield "all layers, standardised", _unit(_blocks(features, widths, among))


def _unit(points: NDArray[np.float64]) -> NDArray[np.float64]:
    points /= np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    return points


def _standardised(features: NDArray[Any], among: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return every feature with mean 0 and the same deviation; constant ones are 0."""
    points: NDArray[np.float64] = features.astype(np.float64)
    points -= points[among].mean(axis=0)
    points /= np.maximum(points[among].std(axis=0), 1e-9) * points.shape[1] ** 0.5
    return points


def _blocks(
    features: NDArray[Any], widths: Sequence[int], among: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return all blocks of features, each with mean 0 and the same mean square."""
    points: NDArray[np.float64] = features.astype(np.float64)
    points -= points[among].mean(axis=0)
    ends = np.cumsum(widths)
    for start, end in zip(ends - widths, ends, strict=True):
        block = points[:, start:end]
        block /= max(float(np.sqrt(block[among].var(axis=0).sum())), 1e-9)
    return points
