"""Convert labels of any form to the targets of a task."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.class_labels import is_missing, labelled
from pytest_datasize.images.image_set import Finding, one_line
from pytest_datasize.images.targets.boxes import Boxes
from pytest_datasize.images.targets.guess import HOW, SEPARATORS, array_of, guessed, is_written_list
from pytest_datasize.images.targets.masks import Masks
from pytest_datasize.images.targets.protocol import Targets
from pytest_datasize.images.targets.real_numbers import Numbers
from pytest_datasize.images.targets.sets import Sets
from pytest_datasize.requirement.tasks import AUTO, CLASSIFICATION, TASKS


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


def _sets(values: Any, source: str) -> Sets:
    array = array_of(values)
    if array is not None and array.ndim == 2 and array.dtype.kind in "biuf":
        if not np.isin(array, (0, 1)).all():
            row, column = np.argwhere(~np.isin(array, (0, 1)))[0].tolist()
            raise DatasetError(
                f"{source}: task='multilabel' takes rows of 0 and 1, or lists of labels; the label "
                f"of image {row} has the value {array[row, column].item()!r} in column {column}, "
                "counted from 0."
            )
        return Sets(tuple(map(str, range(array.shape[1]))), array.astype(np.bool_))
    found: list[list[str]] = []
    for row, value in enumerate(values):
        if is_missing(value):
            found.append([])
        elif isinstance(value, (str, bytes, int, float, np.generic)):
            text = _name(value, row, source)
            if is_written_list(text):
                raise DatasetError(
                    f"{source}: the label of image {row} is {one_line(text)[:60]!r}, which looks "
                    "like a list written as text. Write 'a;b' for the labels a and b."
                )
            parts = re.split(f"[{SEPARATORS},]", text)
            found.append([part.strip() for part in parts if part.strip()])
        elif isinstance(value, (list, tuple, set, frozenset)) or np.ndim(value) == 1:
            found.append([_name(label, row, source) for label in value])
        else:
            raise DatasetError(
                f"{source}: the label of image {row} is a {type(value).__name__}; "
                "task='multilabel' takes a list of labels, or a text such as 'a;b'."
            )
    return Sets.of(found)


def _name(value: Any, row: int, source: str) -> str:
    """Return the name of one of the labels of an image.

    Raises
    ------
    DatasetError
        It is missing, a negative number (which means that there is none), or no text and no number.
    """
    if hasattr(value, "item") and not np.ndim(value):
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, float) and value % 1 == 0:
        value = int(value)  # as the same label may stand beside it
    if not isinstance(value, (str, int, float)):
        what = "missing" if value is None else f"a {type(value).__name__}"
    elif is_missing(value):
        what = f"missing ({value!r})"
    elif not isinstance(value, str) and value < 0:
        what = f"{value}, which usually means that there is none"
    else:
        return str(value).strip()
    raise DatasetError(
        f"{source}: a label of image {row} is {what}; expected texts, or numbers from 0. An image "
        "without labels has none in its list."
    )


def _numbers(values: Any, source: str) -> Numbers:
    rows = []
    for row, value in enumerate(values):
        try:
            if is_missing(value) or isinstance(value, bool):
                raise ValueError
            rows.append(np.asarray(value, dtype=np.float64).reshape(-1))
            if not len(rows[-1]) or not np.isfinite(rows[-1]).all():
                raise ValueError
        except (ValueError, TypeError):
            shown = value.tolist() if hasattr(value, "tolist") else value
            raise DatasetError(
                f"{source}: the label of image {row} is {one_line(repr(shown))[:60]}; "
                "task='regression' takes a number for every image, or a few, all finite. Fill it "
                "in, or leave the image out."
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
            labels = list(value["labels"])
            if isinstance(value["labels"], (str, bytes)):
                raise TypeError
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
        names = [_name(one, row, source) for one in labels]
        objects.append(list(zip(names, corners.tolist(), strict=True)))
        if not np.isfinite(corners).all():
            raise DatasetError(f"{source}: image {row} has a box that is not finite.")
    return Boxes.of(objects)


_TARGETS: Final[dict[str, Callable[[Any, str], Targets]]] = {
    "multilabel": _sets,
    "regression": _numbers,
    "segmentation": _masks,
    "detection": _boxes,
}
