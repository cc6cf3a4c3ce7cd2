"""Estimate the scores of slices: parts of the images that share a value of a factor.

The worst of many slices looks worse than it is: among twenty slices that are equally hard, the one
with the unluckiest test images lies far below the others. So the slices of a factor are estimated
together (partial pooling, as :mod:`pytest_datasize.curve.advice.class_curves` does for classes):
the deviations of slices from their common mean are drawn from a distribution whose spread is
estimated from the data. A slice with many test images keeps its own scores, one with few borrows
from all. The distribution is a mixture of two normal ones, so that a single slice that is far worse
than the others is not drawn to them (Gelman et al., "Bayesian Data Analysis", 3rd ed., sections 5.4
and 17.2).

At K training sizes, the luck of test images and the true deviations of slices both have the
correlations that the test images cause between sizes: a shrunk slice is then a fixed mixture of its
own scores and the common ones. It is an :class:`Outcomes`, and its learning curve is fitted as
that of all images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.curve.laws import FloatArray
from pytest_datasize.curve.outcomes import Outcomes, image_means, mean_covariance

LEAST_IMAGES: Final = 30
"""Least number of images to test on for a slice to be judged: with 30, one image is 3 points.

All images count that some repeat may test, so that a model with fewer repeats is judged on the same
slices, with wider intervals.
"""

_LEAST_TESTED: Final = 5
"""Least number of images that were tested, however few the repeats are."""

MOST_VALUES: Final = 200
"""A factor with more values, such as a serial number, has no slices."""

LEAST_PER_VALUE: Final = 2.0
"""A factor with fewer images per value on average has no slices: it nearly numbers the images."""

LEAST_GROUPS: Final = 5
"""Least number of groups, such as patients, of these images: fewer do not show how they differ."""

_SPREADS: Final = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Possible standard deviations of slices from their mean, relative to that of single images."""

_ODD_SPREAD: Final = 0.5
"""The same for a slice that is unlike the others: one bad site among many must not be hidden."""

_PRIOR: Final = np.array([0.9, 0.1])
"""Probability that a slice is like the others, and that it is not."""

_ROUNDS: Final = 10
"""Rounds of expectation maximisation for the common mean, which converges after a few."""

_STEEPEST: Final = 4.0
"""Upper limit of how much larger the luck of training is in a slice than in all images."""


@dataclass(frozen=True)
class Slice:
    """One value of a factor: its images and, if there are enough to test on, its scores.

    Attributes
    ----------
    factor, value
        Name of the factor, and its value in these images.
    images
        Images of the pool.
    n_test
        Different test images behind its scores.
    testable, n_groups
        Images that may be tested: those of the pool, or of test images of their own; groups that
        they belong to, None without groups.
    n_tested_groups
        Groups of its different test images; None without groups.
    measured
        Metric → mean score at the largest training size, of its own test images alone.
    outcomes
        Metric → its scores at all sizes, estimated together with the other slices; empty if it has
        too few test images, see :data:`LEAST_IMAGES`.
    """

    factor: str
    value: str
    images: int
    n_test: int
    testable: int
    n_groups: int | None
    measured: Mapping[str, float]
    outcomes: Mapping[str, Outcomes]
    n_tested_groups: int | None = None

    @property
    def too_small(self) -> bool:
        """Whether it has too few test images, or groups of them, to be judged."""
        return self.small or self.under_tested

    @property
    def small(self) -> bool:
        """Whether it has too few images that may be tested, or groups of them."""
        few = self.n_groups is not None and self.n_groups < LEAST_GROUPS
        return few or self.testable < LEAST_IMAGES

    @property
    def under_tested(self) -> bool:
        """Whether it is large enough, but the repeats tested too few of its images or groups."""
        few = self.n_tested_groups is not None and self.n_tested_groups < LEAST_GROUPS
        return not self.small and (few or self.n_test < _LEAST_TESTED)


class FactorValues(NamedTuple):
    """Values of one factor for N rows.

    Attributes
    ----------
    name
        Name of the factor.
    values
        Names of its values.
    numbers
        int64 array (N,): an index into them for every row.
    """

    name: str
    values: tuple[str, ...]
    numbers: NDArray[np.int64]

    @property
    def divides(self) -> bool:
        """Whether it has so few values that they divide the rows into slices."""
        few = len(self.values) <= MOST_VALUES
        return few and len(self.values) * LEAST_PER_VALUE <= len(self.numbers)


def slices_of(
    factor: FactorValues,
    pool: int,
    scored: Mapping[str, tuple[Outcomes, Sequence[Sequence[NDArray[np.floating]]]]],
    tested: Sequence[NDArray[np.int64]],
    groups: NDArray[np.int64] | None = None,
) -> list[Slice]:
    """Return the slices of a factor with their scores; none if it does not divide the images.

    Parameters
    ----------
    factor
        The value of every row; the first `pool` rows are those of the pool.
    pool
        Number of images of the pool.
    scored
        Metric → its outcomes over all images, and the contributions they were gathered from, see
        :func:`pytest_datasize.curve.outcomes.gather`. The metric must be a mean over images.
    tested, groups
        See :func:`pytest_datasize.curve.outcomes.gather`.

    Examples
    --------
    >>> from pytest_datasize.curve.outcomes import gather
    >>> hits = (np.arange(80) % 4 > 0) * (np.arange(80) < 40) * 1.0  # 0.75 of the first 40, then 0
    >>> rows = [np.arange(80)]
    >>> outcomes = gather((10, 20, 40), [[hits]] * 3, rows, 80)
    >>> site = FactorValues("site", ("A", "B"), np.arange(80) // 40)
    >>> one, other = slices_of(site, 80, {"accuracy": (outcomes, [[hits]] * 3)}, rows)
    >>> one.value, one.n_test, one.measured["accuracy"]
    ('A', 40, 0.75)
    >>> 0.7 < one.outcomes["accuracy"].scores[-1][0] < 0.75  # a little nearer to the other
    True
    """
    if not factor.divides:
        return []
    rows = np.unique(np.concatenate(tested))
    mine, unit = factor.numbers[rows], None if groups is None else groups[rows]
    parts = [mine == number for number in range(len(factor.values))]
    found = _without_scores(factor, pool, parts, groups, unit)
    large = [number for number, one in enumerate(found) if not one.too_small]
    for metric, (overall, contributions) in scored.items():
        signed = [[overall.sign * values for values in repeats] for repeats in contributions]
        means = image_means(signed, tested)[1]
        together = _together(overall, means, [parts[number] for number in large], unit)
        outcomes = dict(zip(large, together, strict=True))
        for number, (one, part) in enumerate(zip(found, parts, strict=True)):
            if part.any():
                score = overall.sign * float(means[-1, part].mean())
                found[number] = replace(one, measured={**one.measured, metric: score})
            if number in outcomes:
                found[number] = replace(
                    found[number], outcomes={**one.outcomes, metric: outcomes[number]}
                )
    return [one for one in found if one.images or one.n_test]


def _without_scores(
    factor: FactorValues,
    pool: int,
    parts: Sequence[NDArray[np.bool_]],
    groups: NDArray[np.int64] | None,
    unit: NDArray[np.int64] | None,
) -> list[Slice]:
    """Return the slices of a factor, one for each value, with their numbers of images only.

    Groups are given of all rows (`groups`), and of the rows that were tested (`unit`).
    """
    # rows after the pool are test images of their own; without them, the pool is held out in turn
    testable = np.arange(len(factor.numbers)) >= (pool if len(factor.numbers) > pool else 0)
    found = []
    for number, (value, part) in enumerate(zip(factor.values, parts, strict=True)):
        own = factor.numbers == number
        found.append(
            Slice(
                factor=factor.name,
                value=value,
                images=int(own[:pool].sum()),
                n_test=int(part.sum()),
                testable=int((own & testable).sum()),
                n_groups=None if groups is None else _units(own & testable, groups),
                measured={},
                outcomes={},
                n_tested_groups=None if unit is None else _units(part, unit),
            )
        )
    return found


def _units(part: NDArray[np.bool_], groups: NDArray[np.int64] | None) -> int:
    """Return the number of independent test images: groups, if images belong to groups."""
    return int(part.sum()) if groups is None else len(np.unique(groups[part]))


def _together(
    overall: Outcomes,
    means: NDArray[np.floating],
    parts: Sequence[NDArray[np.bool_]],
    groups: NDArray[np.int64] | None,
) -> list[Outcomes]:
    """Return the outcomes of some slices, estimated together.

    Parameters
    ----------
    overall
        Outcomes of all images.
    means
        Mean contribution of every test image at K sizes, (K, n).
    parts
        Test images of each slice, bool (n,).
    groups
        Group of every test image, (n,), or None.
    """
    if not parts:
        return []
    low, high = overall.bounds
    luck = np.asarray(overall.test_covariance, dtype=np.float64)
    of_one = luck[-1, -1] * _units(np.ones(means.shape[1], dtype=np.bool_), groups)
    alone = [
        mean_covariance(means[-1:, part], None if groups is None else groups[part], low, high)
        for part in parts
    ]
    shrunk, covariances = _shrunk(
        own=np.stack([means[:, part].mean(axis=1) for part in parts]),
        alone=np.array([one[0, 0] for one in alone]),
        pooled=of_one / np.array([_units(part, groups) for part in parts]),
        shape=luck / luck[-1, -1],
        deviation=float(np.sqrt(of_one)),
    )
    common = means.mean(axis=1)
    averages = np.array([np.mean(repeats) for repeats in overall.scores])
    found = []
    for part, mean, covariance in zip(parts, shrunk, covariances, strict=True):
        inside = np.clip(mean, low, high)
        ratio = _steepness(inside, common, high)
        centres = inside + averages - common
        found.append(
            replace(
                overall,
                scores=tuple(
                    tuple(np.clip(centre + steep * (repeats - average), low, high).tolist())
                    for repeats, centre, steep, average in zip(
                        map(np.asarray, overall.scores), centres, ratio, averages, strict=True
                    )
                ),
                n_test=int(part.sum()),
                test_covariance=covariance,
                split_variance=np.asarray(overall.split_variance) * ratio**2,
            )
        )
    return found


def _steepness(mean: FloatArray, common: FloatArray, high: float) -> FloatArray:
    """Return the ratio of the luck of training in a slice to that in all images.

    The repeats of a slice vary mostly by the luck of its few test images, so the luck of training
    is taken from all images: it is assumed to be proportional to the distance from the best score.
    """
    if not np.isfinite(high):
        return np.ones_like(mean)
    errors = high - mean, high - common
    ratio = errors[0] / np.maximum(errors[1], 1e-9)
    return np.asarray(np.clip(ratio, 0.0, _STEEPEST))


def _shrunk(
    own: FloatArray, alone: FloatArray, pooled: FloatArray, shape: FloatArray, deviation: float
) -> tuple[FloatArray, FloatArray]:
    """Return means and covariances of the true scores of S slices at K sizes.

    Parameters
    ----------
    own
        Mean scores of the slices, (S, K).
    alone, pooled
        Sampling variance of each at the largest size, from its own images and from all, (S,). The
        first is small for lucky slices and would give them more weight, so it counts only as far
        as slices differ.
    shape
        Covariance between the sizes, one at the largest, (K, K).
    deviation
        Standard deviation of single images, or groups, from their mean.

    Returns
    -------
    means, covariances
        Arrays (S, K) and (S, K, K).
    """
    evidence, means, scales = [], [], []
    for usual in deviation * np.array(_SPREADS):
        # of each slice, whether it is one like the others (row 0) or an odd one (row 1)
        spread = np.sqrt(usual**2 + np.array([[0.0], [(_ODD_SPREAD * deviation) ** 2]]))
        kept = spread**2 / (spread**2 + pooled)
        noise = kept * alone + (1.0 - kept) * pooled
        total = noise + spread**2
        weights = 1.0 / total[0]
        for _ in range(_ROUNDS):
            centre = weights @ own / weights.sum()
            away = own[:, -1] - centre[-1]
            likely = np.log(_PRIOR)[:, None] - 0.5 * (np.log(total) + away**2 / total)
            fit = np.logaddexp(*likely)
            belief = np.exp(likely - fit)
            weights = (belief / total).sum(axis=0)
        share = spread**2 / total
        evidence.append(fit.sum() - 0.5 * np.log(weights.sum()))
        means.append(centre + share[:, :, None] * (own - centre))
        scales.append((share * noise + (1.0 - share) ** 2 / weights.sum(), belief))
    trust = np.exp(np.array(evidence) - max(evidence))
    weight = np.stack([belief for _, belief in scales]) * (trust / trust.sum())[:, None, None]
    mean = np.einsum("gcs,gcsk->sk", weight, np.stack(means))
    apart = np.stack(means) - mean
    between = np.einsum("gcs,gcsk,gcsl->skl", weight, apart, apart)
    within = np.einsum("gcs,gcs->s", weight, np.stack([scale for scale, _ in scales]))
    return mean, within[:, None, None] * shape + between
