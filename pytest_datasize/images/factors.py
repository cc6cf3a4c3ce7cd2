"""Give every image the values of its factors, such as site and lighting: ``slices=``."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.class_labels import is_missing
from pytest_datasize.images.groups import is_pattern, of_column, text_of, values_of
from pytest_datasize.images.image_set import Factor, ImageSet, one_line

NO_VALUE: Final = "(none)"
"""Value of the images that have none: an empty cell, or a path that a pattern does not match."""


def factor_columns(
    slices: Mapping[str, Any] | None, columns: Sequence[str], source: str
) -> dict[str, str]:
    """Return factor name → column of a table, for the factors that are columns.

    Raises
    ------
    DatasetError
        A factor has the form of a column name, but there is no such column.
    """
    found = {
        name: of_column(given, columns, source, "slices") for name, given in (slices or {}).items()
    }
    return {name: column for name, column in found.items() if column is not None}


def with_factors(images: ImageSet, values: Mapping[str, Sequence[Any]]) -> ImageSet:
    """Add factors, each as one value per image.

    Examples
    --------
    >>> images = ImageSet("x", ("a",), np.zeros(3, int), None, str)
    >>> [one] = with_factors(images, {"site": ["B", "", "A"]}).factors
    >>> one.name, one.values, one.numbers.tolist()
    ('site', ('(none)', 'A', 'B'), [2, 0, 1])
    """
    return replace(
        images,
        factors=(*images.factors, *(_factor(name, of, images) for name, of in values.items())),
    )


def sliced(images: ImageSet, slices: Mapping[str, Any] | None, *, test: bool = False) -> ImageSet:
    r"""Add the factors that are not columns, and put all in the order of ``slices``.

    Parameters
    ----------
    images
        Images that have the factors of columns.
    slices
        See :class:`pytest_datasize.images.image_set.Reading`.
    test
        Whether these are test images beside a pool.

    Raises
    ------
    DatasetError
        A factor is the name of a column and there are none, it matches no image, or its values are
        given for the images of the pool only.

    Examples
    --------
    >>> images = ImageSet("x", ("a",), np.zeros(2, int), None, ["s1/1", "s2/1"].__getitem__)
    >>> sliced(images, {"site": r"s(\d)"}).factors[0].values
    ('1', '2')
    """
    known = {factor.name: factor for factor in images.factors}
    for name, given in (slices or {}).items():
        if name in known:
            continue
        if isinstance(given, str) and not is_pattern(given):
            raise DatasetError(
                f"{images.source}: slices={given!r} is the name of a column, but there are no "
                "columns. Give a regular expression over paths, such as "
                rf"slices={{{name!r}: r'{name}_(\w+)'}}, a function of a path, or a manifest."
            )
        if test and not (isinstance(given, str) or callable(given)):
            raise DatasetError(
                f"{images.source}: slices={{{name!r}: ...}} has values for the images of the pool "
                "only, but the test images need values, too. Name a column, or give a regular "
                "expression or a function of a path."
            )
        values = values_of(given, images, "slices")
        if isinstance(given, str) and not any(value is not None for value in values):
            first = one_line((images.key or images.name)(0))
            raise DatasetError(
                f"{images.source}: slices={{{name!r}: {given!r}}} matches no image; the first is "
                f"{first}."
            )
        known[name] = _factor(name, values, images)
    factors = tuple(known[name] for name in slices or {})
    for factor in factors:
        _refuse_class(factor, images)
    return replace(images, factors=factors)


def _refuse_class(factor: Factor, images: ImageSet) -> None:
    """Refuse a factor that is the class itself: each slice would hold one class only."""
    if images.targets is not None:
        return
    values = np.array(factor.values, dtype=object)[factor.numbers]
    if len(factor.values) > 1 and np.array_equal(
        values, np.array(images.classes, dtype=object)[images.labels]
    ):
        raise DatasetError(
            f"{images.source}: slices={{{factor.name!r}: ...}} is the class of every image, so "
            "each slice would hold one class. For a score of every class use a metric of single "
            "classes, such as recall_per_class, and leave this factor out of slices."
        )


def _factor(name: str, given: Sequence[Any], images: ImageSet) -> Factor:
    texts = [NO_VALUE if is_missing(value) else text_of(value, images, "slices") for value in given]
    values, numbers = np.unique(np.array(texts, dtype=object), return_inverse=True)
    return Factor(name, tuple(values.tolist()), numbers.astype(np.int64))


def joined_factors(sets: Sequence[ImageSet]) -> tuple[Factor, ...]:
    """Return the factors of all rows of several image sets, one set after the other."""
    if not all(len(one.factors) == len(sets[0].factors) for one in sets):
        return ()
    found = []
    for parts in zip(*(one.factors for one in sets), strict=True):
        texts = [np.array(part.values, dtype=object)[part.numbers] for part in parts]
        found.append(_factor(parts[0].name, np.concatenate(texts).tolist(), sets[0]))
    return tuple(found)
