"""Check the values of options, and parse them from text.

A check returns a canonical form of the value, so that equal settings compare equal. It raises
TypeError or ValueError, with a hint if there is one. Pure Python: imported at every
pytest start.
"""

import os
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pytest_datasize.requirement.spelling import nearest
from pytest_datasize.requirement.tasks import BY_IMAGE, METRICS, ends, lower_is_better, point_of

CLASS: Final = "class"
"""Key of the class in an operating point."""


def integer(low: int, high: int | None = None) -> Callable[[Any], int]:
    """Check a whole number from ``low`` to ``high``."""

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError
        if value < low or (high is not None and value > high):
            raise ValueError
        return value

    return check


def fraction(low: float, high: float) -> Callable[[Any], float]:
    """Check a number between ``low`` and ``high``, neither of them."""

    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError
        if not low < value < high:
            raise ValueError(f"write {value / 100:g} for {value:g} %" if 1 < value < 100 else "")
        return float(value)

    return check


def number_from(low: float) -> Callable[[Any], float]:
    """Check a finite number from ``low``."""

    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError
        if not low <= value < float("inf"):
            raise ValueError
        return float(value)

    return check


def choice(*allowed: str) -> Callable[[Any], str]:
    """Check that a value is one of the allowed words."""

    def check(value: Any) -> str:
        if value not in allowed:
            raise ValueError
        return str(value)

    return check


def gpus(value: Any) -> float:
    """Check a number of GPUs: a fraction for several workers on one, or whole ones."""
    number = number_from(0.01)(value)
    if number > 1 and number != int(number):
        raise ValueError(f"{number:g} is neither a part of one GPU nor whole GPUs")
    return number


def sizes(value: Any) -> tuple[int | float, ...]:
    """Check at least three training sizes, in whole numbers or in shares."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError
    for size in value:
        if isinstance(size, bool) or not isinstance(size, (int, float)) or not size > 0:
            raise ValueError(f"{size!r} is neither a whole number nor a share of the pool")
        if isinstance(size, float) and size > 1:
            raise ValueError(f"{size!r}: a share of the pool is at most 1.0")
    if len({type(size) for size in value}) > 1:
        raise ValueError("whole numbers and shares are mixed")
    if len(set(value)) < 3:
        raise ValueError(f"{len(set(value))} different sizes")
    return tuple(sorted(set(value)))


def sizes_from_text(text: str) -> list[int | float]:
    """Read ``50,200,800`` or ``5%,25%,1.0``."""

    def one(word: str) -> int | float:
        word = word.strip()
        if word.endswith("%"):
            return float(word[:-1]) / 100
        return float(word) if "." in word else int(word)

    return [one(word) for word in text.split(",") if word.strip()]


def dataset(value: Any) -> Any:
    """Check the type of a data set; its content is checked when it is read."""
    if value is None or isinstance(value, (bool, int, float)) or value == "":
        raise TypeError
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def group(value: Any) -> Any:
    """Check a column, a function of a path, or one value for each image."""
    if value is None or isinstance(value, (bytes, bool)) or (isinstance(value, str) and not value):
        raise TypeError
    if not (callable(value) or isinstance(value, Sequence) or hasattr(value, "__array__")):
        raise TypeError
    if isinstance(value, (list, tuple)) and len(value) == 1 and isinstance(value[0], str):
        raise ValueError(f"write {value[0]!r:.60} without a list")  # no data set has one image
    return value


def slices(value: Any) -> dict[str, Any]:
    """Return factor name → column, pattern, function or values: one form for all that is allowed.

    Examples
    --------
    >>> slices("site"), slices(["site", "day"]), slices(str.lower)["lower"]
    ({'site': 'site'}, {'site': 'site', 'day': 'day'}, <method 'lower' of 'str' objects>)
    """
    if isinstance(value, str):
        found: dict[str, Any] = {value: value}
    elif isinstance(value, Mapping):
        found = dict(value)
    elif callable(value):
        found = {getattr(value, "__name__", "slice").strip("<>"): value}
    elif isinstance(value, Sequence) and value and all(isinstance(one, str) for one in value):
        found = {one: one for one in value}
    else:
        found = {} if isinstance(value, Sequence) and not len(value) else {"slice": value}
    if not found or not all(isinstance(name, str) and name for name in found):
        raise TypeError
    return {name: group(one) for name, one in found.items()}


def slices_from_text(text: str) -> Any:
    """Read ``site,lighting`` or ``site=site_(.+?)/``."""
    parts = [part.strip() for part in text.split(",")]
    named = (part.partition("=") for part in parts)
    return {name.strip(): pattern.strip() if equals else name for name, equals, pattern in named}


def min_slice(value: Any) -> dict[str, float]:
    """Check metric → score, for metrics of which slices have a score; sorted by metric."""
    if not isinstance(value, Mapping) or not value:
        raise TypeError
    found = {}
    for metric, target in sorted(value.items()):
        if metric in METRICS and metric not in BY_IMAGE:
            raise ValueError(f"{metric} is not a mean over images, so slices have no score of it")
        if isinstance(target, bool) or not isinstance(target, (int, float)):
            raise TypeError
        if metric in METRICS:
            fraction(*ends(metric))(target)
        found[metric] = float(target)
    return found


def numbers_from_text(text: str) -> dict[str, float]:
    """Read ``accuracy=0.85``, several separated by commas."""
    pairs = (pair.partition("=") for pair in text.split(","))
    return {name.strip(): float(number) for name, _, number in pairs}


def flag(value: Any) -> bool:
    """Check a truth value."""
    if not isinstance(value, bool):
        raise TypeError
    return value


def flag_from_text(text: str) -> bool:
    """Read ``true`` or ``no``."""
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[
        text.strip().lower()
    ]


def levels(value: Any) -> str:
    """Return levels as canonical text, so that studies with equal settings are one study."""
    if isinstance(value, Mapping):
        value = ",".join(f"{name}={level}" for name, level in value.items())
    if not isinstance(value, str):
        raise TypeError
    if not value:  # the default, checked at every start
        return value
    from pytest_datasize.requirement.checks import parse_levels

    return ",".join(f"{name}={level}" for name, level in sorted(parse_levels(value).items()))


def backbone(value: Any) -> Any:
    """Check the name of a backbone, or a model."""
    if value == "" or not (isinstance(value, str) or hasattr(value, "state_dict")):
        raise TypeError
    return value


def path_or_word(value: Any) -> str:
    """Check a path or a word that is not empty."""
    text = os.fspath(value)
    if not isinstance(text, str) or not text:
        raise TypeError
    return text


def device(value: Any) -> str:
    """Check the name of a device."""
    if not isinstance(value, str):
        raise TypeError
    kind, colon, index = value.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps"):
        raise ValueError
    if colon and not (kind == "cuda" and index.isdigit()):
        raise ValueError
    return value


def images_per_class(value: Any) -> int | str:
    """Check a number of images or the name of the rule."""
    return "rule-of-thumb" if value == "rule-of-thumb" else integer(1, 10**9)(value)


def prices(value: Any) -> Any:
    """Return one price, or class → price as sorted pairs, so that equal settings compare equal."""
    if isinstance(value, tuple):
        value = dict(value)
    if not isinstance(value, dict):
        return number_from(0.0)(value)
    if not value or not all(isinstance(name, str) and name for name in value):
        raise TypeError
    found = {class_name(name): number_from(0.0)(price) for name, price in value.items()}
    return dict(sorted(found.items()))


def prices_from_text(text: str) -> Any:
    """Read ``0.5`` or ``rust=2,*=0.5``."""
    if "=" not in text:
        return float(text)
    pairs = (pair.rpartition("=") for pair in text.split(","))
    return {name.strip(): float(price) for name, _, price in pairs}


def class_name(value: Any) -> str:
    """Check the name of a class; YAML reads a name of digits as a number.

    Accents may be stored in two ways that look alike; all names are written in one (NFC).
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r:.60} is not the name of a class; write it as text, in quotes")
    return unicodedata.normalize("NFC", value)


def named(name: Any, value: Any, check: Callable[[Any], float]) -> float:
    """Check one number of several; the message says which is wrong."""
    try:
        return check(value)
    except (TypeError, ValueError) as problem:
        hint = f", {problem}" if str(problem) else ""
        raise ValueError(f"{name!r:.60} is {value!r:.60}{hint}") from None


def point(value: Any, *numbers: str) -> dict[str, Any]:
    """Check a class and numbers between 0 and 1, such as a precision and a recall."""
    if not isinstance(value, Mapping):
        raise TypeError
    names = (CLASS, *numbers)
    if strange := [name for name in value if name not in names]:
        hint = nearest(str(strange[0]), names) or "."
        raise ValueError(f"there is no {strange[0]!r:.60}{hint} Allowed: {', '.join(names)}")
    if missing := [name for name in names if name not in value]:
        raise ValueError(f"it lacks {' and '.join(missing)}")
    share = fraction(0.0, 1.0)
    found = {name: named(name, value[name], share) for name in numbers}
    return {CLASS: class_name(value[CLASS]), **found}


def operating_points(value: Any) -> dict[str, dict[str, Any]]:
    """Check metric → its class and what is required of the threshold."""
    if not isinstance(value, Mapping) or not value:
        raise TypeError
    found = {}
    for metric, given in sorted(value.items()):
        if (known := point_of(metric)) is None:
            known_points = [name for name in METRICS if point_of(name)]
            hint = nearest(str(metric), known_points) or "."
            raise ValueError(
                f"{metric!r:.60} is not a metric with a threshold{hint} Allowed: "
                f"{', '.join(known_points)}"
            )
        found[metric] = point(given, known.given)
    return found


def points_from_text(text: str) -> dict[str, Any]:
    """Read ``recall_at_precision=crack@0.9``, several separated by commas."""
    found = {}
    for part in text.split(","):
        metric, _, asked = part.strip().partition("=")
        name, _, number = asked.rpartition("@")
        known = point_of(metric)
        found[metric] = {CLASS: name, known.given: float(number)} if known else asked
    return found


def augment(value: Any) -> Any:
    """Check a truth value or a transform."""
    if not (isinstance(value, bool) or callable(value)):
        raise TypeError
    return value


def trainer(value: Any) -> Any:
    """Check a function, or a text ``module:function``."""
    if isinstance(value, str):
        module, colon, function = value.partition(":")
        if not (module and colon and function):
            raise ValueError
    elif not callable(value):
        raise TypeError
    return value


def direction(value: Any) -> dict[str, str]:
    """Check which way metrics are better."""
    if not isinstance(value, Mapping):
        raise TypeError
    for metric, way in value.items():
        if not isinstance(metric, str) or way not in ("higher", "lower"):
            raise ValueError
        if metric in METRICS and (way == "lower") != lower_is_better(metric):
            known = "lower" if lower_is_better(metric) else "higher"
            raise ValueError(f"{known} {metric} is better")
    return dict(value)


def bounds(value: Any) -> dict[str, tuple[float, float]]:
    """Check the ranges of metrics; None is an open end."""
    if not isinstance(value, Mapping):
        raise TypeError
    found = {}
    for metric, pair in value.items():
        if not isinstance(metric, str) or isinstance(pair, str) or len(pair) != 2:
            raise ValueError
        low = float("-inf") if pair[0] is None else float(pair[0])
        high = float("inf") if pair[1] is None else float(pair[1])
        if not low < high:
            raise ValueError
        if metric in METRICS and (low, high) != ends(metric):
            raise ValueError(f"{metric} lies in {ends(metric)[0]:g} to {ends(metric)[1]:g}")
        found[metric] = (low, high)
    return found


def pairs_from_text(text: str) -> dict[str, Any]:
    """Read ``loss=lower`` or ``loss=0..inf``, several separated by commas."""
    found: dict[str, Any] = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        low, dots, high = value.partition("..")
        found[name] = (float(low), float(high)) if dots else value
    return found


def second_look(value: Any) -> str | float:
    """Check a time limit, or one of the words ``auto`` and ``off``."""
    return value if value in ("auto", "off") else budget(value)


def budget(value: Any) -> float:
    """Read seconds, or a text such as ``1h30m``."""
    if isinstance(value, str):
        found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", value.strip())
        if not found:
            raise ValueError
        value = sum(
            int(n or 0) * unit for n, unit in zip(found.groups(), (3600, 60, 1), strict=True)
        )
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError
    if not 0 < value < float("inf"):
        raise ValueError
    return float(value)
