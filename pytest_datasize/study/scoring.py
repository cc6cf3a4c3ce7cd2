"""Train the trials of a plan, score them, and collect the evidence."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from pytest_datasize.curve.advice import bayes_error
from pytest_datasize.curve.advice.neighbours import agreement, sampled
from pytest_datasize.curve.contributions import contributions
from pytest_datasize.curve.metrics.operating_points import achieved, threshold_influence
from pytest_datasize.curve.outcomes import Outcomes, bare, gather, image_covariance
from pytest_datasize.curve.slices import FactorValues, Slice, slices_of
from pytest_datasize.embedding import device as devices
from pytest_datasize.embedding.stages import last_layer
from pytest_datasize.errors import DatasetError
from pytest_datasize.images.factors import joined_factors
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.requirement.tasks import (
    CLASSIFICATION,
    METRICS,
    TASKS,
    Metric,
    ends,
    function_of,
    lower_is_better,
)
from pytest_datasize.requirement.units import GROUP
from pytest_datasize.requirement.validators import CLASS
from pytest_datasize.study.findings import findings
from pytest_datasize.study.result import StudyResult
from pytest_datasize.study.stopping import looks
from pytest_datasize.trials.operating_points import separated
from pytest_datasize.trials.order import WITH_REPLACEMENT
from pytest_datasize.trials.parameters import parameters
from pytest_datasize.trials.plan import MOST_TESTED, Plan
from pytest_datasize.trials.work import Trials, Work


def measure(
    work: Work,
    strategy: Callable[[Work, tuple[int, int]], Trials],
    timings: dict[str, float],
    notes: Sequence[str] = (),
    until: Callable[[StudyResult, float], bool] | None = None,
) -> StudyResult:
    """Train and score all trials, or as many repeats as are needed.

    Parameters
    ----------
    work
        The plan and all inputs of its trials.
    strategy
        Trains and scores the trials of some repeats.
    timings
        Stage → seconds spent so far; entries are added.
    notes
        Notes on the plan for the reader.
    until
        See :meth:`pytest_datasize.study.study.Study.run`.
    """
    plan, backbone, device, options = work.plan, work.backbone, work.device, work.options
    images, test, labels = work.image_sets[0], work.image_sets[1:], work.labels
    found: list[list[Any]] = [[] for _ in plan.sizes]
    remarks = [*notes, *([backbone.note] if backbone.note else [])]
    if TASKS[work.task].assumes and options["trainer"] is None:
        remarks.append(TASKS[work.task].assumes)
    done = unconverged = 0
    for stop in _looks(until, len(plan.repeats)):
        trials = strategy(work, (done, stop))
        for known, new in zip(found, trials.scores or trials.probabilities, strict=True):
            known += new
        remarks += trials.notes
        unconverged += trials.unconverged
        start = time.perf_counter()
        by_class: dict[str, dict[str, Outcomes]] = {}
        if trials.scores:
            outcomes, by_image = _bare_outcomes(work, found)
        else:
            outcomes, by_class, by_image = _outcomes(work, found)
        if options["sampling"] == WITH_REPLACEMENT:
            outcomes = _drawn_with_replacement(outcomes)
            by_class = {name: _drawn_with_replacement(found) for name, found in by_class.items()}
        slices = _slices(work, {name: (outcomes[name], of) for name, of in by_image.items()})
        spent = {**trials.seconds, "outcomes": time.perf_counter() - start}
        for stage, seconds in spent.items():
            timings[stage] = timings.get(stage, 0.0) + seconds
        n_trials = len(plan.trials(0, stop))
        result = StudyResult(
            source=images.source,
            notes=(*images.notes, *dict.fromkeys([*remarks, *_unconverged(unconverged, n_trials)])),
            class_counts=images.class_counts,
            total=len(labels),
            available=plan.available,
            n_test=plan.n_test,
            sizes=plan.sizes,
            repeats=stop,
            sampling=options["sampling"],
            test_source=test[0].source
            if test
            else _set_aside(plan, options["test_fraction"], len(labels)),
            n_trials=n_trials,
            n_trials_planned=len(plan.trials()),
            outcomes=outcomes,
            class_outcomes=by_class,
            law=options["law"],
            backbone=backbone.name,
            weights_source=backbone.weights_source,
            weights_hash=backbone.weights_hash,
            image_size=backbone.image_size,
            precision=trials.arithmetic or work.arithmetic,
            features=_seen(work),
            strategy=options["strategy"],
            device=work.device_name or devices.describe(device),
            seed=options["seed"],
            timings=timings,
            own_test=bool(test),
            task=work.task,
            amounts=images.amounts,
            operating_points=options.get("operating_points") or {},
            slices=slices,
            unit=plan.unit,
            groups=_groups(images) if options["group"] is not None else None,
        )
        done = stop
        if until and until(result, stop / len(plan.repeats)):
            break
    result = replace(result, notes=(*result.notes, *_at_thresholds(work, found)))
    if by_class and work.task == CLASSIFICATION:  # bare scores have no data on single images
        predicted, _ = separated(found, len(result.operating_points))
        result = replace(result, findings=_findings(work, predicted))
    return result


def _groups(images: ImageSet) -> dict[str, int] | None:
    """Count the groups of a pool and their images."""
    if images.groups is None:
        return None
    return {"number": len(np.unique(images.groups)), "images": len(images)}


def _pool(work: Work) -> int:
    """Return the number of images or groups that all repeats are drawn from."""
    groups = work.plan.groups
    return len(work.image_sets[0]) if groups is None else len(np.unique(groups))


def _looks(until: Callable[..., bool] | None, repeats: int) -> tuple[int, ...]:
    """Return the numbers of repeats after which to check whether the rest is needed."""
    if until is None:
        return (repeats,)
    found: tuple[int, ...] = getattr(until, "looks", looks)(repeats)
    return found


def _seen(work: Work) -> str:
    """Return the layers that the heads of a frozen backbone use, in words."""
    crops = work.task == "detection" and work.options["strategy"] == "feature_extraction"
    return work.backbone.layers if crops or work.features is not None else ""


def _set_aside(plan: Plan, fraction: float, total: int) -> str:
    share = f"{fraction:g} of" if fraction * total <= MOST_TESTED else f"{plan.n_test:,} of"
    return f"{share} the images in every repeat"


def _unconverged(unconverged: int, heads: int) -> tuple[str, ...]:
    return (f"{unconverged} of {heads} heads did not converge",) if unconverged else ()


def _findings(work: Work, probabilities: Any) -> dict[str, Any]:
    """Collect the data for the advice; embeddings only if the strategy computed them already."""
    near = None
    if work.features is not None:
        rows = sampled(len(work.image_sets[0]))
        found = work.features[torch.from_numpy(rows).to(work.features.device)]
        features = last_layer(found, work.backbone).cpu().numpy()
        near = agreement(features, work.labels[rows])
    return {
        **findings(work.image_sets, work.labels, work.plan, probabilities, near),
        "parameters": parameters(work),
        "neighbour_errors": _neighbour_errors(work),
    }


def _neighbour_errors(work: Work) -> dict[str, Any] | None:
    """Return the errors of nearest neighbours in the embedding; None without an embedding."""
    if work.features is None:
        return None
    images, *tests = work.image_sets
    sample = bayes_error.sampled(
        len(images), sum(map(len, tests)), work.features.shape[1], work.seed
    )
    rows = torch.from_numpy(sample.rows).to(work.features.device)
    together = [] if (groups := work.groups) is None else [groups[sample.rows]]
    if images.near is not None:  # near-duplicates are not groups where that left too few of them
        fresh = len(images) + np.arange(sum(map(len, tests)))
        together.append(np.concatenate([images.near, fresh])[sample.rows])
    found = bayes_error.neighbour_errors(
        work.features[rows].cpu().numpy(),
        work.labels[sample.rows],
        work.backbone.widths,
        together,
        sample.asked,
        sample.among,
        work.seed,
    )
    return {
        "asked": len(sample.asked),
        "among": len(sample.among),
        "images": len(images),
        "errors": {metric: list(map(asdict, errors)) for metric, errors in found.items()},
    }


Contributions: TypeAlias = list[list[NDArray[np.floating]]]
"""Per size, per repeat: one value per test image."""


def _slices(work: Work, scored: dict[str, tuple[Outcomes, Contributions]]) -> tuple[Slice, ...]:
    """Return the slices of all factors, with the scores of metrics that are means over images."""
    plan, pool = work.plan, len(work.image_sets[0])
    repeats = max((len(of[0]) for _, of in scored.values()), default=0)
    tested = [repeat.test for repeat in plan.repeats[: max(repeats, 1)]]
    groups = work.groups
    return tuple(
        one
        for factor in joined_factors(work.image_sets)
        for one in slices_of(FactorValues(*factor), pool, scored, tested, groups)
    )


def _outcomes(
    work: Work, found: Sequence[Sequence[Any]]
) -> tuple[dict[str, Outcomes], dict[str, dict[str, Outcomes]], dict[str, Contributions]]:
    """Return metric → outcomes, and metric of single classes → class name → outcomes.

    Also metric → contributions, for metrics whose contributions are the scores of images.
    """
    plan, points = work.plan, work.options.get("operating_points") or {}
    predicted, flags = separated(found, len(points))
    evidence = Scored(
        sizes=plan.sizes,
        truth=work.truth,
        shown=np.concatenate([part.membership for part in work.image_sets]),
        strata=work.labels,
        tested=[repeat.test for repeat in plan.repeats[: max(map(len, predicted))]],
        predicted=predicted,
        pool=_pool(work),
        groups=work.groups,
        images=len(work.image_sets[0]),
    )
    names = work.image_sets[0].names
    outcomes: dict[str, Outcomes] = {}
    by_class: dict[str, dict[str, Outcomes]] = {}
    by_image: dict[str, Contributions] = {}
    for name, metric in TASKS[work.task].metrics.items():
        if metric.given:
            continue
        if metric.of_class:
            classes = dict(zip(names, class_outcomes(metric, evidence), strict=True))
            outcomes[name] = min(classes.values(), key=lambda o: float(np.mean(o.scores[-1])))
            by_class[name] = classes
        elif len(names) > metric.more_than:
            values = metric_values(metric, evidence)
            outcomes[name] = metric_outcomes(metric, evidence, values)
            if metric.by_image:
                by_image[name] = values
    for number, (name, point) in enumerate(points.items()):
        flagged = [[flag[:, number] for flag in repeats] for repeats in flags]
        metric, index = TASKS[work.task].metrics[name], names.index(point[CLASS])
        outcomes[name] = point_outcomes(metric, evidence, index, flagged, point[metric.given])
        by_class[name] = {point[CLASS]: outcomes[name]}
    return outcomes, by_class, by_image


def _at_thresholds(work: Work, found: Sequence[Sequence[Any]]) -> Iterator[str]:
    """Yield notes: what the thresholds of the largest size give on the test images."""
    points = work.options.get("operating_points") or {}
    _, flags = separated(found, len(points))
    membership = np.concatenate([part.membership for part in work.image_sets]) if points else None
    for number, (name, point) in enumerate(points.items()):
        assert membership is not None
        given = TASKS[work.task].metrics[name].given
        shown = membership[:, work.image_sets[0].names.index(point[CLASS])]
        each = [
            achieved(given, shown[repeat.test], flagged[:, number] > 0)
            for repeat, flagged in zip(work.plan.repeats, flags[-1], strict=False)
        ]
        tested = np.concatenate([repeat.test for repeat in work.plan.repeats[: len(each)]])
        if given == "precision" and (part := shown[tested].mean()) >= point[given]:
            yield (
                f"{name} proves nothing: {100 * part:.0f} % of the test images show "
                f"{point[CLASS]!r}, so flagging all images gives the required precision"
            )
        known = [value for value in each if value is not None]
        if not known:
            yield f"{name}: the thresholds flag no test image"
            continue
        yield (
            f"{name}: thresholds are chosen on training images for a {given} of "
            f"{point[given]:g}; on the test images it is {np.mean(known):.3f}"
        )


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


def _bare_outcomes(
    work: Work, scores: list[list[Any]]
) -> tuple[dict[str, Outcomes], dict[str, Contributions]]:
    """Return the outcomes of a trainer that returns scores instead of predictions.

    Also the scores of single images, for the metrics that return one value per image.
    """
    plan, options = work.plan, work.options
    tested = [repeat.test for repeat in plan.repeats[: max(map(len, scores))]]
    pool, groups = _pool(work), work.groups
    bounds, direction = options["bounds"] or {}, options["direction"] or {}
    found = {}
    by_image: dict[str, Contributions] = {}
    for metric in sorted(scores[0][0]):
        known = metric in METRICS
        range_of = bounds.get(metric) or (ends(metric) if known else (0.0, 1.0))
        lower = lower_is_better(metric) if known else direction.get(metric) == "lower"
        values = [[repeat[metric] for repeat in repeats] for repeats in scores]
        if all(isinstance(value, list) for repeats in values for value in repeats):
            arrays = [[np.array(value) for value in repeats] for repeats in values]
            by_image[metric] = arrays
            found[metric] = gather(plan.sizes, arrays, tested, pool, groups, None, range_of, lower)
            continue
        means = [[float(np.mean(value)) for value in repeats] for repeats in values]
        whole = groups if plan.unit == GROUP else None
        found[metric] = bare(plan.sizes, means, tested, pool, range_of, lower, whole)
    return found, by_image


def _drawn_with_replacement(outcomes: dict[str, Outcomes]) -> dict[str, Outcomes]:
    return {name: replace(each, replacement=True) for name, each in outcomes.items()}
