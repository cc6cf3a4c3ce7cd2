"""Tables of images on disk: CSV, TSV, JSON lines and Parquet, as columns of plain values."""

import csv
import json
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.sources.suffixes import SUFFIXES as OF_IMAGES

Table = dict[str, list[Any]]
"""Column → values, all columns of one length."""

PATHS = ("file_name", "filename", "path", "file_path", "filepath", "image_path", "image", "file")
LABELS = ("label", "class", "category", "class_name", "label_name", "target")
MASKS = ("mask", "mask_path", "mask_file", "mask_name", "segmentation_mask")
BOX = ("xmin", "ymin", "xmax", "ymax")
SPLITS = ("split", "subset", "partition")

FIRST_ROWS = 100
"""Rows of JSON lines whose names count where only the columns are wanted."""


def read(path: Path) -> Table:
    """Read a table by the suffix of its file.

    Raises
    ------
    DatasetError
        The file is not there, is no such table, or its rows do not fit its header.
    """
    with _clear_errors(path):
        return _READERS[path.suffix.lower()].whole(path)


def columns(path: Path) -> list[str]:
    """Return the names of a table's columns; its rows are not read.

    Of JSON lines, which have no header, the first :data:`FIRST_ROWS` rows are read.

    Raises
    ------
    DatasetError
        The file is not there, or is no such table.
    """
    with _clear_errors(path):
        return _READERS[path.suffix.lower()].columns(path)


def column(names_there: Iterable[str], names: tuple[str, ...]) -> str | None:
    """Return the column that has one of the names, in any case.

    Examples
    --------
    >>> column(["File", "Label"], PATHS), column(["File", "Label"], SPLITS)
    ('File', None)
    """
    by_name: dict[str, str] = {}
    for name in names_there:
        by_name.setdefault(name.strip().lower(), name)
    return next((by_name[name] for name in names if name in by_name), None)


def box_columns(names_there: Iterable[str]) -> tuple[str, ...] | None:
    """Return the columns of the corners of a box, one box per row; None without them.

    Examples
    --------
    >>> box_columns(["image", "x_min", "Ymin", "xmax", "y-max"]), box_columns(["xmin"])
    (('x_min', 'Ymin', 'xmax', 'y-max'), None)
    """
    by_name = {re.sub(r"[^a-z]", "", name.lower()): name for name in names_there}
    if not set(BOX) <= set(by_name):
        return None
    return tuple(by_name[name] for name in BOX)


@contextmanager
def _clear_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise DatasetError(f"manifest {path}: cannot be read: {problem.strerror}.") from None
    except UnicodeDecodeError as problem:
        raise DatasetError(
            f"manifest {path}: not UTF-8 (byte {problem.start}); save it as UTF-8."
        ) from None
    except (csv.Error, json.JSONDecodeError, RecursionError) as problem:
        raise DatasetError(f"manifest {path}: cannot be understood: {problem}.") from None


def _csv_lines(path: Path) -> Generator[tuple[int, list[str]]]:
    """Yield (line number, cells) of the rows that hold anything."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = next((line for line in file if line.strip()), "")
        file.seek(0)
        delimiter = max("\t,;|", key=first.count)
        rows = csv.reader(file, delimiter=delimiter, strict=True)
        start = 1
        try:
            for row in rows:
                if any(cell.strip() for cell in row):
                    yield rows.line_num, row
                start = rows.line_num + 1
        except csv.Error as problem:
            raise DatasetError(
                f"manifest {path}: the row that begins in line {start} cannot be understood: "
                f"{problem}. Is a quotation mark open?"
            ) from None


def _csv_header(path: Path, lines: list[tuple[int, list[str]]]) -> tuple[list[str], bool]:
    """Return the names of the columns, and whether the first line holds them."""
    if not lines:
        raise DatasetError(f"manifest {path}: the file is empty; expected path,label rows.")
    header = [cell.strip() for cell in lines[0][1]]
    given = Path(header[0]).suffix.lower() not in OF_IMAGES
    if not given:  # image,label[,split]
        header = ["path", "label", "split"][: len(header)]
    if len(set(header)) < len(header):
        raise DatasetError(f"manifest {path}: two columns have one name ({', '.join(header)}).")
    return header, given


def _csv_columns(path: Path) -> list[str]:
    lines = _csv_lines(path)
    with closing(lines):
        return _csv_header(path, [*islice(lines, 1)])[0]


def _csv(path: Path) -> Table:
    lines = [*_csv_lines(path)]
    header, given = _csv_header(path, lines)
    if given:
        lines = lines[1:]
    for line, row in lines:
        if len(row) != len(header):
            raise DatasetError(
                f"manifest {path}: line {line} has {len(row)} cells, the header {len(header)}. "
                "Quote cells that hold the separator."
            )
    return {name: [row[number] for _, row in lines] for number, name in enumerate(header)}


def _json_rows(path: Path) -> Generator[dict[str, Any]]:
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
                yield row


def _json_columns(path: Path) -> list[str]:
    rows = _json_rows(path)
    with closing(rows):
        return [*dict.fromkeys(name for row in islice(rows, FIRST_ROWS) for name in row)]


def _json_lines(path: Path) -> Table:
    rows = [*_json_rows(path)]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


@contextmanager
def _parquet_file(path: Path) -> Iterator[tuple[Any, list[str]]]:
    """Open a file, and name its columns but for images that it holds."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise DatasetError(
            f"manifest {path}: Parquet needs pyarrow; pip install pytest-datasize[parquet]"
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            names = [field.name for field in file.schema_arrow]
            yield file, [name for name in names if name.lower() != "image_bytes"]
    except (ArrowException, ValueError, TypeError) as problem:
        raise DatasetError(f"manifest {path}: not readable as Parquet: {problem}.") from None


def _parquet_columns(path: Path) -> list[str]:
    with _parquet_file(path) as (_, names):
        return names


def _parquet(path: Path) -> Table:
    with _parquet_file(path) as (file, names):
        table: Table = file.read(columns=names).to_pydict()
        return table


class _Reader(NamedTuple):
    whole: Callable[[Path], Table]
    columns: Callable[[Path], list[str]]


_CSV, _JSON = _Reader(_csv, _csv_columns), _Reader(_json_lines, _json_columns)
_READERS: dict[str, _Reader] = {
    ".csv": _CSV,
    ".tsv": _CSV,
    ".jsonl": _JSON,
    ".ndjson": _JSON,
    ".parquet": _Reader(_parquet, _parquet_columns),
}
SUFFIXES = tuple(_READERS)
