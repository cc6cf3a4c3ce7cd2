"""Guess the task from the form of the labels, where it is not given."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.class_labels import is_missing
from pytest_datasize.images.image_set import one_line
from pytest_datasize.requirement.tasks import CLASSIFICATION

SEPARATORS: Final = ";|"
"""Between the labels of one cell of a table; a comma, too, where several labels are asked for."""

_CONTINUOUS: Final = 20
"""More different numbers than this, some with a fraction, are no classes."""

HOW: Final = "(task= in the marker, --datasize-task, or `task:` in datasize.yaml)"


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
    array = array_of(values)
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


_INNER = r"""\s*(["'\d](.*["'\d])?,?)?\s*"""
_LISTS = (
    re.compile(rf"\[{_INNER}\]", re.S),
    re.compile(rf"\{{{_INNER}\}}", re.S),
    re.compile(rf"\((?=\s*\)|.*,){_INNER}\)", re.S),  # one value in parentheses is no tuple
)


def is_written_list(text: str) -> bool:
    """Whether a text is a list as Python or JSON write it.

    Examples
    --------
    >>> is_written_list("['a', 'b']"), is_written_list('["a"]'), is_written_list("[a] b")
    (True, True, False)
    >>> is_written_list("[0]"), is_written_list("(10, 20]"), is_written_list("(12)")
    (True, False, False)
    """
    return any(one.fullmatch(text.strip()) for one in _LISTS)


def _of_texts(texts: Sequence[str], source: str) -> str:
    if texts and all(map(is_written_list, texts)):
        raise DatasetError(
            f"{source}: labels such as {one_line(texts[0])[:60]!r} look like lists written as "
            f"text. Write 'a;b' for the labels a and b, and set task='multilabel' {HOW}."
        )
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


def array_of(values: Any) -> NDArray[Any] | None:
    """Return labels as an array; None if they have different shapes."""
    try:
        array = np.asarray(values)
    except (ValueError, TypeError):  # of different shapes
        return None
    if array.dtype.kind == "O" and array.ndim == 1 and any(np.ndim(v) for v in values):
        return None
    return array
