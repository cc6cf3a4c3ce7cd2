"""Read the rows of one file of embeddings, each against its checksum."""

import zlib
from pathlib import Path
from typing import BinaryIO

_BUFFER = 1 << 20


class RowsFile:
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
        self._stream: BinaryIO | None = None
        try:
            self._stream = path.open("rb", buffering=_BUFFER)
        except FileNotFoundError:
            return

    def __enter__(self) -> "RowsFile":
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
