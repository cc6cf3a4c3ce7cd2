"""Reading rows one by one, and writing them to new files that appear whole or not at all."""

import hashlib
import os
import secrets
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pytest_datasize.store.shards import hold, shard_name

PIECE_ROWS, PIECE_BYTES = 50_000, 1 << 28
"""Rows and bytes of a file at most: what an interruption can cost, and what is in memory."""
TEMPORARY = ".tmp"
_BUFFER = 1 << 20


class Reader:
    """Rows of one file, fastest in ascending order; a missing file has none.

    Parameters
    ----------
    path
        The file.
    width
        Features of a row.
    """

    def __init__(self, path: Path, width: int) -> None:
        self._bytes = 2 * width
        self.missing = False
        self._stream: BinaryIO | None = None
        try:
            self._stream = path.open("rb", buffering=_BUFFER)
            self.used = os.fstat(self._stream.fileno()).st_mtime
        except FileNotFoundError:
            self.missing, self.used = True, 0.0

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._stream is not None:
            self._stream.close()

    def read(self, row: int, checksum: int) -> bytes | None:
        """Return the bytes of a row; None where they are damaged or gone."""
        if self._stream is None:
            return None
        start = row * self._bytes
        if self._stream.tell() != start:
            self._stream.seek(start)
        data = self._stream.read(self._bytes)
        if len(data) < self._bytes or zlib.crc32(data) != checksum:
            return None
        return data


class Entry(NamedTuple):
    """What the index says of a row, and where it lies in the file that it is copied from."""

    row: int
    content: bytes
    checksum: int


def copied(
    reader: Reader, rows: Iterable[Entry], make: Callable[[], "Piece"]
) -> Iterator[tuple[int, list[Entry]]]:
    """Copy the good ones among rows of one file to new files; yield each once it is in its place.

    The file is held until the next is asked for, so that no one takes it for garbage before the
    index names it.

    Parameters
    ----------
    reader
        The file that holds them.
    rows
        Which, in ascending order.
    make
        Begins a new file.
    """
    piece: Piece | None = None
    try:
        for entry in rows:
            data = reader.read(entry.row, entry.checksum)
            if data is None:
                continue
            piece = piece or make()
            piece.add(entry, data)
            if piece.full:
                yield piece.place(reader.used), piece.entries
                piece.close()
                piece = None
        if piece is not None:
            yield piece.place(reader.used), piece.entries
    finally:
        if piece is not None:
            piece.close()


class Piece:
    """One new file of rows: written aside, then put in its place at once.

    The name follows from the rows, so that whoever does interrupted work again writes the same
    file again.

    Parameters
    ----------
    folder
        Where files of rows lie.
    space, width
        Number of the space, and features of a row.
    most
        Rows at most; None for :data:`PIECE_ROWS`.
    """

    def __init__(self, folder: Path, space: int, width: int, most: int | None = None) -> None:
        self._folder, self.space = folder, space
        self._most = max(1, min(most or PIECE_ROWS, PIECE_BYTES // (2 * width)))
        self.entries: list[Entry] = []
        self._name = hashlib.sha256(f"{space} {width}".encode())
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{secrets.token_hex(8)}{TEMPORARY}"
        self._stream = self._path.open("xb")
        hold(self._stream)

    @property
    def full(self) -> bool:
        """Whether no row fits any more."""
        return len(self.entries) >= self._most

    def add(self, entry: Entry, data: bytes) -> None:
        """Append a row."""
        self._stream.write(data)
        self.entries.append(entry)
        self._name.update(entry.content + entry.checksum.to_bytes(4, "big"))

    def place(self, used: float) -> int:
        """Put the file in its place and return its number; :meth:`close` once the index names it.

        Parameters
        ----------
        used
            When the rows were last used.
        """
        shard = int.from_bytes(self._name.digest()[:8], "big") >> 2
        self._stream.flush()
        os.fsync(self._stream.fileno())
        os.utime(self._path, (used, used))
        if os.name == "nt":  # where an open file cannot be renamed
            self._stream.close()
        self._path.replace(self._folder / shard_name(shard))
        return shard

    def close(self) -> None:
        """Let go of the file, and delete it if it was never placed."""
        self._stream.close()
        self._path.unlink(missing_ok=True)
