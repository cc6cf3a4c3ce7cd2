"""Find the labels in the columns of a table, whatever the task."""

from collections.abc import Set
from typing import Any, Final, NamedTuple

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.class_labels import is_missing
from pytest_datasize.images.image_set import few, one_line
from pytest_datasize.images.sources import tables
from pytest_datasize.images.sources.tables import Table
from pytest_datasize.images.targets.guess import HOW
from pytest_datasize.requirement.tasks import AUTO, CLASSIFICATION

_NUMBERS: Final = ("", "index", "id", "unnamed: 0", "width", "height")
"""Columns that number rows or describe images; no labels."""


class LabelColumns(NamedTuple):
    """The labels of a table.

    Attributes
    ----------
    rows
        First row of each image.
    values
        Its label.
    task
        The task that the columns are for; empty where the values decide.
    names
        Names of the columns, if a label has one value for each.
    guess
        What was guessed, for the report; empty for nothing.
    """

    rows: list[int]
    values: list[Any]
    task: str = ""
    names: tuple[str, ...] = ()
    guess: str = ""


def label_columns(
    table: Table, paths: str, others: Set[str | None], task: str, source: str
) -> LabelColumns | None:
    """Return the labels of a table; None if it has none.

    Parameters
    ----------
    table
        The table.
    paths
        Its column of image files.
    others
        Columns that are no labels.
    task
        The task asked for, or ``auto``.
    source
        Description for messages.

    Raises
    ------
    DatasetError
        A box is not four numbers.
    """
    label = tables.column(table, tables.LABELS)
    corners = tables.box_columns(table)
    if corners is not None and label is not None:
        return _boxes(table, paths, corners, label, task, source)
    rows = list(range(len(table[paths])))
    mask = tables.column(table, tables.MASKS)
    if mask is not None and (task == "segmentation" or (task == AUTO and label is None)):
        return LabelColumns(rows, table[mask], "segmentation")
    if label is not None:
        return LabelColumns(rows, table[label], guess=_other_labels(table, label, others))
    left = [
        name
        for name in table
        if name not in others and name.strip().lower() not in _NUMBERS and name != mask
    ]
    columns = [[_number(value) for value in table[name]] for name in left]
    odd = [name for name, column in zip(left, columns, strict=True) if None in column]
    if odd and task in ("multilabel", "regression") and len(odd) < len(left):
        row = columns[left.index(odd[0])].index(None)
        raise DatasetError(
            f"{source}: without a column {', '.join(tables.LABELS[:2])} the labels for "
            f"task={task!r} are the columns {', '.join(map(one_line, left))}; {one_line(odd[0])} "
            f"has no number in entry {row + 1} ({one_line(repr(table[odd[0]][row]))[:60]}). "
            "Correct it, or leave out the columns that are no labels."
        )
    if not left or odd:
        return None
    values = [list(row) for row in zip(*columns, strict=True)]
    taken = f"the labels are the columns {few(list(map(one_line, left)))} of {source}"
    binary = all(number in (0, 1) for row in values for number in row)
    if task == AUTO:
        if len(left) > 1 and binary:
            if all(sum(row) == 1 for row in values):
                classes = [left[row.index(1)] for row in values]
                guess = (
                    f"task: {CLASSIFICATION}, as every row of {source} has exactly one 1 in its "
                    f"{len(left)} columns of 0 and 1 {HOW}"
                )
                return LabelColumns(rows, classes, CLASSIFICATION, guess=guess)
            return LabelColumns(rows, values, "multilabel", tuple(left), taken)
        return LabelColumns(rows, values, "regression", tuple(left), taken)
    if task == CLASSIFICATION and binary and all(sum(row) == 1 for row in values):
        return LabelColumns(rows, [left[row.index(1)] for row in values], task)
    return LabelColumns(rows, values, task, tuple(left), taken)


def _other_labels(table: Table, label: str, others: Set[str | None]) -> str:
    """Say which column the labels are from, if others could hold them, too."""
    unused = [
        name
        for name in table
        if name.strip().lower() in tables.LABELS and name != label and name not in others
    ]
    if not unused:
        return ""
    return (
        f"labels are from the column {one_line(label)}, not from {', '.join(map(one_line, unused))}"
    )


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return float(value.strip().lower() == "true")
    try:
        return None if is_missing(value) else float(value)
    except (TypeError, ValueError):
        return None


def _boxes(
    table: Table, paths: str, corners: tuple[str, ...], label: str, task: str, source: str
) -> LabelColumns:
    """Collect the boxes of each image, one per row; a row without a label is an empty image."""
    found: dict[Any, tuple[int, list[Any], list[list[float]]]] = {}
    for row, path in enumerate(table[paths]):
        _, names, boxes = found.setdefault(path, (row, [], []))
        box = [_number(table[name][row]) for name in corners]
        if is_missing(table[label][row]):
            if any(value is not None for value in box):
                raise DatasetError(
                    f"{source}: entry {row + 1} ({one_line(str(path))}) has a box without a class "
                    f"in {label}. Only images without objects have an empty {label}."
                )
            continue
        if any(value is None for value in box):
            raise DatasetError(
                f"{source}: entry {row + 1} ({one_line(str(path))}) has the label "
                f"{one_line(str(table[label][row]))!r} and no box in {', '.join(corners)}."
            )
        names.append(str(table[label][row]).strip())
        boxes.append([float(value) for value in box if value is not None])
    rows = [row for row, _, _ in found.values()]
    if task == "multilabel":
        return LabelColumns(rows, [names for _, names, _ in found.values()])
    if task in (AUTO, CLASSIFICATION):
        return LabelColumns(
            rows, [_only(path, names, source) for path, (_, names, _) in found.items()]
        )
    values = [{"boxes": boxes, "labels": names} for _, names, boxes in found.values()]
    return LabelColumns(rows, values, "detection")


def _only(path: Any, names: list[str], source: str) -> str | None:
    if len(set(names)) > 1:
        raise DatasetError(
            f"{source}: {one_line(str(path))} shows several classes "
            f"({', '.join(sorted(set(names)))}), and its images have one class each. Set "
            f"task='detection' or task='multilabel' {HOW}."
        )
    return names[0] if names else None
