"""Targets: one number, or a few, per image."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.targets.protocol import Rows, Shown, Targets

RANGES: Final = 5
"""Ranges of about equally many images: subsamples and test images have the same share of each."""

_LEAST: Final = 8  # images of a range, at least
_LARGEST: Final = 1e100  # squares of larger numbers overflow


@dataclass(frozen=True, eq=False)
class Numbers:
    """Numbers to predict.

    Attributes
    ----------
    values
        float64 (N, K).
    units
        Names of the K numbers; () for a single one without a name.
    edges
        Where one range ends and the next begins; empty until settled.
    centre, scale
        Mean and standard deviation of each number in the pool, (K,): several numbers are ranked
        by the mean of their standardised values.

    Examples
    --------
    >>> numbers = Numbers.of(np.arange(20.0)).settled("weights")
    >>> numbers.names, numbers.membership.sum(axis=0).tolist()
    (('up to 9.5', 'above 9.5'), [10, 10])
    """

    values: NDArray[np.float64]
    units: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()
    centre: NDArray[np.float64] | None = None
    scale: NDArray[np.float64] | None = None
    task: ClassVar[str] = "regression"

    @classmethod
    def of(cls, values: Any, units: Sequence[str] = ()) -> "Numbers":
        """Make numbers from an array of shape (N,) or (N, K)."""
        array = np.asarray(values, dtype=np.float64)
        return cls(array.reshape(len(array), -1), tuple(units))

    def __len__(self) -> int:
        return len(self.values)

    @property
    def names(self) -> tuple[str, ...]:
        """The ranges."""
        if not self.edges:
            return ("all",)
        if self.values.shape[1] > 1:
            total = len(self.edges) + 1
            return tuple(f"range {number + 1} of {total}" for number in range(total))
        texts = _distinct(self.edges)
        between = [f"{low} to {high}" for low, high in pairwise(texts)]
        return (f"up to {texts[0]}", *between, f"above {texts[-1]}")

    def part(self, rows: Rows) -> "Numbers":
        """Return the numbers of the given rows."""
        return replace(self, values=self.values[rows])

    def joined(self, others: Sequence[Targets]) -> "Numbers":
        """Return all numbers."""
        return replace(self, values=np.concatenate([one.truth for one in (self, *others)]))

    def settled(self, source: str) -> "Numbers":
        """Divide the images into ranges of about equally many."""
        if not np.isfinite(self.values).all():
            raise DatasetError(f"{source}: some numbers are infinite or missing.")
        if np.abs(self.values).max(initial=0.0) > _LARGEST:
            raise DatasetError(f"{source}: some numbers are above {_LARGEST:g}; use another unit.")
        centre, scale = self.values.mean(axis=0), self.values.std(axis=0)
        if (self.values == self.values[:1]).all(axis=0).any():
            raise DatasetError(
                f"{source}: all images have the same number, so there is nothing to learn."
            )
        ranged = replace(self, centre=centre, scale=scale)
        ranks = ranged._ranks
        number = max(2, min(RANGES, len(self) // _LEAST))
        cuts = np.quantile(ranks, np.arange(1, number) / number)
        edges = np.unique(cuts[(cuts >= ranks.min()) & (cuts < ranks.max())])
        return replace(ranged, edges=tuple(float(edge) for edge in edges))

    def aligned(self, pool: Targets, source: str) -> "Numbers":
        """Use the ranges of the pool."""
        assert isinstance(pool, Numbers)
        if self.values.shape[1] != pool.values.shape[1]:
            raise DatasetError(
                f"{source}: {self.values.shape[1]} numbers per image, the pool has "
                f"{pool.values.shape[1]}."
            )
        found = replace(self, edges=pool.edges, centre=pool.centre, scale=pool.scale)
        shown = set(found.strata[1].tolist())
        if missing := [name for place, name in enumerate(found.names) if place not in shown]:
            raise DatasetError(
                f"{source}: no test image with a number in the range {missing[0]!r} of the pool; "
                "each range needs some, or scores would be those of other numbers."
            )
        return found

    @property
    def _ranks(self) -> NDArray[np.float64]:
        """Return what images are ranked by: the number itself, or the mean of several."""
        if self.values.shape[1] == 1:
            return self.values[:, 0]
        assert self.centre is not None
        assert self.scale is not None
        found: NDArray[np.float64] = ((self.values - self.centre) / self.scale).mean(axis=1)
        return found

    @property
    def membership(self) -> Shown:
        """The range of each image."""
        found: Shown = self.strata[1][:, None] == np.arange(len(self.names))
        return found

    @property
    def strata(self) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """The ranges."""
        if not self.edges:
            return self.names, np.zeros(len(self), dtype=np.int64)
        return self.names, np.searchsorted(self.edges, self._ranks, "left").astype(np.int64)

    def identity(self, row: int) -> list[float]:
        """Return the numbers of an image."""
        found: list[float] = self.values[row].tolist()
        return found

    @property
    def amounts(self) -> None:
        """Only images are counted."""
        return None

    @property
    def truth(self) -> NDArray[np.float64]:
        """The numbers, (N, K)."""
        return self.values

    def target(self, row: int, size: tuple[int, int]) -> Any:
        """Return the number of an image, or its numbers, (K,)."""
        return float(self.values[row, 0]) if self.values.shape[1] == 1 else self.values[row]


def _distinct(edges: Sequence[float]) -> list[str]:
    """Write numbers with as many digits as they need to differ."""
    for digits in range(3, 17):
        texts = [f"{edge:.{digits}g}" for edge in edges]
        if len(set(texts)) == len(texts):
            return texts
    return [repr(edge) for edge in edges]
