"""Try models from cheap to thorough until the targets are met: ``strategy="auto"``.

A verdict on the images must not be one on the weakest model. So a gate starts with a head on a
small input, goes on to the backbone's own input size, and then takes a second look: it fine-tunes
the backbone, within a time limit. The first model that meets the targets ends the search; if none
does, the one with the best score is judged. Each further model must be surer, see
:func:`pytest_datasize.curve.verdict.level_after`.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal

from pytest_datasize.errors import BackboneError, DatasizeError
from pytest_datasize.requirement.registries import AUTO
from pytest_datasize.requirement.targets import Target
from pytest_datasize.requirement.tasks import CLASSIFICATION, METRICS, TASKS, lower_is_better
from pytest_datasize.store import key_of
from pytest_datasize.study import second_look as looking
from pytest_datasize.study.stopping import Certainty, SecondLook, unjudged
from pytest_datasize.study.study import Study

if TYPE_CHECKING:
    from pytest_datasize.curve.verdict import Judgement, Verdict
    from pytest_datasize.study.before_training import StudyPlan
    from pytest_datasize.study.promises import Promise
    from pytest_datasize.study.result import StudyResult

Name = Literal["small input", "full input", "second look", "as asked"]

SMALL_SIDE: Final = 96
"""Side of the first model's input in pixels (benchmarks/README.md compares sides)."""


@dataclass(frozen=True)
class Rung:
    """One model of the ladder.

    Attributes
    ----------
    name
        Which model it is.
    study
        The study that trains it.
    """

    name: Name
    study: Study


@dataclass(frozen=True)
class Attempt:
    """One model and its answer.

    Attributes
    ----------
    name, strategy, image_size
        Which model it is; the side of its input in pixels, None for the backbone's own.
    result, verdict
        Its evidence and verdict; None if it was not tried.
    seconds
        Time that its training took, or would take; None if that is not known.
    reason
        Why it was not tried; empty if it was.
    """

    name: Name
    strategy: str
    image_size: int | None
    result: "StudyResult | None" = None
    verdict: "Verdict | None" = None
    seconds: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Climb:
    """The models that were tried for some targets, in this order, and those that were not.

    Attributes
    ----------
    attempts
        All models of the ladder up to the one that meets the targets.
    chosen
        The model whose verdict counts: the first that meets all targets, else the best.
    promises
        What other changes promise, see :mod:`pytest_datasize.study.promises`; empty if a model
        meets the targets, or if there was no time.
    """

    attempts: tuple[Attempt, ...]
    chosen: Attempt
    promises: "tuple[Promise, ...]" = ()

    @property
    def result(self) -> "StudyResult":
        """The evidence of the chosen model."""
        assert self.chosen.result is not None
        return self.chosen.result

    @property
    def verdict(self) -> "Verdict":
        """The verdict of the chosen model."""
        assert self.chosen.verdict is not None
        return self.chosen.verdict


class Ladder:
    """The models that a gate may train on the same images.

    Parameters
    ----------
    study
        The study as asked. If its strategy is not ``auto``, it is the only model.
    until
        Stops the training of a model early, see :meth:`Study.run`; None trains all repeats.

    Attributes
    ----------
    results
        Name of a model → its evidence, once it was tried in this process; without second looks.
    """

    def __init__(self, study: Study, until: Certainty | None = None) -> None:
        self.study, self._until = study, until
        self.results: dict[Name, StudyResult] = {}
        self._looks: dict[tuple[str, float], StudyResult] = {}  # by stopping rule and time limit
        self._promises: tuple[Promise, ...] | None = None

    @cached_property
    def rungs(self) -> tuple[Rung, ...]:
        """The models, the cheapest first.

        Raises
        ------
        DatasetError
            The data set cannot be read.
        """
        return tuple(_rungs(self.study))

    def key(self) -> str | None:
        """Return the cache key of all that a climb could use; None if it is not known.

        It includes how many trials of a second look are stored: with more of them, another run may
        get further within the same time.

        Raises
        ------
        DatasetError
            Images cannot be read.
        """
        keys: list[str | None] = []
        for rung in self.rungs:
            key = rung.study.key()
            if key is None:
                return None
            if rung.name == "second look":
                key = f"{key}|{len(looking.known_trials(rung.study))}"
            keys.append(key)
        return key_of(keys) if len(keys) > 1 else keys[0]

    def use(self) -> None:
        """Mark the stored evidence as used: another target may need it, so it is not pruned."""
        stops = self._until.key if self._until else ""
        for rung in self.rungs:
            rung.study.store.use("evidence", f"{rung.study.key()}{stops}")

    def subject(self) -> dict[str, Any]:
        """Return what the evidence is about as plain data, the same on every machine."""
        found = self.study.subject()
        if len(self.rungs) == 1:
            return found
        return {**found, "options": {**found["options"], "strategy": AUTO}}

    @property
    def waits(self) -> tuple[str, ...]:
        """One sentence for each wait for another process: how long and why."""
        return tuple(text for rung in self.rungs for text in rung.study.waits)

    def plans(self) -> "Iterator[tuple[Name, StudyPlan]]":
        """Yield the name and plan of every model, the cheapest first; train nothing.

        Raises
        ------
        DatasetError, BackboneError
            As :meth:`Study.run` raises before it trains.
        """
        for rung in self.rungs:
            try:
                yield rung.name, rung.study.plan()
            except DatasizeError:
                if rung.name in ("as asked", "full input"):
                    raise

    def check(self, targets: Mapping[str, Target]) -> None:
        """Check before anything is trained that targets name classes of the images.

        Raises
        ------
        RequirementError
            A class is unknown.
        DatasetError
            The data set cannot be read.
        """
        self.study.context.check_targets(targets)

    def climb(
        self,
        targets: Mapping[str, Any],
        confidence: float | None = None,
        trusted_range: float = 4.0,
        second_look: str | float = AUTO,
        promises: bool = True,
    ) -> Climb:
        """Try one model after the other until all targets are met.

        Parameters
        ----------
        targets
            Metric → score to reach; ``min_slice`` → the same of every slice.
        confidence, trusted_range
            See :meth:`pytest_datasize.study.result.StudyResult.verdict`.
        second_look
            Seconds of the second look, ``auto`` or ``off``.
        promises
            Whether to try other changes if no model meets the targets.

        Raises
        ------
        DatasetError, BackboneError
            As :meth:`Study.run`.
        TrainingError
            The user's trainer does not score a metric.
        """
        self.check(targets)
        attempts: list[Attempt] = []
        end = float("inf")
        for rung in self.rungs:
            tried = [attempt for attempt in attempts if attempt.result is not None]
            left = self._left(tried)
            if rung.name == "second look":
                asked = looking.limit_of(rung.study, second_look)
                limit = min(asked, left)
                end = time.monotonic() + limit
                found = self._second_look(rung, targets, limit, left < asked, tried)
            else:
                found = self._tried(rung, left)
            if found.result is not None:
                verdict = found.result.verdict(
                    confidence, trusted_range, earlier=len(tried), **targets
                )
                found = replace(found, verdict=verdict)
            attempts.append(found)
            if found.verdict is not None and found.verdict.passed:
                return Climb(tuple(attempts), found)
        best = max(attempts, key=_rank)
        return Climb(tuple(attempts), best, self._promised(end) if promises else ())

    def _promised(self, end: float) -> "tuple[Promise, ...]":
        """Try what else could help, as long as there is time."""
        if len(self.rungs) == 1 or self.study.context.task != CLASSIFICATION:
            return ()
        if self._promises is None:
            from pytest_datasize.study.promises import promises

            found: list[Promise] = []
            study = next(rung.study for rung in self.rungs if rung.name == "full input")
            with suppress(looking.OutOfTimeError), looking.deadline(study, end):
                looking.check_time(end)
                for promise in promises(study.context):
                    found.append(promise)
                    looking.check_time(end)
                self._promises = tuple(found)  # all of them: another requirement uses them, too
            return tuple(found)
        return self._promises

    def _left(self, tried: list[Attempt]) -> float:
        """Return the seconds of the budget that are left; infinite without a budget."""
        budget = self.study.options["budget"]
        if budget is None:
            return float("inf")
        return float(budget - sum(attempt.seconds or 0.0 for attempt in tried))

    def _tried(self, rung: Rung, left: float) -> Attempt:
        """Train one model without a time limit of its own."""
        if rung.name not in self.results:
            if rung.name == "full input" and self.results and left < float("inf"):
                needed = rung.study.plan().seconds
                if needed is not None and needed > left:
                    return _untried(rung, f"the budget has {left:.0f} s left", needed)
            try:
                self.results[rung.name] = rung.study.run(self._until)
            except BackboneError as problem:
                if rung.name != "small input":
                    raise
                return _untried(rung, str(problem))  # this backbone has one input size only
        return _attempt(rung, self.results[rung.name])

    def _second_look(
        self,
        rung: Rung,
        targets: Mapping[str, Any],
        limit: float,
        out_of_budget: bool,
        tried: list[Attempt],
    ) -> Attempt:
        """Fine-tune the backbone within a time limit."""
        if limit <= 0:
            return _untried(rung, "the budget is used up" if out_of_budget else "second_look=off")
        study, confidence = rung.study, self._until.confidence if self._until else None
        rule = SecondLook(targets, confidence, len(tried))
        key = rule.key, limit  # other targets, or more time, may need other repeats
        if key in self._looks:
            return _attempt(rung, self._looks[key])
        try:
            repeats, seconds = looking.affordable(study, limit)
            if repeats < looking.LEAST_REPEATS:
                return _untried(rung, f"it does not fit into {limit:.0f} s", seconds)
            if seconds:
                study.context.on_progress(_why(tried, limit), 0, 0)
            result = looking.run_within(study, repeats, rule, limit)
            if result is None:
                needed = looking.affordable(study, float("inf"))[1]
                reason = f"its {limit:.0f} s were over"
                if study.context.trials_key():
                    reason += "; what was trained is stored"
                return _untried(rung, reason, needed)
        except DatasizeError as problem:
            return _untried(rung, str(problem))
        if why := unjudged(result, targets):  # with its few repeats
            return _untried(rung, why)
        self._looks[key] = result
        return _attempt(rung, result)


def _rungs(study: Study) -> Iterator[Rung]:
    """Yield the models of a study, the cheapest first."""
    context = study.context
    if not context.climbs:
        yield Rung("as asked", study)
        return
    options = context.options
    task = context.task
    named = options["image_size"] is None and isinstance(options["backbone"], str)
    if named and task != "segmentation":  # whose masks would be coarser
        yield Rung("small input", study.variant(image_size=SMALL_SIDE))
    yield Rung("full input", study.variant(budget=None) if options["budget"] else study)
    if "fine_tuning" in TASKS[task].strategies:
        yield Rung("second look", looking.second_look(study))


def _attempt(rung: Rung, result: "StudyResult") -> Attempt:
    seconds = sum(result.timings.values())
    return Attempt(rung.name, result.strategy, result.image_size, result, seconds=seconds)


def _untried(rung: Rung, reason: str, seconds: float | None = None) -> Attempt:
    options = rung.study.options
    side = options["image_size"]
    return Attempt(rung.name, options["strategy"], side, seconds=seconds, reason=reason)


def _rank(attempt: Attempt) -> tuple[float, ...]:
    """Return a key that is largest for the model with the best verdict, then the best score."""
    if attempt.verdict is None:
        return (float("-inf"),)
    from pytest_datasize.curve.verdict import Status

    place = list(Status).index(attempt.verdict.status)
    return -place, min(map(_margin, attempt.verdict.judgements))


def _margin(judged: "Judgement") -> float:
    """Return by how much the score with all images is better than the target."""
    lower = judged.metric in METRICS and lower_is_better(judged.metric)
    return judged.target - judged.score if lower else judged.score - judged.target


def _why(tried: list[Attempt], limit: float) -> str:
    """Say what is tried now, and why."""
    best = max(tried, key=_rank).verdict
    assert best is not None
    worst = min(best.judgements, key=_margin)
    return (
        f"second look: fine-tuning the backbone, as {worst.subject} is not met by a head on frozen "
        f"features ({worst.score:.3f}); this takes at most {limit:.0f} s"
    )
