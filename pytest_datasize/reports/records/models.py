"""List the models that a gate tried for one target, and those that it did not, as plain data."""

import math
from typing import TYPE_CHECKING

from pytest_datasize.reports.records.record_parts import Model
from pytest_datasize.reports.records.text import sendable

if TYPE_CHECKING:
    from pytest_datasize.study.ladder import Attempt, Climb


def models(climb: "Climb", index: int) -> list[Model]:
    """Return a row for each model, the cheapest first.

    Parameters
    ----------
    climb
        The models that were tried.
    index
        Number of the target among those of the requirement.
    """
    return [_row(attempt, index, attempt is climb.chosen) for attempt in climb.attempts]


def _row(attempt: "Attempt", index: int, judged: bool) -> Model:
    row: Model = {
        "name": attempt.name,
        "strategy": attempt.strategy,
        "image_size": attempt.image_size,
        "features": "",
        "judged": judged,
        "verdict": None,
        "score": None,
        "score_low": None,
        "score_high": None,
        "required": None,
        "probability": None,
        "level": None,
        "seconds": None if attempt.result else attempt.seconds,
        "reason": sendable(attempt.reason),
    }
    if attempt.result is None or attempt.verdict is None:
        return row
    found = attempt.verdict.judgements[index]
    return {
        **row,
        "features": attempt.result.features,
        "verdict": found.status.value,
        "score": found.score,
        "score_low": found.score_low,
        "score_high": found.score_high,
        "required": None if math.isinf(found.required) else int(found.required),
        "probability": found.probability,
        "level": found.level,
    }
