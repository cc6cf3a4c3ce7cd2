"""Build the record of a requirement's outcome as plain data, for worker processes and JSON."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Literal, cast

from pytest_datasize.reports.records.curve_data import evidence
from pytest_datasize.reports.records.derived import with_derived
from pytest_datasize.reports.records.prices import Prices
from pytest_datasize.reports.records.record_parts import Groups, Guess, Remedies, SelfCheck
from pytest_datasize.reports.records.record_types import (
    CheckRecord,
    ConditionRecord,
    DataCheck,
    GateRecord,
    ImagesPerClass,
    PlainRecord,
    PlanRecord,
    Represents,
)
from pytest_datasize.reports.records.text import each_text, sendable
from pytest_datasize.requirement.targets import Target, target_text
from pytest_datasize.requirement.tasks import CLASSIFICATION

if TYPE_CHECKING:  # a skipped gate has a record too, and must not import study modules
    from pytest_datasize.curve.self_check import Advice as Trust
    from pytest_datasize.curve.verdict import Judgement, Verdict
    from pytest_datasize.study.before_training import StudyCheck, StudyPlan
    from pytest_datasize.study.ladder import Name
    from pytest_datasize.study.result import StudyResult


def records(
    verdict: "Verdict",
    result: "StudyResult",
    prices: Prices = None,
    budget: float | None = None,
    group_price: float | None = None,
) -> list[GateRecord]:
    """Return one record per metric of a judged requirement; a session adds its own data."""
    from pytest_datasize.reports.records.advice import advice
    from pytest_datasize.reports.records.slice_rows import slices

    return [
        each_text(
            with_derived(
                {
                    **_judged(one, result),
                    **slices(one, result),
                    "advice": advice(one, result, prices, budget, group_price),
                },
            ),
            sendable,
        )
        for one in verdict.judgements
    ]


def plain_record(nodeid: str, verdict: Literal["error", "skipped"], message: str) -> PlainRecord:
    """Return the record of a gate that was not judged, so that reports list it too."""
    return {
        "nodeid": nodeid,
        "order": 0,
        "file": None,
        "line": None,
        "metric": None,
        "target": None,
        "verdict": verdict,
        "failed": verdict == "error",
        "message": sendable(message),
        "required": None,
        "required_low": None,
        "required_high": None,
        "available": None,
        "score_at_available": None,
        "score_at_available_low": None,
        "score_at_available_high": None,
        "ceiling": None,
        "ceiling_low": None,
        "ceiling_high": None,
        "probability_sufficient": None,
    }


def condition_record(
    met: bool, message: str, check: ImagesPerClass | Represents
) -> ConditionRecord:
    """Return the record of a condition without training."""
    verdict = {"verdict": "met" if met else "unmet", "failed": not met, "check": check}
    return each_text(
        cast(ConditionRecord, {**plain_record("", "skipped", message), **verdict}), sendable
    )


def plan_record(
    nodeid: str,
    order: int,
    targets: Mapping[str, Target],
    plans: "Sequence[tuple[Name, StudyPlan]]",
) -> PlanRecord:
    """Return what would be trained for one requirement: each model, the cheapest first."""
    plan = next(plan for name, plan in plans if name in ("as asked", "full input"))
    asked = ", ".join(target_text(metric, target) for metric, target in targets.items())
    planned: PlanRecord = {
        **plain_record(nodeid, "skipped", asked),
        "verdict": "planned",
        "order": order,
        "available": plan.available,
        "total": plan.total,
        "n_test": plan.n_test,
        "source": plan.source,
        "class_counts": dict(plan.class_counts),
        "sizes": list(plan.sizes),
        "repeats": plan.repeats,
        "n_trials": plan.n_trials,
        "backbone": plan.backbone,
        "strategy": plan.strategy,
        "device": plan.device,
        "image_size": plan.image_size,
        "estimated_seconds": plan.seconds,
        "forwards": plan.forwards,
        "backwards": plan.backwards,
        "stored_bytes": plan.stored,
        "shed": plan.shed,
        "unit": cast(Literal["image", "group"], plan.unit),
        "models": [
            {
                "name": name,
                "strategy": one.strategy,
                "image_size": one.image_size,
                "n_trials": one.n_trials,
                "sizes": list(one.sizes),
                "repeats": one.repeats,
                "seconds": one.seconds,
            }
            for name, one in plans
        ],
    }
    return each_text(planned, sendable)


def check_record(nodeid: str, order: int, check: "StudyCheck") -> CheckRecord:
    """Return the data check of one requirement's images."""
    errors = check.errors
    message = errors[0].text if errors else f"{check.total:,} images can be used"
    checked: CheckRecord = {
        **plain_record(nodeid, "error" if errors else "skipped", message),
        "verdict": "error" if errors else "checked",
        "order": order,
        "source": check.source,
        "test_source": check.test_source,
        "class_counts": dict(check.class_counts),
        "total": check.total,
        "available": check.available,
        "unit": cast(Literal["image", "group"], check.unit),
        "checks": [
            cast(DataCheck, {"level": level, **asdict(finding), "names": list(finding.names)})
            for level, finding in check.findings
        ],
    }
    return each_text(checked, sendable)


def _judged(judged: "Judgement", result: "StudyResult") -> GateRecord:
    from pytest_datasize.reports.records.neighbour_bound import neighbour_bound

    trust = result.advice(judged)
    distinct = result.n_test_distinct
    n_test = result.n_test
    if judged.slice is not None:  # test images of the slice; its share of those of a repeat
        n_test, distinct = (
            round(n_test * result.outcomes_of(judged).n_test / distinct),
            result.outcomes_of(judged).n_test,
        )
    drawn = evidence(judged, result)
    return {
        "nodeid": "",
        "order": 0,
        "file": None,
        "line": None,
        "metric": judged.metric,
        "class": judged.class_name,
        "class_targets": dict(judged.class_targets) or None,
        "operating_point": dict(judged.at) or None,
        "target": judged.target,
        "confidence": judged.confidence,
        "level": judged.level,
        "required_sure": _whole(judged.required_sure),
        "score_sure": judged.score_sure,
        "held_out": {"share": judged.held_out.share, "images": judged.held_out.images},
        "unit": cast(Literal["image", "group"], result.unit),
        "groups": None if result.groups is None else cast(Groups, dict(result.groups)),
        "guessing": _guess(judged, result),
        "trend": {
            "direction": judged.trend.direction,
            "first": judged.trend.first,
            "last": judged.trend.last,
        },
        "neighbour_bound": neighbour_bound(judged, [result]),
        "verdict": judged.status.value,
        "failed": judged.status.value != "sufficient",
        "message": judged.summary,
        "required": _whole(judged.required),
        "required_low": _whole(judged.required_low),
        "required_high": _whole(judged.required_high),
        "available": judged.available,
        "total": result.total,
        "score_at_available": judged.score,
        "score_at_available_low": judged.score_low,
        "score_at_available_high": judged.score_high,
        "ceiling": judged.ceiling,
        "ceiling_low": judged.ceiling_low,
        "ceiling_high": judged.ceiling_high,
        "probability_sufficient": judged.probability,
        "extrapolated": judged.extrapolated,
        "tellable": judged.tellable,
        "n_test": n_test,
        "n_test_distinct": distinct,
        "test_margin": trust.test_margin,
        "test_images_to_tell": trust.test_images,
        "self_check": _self_check(trust),
        "remedies": _remedies(trust),
        "repeats": result.repeats,
        "sampling": result.sampling,
        "test_source": result.test_source,
        "n_trials": result.n_trials,
        "n_trials_planned": result.n_trials_planned,
        "sizes": drawn["sizes"],
        "scores": drawn["scores"],
        "measured": drawn["measured"],
        "curve": drawn["curve"],
        "fit": drawn["fit"],
        "classes": drawn["classes"],
        "source": result.source,
        "task": result.task,
        "class_counts": dict(result.class_counts),
        "amounts": None if result.amounts is None else dict(result.amounts),
        "notes": list(result.notes),
        "backbone": result.backbone,
        "weights": {"source": result.weights_source, "sha256": result.weights_hash},
        "image_size": result.image_size,
        "precision": result.precision,
        "features": result.features,
        "strategy": result.strategy,
        "law": result.law,
        "device": result.device,
        "seed": result.seed,
        "timings": dict(result.timings),
        "settings": {},
        "baseline": None,
    }


def _self_check(trust: "Trust") -> SelfCheck | None:
    return None if trust.check is None else cast(SelfCheck, asdict(trust.check))


def _remedies(trust: "Trust") -> Remedies | None:
    found = trust.deciding
    return None if found is None else cast(Remedies, {**asdict(found), "text": str(found)})


def _guess(judged: "Judgement", result: "StudyResult") -> Guess | None:
    from pytest_datasize.curve.guessing import guessing

    if result.task != CLASSIFICATION or judged.slice is not None:
        return None  # the shares of classes in a slice are not known
    tested = result.findings.get("tested") if result.findings else None
    counts = dict(zip(result.class_counts, tested, strict=True)) if tested else result.class_counts
    found = guessing(judged.metric, counts, tuple(judged.class_targets))
    return None if found is None else cast(Guess, asdict(found))


def _whole(images: float) -> int | None:
    """Return infinity as None (JSON null); the verdict says why."""
    return None if math.isinf(images) else int(images)
