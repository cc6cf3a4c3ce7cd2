"""Find the source line of a requirement, so that an annotation points at its decorator."""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest


def places(item: pytest.Item, count: int) -> list[tuple[str, int]]:
    """Return file (relative to the root directory) and line of each of `count` requirements.

    Markers do not record their line, so the decorators are searched in the file. One that is not
    found there (a marker added by a hook, or kept in a variable) gets its test's line.

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
    found = decorator_lines(file, _names(item)) if file.suffix == ".py" else []
    if len(found) != count:
        found = [found[-1] if found else line] * count
    return [(shown, place) for place in found]


def decorator_lines(file: Path, names: Sequence[str]) -> list[int]:
    """Return the lines of all datasize markers of a test, from the top of its file.

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
        lines += [d.lineno for d in node.decorator_list if _is_gate(d)]
        if isinstance(node, ast.ClassDef):
            body = node.body
            lines += [line for statement in body for line in _assigned(statement)]
    return sorted(lines)


def _names(item: pytest.Item) -> list[str]:
    classes = [node.name for node in item.listchain() if isinstance(node, pytest.Class)]
    return [*classes, getattr(item, "originalname", None) or item.name]


def _assigned(statement: ast.stmt) -> Iterator[int]:
    """Yield the lines of the markers in a ``pytestmark = ...``."""
    if isinstance(statement, ast.Assign) and any(
        isinstance(target, ast.Name) and target.id == "pytestmark" for target in statement.targets
    ):
        value = statement.value
        marks = value.elts if isinstance(value, (ast.List, ast.Tuple)) else [value]
        yield from (mark.lineno for mark in marks if _is_gate(mark))


def _is_gate(node: ast.expr) -> bool:
    """Whether an expression is ``datasize.requires(...)`` or ``pytest.mark.datasize(...)``."""
    if not isinstance(node, ast.Call):
        return False
    text = ast.unparse(node.func)
    return text.split(".")[-1] in ("requires", "represents", "datasize")
