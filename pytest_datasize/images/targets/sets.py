"""Targets: a set of labels per image, perhaps none."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.targets.names import matched, refuse_unknown
from pytest_datasize.images.targets.protocol import Rows, Shown, Targets, rarest


@dataclass(frozen=True, eq=False)
class Sets:
    """Sets of labels.

    Attributes
    ----------
    names
        The L labels.
    shown
        Whether an image shows a label, bool (N, L).

    Examples
    --------
    >>> Sets.of([["red", "round"], [], ["red"]]).target(0, (1, 1))
    array([ True,  True])
    """

    names: tuple[str, ...]
    shown: Shown
    task: ClassVar[str] = "multilabel"

    @classmethod
    def of(cls, values: Sequence[Sequence[Any]]) -> "Sets":
        """Make sets from a sequence of labels for each image."""
        texts = [{str(label) for label in labels} for labels in values]
        names = tuple(sorted(set().union(*texts)))
        number = {name: index for index, name in enumerate(names)}
        shown = np.zeros((len(texts), len(names)), dtype=np.bool_)
        for row, labels in enumerate(texts):
            shown[row, [number[label] for label in labels]] = True
        return cls(names, shown)

    def __len__(self) -> int:
        return len(self.shown)

    def part(self, rows: Rows) -> "Sets":
        """Return the sets of the given rows."""
        return replace(self, shown=self.shown[rows])

    def joined(self, others: Sequence[Targets]) -> "Sets":
        """Return all sets, labels matched by name."""
        names, columns = matched([self, *others])
        parts = []
        for one, own in zip([self, *others], columns, strict=True):
            part = np.zeros((len(one), len(names)), dtype=np.bool_)
            part[:, own] = one.membership
            parts.append(part)
        return Sets(names, np.concatenate(parts))

    def settled(self, source: str) -> "Sets":
        """Refuse labels from which nothing can be learned."""
        counts = self.shown.sum(axis=0)
        if not len(self.names) or not counts.any():
            raise DatasetError(f"{source}: no image has a label.")
        if whole := [n for n, c in zip(self.names, counts, strict=True) if c == len(self)]:
            raise DatasetError(
                f"{source}: all images show the label {whole[0]!r}, so there is nothing to learn "
                "about it. Leave this label out, or add images without it."
            )
        used = counts > 0
        return Sets(
            tuple(name for name, some in zip(self.names, used, strict=True) if some),
            self.shown[:, used],
        )

    def aligned(self, pool: Targets, source: str) -> "Sets":
        """Express the sets in the labels of the pool."""
        used = self.shown.sum(axis=0) > 0
        own = [name for name, some in zip(self.names, used, strict=True) if some]
        refuse_unknown(own, pool.names, source, "label")
        shown = np.zeros((len(self), len(pool.names)), dtype=np.bool_)
        shown[:, [pool.names.index(name) for name in own]] = self.shown[:, used]
        return Sets(pool.names, shown)

    @property
    def membership(self) -> Shown:
        """Whether an image shows a label."""
        return self.shown

    @property
    def strata(self) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """The stratum of an image is its rarest label."""
        return rarest(self.shown, self.names, "(no label)")

    def identity(self, row: int) -> list[str]:
        """Return the labels of an image."""
        return [name for name, some in zip(self.names, self.shown[row], strict=True) if some]

    @property
    def amounts(self) -> None:
        """Only images are counted."""
        return None

    @property
    def truth(self) -> Shown:
        """Whether an image shows a label, (N, L)."""
        return self.shown

    def target(self, row: int, size: tuple[int, int]) -> Shown:
        """Return which labels an image shows, bool (L,)."""
        found: Shown = self.shown[row]
        return found
