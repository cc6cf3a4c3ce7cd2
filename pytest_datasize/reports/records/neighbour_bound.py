"""Compare a target with the score that nearest neighbours in the embeddings allow."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Literal

from pytest_datasize.curve.advice.bayes_error import bound
from pytest_datasize.curve.advice.neighbour_errors import NeighbourError
from pytest_datasize.reports.records.record_parts import NeighbourBound, NeighbourSpace

if TYPE_CHECKING:
    from pytest_datasize.curve.verdict import Judgement
    from pytest_datasize.study.result import StudyResult

BOUNDED: Final = {
    "accuracy": "accuracy",
    "f1_micro": "accuracy",
    "balanced_accuracy": "balanced_accuracy",
}
"""Metric → the kind of error that bounds it; f1_micro of single labels is the accuracy."""


def neighbour_bound(judged: "Judgement", results: "Iterable[StudyResult]") -> NeighbourBound | None:
    """Return the bound of the best embedding; None for slices, other metrics or no embeddings.

    Parameters
    ----------
    judged
        The judgement.
    results
        The evidence of all models that were tried on the same images, with their embeddings.
    """
    if judged.slice is not None:  # the bound is that of all images
        return None
    kind = BOUNDED.get(judged.metric)
    found: list[NeighbourError] = []
    spaces: list[NeighbourSpace] = []
    counts = {"asked": 0, "among": 0, "images": 0}
    classes = 0
    for result in results:
        errors = result.findings.get("neighbour_errors") if result.findings else None
        if not errors or kind not in errors["errors"]:
            continue
        classes = len(result.class_counts)
        counts = {name: errors[name] for name in counts}
        for one in errors["errors"][kind]:
            found.append(NeighbourError(**one))
            size = result.image_size
            spaces.append({"space": one["space"], "image_size": size, "error": one["error"]})
    if not found:
        return None
    limits = bound(found, classes)
    allowed_high, later = 1.0 - limits.least_low, 1.0 - limits.later
    return {
        "allowed": 1.0 - limits.least,
        "allowed_low": 1.0 - limits.least_high,
        "allowed_high": allowed_high,
        "later": later,
        "error": limits.error,
        "error_low": limits.error_low,
        "error_high": limits.error_high,
        "asked": counts["asked"],
        "among": counts["among"],
        "images": counts["images"],
        "says": _says(judged, allowed_high, later),
        "space": spaces[found.index(limits.best)],
        "spaces": spaces,
    }


def _says(
    judged: "Judgement", allowed_high: float, later: float
) -> Literal["allows", "agrees", "falling", "nothing"]:
    if judged.score > allowed_high:
        return "nothing"
    if judged.target <= allowed_high:
        return "allows"
    return "falling" if judged.target <= later else "agrees"
