"""Train the trials of a plan, score them, and collect the evidence."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pytest_datasize.curve.advice.neighbours import agreement, sampled
from pytest_datasize.curve.contributions import contributions
from pytest_datasize.curve.outcomes import Outcomes, bare, gather
from pytest_datasize.embedding import device as devices
from pytest_datasize.embedding.stages import last_layer
from pytest_datasize.images.groups import numbers
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.requirement.tasks import (
    CLASSIFICATION,
    METRICS,
    TASKS,
    Metric,
    ends,
    lower_is_better,
)
from pytest_datasize.requirement.units import GROUP
from pytest_datasize.study.findings import findings
from pytest_datasize.study.result import StudyResult
from pytest_datasize.study.stopping import looks
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
        outcomes, by_class = (
            (_bare_outcomes(work, found), {}) if trials.scores else _outcomes(work, found)
        )
        if options["sampling"] == WITH_REPLACEMENT:
            outcomes = _drawn_with_replacement(outcomes)
            by_class = {name: _drawn_with_replacement(found) for name, found in by_class.items()}
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
            unit=plan.unit,
            groups=_groups(images) if options["group"] is not None else None,
        )
        done = stop
        if until and until(result, stop / len(plan.repeats)):
            break
    if by_class and work.task == CLASSIFICATION:  # bare scores have no data on single images
        result = replace(result, findings=_findings(work, found))
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
    }


def _outcomes(
    work: Work, predicted: Any
) -> tuple[dict[str, Outcomes], dict[str, dict[str, Outcomes]]]:
    """Return metric → outcomes, and metric of single classes → class name → outcomes."""
    plan = work.plan
    evidence = Scored(
        sizes=plan.sizes,
        truth=work.truth,
        shown=np.concatenate([part.membership for part in work.image_sets]),
        strata=work.labels,
        tested=[repeat.test for repeat in plan.repeats[: max(map(len, predicted))]],
        predicted=predicted,
        pool=_pool(work),
        groups=numbers(*work.image_sets),
    )
    names = work.image_sets[0].names
    outcomes: dict[str, Outcomes] = {}
    by_class: dict[str, dict[str, Outcomes]] = {}
    for name, metric in TASKS[work.task].metrics.items():
        if metric.of_class:
            found = dict(zip(names, class_outcomes(metric, evidence), strict=True))
            outcomes[name] = min(found.values(), key=lambda o: float(np.mean(o.scores[-1])))
            by_class[name] = found
        elif len(names) > metric.more_than:
            outcomes[name] = metric_outcomes(metric, evidence)
    return outcomes, by_class


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
    """

    sizes: tuple[int, ...]
    truth: NDArray[Any]
    shown: NDArray[np.bool_]
    strata: NDArray[np.int64]
    tested: Sequence[NDArray[np.int64]]
    predicted: Sequence[Sequence[NDArray[Any]]]
    pool: int
    groups: NDArray[np.int64] | None = None


def metric_outcomes(metric: Metric, scored: Scored) -> Outcomes:
    """Return the outcomes of a metric over all classes."""
    contribute = function_of(metric)
    values = [
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
    return gather(
        scored.sizes,
        values,
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


def function_of(metric: Metric) -> Callable[..., Any]:
    """Return the function of a metric."""
    module, _, name = metric.function.partition(":")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function


def _bare_outcomes(work: Work, scores: list[list[Any]]) -> dict[str, Outcomes]:
    """Return the outcomes of a trainer that returns scores instead of predictions."""
    plan, options = work.plan, work.options
    tested = [repeat.test for repeat in plan.repeats[: max(map(len, scores))]]
    pool, groups = _pool(work), numbers(*work.image_sets)
    bounds, direction = options["bounds"] or {}, options["direction"] or {}
    found = {}
    for metric in sorted(scores[0][0]):
        known = metric in METRICS
        range_of = bounds.get(metric) or (ends(metric) if known else (0.0, 1.0))
        lower = lower_is_better(metric) if known else direction.get(metric) == "lower"
        values = [[repeat[metric] for repeat in repeats] for repeats in scores]
        if all(isinstance(value, list) for repeats in values for value in repeats):
            arrays = [[np.array(value) for value in repeats] for repeats in values]
            found[metric] = gather(plan.sizes, arrays, tested, pool, groups, None, range_of, lower)
            continue
        means = [[float(np.mean(value)) for value in repeats] for repeats in values]
        whole = groups if plan.unit == GROUP else None
        found[metric] = bare(plan.sizes, means, tested, pool, range_of, lower, whole)
    return found


def _drawn_with_replacement(outcomes: dict[str, Outcomes]) -> dict[str, Outcomes]:
    return {name: replace(each, replacement=True) for name, each in outcomes.items()}
