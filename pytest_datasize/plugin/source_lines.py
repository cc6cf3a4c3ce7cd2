"""Find the source line of a requirement, so that an annotation points at its decorator."""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest


def places(item: pytest.Item, count: int) -> list[tuple[str, int]]:
    """Return file (relative to the root directory) and line of each of `count` requirements.

    Markers do not record their line, so the decorators are searched in the file. A requirement that
    several markers make together is where the closest one is. If not all are found (a marker
    added by a hook, or kept in a variable), they get the line of the last one, or of the test.

    Parameters
    ----------
    item
        A marked test.
    count
        Number of its requirements, in reading order.
    """
    path, start, _ = item.reportinfo()
    file, line = Path(path), (start or 0) + 1
    try:
        shown = file.resolve().relative_to(item.config.rootpath.resolve()).as_posix()
    except ValueError:  # outside the root directory
        shown = file.as_posix()
    markers = decorator_lines(file, _names(item)) if file.suffix == ".py" else []
    merged = [place for place, stacked in markers if not stacked][-1:]
    found = sorted(merged + [place for place, stacked in markers if stacked])
    if len(found) != count:
        found = [markers[-1][0] if markers else line] * count
    return [(shown, place) for place in found]


def decorator_lines(file: Path, names: Sequence[str]) -> list[tuple[int, bool]]:
    """Return line and ``stack`` of all datasize markers of a test, from the top of its file.

    Parameters
    ----------
    file
        A Python file.
    names
        The classes around the test, then its function.
    """
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    body: Sequence[ast.stmt] = tree.body
    lines = [line for statement in body for line in _assigned(statement)]
    for name in names:
        node = next((s for s in reversed(body) if getattr(s, "name", None) == name), None)
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            break
        lines += [found for d in node.decorator_list if (found := _marker(d))]
        if isinstance(node, ast.ClassDef):
            body = node.body
            lines += [line for statement in body for line in _assigned(statement)]
    return sorted(lines)


def _names(item: pytest.Item) -> list[str]:
    classes = [node.name for node in item.listchain() if isinstance(node, pytest.Class)]
    return [*classes, getattr(item, "originalname", None) or item.name]


def _assigned(statement: ast.stmt) -> Iterator[tuple[int, bool]]:
    """Yield the markers in a ``pytestmark = ...``."""
    if isinstance(statement, ast.Assign) and any(
        isinstance(target, ast.Name) and target.id == "pytestmark" for target in statement.targets
    ):
        value = statement.value
        marks = value.elts if isinstance(value, (ast.List, ast.Tuple)) else [value]
        yield from (found for mark in marks if (found := _marker(mark)))


def _marker(node: ast.expr) -> tuple[int, bool] | None:
    """Return the line of a ``datasize.requires(...)``, and whether it has ``stack=True``."""
    if not isinstance(node, ast.Call):
        return None
    if ast.unparse(node.func).split(".")[-1] not in ("requires", "represents", "datasize"):
        return None
    stacked = any(
        word.arg == "stack" and isinstance(word.value, ast.Constant) and word.value.value is True
        for word in node.keywords
    )
    return node.lineno, stacked
