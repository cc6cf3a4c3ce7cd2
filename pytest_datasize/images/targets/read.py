"""Convert labels of any form to the targets of a task, and guess the task where it is not given."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.image_set import Finding, is_missing, labelled, one_line
from pytest_datasize.images.targets.boxes import Boxes
from pytest_datasize.images.targets.masks import Masks
from pytest_datasize.images.targets.protocol import Targets
from pytest_datasize.images.targets.real_numbers import Numbers
from pytest_datasize.images.targets.sets import Sets
from pytest_datasize.requirement.tasks import AUTO, CLASSIFICATION, TASKS

SEPARATORS: Final = ";|"
"""Between the labels of one cell of a table; a comma, too, where several labels are asked for."""

_CONTINUOUS: Final = 20
"""More different numbers than this, some with a fraction, are no classes."""

HOW: Final = "(task= in the marker, --datasize-task, or `task:` in datasize.yaml)"


class Described(NamedTuple):
    """Labels of N images.

    Attributes
    ----------
    classes, labels
        See :class:`pytest_datasize.images.image_set.ImageSet`; placeholders with targets.
    targets
        Labels of another task than one class per image.
    findings
        What was guessed.
    """

    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    targets: Targets | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def fields(self) -> dict[str, Any]:
        """Fields of an :class:`pytest_datasize.images.image_set.ImageSet`."""
        return {"classes": self.classes, "labels": self.labels, "targets": self.targets}


def described(
    values: Any, source: str, task: str = AUTO, form: str = "", names: Sequence[str] = ()
) -> Described:
    """Convert labels, one entry per image.

    Parameters
    ----------
    values
        Classes, sets of labels, rows of 0 and 1, numbers, masks, or objects (``boxes`` and
        ``labels``), one per image.
    source
        Description for messages.
    task
        Name of the task; ``auto`` to guess it.
    form
        The task that the form of the source says, if it does.
    names
        Names of the columns of labels that are rows of 0 and 1, or of several numbers.

    Raises
    ------
    DatasetError
        The values are not labels of that task, or of several tasks.

    Examples
    --------
    >>> described(np.array([[1, 1], [0, 1], [0, 0]]), "x").targets.names
    ('0', '1')
    >>> described([0.25, 1.5, 2.75] * 9, "x", "regression").targets.task
    'regression'
    """
    chosen = (form or guessed(values, source)) if task == AUTO else task
    if chosen == CLASSIFICATION:
        return Described(*labelled(values, source))
    targets = _TARGETS[chosen](values, source)
    if names and isinstance(targets, Sets):
        targets = Sets(tuple(names), targets.shown)
    elif names and isinstance(targets, Numbers):
        targets = Numbers(targets.values, tuple(names))
    return of_targets(targets, task)


def of_targets(targets: Targets, asked: str) -> Described:
    """Return the labels of targets that a source has read itself."""
    labels = np.zeros(len(targets), dtype=np.int64)
    findings: tuple[Finding, ...] = ()
    if asked == AUTO:
        text = f"task: {targets.task} ({TASKS[targets.task].labels}), as the labels look {HOW}"
        findings = (Finding("layout", text),)
    if isinstance(targets, Masks) and targets.void is not None:
        text = f"pixels of the value {targets.void} are not judged (void)"
        findings += (Finding("layout", text),)
    if isinstance(targets, Masks) and (bare := int((targets.areas == 0).all(axis=1).sum())):
        text = f"{bare:,} masks have no pixel that is judged; nothing is learned from these images"
        findings += (Finding("layout", text, bare),)
    if isinstance(targets, Boxes) and targets.dropped:
        text = f"{targets.dropped:,} boxes without an area were left out"
        findings += (Finding("layout", text, targets.dropped),)
    return Described(("",), labels, targets, findings)


def guessed(values: Any, source: str) -> str:
    """Guess the task from the form of the labels.

    Raises
    ------
    DatasetError
        They fit several tasks.
    """
    first = _first(values)
    if isinstance(first, Mapping):
        return "detection" if {"boxes", "labels"} <= set(first) else CLASSIFICATION
    if isinstance(first, (list, tuple, set, frozenset)) and all(
        isinstance(label, str) for label in first
    ):
        return "multilabel"
    array = _array(values)
    if array is not None and array.ndim == 3:
        return "segmentation"
    if array is not None and array.ndim == 2 and array.dtype.kind in "biuf":
        return _of_rows(array, source)
    if array is None and getattr(first, "ndim", 0) == 2:
        return "segmentation"  # masks of different sizes
    if array is None or array.ndim != 1:
        return CLASSIFICATION
    if array.dtype.kind == "f":
        finite = array[np.isfinite(array)]
        return "regression" if (finite != np.round(finite)).any() else CLASSIFICATION
    if array.dtype.kind in "OSU":
        return _of_texts([str(value) for value in values if not is_missing(value)], source)
    return CLASSIFICATION


def _of_rows(array: NDArray[Any], source: str) -> str:
    if not np.isin(array, (0, 1)).all():
        return "regression"
    if (array.sum(axis=1) == 1).all():
        raise DatasetError(
            f"{source}: every row of the labels, of shape {array.shape}, has exactly one 1. One "
            "class per image: pass labels.argmax(axis=1). A set of labels per image: set "
            f"task='multilabel' {HOW}."
        )
    return "multilabel"


def _of_texts(texts: Sequence[str], source: str) -> str:
    numbers = [_number(text) for text in texts]
    if all(number is not None for number in numbers) and len(set(numbers)) > _CONTINUOUS:
        return "regression" if any(n % 1 for n in numbers if n is not None) else CLASSIFICATION
    alone = {text.strip() for text in texts}
    several = sorted(text for text in alone if any(mark in text for mark in SEPARATORS))
    parts_of = [{part.strip() for part in re.split(f"[{SEPARATORS}]", text)} for text in several]
    number_of = Counter(part for parts in parts_of for part in parts)
    for text, parts in zip(several, parts_of, strict=True):
        if any(part in alone or number_of[part] > 1 for part in parts):
            raise DatasetError(
                f"{source}: labels such as {one_line(text)!r} may be one class or several labels. "
                f"Set task='multilabel' for several labels, or task='classification' {HOW}."
            )
    return CLASSIFICATION


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _first(values: Any) -> Any:
    """Return the first label that is not missing or empty."""
    if isinstance(values, np.ndarray) and values.dtype.kind != "O":
        return None
    return next((v for v in values if not is_missing(v) and not _is_empty(v)), None)


def _is_empty(value: Any) -> bool:
    return isinstance(value, (list, tuple, set, frozenset)) and not value


def _array(values: Any) -> NDArray[Any] | None:
    try:
        array = np.asarray(values)
    except (ValueError, TypeError):  # of different shapes
        return None
    if array.dtype.kind == "O" and array.ndim == 1 and any(np.ndim(v) for v in values):
        return None
    return array


def _sets(values: Any, source: str) -> Sets:
    array = _array(values)
    if array is not None and array.ndim == 2 and array.dtype.kind in "biuf":
        if not np.isin(array, (0, 1)).all():
            raise DatasetError(
                f"{source}: task='multilabel' takes rows of 0 and 1, or lists of labels; found the "
                f"value {array[~np.isin(array, (0, 1))][0]!r}."
            )
        return Sets(tuple(map(str, range(array.shape[1]))), array.astype(np.bool_))
    found: list[list[str]] = []
    for row, value in enumerate(values):
        if is_missing(value):
            found.append([])
        elif isinstance(value, (str, bytes, int, float, np.generic)):
            text = value.decode() if isinstance(value, bytes) else str(value)
            parts = re.split(f"[{SEPARATORS},]", text)
            found.append([part.strip() for part in parts if part.strip()])
        elif isinstance(value, (list, tuple, set, frozenset)) or np.ndim(value) == 1:
            found.append([str(label) for label in value])
        else:
            raise DatasetError(
                f"{source}: the label of image {row} is a {type(value).__name__}; "
                "task='multilabel' takes a list of labels, or a text such as 'a;b'."
            )
    return Sets.of(found)


def _numbers(values: Any, source: str) -> Numbers:
    rows = []
    for row, value in enumerate(values):
        try:
            if is_missing(value) or isinstance(value, bool):
                raise ValueError
            rows.append(np.asarray(value, dtype=np.float64).reshape(-1))
        except (ValueError, TypeError):
            raise DatasetError(
                f"{source}: the label of image {row} is {one_line(repr(value))[:60]}; "
                "task='regression' takes a number for every image, or a few. Fill it in, or leave "
                "the image out."
            ) from None
    if len({len(row) for row in rows}) > 1:
        raise DatasetError(f"{source}: images have different numbers of numbers.")
    return Numbers.of(np.array(rows))


def _masks(values: Any, source: str) -> Masks:
    first = np.asarray(values[0])
    if first.ndim != 2 or first.dtype.kind not in "biu":
        raise DatasetError(
            f"{source}: task='segmentation' takes a mask of whole numbers, of shape (H, W), for "
            f"every image; found shape {first.shape} of {first.dtype}."
        )
    return Masks.of(_Array(values), len(values), source=source)


class _Array:
    """Masks in an array or a list."""

    def __init__(self, values: Any) -> None:
        self._values = values

    def __call__(self, index: int) -> NDArray[Any]:
        mask = np.asarray(self._values[index])
        if mask.ndim != 2 or mask.dtype.kind not in "biu":
            raise DatasetError(
                f"mask {index}: shape {mask.shape} of {mask.dtype}; expected (H, W)."
            )
        return mask.astype(np.int64)


def _boxes(values: Any, source: str) -> Boxes:
    objects = []
    for row, value in enumerate(values):
        if not isinstance(value, Mapping) or not {"boxes", "labels"} <= set(value):
            raise DatasetError(
                f"{source}: the label of image {row} is a {type(value).__name__}; task='detection' "
                "takes {'boxes': (n, 4) as x0, y0, x1, y1 in pixels, 'labels': (n,)}."
            )
        try:
            corners = np.asarray(value["boxes"], dtype=np.float64)
            labels = [one.item() if hasattr(one, "item") else one for one in value["labels"]]
        except (ValueError, TypeError, RuntimeError):  # of different lengths, or no numbers
            corners, labels = np.empty(()), []
        if corners.shape[-1:] != (4,) and corners.shape != (0,):
            raise DatasetError(
                f"{source}: the boxes of image {row} are no array of shape (n, 4), or its labels "
                "no list; an image without objects has (0, 4) and (0,)."
            )
        corners = corners.reshape(-1, 4)
        if len(labels) != len(corners):
            raise DatasetError(
                f"{source}: image {row} has {len(corners)} boxes and {len(labels)} labels."
            )
        objects.append(list(zip(labels, corners.tolist(), strict=True)))
        if not np.isfinite(corners).all():
            raise DatasetError(f"{source}: image {row} has a box that is not finite.")
    return Boxes.of(objects)


_TARGETS: Final[dict[str, Callable[[Any, str], Targets]]] = {
    "multilabel": _sets,
    "regression": _numbers,
    "segmentation": _masks,
    "detection": _boxes,
}
