"""Group images that belong together, so that no split puts a group on both sides."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.class_labels import is_missing
from pytest_datasize.images.image_set import Finding, ImageSet, Loaded, one_line
from pytest_datasize.requirement.spelling import nearest


def of_column(group: Any, columns: Sequence[str], source: str, option: str = "group") -> str | None:
    """Return the column that ``group`` names, or None when it is a pattern or a function.

    Raises
    ------
    DatasetError
        It has the form of a column name, but there is no such column.
    """
    if not isinstance(group, str) or group in columns:
        return group if isinstance(group, str) else None
    if not is_pattern(group):
        hint = nearest(group, columns) or "."
        raise DatasetError(
            f"{source}: {option}={group!r} is not one of the columns "
            f"{', '.join(map(one_line, columns))}{hint} A regular expression over paths needs a "
            r"group in brackets, such as 'patient_(\d+)'."
        )
    return None


def is_pattern(text: str) -> bool:
    """Whether a text is a regular expression, not the name of a column."""
    return bool(set(text) & set("()[]\\^$.*+?|"))


def grouped(images: ImageSet, group: Any) -> ImageSet:
    r"""Assign a group to every image, unless a column has done so already.

    Parameters
    ----------
    images
        Images without groups yet, or with those of a column.
    group
        See :class:`pytest_datasize.images.image_set.Reading`.

    Raises
    ------
    DatasetError
        The group of an image cannot be determined.

    Examples
    --------
    >>> images = ImageSet("x", ("a",), np.zeros(3, int), None, ["p1/1", "p1/2", "p2/1"].__getitem__)
    >>> grouped(images, r"p(\d+)/").groups.tolist()
    [0, 0, 1]
    """
    if group is None or images.groups is not None:
        return images
    values = values_of(group, images)
    if isinstance(group, str) and None in values:
        raise DatasetError(
            f"{images.source}: group={group!r} does not match "
            f"{one_line((images.key or images.name)(values.index(None)))}; every image needs a "
            "group."
        )
    return with_groups(images, values)


def values_of(given: Any, images: ImageSet, option: str = "group") -> list[Any]:
    """Return the value of every image: by a pattern, a function, or as given.

    Parameters
    ----------
    given
        A regular expression over paths, a function of a path, or one value per image.
    images
        The images.
    option
        Name of the option, for messages.

    Returns
    -------
    list
        One value per image; None where the expression does not match.

    Raises
    ------
    DatasetError
        The function fails, the expression is invalid, there is not one value per image, or the
        values have more than one dimension.
    """
    key = images.key or images.name
    if callable(given):
        return [_called(given, key(row), images, option) for row in range(len(images))]
    if isinstance(given, str):
        return _matched(given, key, images, option)
    if isinstance(given, (Mapping, Set)):
        raise DatasetError(
            f"{images.source}: {option}= is a {type(given).__name__}, which has no value for each "
            "image in their order; give a list or an array."
        )
    if isinstance(given, Collection) or hasattr(given, "__array__"):
        values = np.asarray(given) if hasattr(given, "__array__") else list(given)
        shape = _shape(values)
        if len(shape) != 1:
            raise DatasetError(
                f"{images.source}: {option}= has the shape {shape}; give one value per image, an "
                f"array of the shape ({len(images)},)."
            )
        values = values.tolist() if isinstance(values, np.ndarray) else values
        if len(values) != len(images):
            raise DatasetError(
                f"{images.source}: {option}= has {len(values)} values for {len(images)} images."
            )
        return values
    raise DatasetError(f"{option}={given!r} is not understood; {EXPECTED}.")


def _shape(values: NDArray[Any] | list[Any]) -> tuple[int, ...]:
    """Return the shape of an array, or of a list with its first part that is a list or array."""
    if isinstance(values, np.ndarray):
        return values.shape
    parts = (len(one) for one in values if isinstance(one, list) or getattr(one, "ndim", None))
    return (len(values), *islice(parts, 1))


EXPECTED = (
    "give the name of a column, a regular expression over paths, a function of a path or one value "
    "per image"
)


def with_groups(images: ImageSet, values: Sequence[Any]) -> ImageSet:
    """Assign groups from a list with one value per image.

    Raises
    ------
    DatasetError
        A value is missing.
    """
    names = []
    for row, value in enumerate(values):
        if is_missing(value):
            raise DatasetError(
                f"{images.source}: {one_line(images.name(row))} has no group. Fill it in, or give "
                "the image a group of its own: without it no one knows what it belongs to."
            )
        names.append(text_of(value, images, "group"))
    found, numbers = np.unique(np.array(names, dtype=object), return_inverse=True)
    return replace(images, groups=numbers.astype(np.int64), group_names=tuple(found.tolist()))


_NO_NAMES = (re.Match, list, Mapping, Set, Iterator, np.ndarray)
"""Types that a function gives by mistake, such as what ``re.search`` and ``str.split`` return."""


def text_of(value: Any, images: ImageSet, option: str) -> str:
    """Return the name of a group or of the value of a factor.

    Raises
    ------
    DatasetError
        It is a collection, or has no text of its own.
    """
    if hasattr(value, "item") and not np.ndim(value) and not isinstance(value, np.datetime64):
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # tables write whole numbers so where another cell is empty
    if str(value) == object.__repr__(value) or callable(value) or isinstance(value, _NO_NAMES):
        raise DatasetError(
            f"{images.source}: {option}= gives a value of type {type(value).__name__} for an image "
            f"({one_line(str(value))[:60]}); expected a text or a number."
        )
    return str(value).strip()


def without_shared_groups(loaded: Loaded) -> Loaded:
    """Remove the test images whose group is also in the pool.

    Raises
    ------
    DatasetError
        A class has no test image left.
    """
    images, test = loaded
    if test is None or images.groups is None or test.groups is None:
        return loaded
    known = {images.group_names[number] for number in np.unique(images.groups)}
    shared = np.array([name in known for name in test.group_names])[test.groups]
    if not shared.any():
        return loaded
    names = sorted({test.group_names[number] for number in test.groups[shared]})
    text = (
        f"{int(shared.sum())} test images belong to {len(names)} groups of the pool and were left "
        f"out of the test: {', '.join(one_line(name) for name in names[:3])}"
        + (" ..." if len(names) > 3 else "")
    )
    kept = test.part(np.flatnonzero(~shared))
    if gone := [name for name, count in kept.class_counts.items() if not count]:
        raise DatasetError(f"{test.source}: no test image of class {gone[0]!r} is left; {text}.")
    found = Finding("group_leak", text, int(shared.sum()), tuple(map(one_line, names[:200])))
    return Loaded(replace(images, findings=(*images.findings, found)), kept)


def main_class(
    labels: NDArray[np.int64], groups: NDArray[np.int64], keys: NDArray[Any]
) -> NDArray[np.int64]:
    """Return the class of most images of every group; if equal, that of the smallest key.

    Parameters
    ----------
    labels, groups, keys
        Class, group and key of each image, (N,); groups are numbered 0 to G - 1.

    Examples
    --------
    >>> main_class(np.array([1, 0, 1, 2]), np.array([0, 0, 0, 1]), np.arange(4)).tolist()
    [1, 2]
    """
    pairs = groups * (int(labels.max()) + 1) + labels
    _, pair, counts = np.unique(pairs, return_inverse=True, return_counts=True)
    order = np.lexsort((keys, -counts[pair], groups))
    _, first = np.unique(groups[order], return_index=True)
    return labels[order[first]]


def numbers(images: ImageSet, test: ImageSet | None = None) -> NDArray[np.int64] | None:
    """Return the group of every image of the pool and, after them, of the test images.

    None if every image is its own group. Groups are matched by name, so a number means the same
    group in both sets.
    """
    if images.groups is None:
        return None
    if test is None:
        return images.groups
    if test.groups is None:  # without groups, each test image is its own group
        alone = len(images.group_names) + np.arange(len(test))
        return np.concatenate([images.groups, alone]).astype(np.int64)
    names = (*images.group_names, *test.group_names)
    _, codes = np.unique(np.array(names, dtype=object), return_inverse=True)
    first = len(images.group_names)
    joined: NDArray[np.int64] = np.concatenate(
        [codes[:first][images.groups], codes[first:][test.groups]]
    ).astype(np.int64)
    return joined


def _called(given: Callable[[str], Any], key: str, images: ImageSet, option: str) -> Any:
    try:
        return given(key)
    except Exception as problem:
        raise DatasetError(
            f"{images.source}: {option}= raised {type(problem).__name__} for {one_line(key)}: "
            f"{problem}"
        ) from problem


def _matched(
    pattern: str, key: Callable[[int], str], images: ImageSet, option: str
) -> list[str | None]:
    try:
        expression = re.compile(pattern)
    except re.error as problem:
        raise DatasetError(f"{option}={pattern!r} is an invalid expression: {problem}.") from None
    found: list[str | None] = []
    for row in range(len(images)):
        match = expression.search(key(row))
        parts = match.groups() if match else ()
        found.append(
            None if match is None else match[0] if not parts else "/".join(p or "" for p in parts)
        )
    return found
