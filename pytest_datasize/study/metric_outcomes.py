"""Compute the outcomes of metrics, classes and operating points from predictions and truth."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.curve.contributions import contributions
from pytest_datasize.curve.metrics.operating_points import threshold_influence
from pytest_datasize.curve.outcomes import Outcomes, gather, image_covariance
from pytest_datasize.errors import DatasetError
from pytest_datasize.requirement.tasks import Metric, function_of

Contributions: TypeAlias = list[list[NDArray[np.floating]]]
"""Per size, per repeat: one value per test image."""


class Scored(NamedTuple):
    """The predictions of all trials, and the truth.

    Attributes
    ----------
    sizes, tested, pool, groups, strata
        See :func:`pytest_datasize.curve.outcomes.gather`.
    truth
        True label of every row, as the metrics of the task take it.
    shown
        Whether a row counts for a class, bool (N, C).
    predicted
        Per size, per repeat: predictions for its test images. The whole pool with a fixed test set
        is trained once, so there are fewer repeats than test parts.
    images
        Number of images of the pool, if `pool` counts groups.
    """

    sizes: tuple[int, ...]
    truth: NDArray[Any]
    shown: NDArray[np.bool_]
    strata: NDArray[np.int64]
    tested: Sequence[NDArray[np.int64]]
    predicted: Sequence[Sequence[NDArray[Any]]]
    pool: int
    groups: NDArray[np.int64] | None = None
    images: int | None = None


def metric_values(metric: Metric, scored: Scored) -> Contributions:
    """Return the contribution of every test image to a metric over all classes."""
    contribute = function_of(metric)
    return [
        contributions(
            contribute,
            scored.truth,
            scored.tested,
            repeats,
            scored.shown,
            not metric.ratio,
            metric.bounds,
        )
        for repeats in scored.predicted
    ]


def metric_outcomes(
    metric: Metric, scored: Scored, values: Contributions | None = None
) -> Outcomes:
    """Return the outcomes of a metric over all classes, from :func:`metric_values`."""
    return gather(
        scored.sizes,
        metric_values(metric, scored) if values is None else values,
        scored.tested,
        scored.pool,
        scored.groups,
        scored.strata,
        metric.bounds,
        metric.lower,
    )


def class_outcomes(metric: Metric, scored: Scored) -> list[Outcomes]:
    """Return the outcomes of a metric of single classes, one for each class."""
    function, tested = function_of(metric), scored.tested
    if metric.members:
        values = [
            [function(scored.truth[rows], p) for rows, p in zip(tested, repeats, strict=False)]
            for repeats in scored.predicted
        ]
        rows_of = [
            [rows[scored.shown[rows, label]] for rows in tested]
            for label in range(scored.shown.shape[1])
        ]
    else:
        values = [
            contributions(
                lambda truth, p: np.stack(function(truth, p)),
                scored.truth,
                tested,
                repeats,
                scored.shown,
                not metric.ratio,
                metric.bounds,
            )
            for repeats in scored.predicted
        ]
        rows_of = [list(tested)] * scored.shown.shape[1]
    return [
        gather(
            scored.sizes,
            [[repeat[label] for repeat in repeats] for repeats in values],
            rows,
            scored.pool,
            scored.groups,
            bounds=metric.bounds,
            lower_is_better=metric.lower,
        )
        for label, rows in enumerate(rows_of)
    ]


def point_outcomes(
    metric: Metric,
    scored: Scored,
    label: int,
    flagged: Sequence[Sequence[NDArray[Any]]],
    share: float,
) -> Outcomes:
    """Return the outcomes of an operating point: the share of its images that are flagged.

    Every trial has its own threshold, chosen on its own training images. The luck (sampling
    variance) of this choice shows in the spread of the repeats as far as their images differ. The
    luck of the pool, which all repeats share, is added.

    Parameters
    ----------
    metric
        The metric; its images are those of the class (``members``), or all others.
    scored
        The truth, and which images were tested.
    label
        Number of the class.
    flagged
        Per size, per repeat: 1 for each test image that is flagged, else 0, shape (m,).
    share
        What is required of the threshold, such as a precision of 0.9.

    Raises
    ------
    DatasetError
        A test part has none of its images.
    """
    shown = scored.shown[:, label]
    own = shown == metric.members
    rows = [part[own[part]] for part in scored.tested]
    if not all(map(len, rows)):
        what = "with" if metric.members else "without"
        raise DatasetError(
            f"some test parts have no image {what} the class, so the {metric.of_class} is not "
            "defined. Use more images, a larger test_fraction, or a test_dataset."
        )
    mine = [own[part] for part in scored.tested]
    values = [
        [flags[some].astype(np.float64) for flags, some in zip(repeats, mine, strict=False)]
        for repeats in flagged
    ]
    found = gather(
        scored.sizes,
        values,
        rows,
        scored.pool,
        scored.groups,
        None if metric.members else scored.strata,
        metric.bounds,
        metric.lower,
    )
    luck = _threshold_covariance(metric, scored, shown, flagged, share)
    return replace(found, test_covariance=found.test_covariance + luck)


def _threshold_covariance(
    metric: Metric,
    scored: Scored,
    shown: NDArray[np.bool_],
    flagged: Sequence[Sequence[NDArray[Any]]],
    share: float,
) -> NDArray[np.floating]:
    """Return what the luck of the pool adds to the covariance of scores, through thresholds.

    All repeats choose their thresholds on images of one pool, so its luck does not show in their
    spread. It is measured on the test images. If these are from the pool, their luck moves
    thresholds and scores together; if not, thresholds alone.
    """
    own = shown == metric.members
    direct, through = [], []
    for repeats in flagged:
        parts = list(zip(repeats, scored.tested, strict=False))
        flags = np.concatenate([flags for flags, _ in parts]) > 0
        rows = np.concatenate([part for _, part in parts])
        moved = threshold_influence(metric.given, shown[rows], flags, share)
        alone = np.where(own[rows], flags - flags[own[rows]].mean(), 0.0) / own[rows].mean()
        ends = np.cumsum([len(part) for _, part in parts])[:-1]
        through.append(np.split(moved, ends))
        direct.append(np.split(alone, ends))
    number = len(np.unique(np.concatenate(scored.tested)))
    pool = scored.images or scored.pool  # images, also where groups are the unit
    scale, apart = number / pool, scored.tested[0].min() >= pool
    if apart:
        return scale * image_covariance(through, scored.tested, scored.groups)
    both = [
        [one + other for one, other in zip(ones, others, strict=True)]
        for ones, others in zip(direct, through, strict=True)
    ]
    covariances = [
        image_covariance(values, scored.tested, scored.groups) for values in (both, direct)
    ]
    return scale * (covariances[0] - covariances[1])
