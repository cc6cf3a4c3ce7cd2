"""Parse and check the requirement of one marker or one YAML entry."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pytest_datasize.errors import RequirementError
from pytest_datasize.requirement.options import (
    CONDITIONS,
    OPTIONS,
    Scope,
    names_of,
    shown,
)
from pytest_datasize.requirement.spelling import nearest
from pytest_datasize.requirement.targets import Target, target_option
from pytest_datasize.requirement.tasks import (
    AUTO,
    BY_IMAGE,
    CLASSIFICATION,
    METRICS,
    TASKS,
    ends,
    task_of,
)
from pytest_datasize.requirement.units import GROUP


class Requirement(NamedTuple):
    """The requirement of one marker or one YAML entry.

    Attributes
    ----------
    targets
        Metric name → target: a number, one for each class, or an operating point, see
        :mod:`pytest_datasize.requirement.targets`.
    options
        The options that were given; the settings fill in the others.
    where
        Origin of the requirement for messages: a test id or a place in a file.
    """

    targets: Mapping[str, Target]
    options: Mapping[str, Any]
    where: str = ""

    @classmethod
    def parse(
        cls,
        args: Sequence[object],
        arguments: Mapping[str, Any],
        where: str,
        *,
        part: bool = False,
    ) -> "Requirement":
        """Parse the arguments of a marker.

        Parameters
        ----------
        args, arguments
            Positional and named arguments.
        where
            Origin of the requirement for messages.
        part
            Whether other markers may add the targets.

        Raises
        ------
        RequirementError
            A positional argument, an unknown name, a wrong value, or no metric at all.

        Examples
        --------
        >>> Requirement.parse((), {"accuracy": 0.9, "repeats": 5}, "here").targets
        {'accuracy': 0.9}
        >>> Requirement.parse((), {"acuracy": 0.9}, "here")
        Traceback (most recent call last):
            ...
        pytest_datasize.errors.RequirementError: here: unknown name 'acuracy'; did you mean \
'accuracy'? Metrics: accuracy, auc, balanced_accuracy, f1_macro, f1_micro, recall_per_class. \
Options: allow_outside, augment, backbone, bounds, budget, checks, confidence, cost_per_image, \
dataset, deployment, device, direction, false_alarms, group, image_budget, image_size, \
images_per_class, law, max_increase, max_pixels, precision, preset, repeats, represents, \
sampling, second_look, seed, sizes, strategy, test_dataset, test_fraction, trainer, trusted_range, \
undecided, unfreeze, weights.
        """
        if args:
            raise RequirementError(
                f"{where}: {shown(args[0])} has no name; write metric=target, "
                f"such as accuracy=0.9. {_allowed_names()}"
            )
        options = {
            name: OPTIONS[name].parse(name, value, where)
            for name, value in arguments.items()
            if name in OPTIONS
        }
        bounds = options.get("bounds") or {}
        declared = {**(options.get("direction") or {}), **bounds}
        targets: dict[str, Target] = {}
        for name, value in arguments.items():
            if name in METRICS or name in declared:
                known = ends(name) if name in METRICS else bounds.get(name, (0.0, 1.0))
                targets[name] = target_option(name, known).parse(name, value, where)
            elif name in OPTIONS:
                continue
            else:
                hint = nearest(name, (*METRICS, *OPTIONS)) or "."
                raise RequirementError(f"{where}: unknown name {name!r}{hint} {_allowed_names()}")
        check_slices(options, where)
        requirement = cls(targets, options, where)
        if not part and not requirement.judges:
            raise no_target(where)
        return requirement

    @property
    def judges(self) -> bool:
        """Whether there is anything to judge: a target, or a condition without training."""
        others = (*CONDITIONS, *names_of(Scope.TARGET))
        return bool(self.targets) or any(self.options.get(name) for name in others)


def no_target(where: str) -> RequirementError:
    """Return the error for a requirement that sets options only."""
    return RequirementError(
        f"{where}: no target; give at least one metric, such as accuracy=0.9. {_allowed_names()}"
    )


def check_slices(options: Mapping[str, Any], where: str) -> None:
    """Check the scores that every slice must reach.

    Raises
    ------
    RequirementError
        A metric is unknown, or a score lies outside the range of a trainer's own metric.

    Examples
    --------
    >>> check_slices({"min_slice": {"found": 80.0}, "bounds": {"found": (0.0, 1.0)}}, "here")
    Traceback (most recent call last):
        ...
    pytest_datasize.errors.RequirementError: here: min_slice: found=80.0 is not allowed (write \
0.8 for 80 %). Expected a number above 0 and below 1, such as 0.9.
    """
    bounds = options.get("bounds") or {}
    declared = {**(options.get("direction") or {}), **bounds}
    for metric, target in (options.get("min_slice") or {}).items():
        if metric not in METRICS and metric not in declared:
            hint = nearest(metric, BY_IMAGE) or "."
            raise RequirementError(
                f"{where}: min_slice: unknown metric {metric!r}{hint} Metrics of slices: "
                f"{', '.join(BY_IMAGE)}; a trainer's own are named in direction= or bounds=."
            )
        known = ends(metric) if metric in METRICS else bounds.get(metric, (0.0, 1.0))
        target_option(metric, known).parse(metric, target, f"{where}: min_slice")


def check_units(options: Mapping[str, Any], where: str) -> None:
    """Check the options that count groups.

    Raises
    ------
    RequirementError
        Groups are counted without ``group``, or have a price and are not counted.

    Examples
    --------
    >>> check_units({"unit": "group", "group": None}, "here")
    Traceback (most recent call last):
        ...
    pytest_datasize.errors.RequirementError: here: unit='group' needs group=, which says which \
images belong together: a column, a pattern of paths, a function of a path or one value per image.
    """
    if options["unit"] == GROUP and options["group"] is None:
        raise RequirementError(
            f"{where}: unit='group' needs group=, which says which images belong together: a "
            "column, a pattern of paths, a function of a path or one value per image."
        )
    if options["unit"] != GROUP and options.get("cost_per_group") is not None:
        raise RequirementError(
            f"{where}: cost_per_group needs unit='group'; if images are counted, give "
            "cost_per_image."
        )


def asked_task(targets: Iterable[str], task: str, where: str) -> str:
    """Return the task of a requirement: the one asked for, or the only one with its metrics.

    Raises
    ------
    RequirementError
        No task has all its metrics, or not the one that is asked for.

    Examples
    --------
    >>> asked_task({"r2": 0.5}, "auto", "here"), asked_task({"f1_macro": 0.5}, "auto", "here")
    ('regression', 'auto')
    """
    asked = [metric for metric in targets if metric in METRICS]
    if task != AUTO:
        if strange := [metric for metric in asked if metric not in TASKS[task].metrics]:
            raise RequirementError(
                f"{where}: {strange[0]} is a metric of {' and '.join(METRICS[strange[0]])}, not of "
                f"task={task!r}, whose metrics are {', '.join(TASKS[task].metrics)}."
            )
        return task
    if asked and not any(set(asked) <= set(one.metrics) for one in TASKS.values()):
        of = "; ".join(f"{metric}: {', '.join(METRICS[metric])}" for metric in asked)
        raise RequirementError(
            f"{where}: no task has all of these metrics ({of}). Ask for them in gates of their own."
        )
    only = task_of(asked)
    return AUTO if only in (None, CLASSIFICATION) else only


def _allowed_names() -> str:
    return f"Metrics: {', '.join(sorted(METRICS))}. Options: {', '.join(sorted(OPTIONS))}."
