"""Check the values of options, and parse them from text.

A check returns a canonical form of the value, so that equal settings compare equal. It raises
TypeError or ValueError, with a hint if there is one. Pure Python: imported at every
pytest start.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pytest_datasize.requirement.tasks import METRICS, lower_is_better


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
    return value


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
    return {name: number_from(0.0)(price) for name, price in sorted(value.items())}


def prices_from_text(text: str) -> Any:
    """Read ``0.5`` or ``rust=2,*=0.5``."""
    if "=" not in text:
        return float(text)
    pairs = (pair.rpartition("=") for pair in text.split(","))
    return {name.strip(): float(price) for name, _, price in pairs}


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
    for metric, ends in value.items():
        if not isinstance(metric, str) or isinstance(ends, str) or len(ends) != 2:
            raise ValueError
        low = float("-inf") if ends[0] is None else float(ends[0])
        high = float("inf") if ends[1] is None else float(ends[1])
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
