"""Rank what could raise a score by its promise per effort: better training before collecting."""

from typing import TYPE_CHECKING, Final, Literal

from pytest_datasize.curve.verdict import LEVEL, Status
from pytest_datasize.reports.records.record_parts import Lever
from pytest_datasize.reports.records.selection import MOST_DOUBTFUL
from pytest_datasize.requirement.tasks import TASKS

if TYPE_CHECKING:
    from pytest_datasize.curve.verdict import Judgement
    from pytest_datasize.study.ladder import Climb
    from pytest_datasize.study.result import StudyResult

Kind = Literal["train", "image_size", "backbone", "augment", "labels", "collect"]

TRAINING: Final = 60.0
"""Effort of any other training: a person sets an option, and a machine computes."""

LABEL_SECONDS: Final = 10.0
"""Time to look at one doubtful label."""

COLLECT_SECONDS: Final = 60.0
"""Time to collect and label one image."""

LIKE_ACCURACY: Final = ("accuracy", "f1_micro")
"""Metrics that equal accuracy where every image has one label."""

MOST_TIMES: Final = 4.0
"""An image set that must grow beyond this multiple counts as one that does not reach the target."""


def levers(climb: "Climb", index: int) -> list[Lever]:
    """Return what could raise the score, the most promising first; none if the target is met.

    What may reach the target comes first, then what promises most per effort. Training that nobody
    has tried comes before all that was tried: its promise is open, and it needs no work.

    Parameters
    ----------
    climb
        The models that were tried, and what else was.
    index
        Number of the target among those of the requirement.
    """
    judged = climb.verdict.judgements[index]
    if judged.status is Status.SUFFICIENT:
        return []
    gap = judged.target - judged.score
    found = [*_training(climb), *_promised(climb, judged), *_labels(climb.result, judged, gap)]
    if judged.status is not Status.UNREACHABLE:
        found += _collecting(climb.result, judged)
    return sorted(found, key=_promise)


def _promise(lever: Lever) -> tuple[bool, bool, float]:
    gain = lever["gain"]
    return gain is not None, not lever["reaches"], -(gain or 0.0) / max(lever["effort"], 1e-9)


def _training(climb: "Climb") -> list[Lever]:
    """Return the second look, or a training of one's own, if nobody has tried it."""
    names = {attempt.name: attempt for attempt in climb.attempts}
    task = TASKS[climb.result.task]
    if "fine_tuning" not in task.strategies and climb.result.strategy != "own_training":
        return [_lever("train", "trainer", None, None, None, effort=TRAINING)]
    look, asked = names.get("second look"), names.get("as asked")
    if look is not None and not look.reason:
        return []
    if look is None and (asked is None or asked.strategy != "feature_extraction"):
        return []
    return [_lever("train", "fine_tuning", None, None, None, effort=TRAINING)]


def _promised(climb: "Climb", judged: "Judgement") -> list[Lever]:
    """Return the changes that gain; their trials score accuracy, whatever the target is of."""
    comparable = judged.metric in LIKE_ACCURACY and judged.slice is None
    return [
        _lever(
            promise.change,
            promise.value,
            promise.gain,
            promise.low,
            promise.high,
            images=promise.images,
            reaches=promise.gain >= judged.target - judged.score if comparable else None,
            effort=TRAINING,
        )
        for promise in climb.promises
        if promise.gain > 0
    ]


def _labels(result: "StudyResult", judged: "Judgement", gap: float) -> list[Lever]:
    """Return the correction of doubtful labels: if half of them are wrong, half the bound."""
    labels = result.findings.get("labels") if result.findings else None
    if not labels or not labels["number"] or judged.metric not in LIKE_ACCURACY or judged.slice:
        return []  # labels are counted in all images, not in a slice
    bound = labels["number"] / labels["judged"]
    if bound > MOST_DOUBTFUL:
        return []
    effort = LABEL_SECONDS * labels["number"]
    return [
        _lever(
            "labels",
            labels["number"],
            bound / 2,
            0.0,
            bound,
            reaches=bound / 2 >= gap,
            effort=effort,
        )
    ]


def _collecting(result: "StudyResult", judged: "Judgement") -> list[Lever]:
    """Return collection: what the target needs, or as many images again, of the whole data set."""
    curve = result.curve_of(judged)
    reaches = judged.available < judged.required <= MOST_TIMES * judged.available
    images = int(judged.missing) if reaches else judged.images
    total = judged.held_out.training(judged.images + images)
    sign = -1 if result.outcomes[judged.metric].sign < 0 else 1
    low, high = curve.interval(total, LEVEL)
    now = sign * judged.score
    return [
        _lever(
            "collect",
            images,
            curve.predict(total) - now,
            max(low - now, 0.0),
            high - now,
            reaches=reaches,
            effort=COLLECT_SECONDS * images * result.images_each,
        )
    ]


def _lever(
    kind: Kind,
    value: str | int | bool | None,
    gain: float | None,
    low: float | None,
    high: float | None,
    *,
    images: int | None = None,
    reaches: bool | None = None,
    effort: float,
) -> Lever:
    return {
        "kind": kind,
        "value": value,
        "gain": gain,
        "gain_low": low,
        "gain_high": high,
        "images": images,
        "reaches": reaches,
        "effort": round(effort, 1),
    }
