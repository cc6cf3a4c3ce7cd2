"""The result of a study: its scores and learning curves, from which targets are judged."""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from pytest_datasize.curve import notebook
from pytest_datasize.curve.advice.association import FactorFacts
from pytest_datasize.curve.advice.class_curves import ClassCurves, fit_classes
from pytest_datasize.curve.held_out import HeldOut
from pytest_datasize.curve.learning_curve import LearningCurve
from pytest_datasize.curve.outcomes import Outcomes, Scores
from pytest_datasize.curve.self_check import Advice, advise
from pytest_datasize.curve.slices import LEAST_GROUPS, LEAST_IMAGES, MOST_VALUES, Slice
from pytest_datasize.curve.verdict import TRUSTED_RANGE, Judgement, SliceName, Verdict, judge
from pytest_datasize.errors import RequirementError, TrainingError
from pytest_datasize.requirement.requirement import Requirement
from pytest_datasize.requirement.targets import Target, class_targets, points_of
from pytest_datasize.requirement.tasks import BY_IMAGE, CLASSIFICATION, METRICS, TASKS, point_of
from pytest_datasize.requirement.units import GROUP, IMAGE, plural
from pytest_datasize.requirement.validators import CLASS
from pytest_datasize.study.factors import refuse_undivided
from pytest_datasize.trials.plan import MOST_TESTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_Name = TypeVar("_Name", bound=Hashable)


class _Fitted(Mapping[_Name, LearningCurve]):
    """Learning curves, fitted on first access, since only a few are used."""

    def __init__(self, outcomes: Mapping[_Name, Outcomes], law: str) -> None:
        self._outcomes, self._law = outcomes, law
        self._curves: dict[_Name, LearningCurve] = {}

    def __getitem__(self, name: _Name) -> LearningCurve:
        if name not in self._curves:
            self._curves[name] = self._outcomes[name].curve(self._law)
        return self._curves[name]

    def __iter__(self) -> Iterator[_Name]:
        return iter(self._outcomes)

    def __len__(self) -> int:
        return len(self._outcomes)


@dataclass(frozen=True, repr=False)
class StudyResult:
    """The evidence: measured scores at every size, and the learning curves fitted to them.

    Attributes
    ----------
    source, notes
        Where the images come from, and what a reader should know about them.
    class_counts
        Class name → number of images.
    total, available
        Images in all; images (or groups) available for training, without those held out.
    n_test
        Test images behind one score.
    sizes
        Training sizes in images (or groups), ascending.
    repeats, sampling, test_source
        Repeats that were run, how subsamples were drawn, where the test images come from.
    n_trials, n_trials_planned
        Models trained, and models in the full plan.
    outcomes
        Metric → scores of all trials and their sampling variance; for a metric of single classes
        those of the class with the worst score.
    class_outcomes
        Metric of single classes → class name → the same for that class; the recall first.
    law
        Family of the curves.
    backbone, weights_source, weights_hash, image_size, precision, strategy, device, seed
        How the scores were obtained.
    timings
        Stage → wall time in seconds of the measurement: ``decode_and_embed``, ``heads``,
        ``outcomes``.
    findings
        Data beside the scores, see :mod:`pytest_datasize.study.findings`.
    splits
        Names of the repeats' splits; equal names mean the same test and training images.
    features
        Layers that the heads of a frozen backbone used, such as "last layer and 5 stages"; empty
        for other strategies.
    own_test
        Whether the test images are a data set of their own.
    task
        What the labels are, a name in :data:`pytest_datasize.requirement.tasks.TASKS`.
    amounts
        Class name → number of objects or pixels, where these are counted beside images.
    operating_points
        Operating points that were measured: metric → its class and what is required of the
        threshold.
    slices
        Every value of every factor of ``slices``, with its scores.
    factors
        What is known of these factors: whether they predict the class.
    unit
        What sizes, ``available`` and required numbers count: ``image`` or ``group``.
    groups
        ``number`` of the pool's groups, and of their ``images``; None without the option ``group``.
    """

    source: str
    notes: tuple[str, ...]
    class_counts: Mapping[str, int]
    total: int
    available: int
    n_test: int
    sizes: tuple[int, ...]
    repeats: int
    sampling: str
    test_source: str
    n_trials: int
    n_trials_planned: int
    outcomes: Mapping[str, Outcomes]
    class_outcomes: Mapping[str, Mapping[str, Outcomes]]
    law: str
    backbone: str
    weights_source: str
    weights_hash: str
    image_size: int
    precision: str
    strategy: str
    device: str
    seed: int
    timings: Mapping[str, float]
    findings: Mapping[str, Any] = field(default_factory=dict)
    features: str = ""
    own_test: bool = False
    splits: tuple[str, ...] = ()
    task: str = CLASSIFICATION
    amounts: Mapping[str, int] | None = None
    operating_points: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    slices: tuple[Slice, ...] = ()
    factors: tuple[FactorFacts, ...] = ()
    unit: str = IMAGE
    groups: Mapping[str, int] | None = None

    def __repr__(self) -> str:
        return (
            f"<StudyResult: {self.source}, {self.available} of {self.units} {plural(self.unit)} "
            "available, "
            f"{self.n_trials} trials of {self.strategy} with {self.backbone}>"
        )

    def _repr_html_(self) -> str:
        """Show the curve of the first metric in a notebook."""
        metric = next(iter(self.outcomes))
        return notebook.as_html(self.curves[metric], f"{metric}: {self!r}")

    def to_frame(self) -> Any:
        """Return one row per metric and training size as a pandas DataFrame.

        Columns: `metric`, and those of :meth:`LearningCurve.to_frame`.

        Raises
        ------
        ImportError
            pandas is not installed.
        """
        import pandas

        frames = [self.curves[name].to_frame().assign(metric=name) for name in self.outcomes]
        return pandas.concat(frames, ignore_index=True)

    def plot(
        self, metric: str | None = None, axes: "Axes | None" = None, target: float | None = None
    ) -> "Axes":
        """Draw the learning curve of a metric; see :meth:`LearningCurve.plot`.

        Parameters
        ----------
        metric
            By default the first one.
        axes, target
            Where to draw, and a score that is drawn as a line.
        """
        name = metric or next(iter(self.outcomes))
        self.check([name])
        drawn = self.curves[name].plot(axes, target)
        drawn.set_ylabel(name)
        return drawn

    @property
    def scores(self) -> Mapping[str, Scores]:
        """Metric → one tuple of repeats per size, with the metric's own sign."""
        return {metric: found.given for metric, found in self.outcomes.items()}

    @cached_property
    def curves(self) -> Mapping[str, LearningCurve]:
        """Metric → learning curve, fitted on first access."""
        return _Fitted(self.outcomes, self.law)

    @property
    def recalls(self) -> Mapping[str, Outcomes]:
        """Class name → scores of its recall; empty where classes are not scored."""
        return next(iter(self.class_outcomes.values()), {})

    @cached_property
    def class_curves(self) -> Mapping[str, LearningCurve]:
        """Class name → learning curve of its recall."""
        return _Fitted(self.recalls, self.law)

    @cached_property
    def curves_by_class(self) -> Mapping[str, Mapping[str, LearningCurve]]:
        """Metric of single classes → class name → learning curve."""
        return {name: _Fitted(found, self.law) for name, found in self.class_outcomes.items()}

    @cached_property
    def curves_by_slice(self) -> Mapping[str, Mapping[SliceName, LearningCurve]]:
        """Metric → slice → learning curve, of the slices that can be judged."""
        return {name: _Fitted(found, self.law) for name, found in self.slice_outcomes.items()}

    @cached_property
    def slice_outcomes(self) -> Mapping[str, Mapping[SliceName, Outcomes]]:
        """Metric → slice → its scores, of the slices that can be judged."""
        found: dict[str, dict[SliceName, Outcomes]] = {}
        for one in self.slices:
            for metric, outcomes in one.outcomes.items():
                found.setdefault(metric, {})[SliceName(one.factor, one.value)] = outcomes
        return found

    @cached_property
    def grown_classes(self) -> ClassCurves | None:
        """The recalls of all classes, fitted together; None if the result lacks data for it."""
        if not self.findings:
            return None
        shift = self.findings["prior_shift"]
        return fit_classes(
            self.recalls,
            np.array(self.findings["class_sizes"]),
            None if shift is None else np.array(shift),
        )

    @property
    def units(self) -> int:
        """Images in all, or groups of the pool where these are counted."""
        return self.groups["number"] if self.unit == GROUP and self.groups else self.total

    @property
    def images_each(self) -> float:
        """Images of one unit: 1, or the mean of the groups."""
        if self.unit == IMAGE or not self.groups:
            return 1.0
        return self.groups["images"] / self.groups["number"]

    @property
    def held_out(self) -> HeldOut:
        """What is held out of the images (or groups) that are collected."""
        if self.own_test:
            return HeldOut()
        if self.n_test >= MOST_TESTED - len(self.class_counts):  # no more are ever held out
            return HeldOut(images=self.units - self.available)
        return HeldOut(share=1.0 - self.available / self.units)

    @property
    def n_test_distinct(self) -> int:
        """Number of different test images behind all scores of one size."""
        return next(iter(self.outcomes.values())).n_test

    def verdict(
        self,
        confidence: float | None = None,
        trusted_range: float = TRUSTED_RANGE,
        earlier: int = 0,
        min_slice: Mapping[str, float] | None = None,
        **targets: Target,
    ) -> Verdict:
        """Judge targets from this evidence.

        Parameters
        ----------
        confidence
            Required probability of the verdict, in (0.5, 1); None lets the median decide.
        trusted_range
            Multiple of the largest measured size beyond which a number is an extrapolation.
        earlier
            Number of other models that were tried before and fell short: this one must then be
            surer, see :func:`pytest_datasize.curve.verdict.level_after`.
        min_slice
            Metric → score that every slice must reach; the worst decides.
        **targets
            Metric → target: a score to reach, one for each class, or an operating point.

        Raises
        ------
        RequirementError
            Unknown metric or class, a target outside its bounds, an operating point that was not
            measured, no slice that could be judged, or a factor without slices.
        TrainingError
            The user's trainer does not score the metric.
        """
        asked: dict[str, Any] = {"trusted_range": trusted_range}
        if confidence is not None:
            asked["confidence"] = confidence
        bounds = {name: o.given_bounds for name, o in self.outcomes.items() if name not in METRICS}
        if bounds:
            asked["bounds"] = bounds
        if min_slice:
            asked["min_slice"] = min_slice
        requirement = Requirement.parse((), {**targets, **asked}, "verdict")
        of_slices: Mapping[str, float] = requirement.options.get("min_slice") or {}
        self.check([*requirement.targets, *of_slices])
        self._check_points(points_of(requirement.targets))
        for metric in of_slices:
            if why := self.no_slices(metric) or self.under_tested:
                raise RequirementError(f"min_slice: {why}.")
        if of_slices:
            divided = {one.factor for one in self.slices}
            refuse_undivided(one.name for one in self.factors if one.name not in divided)
        asked_of: list[tuple[str, Target, Mapping[Any, LearningCurve]]] = [
            (metric, target, self._curves_of(metric))
            for metric, target in requirement.targets.items()
        ]
        asked_of += [
            (metric, target, self.curves_by_slice[metric]) for metric, target in of_slices.items()
        ]
        return Verdict(
            tuple(
                self._judged(metric, target, curves, confidence, trusted_range, earlier)
                for metric, target, curves in asked_of
            )
        )

    def _judged(
        self,
        metric: str,
        target: Target,
        curves: Mapping[Any, LearningCurve],
        confidence: float | None,
        trusted_range: float,
        earlier: int,
    ) -> Judgement:
        names = tuple(self.class_counts)
        goals = class_targets(metric, target, names, TASKS[self.task].label)
        if goals and None in curves:
            raise TrainingError(
                f"{self.backbone} returned one number for {metric}, so its classes cannot have "
                "targets of their own. Return class probabilities, from which every metric can be "
                "computed."
            )
        found = judge(
            metric,
            goals if isinstance(target, Mapping) else target,
            curves,
            self.available,
            confidence,
            trusted_range,
            self.outcomes[metric].sign,
            earlier,
            self.held_out,
            self.unit,
        )
        if metric not in self.operating_points:
            return replace(found, class_targets=goals)
        point = self.operating_points[metric]
        return replace(found, at={name: point[name] for name in point if name != CLASS})

    @property
    def under_tested(self) -> str:
        """Say which slice is large enough, but was hardly tested; empty if there is none."""
        found = next((one for one in self.slices if one.under_tested), None)
        if found is None:
            return ""
        groups = found.n_tested_groups is not None and found.n_tested_groups < LEAST_GROUPS
        tested = (
            f"{found.n_tested_groups} of its {found.n_groups} groups"
            if groups
            else f"{found.n_test} of its {found.testable} images"
        )
        return (
            f"{found.factor} {found.value!r} cannot be judged: {self.repeats} repeats tested "
            f"{tested}. Use more repeats"
        )

    def no_slices(self, metric: str) -> str:
        """Return why no slice has a score of a metric; empty if one has."""
        if metric in self.slice_outcomes:
            return ""
        if not self.slices:
            return (
                "there are no slices; name factors with slices= that have at most "
                f"{MOST_VALUES} values, and at least two images per value"
            )
        if not any(metric in one.measured for one in self.slices):
            if metric not in METRICS or metric in BY_IMAGE:
                return f"the trainer gives one number for {metric}, not one value per image"
            return f"{metric} is not a mean over images, so slices have no score of it"
        largest = max(self.slices, key=lambda one: one.testable)
        return (
            f"every slice is too small to judge: the largest, {largest.factor} "
            f"{largest.value!r}, has {largest.testable} test images; {LEAST_IMAGES} are needed, of "
            f"{LEAST_GROUPS} groups if images are grouped"
        )

    def check(self, targets: Iterable[str]) -> None:
        """Check that the trials scored the given metrics.

        Raises
        ------
        TrainingError
            A trainer returned other scores.
        """
        missing = [metric for metric in targets if metric not in self.outcomes]
        task, own = TASKS[self.task], self.strategy == "own_training"
        if missing and not own and missing[0] in task.metrics and point_of(missing[0]):
            raise RequirementError(
                f"{missing[0]} was not measured: its threshold is chosen while the models are "
                f"trained. Give the study operating_points={{{missing[0]!r}: ...}}."
            )
        if missing and not own and missing[0] in task.metrics:
            more = task.metrics[missing[0]].more_than
            raise RequirementError(
                f"{missing[0]} says nothing with {len(self.class_counts)} classes: it needs more "
                f"than {more}."
            )
        if missing and not own and missing[0] in METRICS:
            raise RequirementError(
                f"{missing[0]} is a metric of {' and '.join(METRICS[missing[0]])}, and the labels "
                f"of {self.source} are {task.labels} (task {self.task}). Its metrics: "
                f"{', '.join(task.metrics)}. Another task can be asked for with task=."
            )
        if missing:
            raise TrainingError(
                f"{self.backbone} scored {', '.join(sorted(self.outcomes))}, not "
                f"{', '.join(missing)}. Return that score too, or return class probabilities, "
                "from which every metric can be computed."
            )

    def _check_points(self, asked: Mapping[str, Mapping[str, Any]]) -> None:
        for metric, point in asked.items():
            measured = dict(self.operating_points[metric])
            if measured != point:
                raise RequirementError(
                    f"{metric}: {measured} was measured, not {point}. Give the study "
                    f"operating_points={{{metric!r}: {point}}}."
                )

    def advice(self, judgement: Judgement) -> Advice:
        """Return how far to trust a judgement, and what would decide it."""
        return advise(self.outcomes_of(judgement), self.curve_of(judgement), judgement)

    def outcomes_of(self, judgement: Judgement) -> Outcomes:
        """Return the scores that a judgement is about: of all images, a class or a slice."""
        metric = judgement.metric
        if judgement.slice is not None:
            return self.slice_outcomes[metric][judgement.slice]
        if judgement.class_name is not None:
            return self.class_outcomes[metric][judgement.class_name]
        return self.outcomes[metric]

    def curve_of(self, judgement: Judgement) -> LearningCurve:
        """Return the learning curve that a judgement is about."""
        metric = judgement.metric
        if judgement.slice is not None:
            return self.curves_by_slice[metric][judgement.slice]
        if judgement.class_name is not None:
            return self.curves_by_class[metric][judgement.class_name]
        return self.curves[metric]

    def _curves_of(self, metric: str) -> Mapping[Any, LearningCurve]:
        return self.curves_by_class.get(metric) or {None: self.curves[metric]}
