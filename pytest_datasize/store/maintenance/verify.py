"""Read everything a store holds against its checksums; take out what is damaged."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from pytest_datasize.store.index import set_aside
from pytest_datasize.store.maintenance.folder import (
    crc32,
    index_problem,
    maintained,
    opened,
    told,
    transaction,
)
from pytest_datasize.store.maintenance.pieces import Reader
from pytest_datasize.store.shards import FOLDER, shard_name

_AT_ONCE = 1000  # that one transaction takes out


@dataclass
class Verified:
    """What was read, and what of it is damaged.

    Attributes
    ----------
    documents, trials, rows
        Number of values and of embeddings that were read.
    bytes
        Bytes of them.
    damaged
        What → number: ``evidence``, ``verdict`` and the like, ``trials``, and the names of files of
        embeddings.
    missing
        Names of the files of embeddings that are gone, a part of ``damaged``.
    index
        What is wrong with the index itself; empty where it can be read.
    repaired
        Whether what is damaged was taken out.
    """

    documents: int = 0
    trials: int = 0
    rows: int = 0
    bytes: int = 0
    damaged: Counter[str] = field(default_factory=Counter)
    missing: list[str] = field(default_factory=list)
    index: str = ""
    repaired: bool = False

    @property
    def good(self) -> bool:
        """Whether nothing is damaged."""
        return not self.damaged and not self.index


def verify(
    folder: Path,
    *,
    repair: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Verified:
    """Read every value and every embedding of a store, one after the other.

    Parameters
    ----------
    folder
        The store; sessions may use it meanwhile.
    repair
        Whether to take out what is damaged: sessions then make it again. A damaged index is set
        aside.
    on_progress
        Called with (embeddings read, embeddings in all).

    Raises
    ------
    StoreError
        It is no store of this version, or its disk refuses.
    """
    if wrong := index_problem(folder):
        if repair:
            with maintained([folder]), told(folder):
                set_aside(folder)
        return Verified(index=wrong, repaired=repair)
    with maintained([folder]), opened(folder) as connection:
        run = _Verify(connection, folder, on_progress)
        run.values("documents", ("kind", "key"))
        run.values("trials", ("key", "size", "repeat"))
        run.rows()
        if repair and not run.found.good:
            run.repair()
    return run.found


class _Verify:
    """One look at everything; what is damaged is listed in temporary tables."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        folder: Path,
        on_progress: Callable[[int, int], None],
    ) -> None:
        self._connection, self._folder = connection, folder / FOLDER
        self._on_progress = on_progress
        self._keys: dict[str, Sequence[str]] = {}
        self.found = Verified()

    def values(self, table: str, key: Sequence[str]) -> None:
        """Read the values of a table."""
        names = ", ".join(key)
        query = f"SELECT {names}, checksum, value FROM {table}"  # noqa: S608
        number = 0

        def damaged() -> Iterator[tuple[Any, ...]]:
            nonlocal number
            for *row, value in self._connection.execute(query):
                number += 1
                self.found.bytes += len(value)
                if crc32(value) != row[-1]:
                    self.found.damaged[row[0] if table == "documents" else table] += 1
                    yield tuple(row)

        self._list(table, [*key, "checksum"], damaged())
        setattr(self.found, table, number)

    def rows(self) -> None:
        """Read the embeddings, file by file."""
        self._connection.execute(
            "CREATE TEMP TABLE listed AS "
            "SELECT r.shard, s.width, r.space, r.content, r.row, r.checksum FROM rows r "
            "LEFT JOIN spaces s ON s.id = r.space ORDER BY r.shard, r.row"
        )
        [(self.found.rows,)] = self._connection.execute("SELECT count(*) FROM temp.listed")
        self._list("rows", ("space", "content", "shard", "row"), self._damaged_rows())
        self._on_progress(self.found.rows, self.found.rows)

    def _damaged_rows(self) -> Iterator[tuple[int, bytes, int, int]]:
        done = 0
        listed = self._connection.execute("SELECT * FROM temp.listed ORDER BY rowid")
        for (shard, width), group in groupby(listed, key=itemgetter(0, 1)):
            name = shard_name(shard)
            with Reader(self._folder / name, width or 1) as reader:
                if reader.missing:
                    self.found.missing.append(name)
                for _, _, space, content, row, checksum in group:
                    data = reader.read(row, checksum) if width else None
                    if data is None:
                        self.found.damaged[name] += 1
                        yield space, content, shard, row
                    else:
                        self.found.bytes += len(data)
                    done += 1
                    if done % _AT_ONCE == 0:
                        self._on_progress(done, self.found.rows)

    def _list(self, table: str, names: Sequence[str], damaged: Iterable[tuple[Any, ...]]) -> None:
        marks = ", ".join("?" * len(names))
        self._keys[table] = names
        self._connection.execute(f"CREATE TEMP TABLE bad_{table} ({', '.join(names)})")
        self._connection.executemany(
            f"INSERT INTO temp.bad_{table} VALUES ({marks})",  # noqa: S608
            damaged,
        )

    def repair(self) -> None:
        """Take out what is damaged; what a session replaced meanwhile stays."""
        for table, names in self._keys.items():
            where = " AND ".join(f"{name} = ?" for name in names)
            bad = self._connection.execute(f"SELECT * FROM temp.bad_{table}")  # noqa: S608
            while some := bad.fetchmany(_AT_ONCE):
                with transaction(self._connection):
                    self._connection.executemany(
                        f"DELETE FROM {table} WHERE {where}",  # noqa: S608
                        some,
                    )
        self.found.repaired = True
