"""Read everything a store holds against its checksums; take out what is damaged."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_datasize.store.index import set_aside
from pytest_datasize.store.maintenance.folder import (
    crc32,
    index_problem,
    maintained,
    opened,
    store_errors,
    transaction,
)
from pytest_datasize.store.maintenance.rows_file import RowsFile
from pytest_datasize.store.shards import FOLDER, shard_name


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
            with maintained([folder]), store_errors(folder):
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
    """One reading of everything; the keys of what is damaged are kept until it is repaired."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        folder: Path,
        on_progress: Callable[[int, int], None],
    ) -> None:
        self._connection, self._folder = connection, folder / FOLDER
        self._on_progress = on_progress
        self._bad: dict[str, list[tuple[Any, ...]]] = {}  # statement that deletes → its values
        self.found = Verified()

    def values(self, table: str, key: Sequence[str]) -> None:
        """Read the values of a table."""
        names, where = ", ".join(key), " AND ".join(f"{name} = ?" for name in key)
        # what a session replaced meanwhile stays
        bad = self._bad[f"DELETE FROM {table} WHERE {where} AND checksum = ?"] = []  # noqa: S608
        number = 0
        query = f"SELECT {names}, checksum, value FROM {table}"  # noqa: S608
        for *row, value in self._connection.execute(query):
            number += 1
            self.found.bytes += len(value)
            if crc32(value) != row[-1]:
                self.found.damaged[row[0] if table == "documents" else table] += 1
                bad.append(tuple(row))
        setattr(self.found, table, number)

    def rows(self) -> None:
        """Read the embeddings, file by file."""
        bad = self._bad["DELETE FROM rows WHERE space = ? AND content = ? AND shard = ?"] = []
        lost = self._bad["DELETE FROM rows WHERE shard = ?"] = []
        files = self._connection.execute(
            "SELECT r.shard, s.width, count(*) FROM rows r LEFT JOIN spaces s ON s.id = r.space "
            "GROUP BY r.shard, s.width ORDER BY r.shard"
        ).fetchall()
        self._connection.execute("CREATE TEMP TABLE listed AS SELECT * FROM rows")
        self._connection.execute("CREATE INDEX temp.by_shard ON listed (shard, row)")
        total = sum(number for *_, number in files)
        for shard, width, number in files:
            name = shard_name(shard)
            self._on_progress(self.found.rows, total)
            self.found.rows += number
            if width is None or not (self._folder / name).is_file():
                self.found.missing.append(name)
                self.found.damaged[name] += number
                lost.append((shard,))
                continue
            with RowsFile(self._folder / name, width) as rows:
                for space, content, row, checksum in self._connection.execute(
                    "SELECT space, content, row, checksum FROM temp.listed WHERE shard = ? "
                    "ORDER BY row",
                    (shard,),
                ):
                    if data := rows.read(row, checksum):
                        self.found.bytes += len(data)
                    else:
                        self.found.damaged[name] += 1
                        bad.append((space, content, shard))

    def repair(self) -> None:
        """Delete what is damaged from the index."""
        for statement, bad in self._bad.items():
            with transaction(self._connection):
                self._connection.executemany(statement, bad)
        self.found.repaired = True
