"""Check targets: a number, one number for each class, or an operating point.

A target is plain data in a canonical form, so that equal targets have equal cache keys:

* a number, the score to reach;
* class name → number, for a metric of single classes; ``*`` stands for all other classes;
* for an operating point: its class, what is required of the threshold, and the score to reach:
  ``{"class": "crack", "precision": 0.9, "recall": 0.8}``.

Pure Python: imported at every pytest start.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from pytest_datasize.errors import RequirementError
from pytest_datasize.requirement import validators
from pytest_datasize.requirement.options import Option, Scope, shown
from pytest_datasize.requirement.spelling import nearest
from pytest_datasize.requirement.tasks import METRICS, TASKS, of_class, point_of

Target: TypeAlias = float | Mapping[str, Any]

OTHERS: Final = "*"
"""Stands for all classes that a target does not name."""


def target_option(metric: str, bounds: tuple[float, float]) -> Option:
    """Return an option that checks the targets of a metric.

    Parameters
    ----------
    metric
        A built-in metric, or a trainer's own.
    bounds
        Its range.

    Examples
    --------
    >>> option = target_option("recall_per_class", (0.0, 1.0))
    >>> option.parse("recall_per_class", {"rust": 0.95, "*": 0.8}, "here")
    {'*': 0.8, 'rust': 0.95}
    >>> option.parse("recall_per_class", {"*": 0.8}, "here")
    0.8
    """
    number = validators.fraction(*bounds)
    if point := point_of(metric):
        example = {
            validators.CLASS: "crack",
            point.given: 0.9,
            point.reach: 0.1 if point.lower else 0.8,
        }
        return Option(
            Scope.VERDICT,
            lambda value: validators.point(value, point.given, point.reach),
            f"a class, the {point.given} that the threshold must reach on training images, and the "
            f"target, such as {example}; numbers are above 0 and below 1",
            "target",
        )
    expected = _range(*bounds)
    if not of_class(metric):
        return Option(Scope.VERDICT, lambda value: _single(value, number), expected, "target")
    return Option(
        Scope.VERDICT,
        lambda value: _of_classes(value, number) if isinstance(value, Mapping) else number(value),
        f"{expected}; or one for each class, such as {{'crack': 0.95, '*': 0.8}}, where '*' stands "
        "for all others",
        "target",
    )


def _single(value: Any, number: Callable[[Any], float]) -> float:
    if isinstance(value, Mapping):
        known = [name for name in METRICS if of_class(name) and not point_of(name)]
        raise ValueError(f"only these take a target for each class: {', '.join(known)}")
    return number(value)


def _range(low: float, high: float) -> str:
    if (low, high) == (0.0, 1.0):
        return "a number above 0 and below 1, such as 0.9"
    above = f" above {low:g}" if low > float("-inf") else ""
    below = f" below {high:g}" if high < float("inf") else ""
    return f"a number{above}{' and' if above and below else ''}{below}"


def _of_classes(value: Mapping[Any, Any], number: Callable[[Any], float]) -> Target:
    """Return class name → target, sorted; one number if it holds for all classes."""
    if not value:
        raise ValueError("it names no class")
    found = {
        validators.class_name(name): validators.named(name, one, number)
        for name, one in value.items()
    }
    if len(found) < len(value):
        raise ValueError("it names a class twice")
    return found[OTHERS] if set(found) == {OTHERS} else dict(sorted(found.items()))


# -- what a target requires ---------------------------------------------------------------------


def points_of(targets: Mapping[str, Target]) -> dict[str, dict[str, Any]]:
    """Return the operating points of some targets: metric → class and what is required there.

    Examples
    --------
    >>> points_of({
    ...     "recall_at_precision": {"class": "crack", "precision": 0.9, "recall": 0.8}, "auc": 0.9
    ... })
    {'recall_at_precision': {'class': 'crack', 'precision': 0.9}}
    """
    return {
        metric: {name: target[name] for name in (validators.CLASS, point.given)}
        for metric, target in targets.items()
        if (point := point_of(metric)) and isinstance(target, Mapping)
    }


def class_targets(
    metric: str, target: Target, names: Sequence[str], label: str = "class"
) -> dict[str, float]:
    """Return the target of every class that is judged by itself; empty for a single number.

    Parameters
    ----------
    metric, target
        A metric and its target.
    names
        All classes.
    label
        What a class is called in messages: ``class`` or ``label``.

    Raises
    ------
    RequirementError
        The target names a class that does not exist.

    Examples
    --------
    >>> class_targets("recall_per_class", {"rust": 0.95, "*": 0.8}, ["good", "rust"])
    {'good': 0.8, 'rust': 0.95}
    """
    if not isinstance(target, Mapping):
        return {}
    point = point_of(metric)
    asked = {target[validators.CLASS]: target[point.reach]} if point else target
    for name in asked:
        if name != OTHERS:
            check_class(metric, name, names, label)
    others = asked.get(OTHERS)
    found = {name: asked.get(name, others) for name in names}
    return {name: goal for name, goal in found.items() if goal is not None}


def check_class(metric: str, name: str, names: Sequence[str], label: str) -> None:
    """Check that a class exists.

    Raises
    ------
    RequirementError
        It does not; the message names the most similar class.
    """
    if name not in names:
        raise RequirementError(
            f"{metric}: no {label} is named {name!r}{nearest(name, names) or '.'} "
            f"{'Labels' if label == 'label' else 'Classes'}: {_listed(names)}."
        )


def check_classes(targets: Mapping[str, Target], names: Sequence[str], task: str) -> None:
    """Check that targets name classes that exist.

    Raises
    ------
    RequirementError
        A class is unknown; the message names the most similar one.
    """
    for metric, target in targets.items():
        if metric in TASKS[task].metrics:  # min_slice names metrics, not classes
            class_targets(metric, target, names, TASKS[task].label)


def target_text(metric: str, target: Target) -> str:
    """Return a target in words, for the plan.

    Examples
    --------
    >>> target_text("accuracy", 0.9)
    'accuracy 0.9'
    >>> target_text("recall_per_class", {"*": 0.8, "rust": 0.95})
    "recall_per_class 0.95 for 'rust', 0.8 for others"
    """
    if not isinstance(target, Mapping):
        return f"{metric} {target:g}"
    if point := point_of(metric):
        at = {point.given: target[point.given]}
        return subject_text(metric, target[validators.CLASS], at, target[point.reach])
    named = [f"{goal:g} for {shown(name)}" for name, goal in target.items() if name != OTHERS]
    if OTHERS in target:
        named.append(f"{target[OTHERS]:g} for others")
    return f"{metric} {', '.join(named)}"


def subject_text(
    metric: str,
    class_name: str | None = None,
    at: Mapping[str, float] | None = None,
    target: float | None = None,
) -> str:
    """Return what is judged, such as ``recall of 'rust'``, with its target if one is given.

    Parameters
    ----------
    metric
        The metric.
    class_name
        The class that decides, for a metric of single classes.
    at
        Of an operating point: what is required of the threshold.
    target
        The target.

    Examples
    --------
    >>> subject_text("accuracy", target=0.9), subject_text("recall_per_class", "rust", target=0.9)
    ('accuracy 0.9', "recall of 'rust' 0.9")
    >>> subject_text("recall_at_precision", "rust", {"precision": 0.9}, 0.8)
    "recall 0.8 of 'rust' at precision 0.9"
    """
    goal = "" if target is None else f" {target:g}"
    if class_name is None:
        return f"{metric}{goal}"
    what = of_class(metric)
    if not at:
        return f"{what} of {shown(class_name)}{goal}"
    where = " and ".join(f"{name} {value:g}" for name, value in at.items())
    return f"{what}{goal} of {shown(class_name)} at {where}"


_MOST_LISTED: Final = 12


def _listed(names: Sequence[str]) -> str:
    """Return names as text; of very many, the first."""
    text = ", ".join(map(repr, names[:_MOST_LISTED]))
    more = len(names) - _MOST_LISTED
    return f"{text} and {more:,} more" if more > 0 else text
