"""Source: Hugging Face ``datasets``: a Dataset or DatasetDict, or a folder of ``save_to_disk``."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.class_labels import is_missing
from pytest_datasize.images.decode import decode_values
from pytest_datasize.images.factors import factor_columns, with_factors
from pytest_datasize.images.groups import of_column, with_groups
from pytest_datasize.images.image_set import (
    Chosen,
    Finding,
    ImageSet,
    Loaded,
    Raw,
    Reading,
    file_stamp,
    one_line,
)
from pytest_datasize.images.sampling import spread
from pytest_datasize.images.sources import tables
from pytest_datasize.images.sources.arrays import pixels
from pytest_datasize.images.sources.files import content
from pytest_datasize.images.sources.manifest import left_out
from pytest_datasize.images.sources.parts import split
from pytest_datasize.images.steady import LABELS_COMPARED
from pytest_datasize.images.targets.masks import Masks
from pytest_datasize.images.targets.read import described, of_targets
from pytest_datasize.images.undecodable import UndecodableError, UnreadableError
from pytest_datasize.requirement.tasks import CLASSIFICATION

_MASKS = (*tables.MASKS, "masks", "label", "annotation", "segmentation", "gt")
_CATEGORIES = ("category", "categories", "category_id", "label", "labels", "class")

_ON_DISK = ("dataset_dict.json", "state.json")


def accepts(value: Any) -> bool:
    """Whether this source can read ``value``; imports nothing."""
    if isinstance(value, Path):
        return any((value / name).is_file() for name in _ON_DISK)
    kinds = type(value).__mro__
    return any(kind.__module__.split(".")[0] == "datasets" for kind in kinds)


def load(value: Any, reading: Reading) -> Loaded:
    """Read an image column and a label column; images are decoded by us, not by the library.

    Labels are a ClassLabel or a text, a list of these, a number, a second column of images (masks),
    or objects with ``bbox`` (x, y, width, height in pixels, as in COCO) and ``category``.

    Raises
    ------
    DatasetError
        The library is not installed, columns are missing or several, or labels are not classes.
    """
    if isinstance(value, Path):
        value = _from_disk(value)
    kind = type(value).__name__
    if kind.startswith("Iterable"):
        raise DatasetError(
            f"{kind}: images must be found by number. Load the data set without streaming=True, or "
            "take a part into a Dataset with Dataset.from_list(list(stream.take(1000)))."
        )
    if hasattr(value, "items") and hasattr(value, "keys"):
        sets = {name: _read(part, reading, f"{kind}, {name}") for name, part in value.items()}
        if len(sets) == 1:
            return Loaded(next(iter(sets.values())))
        return split(sets, f"{kind} with {', '.join(map(one_line, value))}")
    return Loaded(_read(value, reading, f"{kind} with {len(value)} rows"))


def _from_disk(path: Path) -> Any:
    try:
        import datasets
    except ImportError:
        raise DatasetError(
            f"dataset {path}: folders of Hugging Face `datasets` need that library; "
            "pip install pytest-datasize[huggingface]"
        ) from None
    try:
        return datasets.load_from_disk(os.fspath(path))
    except Exception as problem:  # Arrow raises errors of many types for damaged files
        raise DatasetError(
            f"dataset {path}: `datasets` cannot load it: {type(problem).__name__}: {problem}"
        ) from None


def _read(dataset: Any, reading: Reading, source: str) -> ImageSet:
    kinds = {name: type(feature).__name__ for name, feature in dataset.features.items()}
    pictures = [name for name, kind in kinds.items() if kind == "Image"]
    mask = tables.column(pictures, _MASKS) if len(pictures) == 2 else None
    image = _one([name for name in pictures if name != mask], "image", kinds, source)
    label = mask or _label_column(dataset.features, kinds, source)
    group = of_column(reading.group, tuple(kinds), source)
    factors = factor_columns(reading.slices, tuple(kinds), source)
    plain = dataset.with_format(None)
    values: list[Any] = [*range(len(plain))] if mask else plain[label][:]
    names = getattr(dataset.features[label], "names", None)
    missing = [
        row
        for row, value in enumerate(values)
        if is_missing(value) or (names is not None and value == -1)
    ]
    gone = set(missing)
    rows = [row for row in range(len(values)) if row not in gone]
    findings = left_out(
        [f"row {row}" for row in missing], source, "images without a label", "missing_labels"
    )
    if not rows:
        raise DatasetError(f"{source}: there are no images with labels.")
    if mask:
        masks = _Masks(_Column(plain, mask, source, None))
        found = of_targets(Masks.of(masks, len(rows), source=source), reading.task)
    else:
        findings += _transform(dataset, label, values, source)
        chosen_values, form = [values[row] for row in rows], ""
        if (parts := _parts_of(dataset.features[label])) is not None:
            chosen_values, form = _objects(parts, chosen_values, reading.task, source)
        elif (inner := _names_of_each(dataset.features[label])) is not None:
            chosen_values = [_named(value, inner, source) for value in chosen_values]
            form = "multilabel"
        found = described(chosen_values, source, reading.task, form)
    labels = found.fields
    if names is not None and found.targets is None:
        labels["classes"] = tuple(names[int(number)] for number in found.classes)
    column = _Column(plain, image, source, _whole_stamp(dataset, image))
    chosen = np.array(rows, dtype=np.int64)
    images = ImageSet(
        source=source,
        **labels,
        read=Chosen(column.read, chosen),
        name=Chosen(column.name, chosen),
        findings=(*findings, *found.findings),
        stamp=Chosen(column.stamp, chosen),
    )

    def column_of(name: str) -> list[Any]:
        of_rows = plain[name][:]  # read once: each access reads the column again
        return [of_rows[row] for row in rows]

    images = with_factors(images, {name: column_of(column) for name, column in factors.items()})
    return images if group is None else with_groups(images, column_of(group))


def _transform(dataset: Any, label: str, values: list[Any], source: str) -> tuple[Finding, ...]:
    """Report a transform of the user, which is not applied to the images.

    Raises
    ------
    DatasetError
        It changes labels.
    """
    if dataset.format["type"] != "custom":
        return ()
    for row in spread(len(values), LABELS_COMPARED):
        try:
            found = dataset[row][label]
        except Exception:  # noqa: S112  (it may rename the column, or need what is not there)
            continue
        found = found.item() if hasattr(found, "item") and np.size(found) == 1 else found
        if not isinstance(found, type(values[row])) or found != values[row]:
            raise DatasetError(
                f"{source}: the transform of set_transform makes {found!r} of the label "
                f"{values[row]!r} of row {row}. Change labels with map(), and leave transforms out."
            )
    text = f"the transform of set_transform is not applied to the images of {source}"
    return (Finding("layout", text),)


class _Column:
    """Images of a column, as bytes or files, by row."""

    def __init__(self, dataset: Any, column: str, source: str, whole: str | None) -> None:
        import datasets

        raw = dataset.select_columns([column])
        self._raw = raw.cast_column(column, datasets.Image(decode=False))
        self._column, self._source, self._whole = column, source, whole
        self._lock = Lock()

    def read(self, index: int) -> Raw:
        with self._lock:
            try:
                found = self._raw[index][self._column]
            except Exception as problem:
                raise UnreadableError(
                    f"row {index} of {self._source}: {type(problem).__name__}: {problem}"
                ) from None
        if found is None:
            return b""
        if isinstance(found, dict):
            if found.get("bytes") is not None:
                return bytes(found["bytes"])
            place = str(found.get("path"))
            if "://" in place or "::" in place:
                raise UnreadableError(
                    f"row {index} of {self._source}: {one_line(place)} is not a file here; nothing "
                    "is fetched. Save the data set with its images embedded."
                )
            return content(Path(place))
        array: Raw = pixels(found)
        return array

    def name(self, index: int) -> str:
        return f"row {index} of {self._source}"

    def stamp(self, index: int) -> str | None:
        return self._whole and f"{self._whole}|{index}"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=Lock())


def _label_column(features: Any, kinds: dict[str, str], source: str) -> str:
    classes = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    if len(classes) == 1:
        return classes[0]
    by_name = tables.column(classes or kinds, (*tables.LABELS, "labels", "objects"))
    if by_name is not None:
        return by_name
    several = [
        name
        for name, feature in features.items()
        if _parts_of(feature) is not None or _names_of_each(feature) is not None
    ]
    return _one(several if len(several) == 1 else classes, "label", kinds, source)


def _names_of_each(feature: Any) -> list[str] | None:
    """Return the names of the classes of which a column holds several per image."""
    inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
    return getattr(inner, "names", None)


def _parts_of(feature: Any) -> dict[str, Any] | None:
    """Return the features of a column of objects with boxes; None for any other column."""
    inner = feature if isinstance(feature, dict) else getattr(feature, "feature", None)
    if isinstance(inner, dict) and "bbox" in inner and tables.column(inner, _CATEGORIES):
        return inner
    return None


def _objects(
    parts: dict[str, Any], values: list[Any], task: str, source: str
) -> tuple[list[Any], str]:
    """Return the objects of each image, boxes as COCO has them, or only their classes."""
    category = tables.column(parts, _CATEGORIES)
    assert category is not None
    feature = parts[category]
    names = getattr(feature, "names", None) or _names_of_each(feature)
    objects = [_each(value, category, source) for value in values]
    labels = [_named([number for number, _ in own], names, source) for own in objects]
    if task == "multilabel":
        return labels, task
    if task == CLASSIFICATION:
        several = sum(len(set(own)) != 1 for own in labels)
        if several:
            raise DatasetError(
                f"{source}: {several} images show no object, or objects of several classes. Say "
                "what is to be judged: task='detection' or 'multilabel'."
            )
        return [own[0] for own in labels], task
    boxes = [[[x, y, x + width, y + height] for _, (x, y, width, height) in own] for own in objects]
    found = [{"boxes": b, "labels": own} for b, own in zip(boxes, labels, strict=True)]
    return found, "detection"


def _each(value: Any, category: str, source: str) -> list[tuple[Any, list[float]]]:
    """Return category and box of each object: of a list of objects, or of lists of their parts."""
    if isinstance(value, Mapping):
        numbers, boxes = value[category] or [], value["bbox"] or []
    else:
        given = [one or {} for one in value]
        numbers, boxes = [one.get(category) for one in given], [one.get("bbox") for one in given]
    if len(numbers) != len(boxes):
        raise DatasetError(f"{source}: {len(numbers)} categories and {len(boxes)} boxes in a row.")
    for box in boxes:
        if box is None or len(box) != 4 or any(is_missing(number) for number in box):
            raise DatasetError(f"{source}: {box} is no box of four numbers, x, y, width, height.")
    return list(zip(numbers, boxes, strict=True))


def _named(numbers: Any, names: Sequence[str] | None, source: str) -> list[str]:
    """Return the names of classes; raise DatasetError for -1, which means that it is unknown."""
    if any(is_missing(number) or (names and number < 0) for number in numbers):
        raise DatasetError(
            f"{source}: an object has no class (None or -1). Fill it in or remove it."
        )
    return [names[number] if names else str(number) for number in numbers]


class _Masks:
    """Masks of a column, by row."""

    def __init__(self, column: _Column) -> None:
        self._column = column

    def __call__(self, index: int) -> np.ndarray[Any, Any]:
        raw = self._column.read(index)
        try:
            return decode_values(raw) if isinstance(raw, bytes) else raw.astype(np.int64)
        except UndecodableError as problem:
            raise DatasetError(f"mask of {self._column.name(index)}: {problem}") from None


def _one(found: list[str], what: str, kinds: dict[str, str], source: str) -> str:
    if len(found) == 1:
        return found[0]
    shown = ", ".join(f"{one_line(name)} ({kind})" for name, kind in kinds.items())
    several = f"several {what} columns" if found else f"no {what} column"
    raise DatasetError(
        f"{source}: {several} among {shown}. Expected one Image column, and one ClassLabel column "
        "or a column named label; use rename_column, remove_columns or cast_column."
    )


def _whole_stamp(dataset: Any, image: str) -> str | None:
    """Return files and fingerprint of a data set.

    None for rows in memory, and for images in files of their own, such as those of ``imagefolder``:
    they can change while the data set, which has only their paths, stays the same.
    """
    files = [file_stamp(entry["filename"]) for entry in dataset.cache_files]
    fingerprint = getattr(dataset, "_fingerprint", None)
    if not files or None in files or not fingerprint:
        return None
    chunks = dataset.data.column(image).chunks
    if any(chunk.field("bytes").null_count for chunk in chunks):
        return None
    return f"{'|'.join(map(str, files))}|{fingerprint}"
