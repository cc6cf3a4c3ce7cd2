"""Check the conditions of a gate that need no training: images per class, and representation."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from pytest_datasize.curve.advice.rules import rule_of, short_classes
from pytest_datasize.errors import DatasizeError
from pytest_datasize.reports.records.record import condition_record
from pytest_datasize.reports.records.record_types import (
    ConditionRecord,
    ImagesPerClass,
    Represents,
    Subject,
)

if TYPE_CHECKING:
    from pytest_datasize.study.study import Study

_MOST_NAMED = 5


def images_per_class(study: "Study", asked: int | str, strategy: str) -> ConditionRecord:
    """Count the decodable, different images of every class, without importing torch."""
    images = study.images()
    rule = rule_of(asked, strategy)
    short = short_classes(images.class_counts, rule.images)
    named = [f"{name!r} has {n:,}" for name, n in list(short.items())[:_MOST_NAMED]]
    if len(short) > _MOST_NAMED:
        named.append(f"{len(short) - _MOST_NAMED} more have too few")
    fewest = min(images.class_counts.values())
    message = (
        f"{rule.images:,} images per class are required ({rule.reason}): {', '.join(named)}"
        if short
        else f"every class has {fewest:,} images or more; {rule.images:,} are required "
        f"({rule.reason})"
    )
    check: ImagesPerClass = {
        "kind": "images_per_class",
        "images_per_class": rule.images,
        "reason": rule.reason,
        "class_counts": dict(images.class_counts),
        "short": short,
        "source": images.source,
    }
    return condition_record(not short, message, check)


def represents(
    study: "Study",
    deployment: Any,
    false_alarms: float,
    locked: Callable[[Subject], list[ConditionRecord]] | None = None,
) -> ConditionRecord:
    """Compare the images with those of the deployment.

    Parameters
    ----------
    study, deployment, false_alarms
        See :mod:`pytest_datasize.study.representation`.
    locked
        Finds the committed record of a subject, which is then returned.
    """
    if deployment is None:
        raise DatasizeError(
            "no images of the deployment: give represents(deployment='path'), or override the "
            "fixture datasize_deployment_dataset in conftest.py."
        )
    from pytest_datasize.study.representation import representation, sides_of, subject

    sides = sides_of(study, deployment)
    about = cast(Subject, subject(study, sides, false_alarms))
    if locked is not None:
        [record] = locked(about)
        return {**record, "failed": record["verdict"] != "met", "subject": about}
    found = representation(study, sides, false_alarms)
    met = found["p_value"] > false_alarms
    found_text = (
        f"a classifier distinguishes them with accuracy {found['accuracy']:.3f} "
        f"({found['accuracy_low']:.3f} to {found['accuracy_high']:.3f}; 0.5 is chance), "
        f"p = {found['p_value']:.3g}"
    )
    said = (
        "no difference found between the images and those of the deployment"
        if met
        else "the images are not like those of the deployment"
    )
    if met and found["mmd_p_value"] <= false_alarms:
        found_text += (
            f"; but the maximum mean discrepancy differs, p = {found['mmd_p_value']:.3g}: look at "
            "the mix of classes"
        )
    check = cast(Represents, {"kind": "represents", "false_alarms": false_alarms, **found})
    return {**condition_record(met, f"{said}: {found_text}", check), "subject": about}
