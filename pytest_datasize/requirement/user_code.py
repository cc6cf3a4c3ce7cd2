"""A function of the user's own as what it is: imported by name, named, and known by its source."""

import hashlib
import sys
import sysconfig
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from pytest_datasize.errors import RequirementError


def resolved(function: Any, option: str = "trainer") -> Callable[..., Any]:
    """Return a function itself, or import it from ``module:function``.

    Raises
    ------
    RequirementError
        It cannot be imported, or cannot be called.

    Examples
    --------
    >>> resolved("math:sqrt")(4.0)
    2.0
    """
    found = function
    if isinstance(function, str):
        module, _, name = function.partition(":")
        try:
            found = getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError) as problem:
            raise RequirementError(
                f"{option}={function!r} cannot be imported: {problem}. Expected a function or "
                "'module:function'."
            ) from None
    if not callable(found):
        raise RequirementError(
            f"{option}={function!r} is a {type(found).__name__}, not a function."
        )
    called: Callable[..., Any] = found
    return called


def named(function: Any) -> str:
    """Name a function as its author would."""
    if isinstance(function, str):
        return function
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{getattr(function, '__module__', None) or type(function).__module__}.{name}"


def code_of(function: Any) -> str | None:
    """Name a function by the source it is made of; None where that cannot be told.

    That is its own file, and every file of the same project that it imports, directly or not:
    installed packages are known by their versions instead. What a function holds besides its
    source, a closure or the state of an object, cannot be told.
    """
    called = resolved(function)
    if getattr(called, "__closure__", None) or not hasattr(called, "__qualname__"):
        return None
    files: dict[str, bytes] = {}
    waiting = [called.__module__]
    while waiting:
        module = sys.modules.get(waiting.pop())
        path = getattr(module, "__file__", None)
        if module is None or not path or path in files or _installed(path):
            continue
        try:
            files[path] = Path(path).read_bytes()
        except OSError:
            return None
        for value in vars(module).values():
            other = value.__name__ if isinstance(value, ModuleType) else _home(value)
            if other:
                waiting.append(other)
    if not files:
        return None
    content = hashlib.sha256(called.__qualname__.encode())
    for source in sorted(hashlib.sha256(source).digest() for source in files.values()):
        content.update(source)
    return content.hexdigest()[:32]


def _home(value: Any) -> str | None:
    name = getattr(value, "__module__", None)
    return name if isinstance(name, str) else None


def _installed(path: str) -> bool:
    return path.startswith(_places())


@cache
def _places() -> tuple[str, ...]:
    """Return where installed packages lie; ``sysconfig`` computes it anew in every call."""
    places = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return tuple(f"{place}/" for place in places if place)
