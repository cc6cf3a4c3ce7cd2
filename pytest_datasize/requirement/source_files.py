"""Find the source files that a user's function depends on, from their import statements.

Nothing is imported: a module that is imported inside a function may have side effects, or may not
be needed on this machine. Installed packages are named, not read.
"""

import ast
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any

_IMPORTERS = ("import_module", "__import__", "importorskip")
_OWN = __name__.partition(".")[0]


@dataclass
class Sources:
    """Source files and packages that a module of a project depends on.

    Attributes
    ----------
    files
        Name of the module → content of its file, for every module of the project that is imported,
        directly or not, anywhere in a file.
    packages
        Top-level names of installed packages that they import.
    variables
        Name of the module → its variables, for those of the modules that are imported together
        with the first, not later by a function of it.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    packages: set[str] = field(default_factory=set)
    variables: dict[str, dict[str, Any]] = field(default_factory=dict)


def sources_of(name: str, path: str | None, content: dict[str, Any]) -> Sources | None:
    """Find all files behind a module.

    Parameters
    ----------
    name, path
        The module and its file; None for the file of the module with this name.
    content
        Namespace of the module.

    Returns
    -------
    Sources or None
        None if a file cannot be read.
    """
    found, seen = Sources(), set[str]()
    waiting: list[tuple[str, str | None, dict[str, Any]]] = [(name, path, content)]
    later: list[tuple[str, str | None, dict[str, Any]]] = []
    while waiting or later:
        at_once = bool(waiting)
        name, path, content = waiting.pop() if waiting else later.pop()
        top = name.partition(".")[0]
        if name in seen or top in sys.stdlib_module_names or top == _OWN:
            continue
        seen.add(name)
        module = sys.modules.get(name)
        content = content or (vars(module) if module else {})
        path = path or getattr(module, "__file__", None) or (None if module else _located(name))
        if path and _installed(path):
            found.packages.add(top)
            continue
        imported, now = _homes(content), set[str]()
        if path:  # a namespace package has no file
            try:
                found.files[name] = Path(path).read_bytes()
            except OSError:
                return None
            is_package = PurePath(path).stem == "__init__"
            package = name if is_package else name.rpartition(".")[0]
            imported |= set(_imports(found.files[name], package))
            if at_once:
                now = set(_imports(found.files[name], package, at_once=True))
                found.variables[name] = content
        for other in imported:
            parts = other.split(".")
            prefixes = (".".join(parts[:end]) for end in range(1, len(parts) + 1))
            places = [(prefix, None, dict[str, Any]()) for prefix in prefixes if prefix not in seen]
            (waiting if other in now else later).extend(places)
    return found


def _imports(source: bytes, package: str, *, at_once: bool = False) -> Iterator[str]:
    """Yield the names in the imports of a source; some may not be modules.

    Parameters
    ----------
    source
        The file.
    package
        Package of the module, for relative imports.
    at_once
        Whether to leave out imports in functions, which run later or never.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # an extension module, or a file that cannot be imported
        return
    for node in outside_functions([tree]) if at_once else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if base := _absolute("." * node.level + (node.module or ""), package):
                yield from (base, *(f"{base}.{alias.name}" for alias in node.names))
        elif base := _absolute(_called(node), package):
            yield base


def outside_functions(nodes: Iterable[ast.AST], *, classes: bool = True) -> Iterator[ast.AST]:
    """Yield nodes and all that is in them, except the content of functions (and of classes).

    The functions and classes themselves are yielded.
    """
    inner = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    waiting = [*nodes]
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, inner) and (classes or not isinstance(node, ast.ClassDef)):
            waiting += ast.iter_child_nodes(node)


def _called(node: ast.AST) -> str:
    """Return the module that a call imports by a literal name; empty for other calls."""
    if not (isinstance(node, ast.Call) and node.args):
        return ""
    word = getattr(node.func, "attr", getattr(node.func, "id", ""))
    value = getattr(node.args[0], "value", None)
    return value if word in _IMPORTERS and isinstance(value, str) else ""


def _absolute(name: str, package: str) -> str:
    """Return the absolute name of a module; empty if a relative import leaves the package.

    Examples
    --------
    >>> _absolute("a.b", "p.q"), _absolute(".b", "p.q"), _absolute("..", "p.q"), _absolute(".b", "")
    ('a.b', 'p.q.b', 'p', '')
    """
    rest = name.lstrip(".")
    if not (level := len(name) - len(rest)):
        return name
    parts = package.split(".") if package else []
    if level > len(parts):
        return ""
    return ".".join([*parts[: len(parts) - level + 1], *([rest] if rest else [])])


def _homes(content: dict[str, Any]) -> set[str]:
    """Return the modules of the objects in a module: an import need not be a statement."""
    homes = (
        value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        for value in list(content.values())
    )
    return {home for home in homes if isinstance(home, str) and home}


def _located(name: str) -> str | None:
    """Return the file of a module that is not imported, found as an import would find it."""
    path: Any = None
    origin = None
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        prefix = ".".join(parts[:end])
        known = sys.modules.get(prefix)
        spec = getattr(known, "__spec__", None) if known else None
        spec = spec or _spec(prefix, path)
        if spec is None:
            return None
        path, origin = spec.submodule_search_locations, spec.origin
        if path is None and end < len(parts):
            return None  # an object of a module, not a module
    return origin if origin and Path(origin).is_file() else None


def _spec(name: str, path: Any) -> Any:
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        try:
            if find and (spec := find(name, path)) is not None:
                return spec
        except Exception:  # noqa: S112  (a third-party finder failed; others may find it)
            continue
    return None


def _installed(path: str) -> bool:
    # of this environment, or of one that it builds on
    packages = {"site-packages", "dist-packages"}
    return path.startswith(_places()) or not packages.isdisjoint(PurePath(path).parts)


@cache
def _places() -> tuple[str, ...]:
    """Return the folders of installed packages; cached, since ``sysconfig`` recomputes them."""
    places = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return tuple(f"{place}/" for place in places if place)
