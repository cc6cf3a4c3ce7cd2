"""Provide a pool's embeddings to the heads, from memory or from files on demand."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pytest_datasize.store.mapped import MappedRows


class Features(Protocol):
    """N rows of D features; a float16 tensor is one."""

    @property
    def shape(self) -> Sequence[int]:
        """N and D."""

    @property
    def device(self) -> torch.device:
        """Device of the rows that are read."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Tensor | slice, /) -> Tensor: ...


class StoredFeatures:
    """Rows that stay in files; only requested rows are read.

    Parameters
    ----------
    parts
        Rows, one part after the other.
    device
        Device to which rows are read.
    """

    def __init__(self, parts: Sequence[MappedRows], device: torch.device) -> None:
        self._parts, self.device = tuple(parts), device
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def shape(self) -> tuple[int, int]:
        """N and D."""
        return len(self), self._parts[0].width

    def __getitem__(self, rows: Tensor | slice, /) -> Tensor:
        """Read rows, float16: one for each entry of an index of any shape, or of a slice."""
        if isinstance(rows, slice):
            return self._take(np.arange(*rows.indices(len(self))))
        return self._take(rows.cpu().numpy().ravel()).view(*rows.shape, self.shape[1])

    def part(self, rows: NDArray[np.int64]) -> "StoredFeatures":
        """Return some rows of a single part, still in their files."""
        [only] = self._parts
        return StoredFeatures([only.part(rows)], self.device)

    def joined(self, other: "StoredFeatures") -> "StoredFeatures":
        """Return these rows and, after them, others."""
        return StoredFeatures([*self._parts, *other._parts], self.device)

    def _take(self, rows: NDArray[np.int64]) -> Tensor:
        found = np.empty((len(rows), self.shape[1]), dtype=np.float16)
        starts = self._ends - [len(part) for part in self._parts]
        of_part = np.searchsorted(self._ends, rows, side="right")
        for number, part in enumerate(self._parts):
            here = of_part == number
            if here.any():
                found[here] = part.take(rows[here] - starts[number])
        return torch.from_numpy(found).to(self.device)


def joined(parts: Sequence[Features]) -> Features:
    """Concatenate the rows of several features."""
    first = parts[0]
    if len(parts) == 1:
        return first
    if all(isinstance(part, Tensor) for part in parts):
        return torch.cat([part for part in parts if isinstance(part, Tensor)])
    for part in parts[1:]:
        assert isinstance(first, StoredFeatures)  # all are of one pool's size, or its views
        assert isinstance(part, StoredFeatures)
        first = first.joined(part)
    return first


def chosen(features: Features, rows: NDArray[np.int64]) -> Features:
    """Return some rows, in their order; rows in files stay there."""
    if isinstance(features, StoredFeatures):
        return features.part(rows)
    return features[torch.from_numpy(rows).to(features.device)]
