"""What one marker or one YAML entry asks, checked."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pytest_datasize.errors import RequirementError
from pytest_datasize.options import CONDITIONS, METRICS, OPTIONS, TARGET, nearest, shown


class Requirement(NamedTuple):
    """What one marker or one YAML entry asks.

    Attributes
    ----------
    targets
        Metric name → score to reach, in (0, 1).
    options
        Only the options that were given; the settings fill in the others.
    where
        Who asks, for messages: a test id or a place in a file.
    """

    targets: Mapping[str, float]
    options: Mapping[str, Any]
    where: str = ""

    @classmethod
    def parse(
        cls, args: Sequence[object], arguments: Mapping[str, Any], where: str
    ) -> "Requirement":
        """Check what a marker was given.

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
Options: backbone, confidence, dataset, device, image_size, law, max_increase, repeats, sampling, \
seed, sizes, strategy, test_dataset, test_fraction, trusted_range, undecided, weights.
        """
        if args:
            raise RequirementError(
                f"{where}: {shown(args[0])} has no name; write metric=target, "
                f"such as accuracy=0.9. {_allowed_names()}"
            )
        targets, options = {}, {}
        for name, value in arguments.items():
            if name in METRICS:
                targets[name] = TARGET.parse(name, value, where)
            elif name in OPTIONS:
                options[name] = OPTIONS[name].parse(name, value, where)
            else:
                hint = nearest(name, (*METRICS, *OPTIONS)) or "."
                raise RequirementError(f"{where}: unknown name {name!r}{hint} {_allowed_names()}")
        if not targets and not any(options.get(name) for name in CONDITIONS):
            raise RequirementError(
                f"{where}: no target; give at least one metric, such as accuracy=0.9. "
                f"{_allowed_names()}"
            )
        return cls(targets, options, where)


def _allowed_names() -> str:
    return f"Metrics: {', '.join(sorted(METRICS))}. Options: {', '.join(sorted(OPTIONS))}."
