"""Detect whether the score still rises with images, is flat, or falls.

Every law of :mod:`pytest_datasize.curve.laws` rises. For a model that has nothing left to learn,
or that more images harm, a law would give a required number of images in the millions. So the
measured means are tested first: over which sizes does the score still change?
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from scipy.special import ndtri

from pytest_datasize.curve.laws import FloatArray

Direction: TypeAlias = Literal["rising", "flat", "falling"]

LEAST_GAIN: Final = 0.03
"""A curve is flat if a doubling of the images removes less than this share of the error.

Five doublings, 32 times the images, would then remove less than a seventh of it.
"""

_LEAST_SPAN: Final = 3.9
"""Least range of sizes for a trend, about two doublings."""

_LEAST_SIZES: Final = 4
_CONFIDENCE: Final = 0.99
"""One-sided level, for each range of sizes. Of simulated curves that lose 6 % of their error or
more per doubling, fewer than 2 % are then classified as flat or falling."""


@dataclass(frozen=True)
class Trend:
    """Trend of the score over the largest measured sizes.

    Attributes
    ----------
    direction
        ``flat``: a doubling of the images surely removes less than :data:`LEAST_GAIN` of the error.
        ``falling``: the score surely falls. ``rising``: neither, or too little is measured to
        decide.
    first, last
        Range of sizes of the trend, in training images; the last is the largest size.
    gain
        Share of the error that a doubling removes there, negative if the score falls. For a score
        without an upper bound: change in units of its law's working scale.
    most
        Upper limit of that share, at 99 %.
    """

    direction: Direction
    first: int
    last: int
    gain: float
    most: float


def measure_trend(sizes: FloatArray, z: FloatArray, covariance: FloatArray) -> Trend:
    """Fit straight lines through the largest sizes; the longest flat or falling range counts.

    Parameters
    ----------
    sizes : array, shape (K,)
        Training sizes, ascending.
    z : array, shape (K,)
        Mean scores on a working scale, which falls while scores rise.
    covariance : array, shape (K, K)
        Their covariance.
    """
    surely = float(ndtri(_CONFIDENCE))
    starts = [
        k
        for k in range(max(len(sizes) - _LEAST_SIZES + 1, 0))
        if sizes[-1] >= _LEAST_SPAN * sizes[k]
    ]
    lines = [_line(sizes[k:], z[k:], covariance[k:, k:]) for k in starts]
    # a curve that rises over its last sizes is not flat, whatever its first sizes do
    if lines and lines[-1][0] <= LEAST_GAIN:
        for k, (gain, error) in zip(starts, lines, strict=True):
            most = gain + surely * error
            if most < LEAST_GAIN:
                direction: Direction = "falling" if most < 0.0 else "flat"
                return Trend(direction, int(sizes[k]), int(sizes[-1]), gain, most)
    gain, error = lines[0] if lines else _line(sizes, z, covariance)
    return Trend("rising", int(sizes[0]), int(sizes[-1]), gain, gain + surely * error)


def _line(sizes: FloatArray, z: FloatArray, covariance: FloatArray) -> tuple[float, float]:
    """Return the fall of z per doubling by plain least squares, and its standard error.

    Plain, since weights from an estimated covariance can turn the slope of a few nearly perfect
    scores round: of sizes that seem to share all of their luck the differences count as exact.
    """
    doublings = np.log2(sizes) - np.log2(sizes).mean()
    coefficients = -doublings / (doublings @ doublings)
    return float(coefficients @ z), float(np.sqrt(coefficients @ covariance @ coefficients))
