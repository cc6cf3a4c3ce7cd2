"""Read embeddings from memory-mapped files on demand, for pools larger than memory."""

import mmap
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.errors import DatasetError
from pytest_datasize.store.arrays import HalfArray

_SPARSE = 8  # a file of whose rows fewer than one in so many are read is not read ahead
_PAGED = 1024  # rows whose pages are mapped at a time; each brings its neighbours with it


class MappedRows:
    """N rows of D features, spread over memory-mapped shards.

    Parameters
    ----------
    shards
        Memory-mapped float16 arrays of shape (n, D).
    shard_of, row_of
        Shard of each row, and its place there, shape (N,).
    checksums
        CRC-32 of each row, uint32 of shape (N,); None trusts the files.
    on_damage
        Called with the rows whose checksum does not match.

    Examples
    --------
    >>> shard = np.arange(6, dtype=np.float16).reshape(3, 2)
    >>> rows = MappedRows([shard], np.zeros(2, int), np.array([2, 0]))
    >>> rows.take(np.array([0, 1])).tolist()
    [[4.0, 5.0], [0.0, 1.0]]
    """

    def __init__(
        self,
        shards: Sequence[HalfArray],
        shard_of: NDArray[np.int64],
        row_of: NDArray[np.int64],
        checksums: np.ndarray[tuple[int], np.dtype[np.uint32]] | None = None,
        on_damage: Callable[[NDArray[np.int64]], None] = lambda rows: None,
    ) -> None:
        self._shards, self._shard_of, self._row_of = shards, shard_of, row_of
        self._checksums, self._on_damage = checksums, on_damage

    def __len__(self) -> int:
        return len(self._row_of)

    @property
    def width(self) -> int:
        """Features of a row."""
        return int(self._shards[0].shape[1])

    def part(self, rows: NDArray[np.int64]) -> "MappedRows":
        """Return some rows, still in their files."""
        return MappedRows(
            self._shards,
            self._shard_of[rows],
            self._row_of[rows],
            None if self._checksums is None else self._checksums[rows],
            lambda damaged: self._on_damage(rows[damaged]),
        )

    def take(self, rows: NDArray[np.int64]) -> HalfArray:
        """Read some rows, float16 of shape (n, D).

        Raises
        ------
        DatasetError
            Some are damaged; they are deleted from the index, so that the next run computes them.
        """
        found = np.empty((len(rows), self.width), dtype=np.float16)
        shards, places = self._shard_of[rows], self._row_of[rows]
        order = np.lexsort((places, shards))  # files are read from front to back
        for shard in np.unique(shards):
            here = order[shards[order] == shard]
            found[here] = _read(self._shards[shard], places[here])
        if self._checksums is not None:
            wanted = self._checksums[rows].tolist()
            wrong = [k for k, row in enumerate(found) if zlib.crc32(row.data) != wanted[k]]
            if wrong:
                self._on_damage(np.unique(rows[wrong]))
                raise DatasetError(
                    f"store: {len(wrong)} stored embeddings are damaged and were forgotten; run "
                    "again to make them anew. `python -m pytest_datasize store verify` looks at "
                    "all of them."
                )
        return found


def _read(shard: HalfArray, rows: NDArray[np.int64]) -> HalfArray:
    """Copy some rows of a file and release its pages: they count as this process's memory."""
    mapping: Any = shard.base
    if not isinstance(mapping, mmap.mmap) or not hasattr(mapping, "madvise"):
        return shard[rows]
    sparse = len(rows) * _SPARSE < len(shard)
    mapping.madvise(mmap.MADV_RANDOM if sparse else mmap.MADV_NORMAL)
    found = np.empty((len(rows), shard.shape[1]), dtype=shard.dtype)
    for first in range(0, len(rows), _PAGED):
        block = slice(first, first + _PAGED)
        found[block] = shard[rows[block]]
        mapping.madvise(mmap.MADV_DONTNEED)
    return found
