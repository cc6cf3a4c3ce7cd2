"""Choose decision thresholds for one class against the rest.

Each function takes ``(shown, scores, share)``: whether an image shows the class, bool of shape
(n,); the probability that it does, by a model that was not trained on it; and the precision,
specificity or sensitivity that is required on these images. It returns a threshold; images with at
least that score are *flagged*. It is infinite if no threshold is good enough: then nothing is
flagged. The images are never the test images, whose flags are scored.

With the notation of Fawcett 2006, "An introduction to ROC analysis", Pattern Recognition Letters
27: precision is the share of flagged images that show the class, sensitivity (recall) the share of
images of the class that are flagged, and specificity that of other images that are not.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

_LEAST_STEEPNESS = 0.2
"""Lower limit for the formula of the precision, where it hardly depends on the threshold."""

_ROUNDING = 1e-9  # 0.9 of ten images is nine, whatever 0.9 * 10 is in floating point


def lowest_with_precision(
    shown: NDArray[np.bool_], scores: NDArray[np.floating], share: float
) -> float:
    """Return the lowest score at which the flagged images have at least that precision.

    Examples
    --------
    >>> shown = np.array([True, True, False, True, False])
    >>> scores = np.array([0.9, 0.8, 0.7, 0.6, 0.1])
    >>> lowest_with_precision(shown, scores, 0.75), lowest_with_precision(shown, scores, 0.9)
    (0.6, 0.8)
    """
    levels, found, flagged = _counts(shown, scores)
    return _lowest(levels, found >= share * flagged - _ROUNDING)


def lowest_with_specificity(
    shown: NDArray[np.bool_], scores: NDArray[np.floating], share: float
) -> float:
    """Return the lowest score at which other images have at least that specificity.

    Examples
    --------
    >>> shown = np.array([True, False, True, False, False])
    >>> lowest_with_specificity(shown, np.array([0.9, 0.8, 0.7, 0.6, 0.5]), 0.6)
    0.7
    """
    levels, found, flagged = _counts(shown, scores)
    others = len(shown) - int(shown.sum())
    return _lowest(levels, flagged - found <= (1.0 - share) * others + _ROUNDING)


def highest_with_sensitivity(
    shown: NDArray[np.bool_], scores: NDArray[np.floating], share: float
) -> float:
    """Return the highest score at which the class has at least that sensitivity.

    Without an image of the class everything is flagged: minus infinity.

    Examples
    --------
    >>> shown = np.array([True, False, True, True, False])
    >>> highest_with_sensitivity(shown, np.array([0.9, 0.8, 0.7, 0.6, 0.5]), 0.6)
    0.7
    """
    levels, found, _ = _counts(shown, scores)
    if not shown.any():
        return -math.inf
    enough = found >= share * shown.sum() - _ROUNDING
    return float(levels[np.flatnonzero(enough)[0]])


def achieved(given: str, shown: NDArray[np.bool_], flagged: NDArray[np.bool_]) -> float | None:
    """Return a precision, specificity or sensitivity of what is flagged; None if undefined.

    Examples
    --------
    >>> shown, flagged = np.array([True, True, False]), np.array([True, False, False])
    >>> [achieved(name, shown, flagged) for name in ("precision", "specificity", "sensitivity")]
    [1.0, 1.0, 0.5]
    """
    right, of = {
        "precision": (shown, flagged),
        "specificity": (~flagged, ~shown),
        "sensitivity": (flagged, shown),
    }[given]
    return float(right[of].mean()) if of.any() else None


def threshold_influence(
    given: str, shown: NDArray[np.bool_], flagged: NDArray[np.bool_], share: float
) -> NDArray[np.floating]:
    """Return how far each image would move the score if the threshold were chosen on the images.

    If a drawn image is flagged, images like it are more frequent in the draw, and the required
    precision, specificity or sensitivity is met at another threshold. The score moves along the ROC
    curve, whose slope r is that of the binormal curve with equal variances through the point of
    these images (Green & Swets 1966, "Signal detection theory and psychophysics"). The formula for
    a given specificity is that of Linnet 1987, "Comparison of quantitative diagnostic tests",
    Statistics in Medicine 6.

    Parameters
    ----------
    given, share
        What is required of the threshold, such as ``precision``, and its value.
    shown, flagged
        Whether an image shows the class, and is flagged, (m,).

    Returns
    -------
    ndarray
        Influences with a mean of 0, (m,). Their standard deviation, divided by the root of the
        number of images that a threshold is chosen on, is the error of the score from this choice.

    Examples
    --------
    >>> shown = np.repeat([True, False], 50)
    >>> flagged = np.concatenate([np.arange(50) < 40, np.arange(50) < 5])
    >>> found = threshold_influence("specificity", shown, flagged, 0.9)
    >>> bool(abs(found.mean()) < 1e-12), bool((found[shown] == 0.0).all())
    (True, True)
    """
    part = shown.mean()
    found, alarms = (
        (float(flagged[own].sum()) + 0.5) / (float(own.sum()) + 1.0) for own in (shown, ~shown)
    )
    slope = float(_density(ndtri(found)) / _density(ndtri(alarms)))
    if given == "specificity":
        moved = -slope * (~shown & flagged) / max(1.0 - part, _ROUNDING)
    elif given == "sensitivity":
        moved = (shown & flagged) / (-slope * max(part, _ROUNDING))
    else:
        # the precision is right where (1 - p) TP - p FP is 0; it falls with a lower threshold
        fall = share * (1.0 - part) / slope
        steepness = max(fall - (1.0 - share) * part, _LEAST_STEEPNESS * fall, _ROUNDING)
        moved = ((1.0 - share) * (shown & flagged) - share * (~shown & flagged)) / steepness
    centred: NDArray[np.floating] = moved - moved.mean()
    for own in (shown, ~shown):  # splits keep the shares of the classes
        if given != "precision" and own.any():
            centred[own] = moved[own] - moved[own].mean()
    return centred


def _density(quantile: float) -> float:
    return math.exp(-(quantile**2) / 2)


def _counts(
    shown: NDArray[np.bool_], scores: NDArray[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.int64], NDArray[np.int64]]:
    """Return the scores that occur, descending; images of the class, and all, from each score."""
    levels, places = np.unique(-scores, return_inverse=True)
    found = np.cumsum(np.bincount(places[shown], minlength=len(levels)))
    flagged = np.cumsum(np.bincount(places, minlength=len(levels)))
    return -levels, found, flagged


def _lowest(levels: NDArray[np.floating], good: NDArray[np.bool_]) -> float:
    """Return the lowest level that is good enough; infinity if none is."""
    places = np.flatnonzero(good)
    return float(levels[places[-1]]) if len(places) else math.inf
