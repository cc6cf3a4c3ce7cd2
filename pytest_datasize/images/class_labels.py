"""Convert labels of any kind to class names and indices; know which labels are missing."""

from collections.abc import Mapping, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.errors import DatasetError


def labelled(values: Any, source: str) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Convert labels of any kind (strings, integers with gaps) to class names and indices.

    Raises
    ------
    DatasetError
        Labels are not one-dimensional, are missing (None, NaN) or are continuous numbers.
    """
    _refuse_objects(values, source)
    array = np.asarray(values)
    if array.ndim != 1 or isinstance(values, (str, bytes, Mapping, Set)):
        raise DatasetError(
            f"{source}: labels have shape {array.shape}; expected one label per image, shape (N,). "
            "One-hot labels: pass labels.argmax(axis=1). Several labels per image as 0 and 1: "
            "task='multilabel'; several numbers: task='regression'."
        )
    if array.dtype.kind in _NO_CLASSES:
        raise DatasetError(f"{source}: labels are {_NO_CLASSES[array.dtype.kind]}.")
    lacking = _missing_rows(values, array)
    if lacking:
        shown = str(array[lacking[0]]) if array.dtype.kind in "OSU" else "NaN or masked"
        raise DatasetError(
            f"{source}: {len(lacking)} labels are missing, first that of image {lacking[0]} "
            f"({shown!r}). Label these images, or leave them out; if this is the name of a class, "
            "give it another."
        )
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise DatasetError(f"{source}: some labels are infinite.")
        if (array != np.round(array)).any():
            raise DatasetError(
                f"{source}: labels are continuous numbers; expected classes. "
                "To predict the numbers, set task='regression'."
            )
        array = array.astype(np.int64)
    if array.dtype.kind == "i" and array.size and array.min() == -1 and len(np.unique(array)) > 2:
        raise DatasetError(
            f"{source}: {int((array == -1).sum())} labels are -1, which usually means that there "
            "is none. Label these images, or leave them out; if it is a class, give the classes "
            "names."
        )
    if array.dtype.kind in "OSU":
        array = array.astype(str)
    names, labels = np.unique(array, return_inverse=True)
    return tuple(str(name) for name in names), labels.astype(np.int64)


_NO_CLASSES = {
    "m": "times; expected classes",
    "M": "dates or times; expected classes",
    "c": "complex numbers; expected classes",
    "V": "records or raw bytes; expected classes, such as one column of them",
}
"""Kind of array → what its values are."""

MISSING = ("", "nan", "NaN", "-nan", "<NA>", "NaT", "NA", "N/A", "n/a", "#N/A", "null", "NULL")
"""Texts that mean "no label", as libraries for tables and spreadsheets write them.

``None`` and ``none`` are not among them: data sets of defects have a class of that name.
"""


def is_missing(value: Any) -> bool:
    """Whether a label is missing: None, NaN, pandas' NA or NaT, or one of :data:`MISSING`.

    Examples
    --------
    >>> is_missing(float("nan")), is_missing(" N/A "), is_missing("cat"), is_missing(0)
    (True, True, False, False)
    """
    if value is None or type(value).__name__ in ("NAType", "NaTType", "MaskedConstant"):
        return True
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        return value.strip() in MISSING
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))


def _missing_rows(values: Any, array: NDArray[Any]) -> list[int]:
    mask = getattr(values, "mask", None)  # of numpy's masked arrays
    if isinstance(mask, np.ndarray) and mask.shape == array.shape and mask.dtype == np.bool_:
        return np.flatnonzero(mask).tolist()
    if array.dtype.kind == "f":
        return np.flatnonzero(np.isnan(array)).tolist()
    if array.dtype.kind not in "OSU":
        return []
    return [row for row, value in enumerate(array) if is_missing(value)]


def _refuse_objects(values: Any, source: str) -> None:
    """Refuse labels that are neither texts nor numbers, such as dicts, lists and boxes."""
    if isinstance(values, np.ndarray) and values.dtype.kind != "O":
        return
    kinds: dict[bool, str] = {}  # whether a text → the first such label
    for row, value in enumerate(values):
        if is_missing(value):
            continue
        if isinstance(value, (str, bytes, int, float, np.generic)):
            kinds.setdefault(isinstance(value, (str, bytes)), f"image {row} has {value!r}")
            if len(kinds) > 1:
                raise DatasetError(
                    f"{source}: labels are texts and numbers: {', '.join(kinds.values())}. Is 1 "
                    "the class '1'? Give all of them as texts, or all as numbers."
                )
            continue
        shape = tuple(getattr(value, "shape", ()))
        if hasattr(value, "shape") and not shape:
            continue
        what = f"of shape {shape}" if shape else f"a {type(value).__name__}"
        hint = (
            " One-hot labels: use their argmax; several labels per image: task='multilabel'; a "
            "mask (H, W) per image: task='segmentation'."
            if shape or isinstance(value, (list, tuple, set))
            else " Objects, as {'boxes': (n, 4), 'labels': (n,)}, are for task='detection'."
        )
        raise DatasetError(
            f"{source}: the label of image {row} is {what}; expected one class per image, a text "
            f"or a whole number.{hint}"
        )
