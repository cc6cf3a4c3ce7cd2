"""Define what every kind of targets offers to the code that all tasks share."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Rows: TypeAlias = NDArray[np.int64]
Shown: TypeAlias = NDArray[np.bool_]


class Targets(Protocol):
    """Labels of N images, of one kind."""

    @property
    def task(self) -> str:
        """Name in :data:`pytest_datasize.requirement.tasks.TASKS`."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """What images are counted by: labels, classes of objects or pixels, ranges of a number."""
        ...

    def __len__(self) -> int: ...

    def part(self, rows: Rows) -> "Targets":
        """Return the targets of the given rows, in the given order."""
        ...

    def joined(self, others: "Sequence[Targets]") -> "Targets":
        """Return these targets and those of other images after them, names matched."""
        ...

    def settled(self, source: str) -> "Targets":
        """Return the targets once all images are known; raise DatasetError if nothing is to learn.

        Images are counted by names from here on.
        """
        ...

    def aligned(self, pool: "Targets", source: str) -> "Targets":
        """Express the targets of test images in the names of the pool.

        Raises
        ------
        DatasetError
            They do not fit.
        """
        ...

    @property
    def membership(self) -> Shown:
        """Whether an image counts for a name, (N, number of names)."""
        ...

    @property
    def strata(self) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """Names of the strata, and the stratum of each image: subsamples have their shares."""
        ...

    def identity(self, row: int) -> Any:
        """Return the target of an image as JSON data, equal for equal targets."""
        ...

    @property
    def amounts(self) -> Mapping[str, int] | None:
        """Name → number of objects or pixels; None where only images are counted."""
        ...

    @property
    def truth(self) -> Any:
        """What metrics and heads take: an array with one row per image."""
        ...

    def target(self, row: int, size: tuple[int, int]) -> Any:
        """Return what a training of the user's own gets for an image of (width, height) pixels."""
        ...


def rarest(shown: Shown, names: Sequence[str], none: str) -> tuple[tuple[str, ...], Rows]:
    """Return strata of sets: the stratum of an image is the rarest name that it shows.

    With the rarest names spread evenly over a split, the frequent ones are nearly so, as in
    iterative stratification, which deals out the rarest label first (Sechidis et al. 2011, "On the
    stratification of multi-label data").

    Examples
    --------
    >>> rarest(np.array([[True, True], [True, False], [False, False]]), ["a", "b"], "none")
    (('a', 'b', 'none'), array([1, 0, 2]))
    """
    counts = shown.sum(axis=0)
    weight = np.where(shown, -counts.astype(np.float64), -np.inf)
    found = np.where(shown.any(axis=1), weight.argmax(axis=1), len(names)).astype(np.int64)
    return (*names, none), found
