"""Take everything of one store into another.

Values are copied by SQLite; embeddings as whole files, whose rows are compared with their checksums
and entered into the index once the file is complete. So an interruption leaves a good store, the
same command continues where it ended, and merging twice changes nothing.
"""

import os
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_datasize.errors import StoreError
from pytest_datasize.store.maintenance.folder import (
    MAINTENANCE,
    attach,
    check,
    maintained,
    opened,
    store_errors,
    transaction,
)
from pytest_datasize.store.maintenance.rows_file import RowsFile
from pytest_datasize.store.maintenance.survey import TEMPORARY, half_written
from pytest_datasize.store.shards import FOLDER, shard_name

_PORTABLE = "s.kind NOT IN ('weights', 'cost')"  # file paths, and estimates of this machine


@dataclass
class Merged:
    """What a merge added.

    Attributes
    ----------
    documents
        Kind → number.
    trials, rows, files
        Number of finished trials, of embeddings, and of remembered files.
    damaged
        Values and embeddings that were not copied, since they do not match their checksums.
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
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Merged:
    """Add to one store what it lacks of another; the source stays as it is.

    Where both have a value the target's stays, unless it is damaged. Sessions may use both stores
    meanwhile.

    Parameters
    ----------
    target
        The store that grows; it is made where it is missing.
    source
        The store that is read.
    files
        Whether to copy, too, which files were read and where weights lie: of use only where the
        source was filled on this machine, from the same paths.
    on_progress
        Called with (embeddings checked, embeddings in all).

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
    with store_errors(target):
        target.mkdir(parents=True, exist_ok=True)
    with maintained([target, source]), opened(target, new=True) as connection:
        with store_errors(source):
            attach(connection, source, "source")
            [(found,)] = connection.execute("PRAGMA source.quick_check(1)")
            if found != "ok":
                raise sqlite3.DatabaseError(found)
        run = _Merge(connection, target, source)
        run.documents("1" if files else _PORTABLE)
        run.trials()
        if files:
            run.files()
        run.embeddings(on_progress)
    return run.merged


def refuse(folders: Sequence[Path]) -> None:
    """Raise :class:`StoreError` unless the first can be merged with the others.

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
        for path, _ in half_written(target):  # no other command is at work here
            path.unlink(missing_ok=True)

    def documents(self, where: str) -> None:
        """Copy evidence, verdicts and the like."""
        self.merged.documents = self._copy("documents", ("kind", "key"), where)

    def trials(self) -> None:
        """Copy finished trials."""
        self.merged.trials = sum(self._copy("trials", ("key", "size", "repeat")).values())

    def files(self) -> None:
        """Copy which files were read."""
        added = self._connection.execute(
            "INSERT OR IGNORE INTO main.files SELECT * FROM source.files"
        )
        self.merged.files = added.rowcount

    def _copy(self, table: str, key: Sequence[str], where: str = "1") -> dict[str, int]:
        """Copy what the target lacks or has damaged; return the numbers by the first column."""
        same = " AND ".join(f"t.{name} = s.{name}" for name in key)
        lacking = (
            f"FROM source.{table} s LEFT JOIN main.{table} t ON {same} "
            f"WHERE (t.{key[0]} IS NULL OR crc32(t.value) != t.checksum) AND {where}"
        )
        good, first = "crc32(s.value) = s.checksum", f"s.{key[0]}"
        with transaction(self._connection):
            found = self._connection.execute(
                f"SELECT {good}, {first}, count(*) {lacking} GROUP BY 1, 2"
            ).fetchall()
            self._connection.execute(
                f"INSERT OR REPLACE INTO main.{table} SELECT s.* {lacking} AND {good}"
            )
        self.merged.damaged += sum(number for intact, _, number in found if not intact)
        return {name: number for intact, name, number in found if intact}

    # -- embeddings ----------------------------------------------------------------------------

    def embeddings(self, on_progress: Callable[[int, int], None]) -> None:
        """Copy the files that have rows which the target lacks, and enter those rows."""
        widths = self._spaces()
        self._list_wanted()
        wanted = self._connection.execute(
            "SELECT shard, space, count(*) FROM temp.wanted GROUP BY shard, space"
        ).fetchall()
        total, done = sum(number for *_, number in wanted), 0
        self._target.mkdir(exist_ok=True)
        for shard, space, number in wanted:
            self._copy_file(shard_name(shard))
            with RowsFile(self._target / shard_name(shard), widths[space]) as rows:
                self.merged.rows += self._enter(rows, shard, space)
            done += number
            on_progress(done, total)
        self.merged.damaged += total - self.merged.rows

    def _spaces(self) -> dict[int, int]:
        """Copy the names of spaces; return their widths."""
        self._connection.execute("INSERT OR IGNORE INTO main.spaces SELECT * FROM source.spaces")
        found = self._connection.execute(
            "SELECT s.id, s.width, t.width FROM source.spaces s JOIN main.spaces t ON t.id = s.id"
        ).fetchall()
        for _, theirs, ours in found:
            if theirs != ours:
                raise StoreError(
                    f"{self._source.parent}: its embeddings of a backbone have {theirs} "
                    f"features, those in {self._target.parent} have {ours}. One of the stores "
                    "was tampered with; run `store verify` on both."
                )
        return {space: width for space, width, _ in found}

    def _list_wanted(self) -> None:
        """List the rows that the target lacks, or whose files it lost."""
        named = self._connection.execute("SELECT DISTINCT shard FROM main.rows")
        lost = [(n,) for (n,) in named if not (self._target / shard_name(n)).is_file()]
        self._connection.execute("CREATE TEMP TABLE lost (shard INTEGER PRIMARY KEY)")
        self._connection.executemany("INSERT INTO temp.lost VALUES (?)", lost)
        self._connection.execute(
            "CREATE TEMP TABLE wanted AS SELECT s.* FROM source.rows s "
            "JOIN source.spaces p ON p.id = s.space "
            "LEFT JOIN main.rows t ON t.space = s.space AND t.content = s.content "
            "WHERE t.shard IS NULL OR t.shard IN (SELECT shard FROM temp.lost) "
            "ORDER BY s.shard, s.space, s.row"
        )
        self._connection.execute("CREATE INDEX temp.by_shard ON wanted (shard, space)")

    def _copy_file(self, name: str) -> None:
        """Copy a file of rows unless it is there; one that a session still wrote to has grown."""
        source, target = self._source / name, self._target / name
        if not source.is_file():
            return
        if target.is_file() and target.stat().st_size >= source.stat().st_size:
            return
        half = target.with_suffix(TEMPORARY)
        shutil.copyfile(source, half)
        with half.open("rb+") as stream:
            os.fsync(stream.fileno())  # the user may delete the source after a merge
        shutil.copystat(source, half)  # when it was last used
        half.replace(target)

    def _enter(self, rows: RowsFile, shard: int, space: int) -> int:
        """Enter the intact ones of the wanted rows of a file; return how many were intact."""
        intact = 0

        def is_intact(row: int, checksum: int) -> bool:
            nonlocal intact
            good = rows.read(row, checksum) is not None
            intact += good
            return good

        self._connection.create_function("intact", 2, is_intact)
        with transaction(self._connection):
            self._connection.execute(
                "INSERT INTO main.rows SELECT * FROM temp.wanted "
                "WHERE shard = ? AND space = ? AND intact(row, checksum) "
                "ON CONFLICT (space, content) DO UPDATE SET shard = excluded.shard, "
                "row = excluded.row, checksum = excluded.checksum "
                "WHERE shard IN (SELECT shard FROM temp.lost)",  # else a session was faster
                (shard, space),
            )
        return intact
