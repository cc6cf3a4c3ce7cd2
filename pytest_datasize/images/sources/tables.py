"""Tables of images on disk: CSV, TSV, JSON lines and Parquet, as columns of plain values."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.sources.suffixes import SUFFIXES as OF_IMAGES

Table = dict[str, list[Any]]
"""Column → values, all columns of one length."""

PATHS = ("file_name", "filename", "path", "file_path", "filepath", "image_path", "image", "file")
LABELS = ("label", "class", "category", "class_name", "label_name", "target")
SPLITS = ("split", "subset", "partition")


def read(path: Path) -> Table:
    """Read a table by the suffix of its file.

    Raises
    ------
    DatasetError
        The file is not there, is no such table, or its rows do not fit its header.
    """
    try:
        return _READERS[path.suffix.lower()](path)
    except OSError as problem:
        raise DatasetError(f"manifest {path}: cannot be read: {problem.strerror}.") from None
    except UnicodeDecodeError as problem:
        raise DatasetError(
            f"manifest {path}: not UTF-8 (byte {problem.start}); save it as UTF-8."
        ) from None
    except (csv.Error, json.JSONDecodeError, RecursionError) as problem:
        raise DatasetError(f"manifest {path}: cannot be understood: {problem}.") from None


def column(table: Table, names: tuple[str, ...]) -> str | None:
    """Return the column that has one of the names, in any case."""
    by_name = {name.strip().lower(): name for name in reversed(table)}
    return next((by_name[name] for name in names if name in by_name), None)


def _csv(path: Path) -> Table:
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        file.seek(0)
        delimiter = max("\t,;|", key=first.count)
        rows = csv.reader(file, delimiter=delimiter, strict=True)
        lines = [(rows.line_num, row) for row in rows if any(cell.strip() for cell in row)]
    if not lines:
        raise DatasetError(f"manifest {path}: the file is empty; expected path,label rows.")
    header = [cell.strip() for cell in lines[0][1]]
    if Path(header[0]).suffix.lower() in OF_IMAGES:  # no header: image,label[,split]
        header = ["path", "label", "split"][: len(header)]
    else:
        lines = lines[1:]
    if len(set(header)) < len(header):
        raise DatasetError(f"manifest {path}: two columns have one name ({', '.join(header)}).")
    for line, row in lines:
        if len(row) != len(header):
            raise DatasetError(
                f"manifest {path}: line {line} has {len(row)} cells, the header {len(header)}. "
                "Quote cells that hold the separator."
            )
    return {name: [row[number] for _, row in lines] for number, name in enumerate(header)}


def _json_lines(path: Path) -> Table:
    rows = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError as problem:
                    raise DatasetError(
                        f"manifest {path}: line {number} is not JSON ({problem})."
                    ) from None
                if not isinstance(row, dict):
                    raise DatasetError(
                        f"manifest {path}: line {number} is a {type(row).__name__}; expected an "
                        'object such as {"path": "a.jpg", "label": "cat"}.'
                    )
                rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _parquet(path: Path) -> Table:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise DatasetError(
            f"manifest {path}: Parquet needs pyarrow; pip install pytest-datasize[parquet]"
        ) from None
    try:
        file = parquet.ParquetFile(path)
        wanted = [field.name for field in file.schema_arrow if field.name.lower() != "image_bytes"]
        columns: Table = file.read(columns=wanted).to_pydict()
        return columns
    except (ArrowException, ValueError, TypeError) as problem:
        raise DatasetError(f"manifest {path}: not readable as Parquet: {problem}.") from None


_READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": _csv,
    ".tsv": _csv,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".parquet": _parquet,
}
SUFFIXES = tuple(_READERS)
