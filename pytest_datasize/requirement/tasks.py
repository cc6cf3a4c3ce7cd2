"""Define the tasks: what the labels of images are, and the metrics that fit them.

Adding a task is one entry here, a module of targets in ``images/targets/`` and a module in
``trials/tasks/`` that fits its heads. Pure Python: imported at every pytest start.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any, Final, NamedTuple

_METRICS: Final = "pytest_datasize.curve.metrics"


class Metric(NamedTuple):
    """A metric of a task.

    Attributes
    ----------
    function
        ``module:function`` that computes the contribution of every test image; of an operating
        point, that chooses its threshold.
    bounds
        Range of the score.
    lower
        Whether lower is better.
    of_class
        What is measured of every class separately, such as "recall"; empty for a metric of all
        classes together.
    members
        For a metric of classes: whether only images that show the class count.
    ratio
        Whether it is biased on few test images, as a ratio of means is.
    more_than
        Least number of classes for which it says anything, less one.
    given, reach
        Of an operating point: what is required of the threshold on training images, such as
        "precision", and what is then measured on test images, such as "recall". Both are keys of
        its target; empty for other metrics.
    by_image
        Whether the score is a mean over images, so that any part of them, such as a slice, has a
        score.
    """

    function: str
    bounds: tuple[float, float] = (0.0, 1.0)
    lower: bool = False
    of_class: str = ""
    members: bool = False
    ratio: bool = False
    more_than: int = 0
    given: str = ""
    reach: str = ""
    by_image: bool = False


class Task(NamedTuple):
    """What the labels of images are.

    Attributes
    ----------
    labels
        The label of an image, in words.
    metrics
        Metric name → metric.
    strategies
        Built-in strategies that train models for it.
    embeds_images
        Whether heads see the embeddings of whole images.
    heads
        ``module`` that fits the heads.
    label
        What a class is called in reports.
    assumes
        What the built-in model assumes; reported with every result.
    """

    labels: str
    metrics: Mapping[str, Metric]
    strategies: tuple[str, ...]
    embeds_images: bool
    heads: str
    label: str = "class"
    assumes: str = ""


CLASSIFICATION: Final = "classification"
AUTO: Final = "auto"

_POINTS: Final = {
    "recall_at_precision": Metric(
        "lowest_with_precision", of_class="recall", members=True, given="precision", reach="recall"
    ),
    "sensitivity_at_specificity": Metric(
        "lowest_with_specificity",
        of_class="sensitivity",
        members=True,
        given="specificity",
        reach="sensitivity",
    ),
    "false_alarm_rate": Metric(
        "highest_with_sensitivity",
        lower=True,
        of_class="false-alarm rate",
        given="sensitivity",
        reach="rate",
    ),
}
"""Metrics of one class against the rest, with a threshold that is chosen on training images."""

_ALL: Final = ("feature_extraction", "fine_tuning", "from_scratch", "own_training")
_FROZEN: Final = ("feature_extraction", "own_training")
_POSITIVE: Final = (0.0, math.inf)


def _in(module: str, **metrics: Metric) -> dict[str, Metric]:
    return {
        name: metric._replace(function=f"{_METRICS}.{module}:{metric.function or name}")
        for name, metric in metrics.items()
    }


TASKS: Final[dict[str, Task]] = {
    CLASSIFICATION: Task(
        "one class per image",
        _in(
            "classification",
            accuracy=Metric("", by_image=True),
            balanced_accuracy=Metric(""),
            f1_micro=Metric("", by_image=True),
            f1_macro=Metric("", ratio=True),
            auc=Metric(""),
            recall_per_class=Metric("", of_class="recall", members=True),
            precision_per_class=Metric("", of_class="precision", ratio=True),
            top5_accuracy=Metric("", more_than=5, by_image=True),
            log_loss=Metric("", _POSITIVE, lower=True, by_image=True),
        )
        | _in("operating_points", **_POINTS),
        _ALL,
        embeds_images=True,
        heads="pytest_datasize.trials.tasks.classification",
    ),
    "multilabel": Task(
        "a set of labels per image, perhaps none",
        _in(
            "multilabel",
            average_precision=Metric("", ratio=True),
            auc=Metric(""),
            f1_macro=Metric("", ratio=True),
            f1_micro=Metric("", ratio=True),
            f1_samples=Metric("", by_image=True),
            subset_accuracy=Metric("", by_image=True),
            recall_per_label=Metric("", of_class="recall", members=True),
            average_precision_per_label=Metric("", of_class="average precision", ratio=True),
        )
        | _in("operating_points", **_POINTS),
        _ALL,
        embeds_images=True,
        heads="pytest_datasize.trials.tasks.multilabel",
        label="label",
    ),
    "regression": Task(
        "one number, or a few, per image",
        _in(
            "regression",
            r2=Metric("", (-math.inf, 1.0), ratio=True),
            mae=Metric("", _POSITIVE, lower=True, by_image=True),
            rmse=Metric("", _POSITIVE, lower=True, ratio=True),
            pearson=Metric("", (-1.0, 1.0), ratio=True),
        ),
        _ALL,
        embeds_images=True,
        heads="pytest_datasize.trials.tasks.regression",
        label="range",
    ),
    "segmentation": Task(
        "a mask of class numbers per image",
        _in(
            "areas",
            mean_iou=Metric("", ratio=True),
            dice=Metric("", ratio=True),
            pixel_accuracy=Metric("share_found", ratio=True),
            recall_per_class=Metric("", of_class="recall", members=True, ratio=True),
            iou_per_class=Metric("", of_class="IoU", ratio=True),
        ),
        _FROZEN,
        embeds_images=False,
        heads="pytest_datasize.trials.tasks.segmentation",
        assumes="masks are predicted by a linear head on frozen features, at the stride of these",
    ),
    "detection": Task(
        "boxes with classes per image",
        _in(
            "areas",
            crop_accuracy=Metric("share_found", ratio=True),
            crop_f1_macro=Metric("dice", ratio=True),
            crop_recall_per_class=Metric(
                "recall_per_class", of_class="recall", members=True, ratio=True
            ),
        ),
        _FROZEN,
        embeds_images=False,
        heads="pytest_datasize.trials.tasks.detection",
        assumes="scores are an upper bound: the objects' boxes are given, and only their classes "
        "are predicted, so every object counts as found",
    ),
}
"""Task name → task."""

METRICS: Final[dict[str, tuple[str, ...]]] = {
    metric: tuple(name for name, task in TASKS.items() if metric in task.metrics)
    for metric in dict.fromkeys(metric for task in TASKS.values() for metric in task.metrics)
}
"""Metric name → names of the tasks that have it."""


BY_IMAGE: Final[tuple[str, ...]] = tuple(
    dict.fromkeys(
        name for task in TASKS.values() for name, metric in task.metrics.items() if metric.by_image
    )
)
"""Names of the metrics of which slices have a score, in some task."""


def function_of(metric: Metric) -> Callable[..., Any]:
    """Return the function of a metric."""
    module, _, name = metric.function.partition(":")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function


def ends(metric: str) -> tuple[float, float]:
    """Return the range of a built-in metric, which is the same in all its tasks."""
    return TASKS[METRICS[metric][0]].metrics[metric].bounds


def of_class(metric: str) -> str:
    """Return what a metric measures of every class separately; empty for all classes together.

    Examples
    --------
    >>> of_class("iou_per_class"), of_class("accuracy"), of_class("a trainer's own")
    ('IoU', '', '')
    """
    tasks = METRICS.get(metric)
    return TASKS[tasks[0]].metrics[metric].of_class if tasks else ""


def point_of(metric: str) -> Metric | None:
    """Return the operating point that a metric is measured at; None for any other metric.

    Examples
    --------
    >>> point_of("recall_at_precision").given, point_of("accuracy")
    ('precision', None)
    """
    tasks = METRICS.get(metric)
    found = TASKS[tasks[0]].metrics[metric] if tasks else None
    return found if found and found.given else None


def lower_is_better(metric: str) -> bool:
    """Return whether a built-in metric falls as models get better."""
    return TASKS[METRICS[metric][0]].metrics[metric].lower


def task_of(metrics: Iterable[str]) -> str | None:
    """Return the one task that has all metrics; None if several do, or none.

    Examples
    --------
    >>> task_of(["r2"]), task_of(["f1_macro"]), task_of(["f1_macro", "subset_accuracy"])
    ('regression', None, 'multilabel')
    """
    asked = set(metrics)
    fits = [name for name, task in TASKS.items() if asked <= set(task.metrics)]
    return fits[0] if len(fits) == 1 and asked else None
