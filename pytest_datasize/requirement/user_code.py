"""A function of the user's own as what it is: imported by name, named, and known by its source."""

import hashlib
import pickle
import pickletools
import sys
from collections.abc import Callable
from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any

from pytest_datasize.errors import RequirementError
from pytest_datasize.requirement.source_files import Sources, sources_of
from pytest_datasize.requirement.versions import versions_of_modules


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

    That is its own file, and every file of the same project that it imports, directly or not,
    wherever in a file the import is. Installed packages are known by :func:`packages_of`. What a
    function holds besides its source, a closure or the state of an object, cannot be told.
    """
    called = resolved(function)
    found = _sources(called)
    if found is None or not found.files:
        return None
    code = getattr(called, "__code__", None)
    place = [called.__qualname__]
    if code is not None and "<" in called.__qualname__:  # others in the file are named like it
        place.append(f"line {code.co_firstlineno} {' '.join(code.co_names)}")
    values = [*(getattr(called, "__defaults__", None) or ())]
    values += sorted((getattr(called, "__kwdefaults__", None) or {}).items())
    if not all(map(_plain, values)):
        if "<locals>" in called.__qualname__:
            return None
    else:
        place.append(repr(values))
    return _hashed(place, found)


def packages_of(function: Any) -> dict[str, str]:
    """Return package → version of the installed packages that a function's sources import."""
    found = _sources(resolved(function))
    return {} if found is None else versions_of_modules(found.packages)


def content_of(value: Any) -> str | None:
    """Name a function or an object, such as a transform, for a record that people compare.

    Parameters
    ----------
    value
        A function, ``module:function``, or an object that can be pickled.

    Returns
    -------
    str or None
        Its name, what it shows of its state, and the code that the project has of it; None where
        another session could not tell it from others.

    Examples
    --------
    >>> from fractions import Fraction
    >>> content_of(Fraction(1, 3)), content_of(lambda picture: picture)
    ('fractions.Fraction Fraction(1, 3)', None)
    """
    if isinstance(value, str) or hasattr(value, "__code__"):
        code = code_of(value)
        return code and f"{named(value)} {code}"
    text = " ".join(repr(value).split())
    try:
        packed = pickle.dumps(value, protocol=4)
    except Exception:  # whatever the object raises: it cannot be told
        return None
    found = Sources()
    for home in _modules_in(packed):
        part = sources_of(home, None, {})
        if part is None:
            return None
        found.files |= part.files
    if found.files:  # how much of their state they show is up to their author
        text += f" {hashlib.sha256(packed).hexdigest()[:16]}"
    if " at 0x" in text:
        return None
    return f"{named(value)} {text}{f' {_hashed([], found)}' if found.files else ''}"


def _sources(called: Any) -> Sources | None:
    """Find the files behind a function or class; None where it is more than its source."""
    owner = getattr(called, "__self__", None)
    bound = owner is not None and not isinstance(owner, (type, ModuleType))
    if bound or getattr(called, "__closure__", None) or not hasattr(called, "__qualname__"):
        return None
    if isinstance(called, FunctionType):
        if vars(called):
            return None
        # by its own file: two conftest.py have one name, and only one of them is the module
        return sources_of(called.__module__, called.__code__.co_filename, called.__globals__)
    return sources_of(called.__module__, None, {})


def _hashed(place: list[str], found: Sources) -> str:
    files = sorted((name, hashlib.sha256(data).hexdigest()) for name, data in found.files.items())
    return hashlib.sha256(repr([place, files]).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _modules_in(packed: bytes) -> set[str]:
    """Return the modules whose classes and functions a pickle may name."""
    words = (argument for _, argument, _ in pickletools.genops(packed))
    return {word for word in words if isinstance(word, str) and word in sys.modules}


def _plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_plain, value))
    return isinstance(value, (str, bytes, int, float, type(None)))
