"""Take a second look: fine-tune the backbone within a time limit, and go on another time.

The time is estimated before the training starts and checked while it runs. Every model that is
trained is stored, so that another run continues.
"""

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pytest_datasize.requirement.registries import AUTO
from pytest_datasize.study.stopping import SecondLook
from pytest_datasize.study.study import Study

if TYPE_CHECKING:
    from pytest_datasize.study.result import StudyResult

SIZES: Final = (0.25, 0.5, 1.0)
"""Training sizes, as shares of the pool: the least that a curve needs."""

REPEATS: Final = 4
"""Most repeats; two are enough where they decide."""

LEAST_REPEATS: Final = 2

LIMITS: Final = {"cpu": 180.0}
"""Type of device → seconds by default."""

OTHER_LIMIT: Final = 600.0
"""The same for any other device, such as a GPU."""


class OutOfTimeError(Exception):
    """The time of a second look is over."""


def second_look(study: Study) -> Study:
    """Return the study that fine-tunes the backbone on the same images."""
    return study.variant(strategy="fine_tuning", sizes=SIZES, repeats=REPEATS, budget=None)


def limit_of(study: Study, second_look: str | float) -> float:
    """Return the seconds of a second look; 0 forbids it."""
    if second_look == "off":
        return 0.0
    if second_look == AUTO:
        return LIMITS.get(study.context.device.type, OTHER_LIMIT)
    return float(second_look)


def known_trials(study: Study) -> Collection[tuple[int, int]]:
    """Return the trials of a study that are stored, as (size, repeat)."""
    key = study.context.trials_key()
    return study.store.trials(key) if key else {}


def check_time(end: float) -> None:
    """Raise :class:`OutOfTimeError` after a time of the monotonic clock."""
    if time.monotonic() > end:
        raise OutOfTimeError


@contextmanager
def deadline(study: Study, end: float) -> Iterator[None]:
    """Raise :class:`OutOfTimeError` as soon as a study reports progress after a time."""
    report = study.context.on_progress

    def on_progress(stage: str, done: int, total: int) -> None:
        check_time(end)
        report(f"second look: {stage}" if total else stage, done, total)

    study.context.on_progress = on_progress
    try:
        yield
    finally:
        study.context.on_progress = report


def affordable(study: Study, limit: float) -> tuple[int, float]:
    """Return how many repeats fit into a time limit, and the seconds that they need.

    If not even the least number fits, its seconds. Stored trials need no time.

    Raises
    ------
    DatasetError, BackboneError
        The plan cannot be drawn, or the backbone cannot be trained.
    """
    from pytest_datasize.study.splits import images_to_split
    from pytest_datasize.trials.cost import estimate

    context = study.context
    images, test = images_to_split(context)
    plan = context.draw(images, test)
    known = known_trials(study)
    if all((size, number) in known for size, number, _ in plan.trials()):
        return len(plan.repeats), 0.0
    sets = (images, test) if test else (images,)
    options = context.options["strategy"], context.backbone.loaded, context.device
    cost = estimate(*options, sets, context.training())
    for repeats in range(len(plan.repeats), LEAST_REPEATS, -1):
        needed = cost.seconds(replace(plan, repeats=plan.repeats[:repeats]), known)
        if needed <= limit < float("inf"):
            return repeats, needed
    needed = cost.seconds(replace(plan, repeats=plan.repeats[:LEAST_REPEATS]), known)
    return (LEAST_REPEATS if needed <= limit else 0), needed


def run_within(study: Study, repeats: int, rule: SecondLook, limit: float) -> "StudyResult | None":
    """Run a study until the time is over; return None if two repeats are not complete then."""
    some = study.variant(repeats=repeats)
    try:
        with deadline(some, time.monotonic() + limit):
            return some.run(rule)
    except OutOfTimeError:
        done = _complete_repeats(some, known_trials(study))
        if done < LEAST_REPEATS:
            return None
        return study.variant(repeats=done).run()  # all of its trials are stored


def _complete_repeats(study: Study, known: Collection[tuple[int, int]]) -> int:
    """Return how many repeats are complete, from the first."""
    from pytest_datasize.study.splits import images_to_split

    plan = study.context.draw(*images_to_split(study.context))
    incomplete = [number for size, number, _ in plan.trials() if (size, number) not in known]
    return min(incomplete, default=len(plan.repeats))
