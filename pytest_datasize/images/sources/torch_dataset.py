"""Source: a map-style torch or torchvision Dataset that yields (image, label)."""

import os
from collections.abc import Collection
from dataclasses import replace
from threading import Lock
from typing import Any

import numpy as np

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.image_set import ImageSet, Loaded, Raw, Reading, few
from pytest_datasize.images.pickling import refuse_unpicklable
from pytest_datasize.images.sampling import spread
from pytest_datasize.images.sources.arrays import pixels
from pytest_datasize.images.steady import LABELS_COMPARED, READ_TWICE, steady
from pytest_datasize.images.targets.read import Described, described


def accepts(value: Any) -> bool:
    """Whether this source can read ``value``."""
    return (
        hasattr(value, "__getitem__")
        and hasattr(value, "__len__")
        and not isinstance(value, (str, bytes, tuple, list, dict, os.PathLike))
    )


def load(value: Any, reading: Reading) -> Loaded:
    """Read labels without decoding where the data set offers them, else from every item.

    Raises
    ------
    DatasetError
        The data set is empty, its items are not (image, label), or the same index gives
        different pixels each time (random transforms belong to training, not here).
    """
    source = f"{type(value).__name__} with {len(value)} items"
    if not len(value):
        raise DatasetError(f"{source}: the data set is empty.")
    _refuse_mixed(value, source)
    items = _Items(value, source)
    read = steady(items.read, items.name, len(value))
    values = _declared_labels(value)
    sample = spread(len(value), LABELS_COMPARED)
    if values is None or any(not _same(values[row], items[row][1]) for row in sample):
        values = _labels_of(items, len(value), source)
    found = described(values, source, reading.task)
    return Loaded(
        ImageSet(
            source=source,
            **{**found.fields, **_named(found, value, source)},
            read=read,
            name=items.name,
            findings=found.findings,
        )
    )


def _named(found: Described, dataset: Any, source: str) -> dict[str, Any]:
    """Return the labels in the names of the data set, where it has any."""
    if found.targets is None:
        return {"classes": _class_names(dataset, found.classes, source)}
    if found.targets.task == "regression":
        return {}
    names = _class_names(dataset, found.targets.names, source)
    return {"targets": replace(found.targets, names=names)}  # type: ignore[type-var]


def _refuse_mixed(value: Any, source: str) -> None:
    """Refuse a joined data set whose parts number their classes differently.

    Raises
    ------
    DatasetError
        Two parts name different classes.
    """
    parts = getattr(value, "datasets", None)
    if not isinstance(parts, (list, tuple)):
        return
    known = [names for part in parts if (names := _declared_classes(part)) is not None]
    for names in known[1:]:
        if names != known[0]:
            raise DatasetError(
                f"{source}: it joins data sets with different classes, {few(known[0])} and "
                f"{few(names)}: one number would mean two classes. Give names as labels, or load "
                "the images from one folder."
            )


def _declared_classes(dataset: Any) -> tuple[str, ...] | None:
    """Return the class names of a data set, of a part of one, or of a joined one."""
    while hasattr(dataset, "dataset") and hasattr(dataset, "indices"):
        dataset = dataset.dataset
    parts = getattr(dataset, "datasets", None)
    if isinstance(parts, (list, tuple)) and parts:
        return _declared_classes(parts[0])
    names = getattr(dataset, "classes", None)
    return tuple(map(str, names)) if isinstance(names, (list, tuple)) else None


def _same(declared: Any, found: Any) -> bool:
    """Whether a declared label is that of the item; labels that cannot be compared differ."""
    try:
        return bool(declared == _plain(found))
    except (ValueError, RuntimeError, TypeError):
        return False


def _labels_of(items: "_Items", number: int, source: str) -> list[Any]:
    """Read the labels of all items.

    Raises
    ------
    DatasetError
        The label of an item is another one when it is read again.
    """
    values = [_plain(items[index][1]) for index in range(number)]
    for index in spread(number, READ_TWICE):
        again = items[index][1]
        if not _same(values[index], again) and not _is_nothing(values[index]):
            raise DatasetError(
                f"{source}: item {index} has the label {values[index]!r} first and "
                f"{_plain(again)!r} when it is read again. Leave random transforms out: a verdict "
                "must be the same on every run."
            )
    return values


def _is_nothing(label: Any) -> bool:
    """Whether a label is no text and no number, or NaN, so that it may differ from itself."""
    return not isinstance(label, (str, bytes, int, float)) or label != label


class _Items:
    """Items of a Dataset, which is not promised to be safe in several threads."""

    def __init__(self, dataset: Any, source: str) -> None:
        self._dataset, self._source = dataset, source
        self._lock = Lock()

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        with self._lock:
            return self._item(index)

    def _item(self, index: int) -> tuple[Any, Any]:
        try:
            found = self._dataset[index]
        except Exception as problem:
            raise DatasetError(
                f"{self._source}: item {index} raised {type(problem).__name__}: {problem}"
            ) from problem
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise DatasetError(
                f"{self._source}: item {index} is a {type(found).__name__}; expected (image, "
                "label)."
            )
        return found[0], found[1]

    def read(self, index: int) -> Raw:
        """Return a copy of the pixels: a data set may use one buffer for all items."""
        with self._lock:
            found = pixels(self._item(index)[0])
            return found.copy() if isinstance(found, np.ndarray) else found

    def name(self, index: int) -> str:
        return f"item {index} of {type(self._dataset).__name__}"

    def __getstate__(self) -> dict[str, Any]:
        refuse_unpicklable(self._dataset, f"the data set {self._source}")
        return {"_dataset": self._dataset, "_source": self._source}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=Lock())


def _declared_labels(dataset: Any) -> list[Any] | None:
    """Labels that the data set keeps beside its images, if it has as many as items."""
    if hasattr(dataset, "dataset") and hasattr(dataset, "indices"):  # torch.utils.data.Subset
        inner = _declared_labels(dataset.dataset)
        try:
            return None if inner is None else [inner[index] for index in dataset.indices]
        except IndexError:
            return None  # reading the item raises the error
    if getattr(dataset, "target_transform", None) is not None:
        return None
    for name in ("targets", "labels", "_labels"):
        found = getattr(dataset, name, None)
        if isinstance(found, Collection) and len(found) == len(dataset):
            return [_plain(label) for label in found]
    return None


def _class_names(dataset: Any, found: tuple[str, ...], source: str) -> tuple[str, ...]:
    """Names from the data set where its labels are indices into them.

    Raises
    ------
    DatasetError
        Some labels are such indices, and others are beyond them: values that mean "no label".
    """
    names = _declared_classes(dataset)
    if names is None or not all(name.removeprefix("-").isdigit() for name in found):
        return found
    strange = [name for name in found if not 0 <= int(name) < len(names)]
    if not strange:
        return tuple(names[int(name)] for name in found)
    if "0" in found:
        raise DatasetError(
            f"{source}: it names {len(names)} classes ({few(names)}), numbered from 0, but there "
            f'are labels {few(strange)}. Leave these images out if that means "no label"; '
            "otherwise correct `classes`."
        )
    return found


def _plain(label: Any) -> Any:
    try:
        return label.item() if hasattr(label, "item") else label
    except (ValueError, RuntimeError, TypeError):  # more than one number
        return label
