"""Describe what a trainer depends on beside its source: values set from outside, and environment.

``EPOCHS = int(os.environ["EPOCHS"])`` and ``CONFIG = json.load(...)`` have a value that the source
does not determine; and other code can set ``trainers.EPOCHS = 3``.
"""

import ast
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import Any, Final

from pytest_datasize.requirement.source_files import outside_functions

_DEEPEST: Final = 20  # nested values; a value that contains itself has no end
_EMPTY_CALLS: Final = ("list", "dict", "set")


def values_of(source: bytes, namespace: Mapping[str, Any]) -> list[tuple[str, str]]:
    r"""Return (name, text) of the variables of a module and its classes that have plain values.

    Left out is what functions of the module set themselves, such as a counter of calls, and
    collections that the source fills: the source says what they are when training starts.

    Parameters
    ----------
    source
        The file.
    namespace
        The variables of the imported module.

    Examples
    --------
    >>> values_of(b"A = int('1')\nLOG = []", {"A": 1, "LOG": [5]})
    [('A', '1')]
    """
    tree = _parsed(source)
    if tree is None:
        return []
    changed = {name for node in ast.walk(tree) for name in _changed_by(node)}
    return sorted(_values(tree.body, namespace, changed))


def environment_of(source: bytes) -> list[tuple[str, str | None]]:
    """Return (name, value) of the environment variables that a source reads by name.

    Examples
    --------
    >>> environment_of(b"def train(): return os.environ.get('NO_SUCH_VARIABLE')")
    [('NO_SUCH_VARIABLE', None)]
    """
    tree = _parsed(source)
    found = set() if tree is None else {name for node in ast.walk(tree) for name in _read_by(node)}
    return [(name, os.environ.get(name)) for name in sorted(found)]


def _parsed(source: bytes) -> ast.Module | None:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):  # such as an extension module
        return None


def _changed_by(node: ast.AST) -> Iterator[str]:
    """Yield names that functions may set: ``global`` names, and attributes of most objects.

    Not those of ``self``: an object's own attribute changes neither its class nor a module.
    """
    if isinstance(node, ast.Global):
        yield from node.names
    elif (
        isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and getattr(node.value, "id", "") != "self"
    ):
        yield node.attr


def _values(
    body: Iterable[ast.stmt], namespace: Mapping[str, Any], changed: set[str]
) -> Iterator[tuple[str, str]]:
    for node in outside_functions(body, classes=False):
        if isinstance(node, ast.ClassDef):
            members = getattr(namespace.get(node.name), "__dict__", {})
            found = _values(node.body, members, changed)
            yield from ((f"{node.name}.{name}", text) for name, text in found)
            continue
        filled = _is_collection(getattr(node, "value", None))
        for name in _set_by(node):
            value = namespace.get(name)
            if name in changed or name.startswith("__") or (filled and not _is_single(value)):
                continue
            text = _text(value)
            if text is not None:
                yield name, text


def _set_by(node: ast.AST) -> Iterator[str]:
    if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.NamedExpr, ast.For)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    elif isinstance(node, ast.withitem) and node.optional_vars is not None:
        targets = [node.optional_vars]
    else:
        return
    for target in targets:
        for inner in ast.walk(target):
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                yield inner.id


def _is_collection(value: ast.AST | None) -> bool:
    """Whether an expression makes a list, dict or set that the source alone determines."""
    if isinstance(value, ast.Call):
        name = getattr(value.func, "id", "")
        return name in _EMPTY_CALLS and not value.args and not value.keywords
    if isinstance(value, ast.Tuple):
        return any(map(_is_collection, value.elts))
    if not isinstance(value, (ast.List, ast.Dict, ast.Set)):
        return False
    try:
        ast.literal_eval(value)
    except (ValueError, TypeError):  # such as a call
        return False
    return True


def _is_single(value: Any) -> bool:
    return isinstance(value, (str, bytes, int, float, complex, type(None)))


def _read_by(node: ast.AST) -> Iterator[str]:
    """Yield the name of an environment variable: of ``environ[...]`` or ``getenv(...)``."""
    if isinstance(node, ast.Subscript) and _last(node.value) == "environ":
        name: Any = node.slice
    elif isinstance(node, ast.Call) and node.args:
        called = node.func
        of_environ = isinstance(called, ast.Attribute) and _last(called.value) == "environ"
        if not of_environ and _last(called) != "getenv":
            return
        name = node.args[0]
    else:
        return
    if isinstance(name, ast.Constant) and isinstance(name.value, str):
        yield name.value


def _last(node: ast.expr) -> str:
    return str(getattr(node, "attr", getattr(node, "id", "")))


def _text(value: Any, depth: int = 0) -> str | None:
    """Return a text that is equal for equal values; None if the value is not plain data."""
    if depth > _DEEPEST:
        return None
    if _is_single(value):
        return repr(value)
    if isinstance(value, PurePath):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return _text({one.name: getattr(value, one.name, None) for one in fields(value)}, depth + 1)
    if type(value).__name__ in ("Namespace", "SimpleNamespace"):
        return _text(vars(value), depth + 1)
    if isinstance(value, dict):
        return _joined([_text(pair, depth + 1) for pair in value.items()], ordered=False)
    if type(value) in (set, frozenset):
        return _joined([_text(one, depth + 1) for one in value], ordered=False)
    if isinstance(value, (list, tuple)):
        return _joined([_text(one, depth + 1) for one in value], ordered=True)
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        return f"{value.dtype} {value.item()!r}"
    if type(value).__name__ == "ndarray" and not value.dtype.hasobject:
        content = hashlib.sha256(value.tobytes()).hexdigest()
        return f"{value.dtype} {value.shape} {content}"
    return None


def _joined(texts: list[str | None], *, ordered: bool) -> str:
    """Join the texts of a collection's items; one without a text has a place only."""
    known = [text or "" for text in texts]
    return f"[{', '.join(known if ordered else sorted(known))}]"
