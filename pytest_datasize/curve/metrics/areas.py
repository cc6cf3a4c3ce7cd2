"""Metrics of masks and of objects: the contribution of every test image to a score.

Each metric takes ``(shown, areas)``: whether an image shows a class, bool of shape (m, C), and
counts of pixels (or objects) of shape (m, C, 3): true, predicted, and both. Scores are ratios of
sums over all images, so that an image counts by its area. See
:mod:`pytest_datasize.curve.metrics.classification` for what contributions are.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.curve.metrics.ratio import ratio

Shown = NDArray[np.bool_]
Areas = NDArray[Any]


def iou_per_class(shown: Shown, areas: Areas) -> list[NDArray[np.floating]]:
    """Intersection over union of every class: C arrays of shape (m,).

    Examples
    --------
    >>> one_image = np.array([[[4, 4, 3], [4, 4, 3]]])  # 4 pixels of each class, 3 of them found
    >>> [float(values[0]) for values in iou_per_class(np.ones((1, 2), bool), one_image)]
    [0.6, 0.6]
    """
    true, predicted, both = _parts(areas)
    return [ratio(b, a) for a, b in zip((true + predicted - both).T, both.T, strict=True)]


def mean_iou(shown: Shown, areas: Areas) -> NDArray[np.floating]:
    """Mean of the classes' intersections over union, of all classes in the masks."""
    found: NDArray[np.floating] = np.mean(iou_per_class(shown, areas), axis=0)
    return found


def dice(shown: Shown, areas: Areas) -> NDArray[np.floating]:
    """Mean of the classes' Dice coefficients, 2 both / (true + predicted), which are F1 scores."""
    true, predicted, both = _parts(areas)
    values = [ratio(2 * b, a) for a, b in zip((true + predicted).T, both.T, strict=True)]
    found: NDArray[np.floating] = np.mean(values, axis=0)
    return found


def share_found(shown: Shown, areas: Areas) -> NDArray[np.floating]:
    """Share of all pixels (or objects) that are given to their own class."""
    true, _, both = _parts(areas)
    return ratio(both.sum(axis=1), true.sum(axis=1))


def recall_per_class(shown: Shown, areas: Areas) -> list[NDArray[np.floating]]:
    """Share of each class's pixels (or objects) that are found: C arrays of the images with it."""
    true, _, both = _parts(areas)
    return [ratio(b[own], a[own]) for own, a, b in zip(shown.T, true.T, both.T, strict=True)]


def _parts(areas: Areas) -> tuple[NDArray[np.floating], ...]:
    return tuple(np.moveaxis(areas.astype(np.float64), 2, 0))
