"""Train the trials of a plan, score them, and collect the evidence."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pytest_datasize.curve.metrics.operating_points import achieved
from pytest_datasize.curve.outcomes import Outcomes, bare, gather
from pytest_datasize.curve.slices import FactorValues, Slice, slices_of
from pytest_datasize.embedding import device as devices
from pytest_datasize.images.factors import joined_factors
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.requirement.tasks import CLASSIFICATION, METRICS, TASKS, ends, lower_is_better
from pytest_datasize.requirement.units import GROUP
from pytest_datasize.requirement.validators import CLASS
from pytest_datasize.study.findings import findings
from pytest_datasize.study.metric_outcomes import (
    Contributions,
    Scored,
    class_outcomes,
    metric_outcomes,
    metric_values,
    point_outcomes,
)
from pytest_datasize.study.result import StudyResult
from pytest_datasize.study.stopping import looks
from pytest_datasize.trials.operating_points import separated
from pytest_datasize.trials.order import WITH_REPLACEMENT
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
        result = replace(result, findings=findings(work, predicted))
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
