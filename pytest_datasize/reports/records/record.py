"""One requirement's outcome as plain data: it leaves a worker process and becomes JSON as it is."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_datasize.reports.records.curve_data import evidence
from pytest_datasize.reports.records.record_numbers import NUMBERS
from pytest_datasize.reports.records.text import each_text, sendable

if TYPE_CHECKING:  # a skipped gate has a record too, and must not load what it does not run
    from pytest_datasize.curve.verdict import Judgement, Verdict
    from pytest_datasize.reports.records.advice import Prices
    from pytest_datasize.study.result import StudyCheck, StudyPlan, StudyResult


def records(
    verdict: "Verdict",
    result: "StudyResult",
    prices: "Prices" = None,
    budget: float | None = None,
) -> list[dict[str, Any]]:
    """Return one record per metric of a judged requirement; a session adds what is its own."""
    from pytest_datasize.reports.records.advice import counsel

    return [
        each_text(
            {**_judged(one, result), "advice": counsel(one, result, prices, budget)}, sendable
        )
        for one in verdict.judgements
    ]


def plain_record(nodeid: str, verdict: str, message: str) -> dict[str, Any]:
    """Return the record of a gate that was not judged: it must not be missing in silence."""
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
        **dict.fromkeys(NUMBERS),
    }


def plan_record(
    nodeid: str, order: int, targets: Mapping[str, float], plan: "StudyPlan"
) -> dict[str, Any]:
    """Return what would be trained for one requirement."""
    asked = ", ".join(f"{metric} {target:g}" for metric, target in targets.items())
    planned = {
        **plain_record(nodeid, "planned", asked),
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
    }
    cleaned: dict[str, Any] = each_text(planned, sendable)
    return cleaned


def check_record(nodeid: str, order: int, check: "StudyCheck") -> dict[str, Any]:
    """Return what the images of one requirement are like."""
    errors = check.errors
    message = errors[0].text if errors else f"{check.total:,} images can be used"
    checked = {
        **plain_record(nodeid, "error" if errors else "checked", message),
        "order": order,
        "source": check.source,
        "test_source": check.test_source,
        "class_counts": dict(check.class_counts),
        "total": check.total,
        "available": check.available,
        "checks": [
            {"level": level, **asdict(finding), "names": list(finding.names)}
            for level, finding in check.findings
        ],
    }
    cleaned: dict[str, Any] = each_text(checked, sendable)
    return cleaned


def _judged(judged: "Judgement", result: "StudyResult") -> dict[str, Any]:
    advice = result.advice(judged)
    return {
        "nodeid": "",
        "order": 0,
        "file": None,
        "line": None,
        "metric": judged.metric,
        "class": judged.class_name,
        "target": judged.target,
        "confidence": judged.confidence,
        "verdict": str(judged.status),
        "failed": str(judged.status) != "sufficient",
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
        "n_test": result.n_test,
        "n_test_distinct": result.n_test_distinct,
        "test_margin": advice.test_margin,
        "test_images_to_tell": advice.test_images,
        "self_check": advice.check and asdict(advice.check),
        "remedies": advice.remedies and {**asdict(advice.remedies), "text": str(advice.remedies)},
        "repeats": result.repeats,
        "sampling": result.sampling,
        "test_source": result.test_source,
        "n_trials": result.n_trials,
        "n_trials_planned": result.n_trials_planned,
        **evidence(judged, result),
        "source": result.source,
        "class_counts": dict(result.class_counts),
        "notes": list(result.notes),
        "backbone": result.backbone,
        "weights": {"source": result.weights_source, "sha256": result.weights_hash},
        "image_size": result.image_size,
        "precision": result.precision,
        "strategy": result.strategy,
        "law": result.law,
        "device": result.device,
        "seed": result.seed,
        "timings": dict(result.timings),
        "settings": {},
        "baseline": None,
    }


def _whole(images: float) -> int | None:
    """Write infinitely many as null; the verdict stands beside it."""
    return None if math.isinf(images) else int(images)
