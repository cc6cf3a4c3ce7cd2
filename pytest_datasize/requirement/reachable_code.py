"""Find the part of a source file that a function depends on: a test beside it is no part of it."""

import ast
from collections.abc import Iterator

_TESTING = ("pytest", "datasize", "unittest")
"""Decorators of these names change no other code; those of all others may register something."""


def reachable(source: bytes, name: str) -> bytes:
    r"""Return the statements of a module that a top-level name depends on.

    All statements count but functions, and classes named ``Test...``, that nothing of the rest
    mentions: neither by name nor in a text, from which code may look a name up.

    Parameters
    ----------
    source
        The file.
    name
        Top-level name of the function or class.

    Returns
    -------
    bytes
        The statements without comments and layout; the file itself if they cannot be separated.

    Examples
    --------
    >>> source = b"def half(x): return x / 2\ndef train(x): return half(x)\ndef test_it(): ..."
    >>> reachable(source, "train") == reachable(source + b"\ndef test_more(): ...", "train")
    True
    >>> reachable(source, "train") == reachable(source.replace(b"/ 2", b"/ 3"), "train")
    False
    """
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError):
        return source
    apart: dict[str, list[ast.stmt]] = {}
    kept: list[ast.stmt] = []
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and _apart(node):
            apart.setdefault(node.name, []).append(node)
        else:
            kept.append(node)
    waiting = {name} | {found for node in kept for found in _mentioned(node)}
    if name not in waiting & {*apart, *(found for node in kept for found in _defined(node))}:
        return source
    while reached := waiting & apart.keys():
        for one in reached:
            nodes = apart.pop(one)
            kept += nodes
            waiting |= {found for node in nodes for found in _mentioned(node)}
    kept.sort(key=lambda node: node.lineno)
    return "\n".join(map(ast.dump, kept)).encode("utf-8", "surrogatepass")


def _apart(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    """Whether a definition does nothing at import but to define its name."""
    if isinstance(node, ast.ClassDef) and not node.name.startswith("Test"):
        return False
    return all(_root(decorator) in _TESTING for decorator in node.decorator_list)


def _root(node: ast.expr) -> str:
    """Return the first name of an expression such as ``pytest.mark.slow(reason)``."""
    while isinstance(node, (ast.Call, ast.Attribute)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _mentioned(node: ast.stmt) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            yield inner.id
        elif isinstance(inner, ast.Attribute):
            yield inner.attr
        elif isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            yield inner.value


def _defined(node: ast.stmt) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield inner.name
        elif isinstance(inner, ast.Name):
            yield inner.id
        elif isinstance(inner, ast.alias):
            yield (inner.asname or inner.name).partition(".")[0]
