"""Embeddings: rows of float16 in files that only their writer appends to, named by the index.

A row counts once the index names it, and its checksum is compared when it is read.
"""

import secrets
import warnings
import weakref
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from pytest_datasize.errors import DatasizeWarning
from pytest_datasize.store.arrays import HalfArray
from pytest_datasize.store.index import Index
from pytest_datasize.store.shards import hold, note_use
from pytest_datasize.store.shards import shard_name as _name

if TYPE_CHECKING:
    from pytest_datasize.store.mapped import MappedRows

_PLACES = "SELECT content, shard, row, checksum FROM rows WHERE space = ? AND content IN ({})"
_LOCATED = 100_000  # contents located per batch


class Rows:
    """The embeddings of one space: one backbone, one preprocessing, one precision.

    Parameters
    ----------
    index, folder
        The index, and where the files of rows lie; None keeps the rows in memory.
    space
        Number of the space.
    width
        Features of a row D; None until the first rows come.
    fresh
        Whether to ignore existing rows, so that all are computed again.
    """

    def __init__(
        self, index: Index, folder: Path | None, space: int, width: int | None, fresh: bool
    ) -> None:
        self.index, self.folder, self.space, self.width = index, folder, space, width
        self._fresh = fresh
        self._own: set[bytes] = set()
        self._stream: BinaryIO | None = None
        self._shard = 0
        self._written = 0
        self._kept: dict[bytes, HalfArray] = {}  # rows that could not be written to a file

    def fetch(self, contents: Sequence[str], out: HalfArray) -> np.ndarray[Any, Any]:
        """Fill the cached rows of ``out`` and return which they are.

        Parameters
        ----------
        contents
            N names of contents, hexadecimal.
        out
            float16 array of shape (N, D).

        Returns
        -------
        ndarray of bool, shape (N,)
        """
        known = np.zeros(len(contents), dtype=bool)
        places: dict[bytes, list[int]] = {}
        for place, text in enumerate(contents):
            places.setdefault(bytes.fromhex(text), []).append(place)
        wanted = [content for content in places if not self._fresh or content in self._own]
        found = self.index.read_many(
            _PLACES,
            [self.space],
            [content for content in wanted if content not in self._kept],
        )
        shards: dict[int, list[tuple[int, bytes, int]]] = {}
        for content, shard, row, checksum in found:
            shards.setdefault(shard, []).append((row, content, checksum))
        damaged: list[bytes] = []
        for shard, entries in shards.items():
            rows = self._open_shard(shard)
            for row, content, checksum in sorted(entries):
                if row >= len(rows) or zlib.crc32(rows[row]) != checksum:
                    damaged.append(content)
                    continue
                out[places[content]] = rows[row]
                known[places[content]] = True
        for content in wanted:
            if content in self._kept:
                out[places[content]] = self._kept[content]
                known[places[content]] = True
        if damaged:
            self.index.write(
                "DELETE FROM rows WHERE space = ? AND content = ?",
                [(self.space, content) for content in damaged],
            )
            warnings.warn(
                DatasizeWarning(
                    f"store {self.folder}: {len(damaged)} stored embeddings are damaged or gone; "
                    "they are made again."
                ),
                stacklevel=2,
            )
        return known

    def has(self, contents: Sequence[str]) -> np.ndarray[Any, Any]:
        """Return which rows are in the index, without reading them: bool, shape (N,)."""
        names = [bytes.fromhex(text) for text in contents]
        wanted = [name for name in set(names) if not self._fresh or name in self._own]
        found = self.index.read_many(
            "SELECT content FROM rows WHERE space = ? AND content IN ({})", [self.space], wanted
        )
        known = {content for (content,) in found} | self._kept.keys()
        return np.array([name in known for name in names], dtype=bool)

    def locate(self, contents: Sequence[str]) -> "MappedRows":
        """Return the rows of cached contents as memory-mapped rows, read on demand.

        Raises
        ------
        KeyError
            A content is not known.
        """
        from pytest_datasize.store.mapped import MappedRows

        shards: list[HalfArray] = []
        numbers: dict[int, int] = {}  # name of a file → its place among the shards
        shard_of = np.empty(len(contents), dtype=np.int64)
        row_of = np.empty(len(contents), dtype=np.int64)
        checksums = np.empty(len(contents), dtype=np.uint32)
        for start in range(0, len(contents), _LOCATED):
            names = [bytes.fromhex(text) for text in contents[start : start + _LOCATED]]
            found = self.index.read_many(
                _PLACES,
                [self.space],
                list(set(names) - self._kept.keys()),
            )
            places = {content: rest for content, *rest in found}
            for k, name in enumerate(names, start):
                if name in self._kept:  # rows that could not be written to a file
                    shard_of[k], row_of[k] = len(shards), 0
                    checksums[k] = zlib.crc32(self._kept[name].data)
                    shards.append(self._kept[name][None])
                    continue
                shard, row_of[k], checksums[k] = places[name]
                if shard not in numbers:
                    numbers[shard] = len(shards)
                    shards.append(self._open_shard(shard))
                shard_of[k] = numbers[shard]

        def forget(rows: np.ndarray[Any, Any]) -> None:
            damaged = [(self.space, bytes.fromhex(contents[row])) for row in rows.tolist()]
            self.index.write("DELETE FROM rows WHERE space = ? AND content = ?", damaged)

        return MappedRows(shards, shard_of, row_of, checksums, forget)

    def trust(self, contents: Sequence[str]) -> None:
        """Use rows that a worker of this session has added, even with ``fresh``."""
        self._own.update(bytes.fromhex(text) for text in contents)

    def add(self, contents: Sequence[str], rows: HalfArray) -> None:
        """Store new rows, (n, D) float16: first their bytes, then their index entries."""
        rows = np.ascontiguousarray(rows)
        names = [bytes.fromhex(content) for content in contents]
        self._own.update(names)
        if self.folder is None:
            self._kept.update(zip(names, rows, strict=True))
            return
        try:
            stream = self._writer(self.folder)
            stream.write(rows.tobytes())
            stream.flush()
        except OSError as problem:
            if not self._kept:
                warnings.warn(
                    DatasizeWarning(
                        f"store {self.folder}: cannot write embeddings ({problem.strerror}). The "
                        "session goes on; they are not kept for the next."
                    ),
                    stacklevel=2,
                )
            self._kept.update(zip(names, rows, strict=True))
            self._stream = None  # partly written rows never get an index entry
            return
        self.index.write(
            "INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?)",
            [
                (self.space, name, self._shard, self._written + k, zlib.crc32(row))
                for k, (name, row) in enumerate(zip(names, rows, strict=True))
            ],
        )
        self._written += len(rows)

    def close(self) -> None:
        """Close the file this session appends to."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _writer(self, folder: Path) -> BinaryIO:
        if self._stream is None:
            folder.mkdir(parents=True, exist_ok=True)
            self._shard, self._written = secrets.randbits(62), 0
            self._stream = (folder / _name(self._shard)).open("xb")
            hold(self._stream)
            weakref.finalize(self, self._stream.close)
        return self._stream

    def _open_shard(self, shard: int) -> HalfArray:
        """Map a file of rows; an incomplete last row is no row."""
        width = self.width or 1
        try:
            path = (self.folder or Path()) / _name(shard)
            status = path.stat()
            note_use(path, status.st_mtime)
            count = status.st_size // (2 * width)
            if count == 0:
                return np.empty((0, width), dtype=np.float16)
            return np.memmap(path, dtype=np.float16, mode="r", shape=(count, width))
        except OSError:
            return np.empty((0, width), dtype=np.float16)
