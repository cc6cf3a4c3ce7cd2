"""Import, name and hash the functions of a user, such as trainers and transforms."""

import hashlib
import pickle
import pickletools
import sys
from collections.abc import Callable
from importlib import import_module
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Final

from pytest_datasize.errors import RequirementError
from pytest_datasize.requirement.module_state import environment_of, values_of
from pytest_datasize.requirement.reachable_code import reachable
from pytest_datasize.requirement.source_files import Sources, sources_of
from pytest_datasize.requirement.versions import versions_of_modules

_WITHOUT_STATE: Final = (FunctionType, MethodType, BuiltinFunctionType, type)


def resolved(function: Any, option: str = "trainer") -> Callable[..., Any]:
    """Return a function as is, or import it from ``module:function``.

    Raises
    ------
    RequirementError
        It cannot be imported, or is not callable.

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
    """Return the qualified name of a function."""
    if isinstance(function, str):
        return function
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{getattr(function, '__module__', None) or type(function).__module__}.{name}"


def code_of(function: Any) -> str | None:
    """Return a hash of a function's source; None if the source does not determine it.

    The source is the part of its own file that it depends on, and every file of the same project
    that this file imports, directly or not, anywhere in it. Installed packages are covered by
    :func:`packages_of`. A closure or the state of an object is not in the source, so the result is
    None.
    """
    called = resolved(function)
    found = _sources(called)
    if found is None or not found.files:
        return None
    code = getattr(called, "__code__", None)
    place = [called.__qualname__]
    home = called.__module__
    if "<" not in called.__qualname__ and home in found.files:
        name = called.__qualname__.partition(".")[0]
        found.files[home] = reachable(found.files[home], name)
    # a lambda or local function: its name is not unique in the file
    if code is not None and "<" in called.__qualname__:
        place.append(f"line {code.co_firstlineno} {' '.join(code.co_names)}")
    values = [*(getattr(called, "__defaults__", None) or ())]
    values += sorted((getattr(called, "__kwdefaults__", None) or {}).items())
    if not all(map(_plain, values)):
        if "<locals>" in called.__qualname__:
            return None
    else:
        place.append(repr(values))
    return _hashed(place, found)


def state_of(function: Any) -> str:
    """Return a hash of what a function's source does not determine; empty if there is nothing.

    These are the variables of its modules that hold plain data, and the environment variables that
    these modules read by name. Values can differ between machines, so they are not part of
    :func:`code_of`, which is compared across them.
    """
    found = _sources(resolved(function))
    if found is None:
        return ""
    values = [
        [name, known]
        for name, namespace in sorted(found.variables.items())
        if (known := values_of(found.files[name], namespace))
    ]
    read = sorted({pair for source in found.files.values() for pair in environment_of(source)})
    state = repr([values, read])
    return hashlib.sha256(state.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def packages_of(function: Any) -> dict[str, str]:
    """Return package → version of the installed packages that a function's sources import."""
    found = _sources(resolved(function))
    return {} if found is None else versions_of_modules(found.packages)


def content_of(value: Any) -> str | None:
    """Return a text that identifies a function or an object, such as a transform, in records.

    Parameters
    ----------
    value
        A function, ``module:function``, or an object that can be pickled.

    Returns
    -------
    str or None
        Its name, the state in its ``repr``, and the hash of its code in the project; None if
        another session cannot identify it.

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
    except Exception:  # an object's own code may raise anything; it is then not identifiable
        return None
    found = Sources()
    for home in _modules_in(packed):
        part = sources_of(home, None, {})
        if part is None:
            return None
        found.files |= part.files
    if found.files:  # the author decides how much state the repr shows
        text += f" {hashlib.sha256(packed).hexdigest()[:16]}"
    if " at 0x" in text:
        return None
    return f"{named(value)} {text}{f' {_hashed([], found)}' if found.files else ''}"


def _sources(called: Any) -> Sources | None:
    """Find the source files of a function or class; None if the source does not determine it."""
    if not isinstance(called, _WITHOUT_STATE):  # functools.wraps lends its name to any object
        return None
    owner = getattr(called, "__self__", None)
    bound = owner is not None and not isinstance(owner, (type, ModuleType))
    if bound or getattr(called, "__closure__", None):
        return None
    if isinstance(called, FunctionType):
        if vars(called):
            return None
        # by its own file: two conftest.py share one name, and only one of them is the module
        return sources_of(called.__module__, called.__code__.co_filename, called.__globals__)
    return sources_of(called.__module__, None, {})


def _hashed(place: list[str], found: Sources) -> str:
    files = sorted((name, hashlib.sha256(data).hexdigest()) for name, data in found.files.items())
    return hashlib.sha256(repr([place, files]).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _modules_in(packed: bytes) -> set[str]:
    """Return the modules whose classes and functions a pickle may refer to."""
    words = (argument for _, argument, _ in pickletools.genops(packed))
    return {word for word in words if isinstance(word, str) and word in sys.modules}


def _plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_plain, value))
    return isinstance(value, (str, bytes, int, float, type(None)))
