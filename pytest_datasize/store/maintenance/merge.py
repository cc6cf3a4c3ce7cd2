"""Take everything of one store into another.

Embeddings are copied into files of the target's own, row by row with their checksums compared, and
named once they are there; each file and each batch of values is a transaction. So an interruption
leaves a good store, the same command goes on where it ended, and merging twice changes nothing.
"""

import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from pytest_datasize.errors import StoreError
from pytest_datasize.store.maintenance.folder import (
    MAINTENANCE,
    attach,
    check,
    crc32,
    maintained,
    opened,
    told,
    transaction,
)
from pytest_datasize.store.maintenance.pieces import TEMPORARY, Entry, Piece, Reader, copied
from pytest_datasize.store.shards import FOLDER, in_use, shard_name

_LOCATIONS = ("weights",)  # documents that say where a file lies, as the table of files does
_BATCH_BYTES, _BATCH_ROWS = 8 << 20, 2000
_ENTRY_BYTES = 80  # of the index, for a row
_SPARE = 1 << 24


@dataclass
class Merged:
    """What a merge took over.

    Attributes
    ----------
    documents
        Kind → number.
    trials, rows, files
        Number of finished trials, of embeddings, and of remembered files.
    damaged
        Values and embeddings that were left, since they are not what their checksums say.
    """

    documents: dict[str, int] = field(default_factory=dict)
    trials: int = 0
    rows: int = 0
    files: int = 0
    damaged: int = 0


def merge(
    target: Path,
    source: Path,
    *,
    files: bool = False,
    piece_rows: int | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Merged:
    """Take into one store what it lacks of another; the source stays as it is.

    Where both have a value the target's stays, unless it is damaged. Sessions may use both stores
    meanwhile.

    Parameters
    ----------
    target
        The store that grows; it is made where it is missing.
    source
        The store that is read.
    files
        Whether to take, too, which files were read and where weights lie: of use only where the
        source was filled on this machine, from the same paths.
    piece_rows
        Rows of a file that is written, at most; None for the default.
    on_progress
        Called with (embeddings looked at, embeddings in all).

    Raises
    ------
    StoreError
        One of them is no store of this version or is damaged, both are the same, or the disk is
        full.

    Examples
    --------
    >>> import tempfile
    >>> from pytest_datasize.store import Store
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     one, other = Path(folder, "one"), Path(folder, "other")
    ...     with Store(other) as store:
    ...         store.put("evidence", "key", {"score": 0.9})
    ...     first, second = merge(one, other), merge(one, other)
    >>> first.documents, second.documents
    ({'evidence': 1}, {})
    """
    refuse([target, source])
    with told(target):
        target.mkdir(parents=True, exist_ok=True)
    with maintained([target, source]), opened(target, new=True) as connection:
        with told(source):
            attach(connection, source, "source")
            [(found,)] = connection.execute("PRAGMA source.quick_check(1)")
            if found != "ok":
                raise sqlite3.DatabaseError(found)
        run = _Merge(connection, target, source)
        run.clean()
        run.documents(files)
        run.trials()
        if files:
            run.files()
        run.embeddings(piece_rows, on_progress)
    return run.merged


def refuse(folders: Sequence[Path]) -> None:
    """Raise :class:`StoreError` unless the first can take in the others.

    Parameters
    ----------
    folders
        The target, which may be missing or empty, and the sources.
    """
    target, *sources = folders
    for source in sources:
        check(source)
    if target.is_dir() and any(path.name != MAINTENANCE for path in target.iterdir()):
        check(target)
    elif target.exists() and not target.is_dir():
        raise StoreError(f"{target}: a file; name a store, or a new folder.")
    places = [folder.resolve() for folder in folders]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise StoreError(f"{folders[number]}: named twice; merge different stores.")


class _Merge:
    """One merge at work: ``main`` is the target's index, ``source`` that of the other."""

    def __init__(self, connection: sqlite3.Connection, target: Path, source: Path) -> None:
        self._connection = connection
        self._target, self._source = target / FOLDER, source / FOLDER
        self.merged = Merged()

    def clean(self) -> None:
        """Delete what an interrupted command left half written; no other is at work here."""
        for path in self._target.glob(f"*{TEMPORARY}"):
            if not in_use(path):
                path.unlink(missing_ok=True)

    # -- values --------------------------------------------------------------------------------

    def documents(self, locations: bool) -> None:
        """Take evidence, verdicts and the like."""

        def wanted(row: Sequence[Any]) -> bool:
            return (locations or row[0] not in _LOCATIONS) and self._good(row[3], row[4])

        number = self.merged.documents
        for kind in self._take("documents", ("kind", "key"), wanted):
            number[kind] = number.get(kind, 0) + 1

    def trials(self) -> None:
        """Take finished trials."""

        def wanted(row: Sequence[Any]) -> bool:
            return self._good(row[3], row[4])

        self.merged.trials = sum(1 for _ in self._take("trials", ("key", "size", "repeat"), wanted))

    def files(self) -> None:
        """Take which files were read."""
        self.merged.files = sum(1 for _ in self._take("files", ("stamp",), lambda row: True))

    def _good(self, value: bytes, checksum: int) -> bool:
        good = crc32(value) == checksum
        self.merged.damaged += not good
        return good

    def _take(
        self, table: str, key: Sequence[str], wanted: Callable[[Sequence[Any]], bool]
    ) -> Iterator[Any]:
        """Copy what the target lacks, or has damaged; yield the first column of every row."""
        lacks = f"t.{key[0]} IS NULL"
        if table != "files":
            lacks += " OR crc32(t.value) != t.checksum"
        self._list(
            f"SELECT {', '.join(f's.{name}' for name in key)} FROM source.{table} s "  # noqa: S608
            f"LEFT JOIN main.{table} t ON {_same(key, 't', 's')} WHERE {lacks}"
        )
        found = self._connection.execute(
            f"SELECT s.* FROM temp.wanted w CROSS JOIN source.{table} s "  # noqa: S608
            f"ON {_same(key, 's', 'w')}"
        )
        for batch in _batches(row for row in found if wanted(row)):
            marks = ", ".join("?" * len(batch[0]))
            statement = f"INSERT OR REPLACE INTO main.{table} VALUES ({marks})"  # noqa: S608
            self._write(statement, batch)
            yield from (row[0] for row in batch)

    # -- embeddings ----------------------------------------------------------------------------

    def embeddings(self, most: int | None, on_progress: Callable[[int, int], None]) -> None:
        """Copy the rows that the target lacks, file by file of the source."""
        widths = self._spaces()
        self._list_rows()
        total = self._refuse_without_room(widths)
        done = 0
        wanted = self._connection.execute("SELECT * FROM temp.wanted ORDER BY rowid")
        for (shard, space), group in groupby(wanted, key=itemgetter(0, 1)):
            make = partial(Piece, self._target, space, widths[space], most)
            rows = (Entry(*row[2:]) for row in group)
            with Reader(self._source / shard_name(shard), widths[space]) as reader:
                for place, entries in copied(reader, rows, make):
                    self._name(space, place, entries)
                    done += len(entries)
                    on_progress(done, total)
        self.merged.rows = done
        self.merged.damaged += total - done

    def _spaces(self) -> dict[int, int]:
        """Take the names of spaces; return their widths."""
        spaces = self._connection.execute("SELECT * FROM source.spaces").fetchall()
        self._write("INSERT OR IGNORE INTO main.spaces VALUES (?, ?, ?, ?)", spaces)
        widths = {space: width for space, _, width, _ in spaces}
        for space, width in self._connection.execute("SELECT id, width FROM main.spaces"):
            if widths.get(space, width) != width:
                raise StoreError(
                    f"{self._source.parent}: its embeddings of a backbone have {widths[space]} "
                    f"features, those in {self._target.parent} have {width}. One of the stores "
                    "was tampered with; run `store verify` on both."
                )
        return widths

    def _list_rows(self) -> None:
        """List the rows that the target lacks, or whose files it lost."""
        named = self._connection.execute("SELECT DISTINCT shard FROM main.rows")
        lost = [(n,) for (n,) in named if not (self._target / shard_name(n)).is_file()]
        self._connection.execute("CREATE TEMP TABLE lost (shard INTEGER PRIMARY KEY)")
        self._connection.executemany("INSERT INTO temp.lost VALUES (?)", lost)
        self._list(
            "SELECT s.shard, s.space, s.row, s.content, s.checksum FROM source.rows s "
            "JOIN source.spaces p ON p.id = s.space "
            "LEFT JOIN main.rows t ON t.space = s.space AND t.content = s.content "
            "WHERE t.shard IS NULL OR t.shard IN (SELECT shard FROM temp.lost) "
            "ORDER BY s.shard, s.space, s.row"
        )

    def _refuse_without_room(self, widths: dict[int, int]) -> int:
        """Return the number of rows that are wanted, if there is space for them."""
        query = "SELECT space, count(*) FROM temp.wanted GROUP BY space"
        numbers = dict(self._connection.execute(query).fetchall())
        needed = sum(n * (2 * widths[space] + _ENTRY_BYTES) for space, n in numbers.items())
        free = shutil.disk_usage(self._target.parent).free
        if needed + _SPARE > free:
            raise StoreError(
                f"{self._target.parent}: {(needed + _SPARE) / 1e9:.2f} GB are needed and "
                f"{free / 1e9:.2f} GB free. Evidence and trials were taken, embeddings were not: "
                "free space and run the same command again."
            )
        return sum(numbers.values())

    def _name(self, space: int, shard: int, entries: Sequence[Entry]) -> None:
        """Name the rows of a new file; what a session named meanwhile stays as it is."""
        self._write(
            "INSERT INTO main.rows VALUES (?, ?, ?, ?, ?) ON CONFLICT (space, content) DO UPDATE "
            "SET shard = excluded.shard, row = excluded.row, checksum = excluded.checksum "
            "WHERE shard IN (SELECT shard FROM temp.lost)",
            [
                (space, entry.content, shard, row, entry.checksum)
                for row, entry in enumerate(entries)
            ],
        )

    # -- the index -----------------------------------------------------------------------------

    def _list(self, query: str) -> None:
        """List what is wanted, on disk; the source may then change while it is copied."""
        self._connection.execute("DROP TABLE IF EXISTS temp.wanted")
        self._connection.execute(f"CREATE TEMP TABLE wanted AS {query}")

    def _write(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        with transaction(self._connection):
            self._connection.executemany(statement, rows)


def _same(key: Sequence[str], one: str, other: str) -> str:
    return " AND ".join(f"{one}.{name} = {other}.{name}" for name in key)


def _batches(rows: Iterable[Any]) -> Iterator[list[Any]]:
    """Cut rows into lists of bounded size."""
    batch: list[Any] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += sum(len(value) for value in row if isinstance(value, (bytes, str)))
        if len(batch) >= _BATCH_ROWS or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
