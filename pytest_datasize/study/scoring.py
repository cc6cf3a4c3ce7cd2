"""Train the trials of a plan, score them, and collect the evidence."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pytest_datasize.curve.advice.neighbours import agreement, sampled
from pytest_datasize.curve.contributions import contributions
from pytest_datasize.curve.outcomes import Outcomes, bare, gather
from pytest_datasize.embedding import device as devices
from pytest_datasize.embedding.stages import last_layer
from pytest_datasize.images.groups import numbers
from pytest_datasize.requirement.registries import METRICS, RATIOS, WORST_CLASS
from pytest_datasize.study.findings import findings
from pytest_datasize.study.result import StudyResult
from pytest_datasize.study.stopping import looks
from pytest_datasize.trials.parameters import parameters
from pytest_datasize.trials.plan import MOST_TESTED, WITH_REPLACEMENT, Plan
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
            outcomes, by_class = (
                _drawn_with_replacement(outcomes),
                _drawn_with_replacement(by_class),
            )
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
            precision=work.arithmetic,
            features=_seen(work),
            strategy=options["strategy"],
            device=work.device_name or devices.describe(device),
            seed=options["seed"],
            timings=timings,
            own_test=bool(test),
        )
        done = stop
        if until and until(result, stop / len(plan.repeats)):
            break
    if by_class:  # a trainer's bare scores have no data on single images
        result = replace(result, findings=_findings(work, found))
    return result


def _looks(until: Callable[..., bool] | None, repeats: int) -> tuple[int, ...]:
    """Return the numbers of repeats after which to check whether the rest is needed."""
    if until is None:
        return (repeats,)
    found: tuple[int, ...] = getattr(until, "looks", looks)(repeats)
    return found


def _seen(work: Work) -> str:
    """Return the layers that the heads of a frozen backbone use, in words."""
    return "" if work.features is None else work.backbone.layers


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


def _outcomes(work: Work, probabilities: Any) -> tuple[dict[str, Outcomes], dict[str, Outcomes]]:
    """Return metric → outcomes, and class name → outcomes of its recall."""
    images, labels, plan = work.image_sets[0], work.labels, work.plan
    groups = numbers(*work.image_sets)
    tested = [repeat.test for repeat in plan.repeats[: max(map(len, probabilities))]]
    evidence = (plan.sizes, labels, tested, probabilities, len(images), groups)
    outcomes = {
        metric: metric_outcomes(metric, *evidence) for metric in METRICS if metric != WORST_CLASS
    }
    by_class = dict(zip(images.classes, class_outcomes(*evidence), strict=True))
    outcomes[WORST_CLASS] = min(by_class.values(), key=lambda o: float(np.mean(o.scores[-1])))
    return outcomes, by_class


def metric_outcomes(
    metric: str,
    sizes: tuple[int, ...],
    labels: NDArray[np.int64],
    tested: Sequence[NDArray[np.int64]],
    probabilities: Sequence[Sequence[NDArray[np.floating]]],
    pool: int,
    groups: NDArray[np.int64] | None = None,
) -> Outcomes:
    """Return the outcomes of a metric over all classes.

    Parameters
    ----------
    metric
        A key of :data:`pytest_datasize.requirement.registries.METRICS`.
    sizes, tested, pool, groups
        See :func:`pytest_datasize.curve.outcomes.gather`.
    labels
        Class of every row.
    probabilities
        Per size, per repeat: predictions for its test images. The whole pool with a fixed test set
        is trained once, so there are fewer repeats than test parts.
    """
    contribute, unbiased = metric_function(metric), metric not in RATIOS
    values = [
        contributions(contribute, labels, tested, repeats, unbiased) for repeats in probabilities
    ]
    return gather(sizes, values, tested, pool, groups, labels)


def class_outcomes(
    sizes: tuple[int, ...],
    labels: NDArray[np.int64],
    tested: Sequence[NDArray[np.int64]],
    probabilities: Sequence[Sequence[NDArray[np.floating]]],
    pool: int,
    groups: NDArray[np.int64] | None = None,
) -> list[Outcomes]:
    """Return the outcomes of every class's recall; arguments as of :func:`metric_outcomes`."""
    recalls = metric_function(WORST_CLASS)
    hits = [
        [recalls(labels[rows], p) for rows, p in zip(tested, repeats, strict=False)]
        for repeats in probabilities
    ]
    return [
        gather(
            sizes,
            [[repeat[label] for repeat in repeats] for repeats in hits],
            [rows[labels[rows] == label] for rows in tested],
            pool,
            groups,
        )
        for label in range(len(hits[0][0]))
    ]


def _bare_outcomes(work: Work, scores: list[list[Any]]) -> dict[str, Outcomes]:
    """Return the outcomes of a trainer that returns scores instead of predictions."""
    plan, images, options = work.plan, work.image_sets[0], work.options
    tested = [repeat.test for repeat in plan.repeats[: max(map(len, scores))]]
    bounds, direction = options["bounds"] or {}, options["direction"] or {}
    return {
        metric: bare(
            plan.sizes,
            [[repeat[metric] for repeat in repeats] for repeats in scores],
            tested,
            len(images),
            bounds.get(metric, (0.0, 1.0)),
            direction.get(metric) == "lower",
        )
        for metric in sorted(scores[0][0])
    }


def _drawn_with_replacement(outcomes: dict[str, Outcomes]) -> dict[str, Outcomes]:
    return {name: replace(each, replacement=True) for name, each in outcomes.items()}


def metric_function(metric: str) -> Callable[..., Any]:
    """Return the function of a metric, from the table of metrics."""
    module, _, name = METRICS[metric].partition(":")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function
