"""Source: a table of paths and labels (CSV, TSV, JSON lines, Parquet), with or without splits."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.class_labels import is_missing
from pytest_datasize.images.factors import factor_columns, with_factors
from pytest_datasize.images.groups import of_column, with_groups
from pytest_datasize.images.image_set import Finding, Loaded, Reading, few, one_line
from pytest_datasize.images.sources import tables
from pytest_datasize.images.sources.files import Boundary, Files, of_files
from pytest_datasize.images.sources.label_columns import label_columns
from pytest_datasize.images.sources.mask_files import read_mask_files
from pytest_datasize.images.sources.parts import by_part, kind, split
from pytest_datasize.images.targets.read import Described, described, of_targets

_EXPECTED = (
    "Expected a column of paths ({paths}) and one of labels ({labels}), and perhaps one of "
    "splits ({splits})."
).format(
    paths=", ".join(tables.PATHS), labels=", ".join(tables.LABELS), splits=", ".join(tables.SPLITS)
)


def accepts(value: Any) -> bool:
    """Whether a path is a table, or a folder that holds one with paths and labels."""
    if not isinstance(value, Path):
        return False
    return value.suffix.lower() in tables.SUFFIXES or bool(_in_folder(value))


def load(value: Path, reading: Reading) -> Loaded:
    """Read rows of path, label and perhaps split; paths start from the table's folder.

    A folder may hold one table, or one per part (``train.csv``, ``test.csv``).

    Raises
    ------
    DatasetError
        The table or its columns cannot be understood, or a path leaves the table's folder.
    """
    path = Path(value)
    if not path.is_dir():
        return _read(path, path.parent, reading)
    found = _in_folder(path)
    if not found:
        raise DatasetError(f"dataset {path}: no table of images in it. {_EXPECTED}")
    if len(found) == 1:
        return _read(found[0], path, reading)
    if any(kind(table.stem) is None for table in found):
        raise DatasetError(
            f"dataset {path} holds several tables ({', '.join(t.name for t in found)}). Name the "
            f"one you mean, such as dataset='{path / found[0].name}'."
        )
    parts = {table.stem: _read(table, path, reading).images for table in found}
    return split(parts, f"manifests in {path}")


def left_out(names: Sequence[str], source: str, what: str, check: str) -> tuple[Finding, ...]:
    """Report rows that were left out because their label or file is missing."""
    if not names:
        return ()
    shown = few([one_line(name) for name in names])
    text = f"{len(names)} {what} in {source} cannot be counted: {shown}"
    return (Finding(check, text, len(names), tuple(map(one_line, names[:200]))),)


def empty_targets(names: Sequence[str], source: str) -> tuple[Finding, ...]:
    """Report images that show nothing, which are data, too."""
    if not names:
        return ()
    shown = few([one_line(name) for name in names])
    text = f"{len(names)} images in {source} show nothing that is labelled: {shown}"
    return (Finding("layout", text, len(names), tuple(map(one_line, names[:200]))),)


def several_labels(names: Sequence[str], source: str, what: str) -> tuple[Finding, ...]:
    """Report images with several labels where one per image is asked for."""
    found = left_out(names, source, f"images of several {what}", "several_labels")
    hint = (
        ". Say what is to be judged: task='detection' (boxes), 'multilabel' (which labels an image "
        "shows) or 'segmentation' (masks)"
    )
    return tuple(replace(finding, text=finding.text + hint) for finding in found)


def _in_folder(folder: Path) -> list[Path]:
    """Tables directly in a folder that have a column of paths and one of labels."""
    if not folder.is_dir():
        return []
    found = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in tables.SUFFIXES and path.is_file():
            try:
                columns = tables.columns(path)
            except DatasetError:
                continue  # some other table
            labels = (*tables.LABELS, *tables.MASKS)
            if tables.column(columns, tables.PATHS) and tables.column(columns, labels):
                found.append(path)
    return found


def _read(path: Path, root: Path, reading: Reading) -> Loaded:
    source = f"manifest {path}"
    table = tables.read(path)
    place = tables.column(table, tables.PATHS)
    split_column = tables.column(table, tables.SPLITS)
    group_column = of_column(reading.group, tuple(table), source)
    factors = factor_columns(reading.slices, tuple(table), source)
    boundary = Boundary(root, reading.allow_outside)
    labels = None
    if place is not None:
        others = {place, split_column, group_column, *factors.values()}
        labels = label_columns(table, place, others, reading.task, source)
    if place is None or labels is None:
        raise DatasetError(
            f"{source}: columns {', '.join(map(one_line, table)) or '(none)'}. {_EXPECTED}"
        )
    kept, paths = [], []
    absent, unlabelled = [], []
    for number, (row, value) in enumerate(zip(labels.rows, labels.values, strict=True)):
        text = table[place][row]
        file = _file(text, row, path.parent, boundary, source)
        if is_missing(value) and reading.task != "multilabel":
            unlabelled.append(text)
        elif not file.is_file():
            absent.append(text)
        else:
            kept.append(number)
            paths.append(file)
    findings = (
        *left_out(unlabelled, source, "images without a label", "missing_labels"),
        *left_out(absent, source, "files that are not there", "missing_files"),
        *((Finding("layout", labels.guess),) if labels.guess else ()),
    )
    rows = [labels.rows[number] for number in kept]
    values = [labels.values[number] for number in kept]

    def describe() -> Described:
        if labels.task == "segmentation":
            pairs = zip(values, rows, strict=True)
            masks = [_file(text, row, path.parent, boundary, source) for text, row in pairs]
            return of_targets(read_mask_files(masks, source, reading.store), reading.task)
        plain = [value.strip() if isinstance(value, str) else value for value in values]
        return described(plain, source, reading.task, labels.task, labels.names)

    images = of_files(
        source, Files(paths, [str(table[place][r]) for r in rows]), describe, findings
    )
    if group_column is not None:
        images = with_groups(images, [table[group_column][row] for row in rows])
    images = with_factors(
        images, {name: [table[column][row] for row in rows] for name, column in factors.items()}
    )
    if split_column is None:
        return Loaded(images)
    return by_part(images, [table[split_column][row] for row in rows])


def _file(text: Any, row: int, base: Path, boundary: Boundary, source: str) -> Path:
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise DatasetError(f"{source}: entry {row + 1} has no path (found {_shown(text)}).")
    return _placed(text.strip(), base, boundary, source)


def _shown(value: Any) -> str:
    if isinstance(value, dict) and "bytes" in value:
        return "the bytes of an image; read such a file with `datasets` and give the Dataset"
    return one_line(repr(value))[:60]


def _placed(text: str, base: Path, boundary: Boundary, source: str) -> Path:
    if "://" in text:
        raise DatasetError(
            f"{source}: {one_line(text)} is a web address; nothing is fetched. Give paths of files."
        )
    if len(text) > 4096:
        raise DatasetError(f"{source}: a path of {len(text):,} letters is none.")
    file = base / text
    if "\\" in text and os.sep != "\\" and not file.is_file():  # written under Windows
        file = base / text.replace("\\", "/")
    return boundary.check(file)
