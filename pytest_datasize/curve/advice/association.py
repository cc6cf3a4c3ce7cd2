"""Test whether a factor, such as the site of a photograph, predicts the class of an image.

A model can learn such a shortcut instead of the objects. Its held-out score then proves nothing for
images in which factor and class are related in another way. The test is one of independence: of all
tables with the same numbers of images per value and per class, how many have as large a chi-squared
statistic as the one found? That is the permutation test (Agresti 2013, "Categorical Data Analysis",
section 3.5), drawn cell by cell instead of image by image (Patefield 1981). Several factors are
tested together with Holm's method (1979), so that :data:`ERROR_RATE` is the chance that any of
them is found although none depends on the class.

With many images even a tiny dependence is significant. So a factor is a finding only if it also
predicts the class much better than shuffled values do: by :data:`LEAST_GAIN` of the largest
possible gain. Every class counts alike, since a rare class that was photographed at one site is the
worst case.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.curve.seeds import Purpose, stream
from pytest_datasize.curve.slices import LEAST_PER_VALUE, MOST_VALUES, FactorValues
from pytest_datasize.requirement.units import GROUP, IMAGE, plural

ERROR_RATE: Final = 0.01
"""Probability that any factor is found if none depends on the class."""

LEAST_GAIN: Final = 0.2
"""Least gain of predicting the class from the factor, from 0 (shuffled values) to 1 (possible)."""

TABLES: Final = 9_999
"""Random tables of each test; for very large tables there are fewer, at least :data:`_FEWEST`."""

_FEWEST: Final = 999
_FOR_EACH: Final = 200
"""Least number of tables for each of several factors: their p-values are multiplied."""
_CELLS: Final = 10_000_000
_BLOCK: Final = 1_000_000


@dataclass(frozen=True)
class FactorFacts:
    """What is known of one factor.

    Attributes
    ----------
    name
        Its name.
    values, units
        Different values, and the images that were counted; groups where images belong to groups.
    untested
        Why it was not tested; empty if it was.
    p_value
        Probability of so strong a dependence by chance, corrected for the number of factors.
    guessed, shuffled, possible
        Share of images for which the factor gives the right class, each class counting alike; the
        same with shuffled values; and the largest possible share, as each value gives one class.
    value, class_name
        The value and the class that go together most; empty if nothing was tested.
    share, share_of_others
        Share of that class, and of all others, that has the value.
    unit
        What was counted: ``image`` or ``group``.
    """

    name: str
    values: int
    units: int
    untested: str = ""
    p_value: float | None = None
    guessed: float = 0.0
    shuffled: float = 0.0
    possible: float = 0.0
    value: str = ""
    class_name: str = ""
    share: float = 0.0
    share_of_others: float = 0.0
    unit: str = IMAGE

    @property
    def tells(self) -> bool:
        """Whether the factor predicts the class."""
        if self.p_value is None or self.p_value > ERROR_RATE:
            return False
        return self.guessed - self.shuffled >= LEAST_GAIN * (self.possible - self.shuffled)


def factor_facts(
    factors: Sequence[FactorValues],
    classes: Sequence[str],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64] | None = None,
    seed: int = 0,
) -> tuple[FactorFacts, ...]:
    """Test which factors predict the class.

    Parameters
    ----------
    factors
        The factors, with a value for every image.
    classes
        Names of the classes.
    labels
        Class of every image, int64 (N,).
    groups
        Group of every image: images of one group are not independent and count once, with their
        most frequent class and value.
    seed
        Seed of the random tables.

    Examples
    --------
    >>> labels = np.arange(200) % 2
    >>> leaking, other = labels ^ (np.arange(200) % 20 == 0), np.arange(200) // 2 % 2
    >>> factors = [FactorValues(*one) for one in
    ...     (("site", ("A", "B"), leaking), ("day", ("1", "2"), other))]
    >>> one, two = factor_facts(factors, ["good", "rust"], labels)
    >>> one.tells, two.tells, one.guessed
    (True, False, 0.95)
    """
    found: list[FactorFacts] = []
    for number, (name, values, numbers) in enumerate(factors):
        own, of_class = numbers, labels
        if groups is not None:
            own, of_class = _most_frequent(numbers, groups), _most_frequent(labels, groups)
        table = np.zeros((len(values), len(classes)), dtype=np.int64)
        np.add.at(table, (own, of_class), 1)
        rows, columns = (np.flatnonzero(table.sum(axis=axis)) for axis in (1, 0))
        table = table[np.ix_(rows, columns)]
        unit = IMAGE if groups is None else GROUP
        facts = FactorFacts(name, len(rows), int(table.sum()), unit=unit)
        least = _FOR_EACH * len(factors)
        facts = _tested(facts, table, stream(seed, Purpose.FACTORS, number), least)
        if not facts.untested:
            facts = _with_example(
                facts,
                table,
                [values[row] for row in rows.tolist()],
                [classes[column] for column in columns.tolist()],
            )
        found.append(facts)
    return _corrected(found)


def _tested(
    facts: FactorFacts, table: NDArray[np.int64], generator: np.random.Generator, tables: int
) -> FactorFacts:
    if why := _untested(facts, table):
        return replace(facts, untested=why)
    from scipy.stats import random_table

    rows, columns = table.sum(axis=1), table.sum(axis=0)
    expected = np.outer(rows, columns) / table.sum()
    least = (table**2 / expected).sum() * (1 - 1e-12)
    number = max(tables, min(TABLES, max(_FEWEST, _CELLS // table.size)))
    source = random_table(rows, columns)
    as_large, guessed = 0, 0.0
    for start in range(0, number, block := max(1, _BLOCK // table.size)):
        drawn = source.rvs(
            min(block, number - start), method="patefield", random_state=generator
        ).astype(np.float64)
        as_large += int(((drawn**2 / expected).sum(axis=(1, 2)) >= least).sum())
        guessed += float(_guessed(drawn).sum())
    return replace(
        facts,
        p_value=(1 + as_large) / (1 + number),
        guessed=round(float(_guessed(table)), 6),
        shuffled=round(guessed / number, 6),
        possible=min(table.shape) / table.shape[1],
    )


def _with_example(
    facts: FactorFacts, table: NDArray[np.int64], values: Sequence[str], classes: Sequence[str]
) -> FactorFacts:
    """Add the value and the class that go together most."""
    rest = table.sum() - table.sum(axis=0)
    inside = table / table.sum(axis=0)
    outside = (table.sum(axis=1, keepdims=True) - table) / np.maximum(rest, 1)
    most = (inside - outside + 1e-6 * inside).argmax()  # of equals, that of the larger share
    row, column = map(int, np.unravel_index(most, table.shape))
    return replace(
        facts,
        value=values[row],
        class_name=classes[column],
        share=round(float(inside[row, column]), 6),
        share_of_others=round(float(outside[row, column]), 6),
    )


def _untested(facts: FactorFacts, table: NDArray[np.int64]) -> str:
    if facts.values < 2:
        return "it has one value"
    if table.shape[1] < 2:
        return "there is one class"
    if facts.units < LEAST_PER_VALUE * facts.values:
        counted = f"{facts.units:,} {plural(facts.unit)}"
        return f"it has {facts.values:,} values for {counted}, nearly one for each"
    if facts.values > MOST_VALUES:
        return f"it has {facts.values:,} values, more than {MOST_VALUES}"
    return ""


def _guessed(table: NDArray[np.int64] | NDArray[np.floating]) -> NDArray[np.floating]:
    """Share of images guessed right from their value, each class counting alike, (..., V, C)."""
    shares = table / table.sum(axis=-2, keepdims=True)
    found: NDArray[np.floating] = shares.max(axis=-1).sum(axis=-1) / table.shape[-1]
    return found


def _corrected(found: Sequence[FactorFacts]) -> tuple[FactorFacts, ...]:
    """Multiply the p-values by Holm's factors, so that none is smaller than one before it."""
    tested = sorted(
        (number for number, one in enumerate(found) if one.p_value is not None),
        key=lambda number: found[number].p_value or 0.0,
    )
    facts, largest = list(found), 0.0
    for place, number in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - place) * (facts[number].p_value or 0.0)))
        facts[number] = replace(facts[number], p_value=round(largest, 6))
    return tuple(facts)


def _most_frequent(values: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the most frequent value of each group, the smallest of equally frequent ones."""
    pairs, counts = np.unique(np.stack([groups, values]), axis=1, return_counts=True)
    order = np.lexsort((pairs[1], -counts, pairs[0]))
    first = np.unique(pairs[0][order], return_index=True)[1]
    chosen: NDArray[np.int64] = pairs[1][order][first]
    return chosen
