"""Forget what has not been used for long, or the least recently used beyond a size.

First goes what no session needs: files that the index does not name, rows whose files are gone, the
dead part of files that are mostly dead. Then everything that was last used before some moment: that
of ``older_than``, or day after day until the rest fits ``max_size``. History stays unless it is
asked for. The index forgets before a file goes: a session that reads meanwhile at worst measures
again.
"""

import sqlite3
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pytest_datasize.store.index import NAME
from pytest_datasize.store.maintenance.folder import files_of, maintained, opened, total_bytes
from pytest_datasize.store.maintenance.forget import (
    compact,
    forget_rows,
    forget_spaces,
    forget_values,
    move,
)
from pytest_datasize.store.maintenance.survey import garbage, leftovers, survey
from pytest_datasize.store.shards import FOLDER, WEEK, shard_name

HISTORY = "run"
_ROUNDS = 4  # looks at the size on disk, which is only known when the index was compacted
_DAY = 86400.0
_ROW = 50  # bytes of the index, for the name of an embedding
_COSTS = {
    "files": "110",
    "trials": "length(value) + 120",
    "documents": "length(value) + 160",
}
"""Table → bytes that an entry takes in the index, about; the dearest to make again comes last."""


@dataclass
class Pruned:
    """What a prune removed, or would remove.

    Attributes
    ----------
    documents
        Kind → number.
    trials, files, rows
        Number of finished trials, of remembered files, and of embeddings.
    garbage_files, garbage_bytes
        Files, and bytes of files, that no session needed.
    before, after
        Size on disk; of what is left an estimate where nothing was removed.
    held
        Bytes of files that running sessions write to, which stay.
    fits
        Whether what is left is no larger than was asked for.
    compacted
        Whether the index gave its free space back.
    """

    documents: dict[str, int] = field(default_factory=dict)
    trials: int = 0
    files: int = 0
    rows: int = 0
    garbage_files: int = 0
    garbage_bytes: int = 0
    before: int = 0
    after: int = 0
    held: int = 0
    fits: bool = True
    compacted: bool = True


def prune(
    folder: Path,
    *,
    older_than: float | None = None,
    max_size: int | None = None,
    history: bool = False,
    dry_run: bool = False,
) -> Pruned:
    """Remove what was not used for long, or the least recently used; garbage in any case.

    A use is noted once an hour (of remembered files once a week, which therefore stay a week
    longer): when a session reads a value or embeddings, or a verdict of evidence. Embeddings go by
    files, one for each session that added some.

    Parameters
    ----------
    folder
        The store.
    older_than
        Seconds since the last use, from which on things go.
    max_size
        Bytes on disk that may be left.
    history
        Whether sessions' outcomes, which no session can find out again, may go as well.
    dry_run
        Only find out what would go.

    Raises
    ------
    StoreError
        It is no store of this version or is damaged, or its disk refuses.
    """
    with maintained([folder]), opened(folder) as connection:
        run = _Prune(connection, folder, history, dry_run)
        run.mark_garbage()
        if older_than is not None:
            run.mark_older(time.time() - older_than)
        run.apply()
        if max_size is not None:
            run.fit(max_size)
        if dry_run:
            run.estimate()
    if not dry_run:
        run.pruned.after = total_bytes(folder)
    return run.pruned


class _Prune:
    """One prune at work.

    ``temp.fate`` says of files how many of their rows stay: none, or some in a new file. Values
    last used up to ``_until`` go. What is marked goes when it is applied; a dry run only marks.
    """

    def __init__(
        self, connection: sqlite3.Connection, folder: Path, history: bool, dry_run: bool
    ) -> None:
        self._connection, self._folder, self._dry_run = connection, folder, dry_run
        self._history = history
        self._until = dict.fromkeys(_COSTS, -1.0)  # table → moment
        self.pruned = Pruned(before=total_bytes(folder))
        connection.execute("CREATE TEMP TABLE fate (shard INTEGER PRIMARY KEY, keep INTEGER)")
        survey(connection, folder)

    # -- what goes -----------------------------------------------------------------------------

    def mark_garbage(self) -> None:
        """Delete files that nothing needs; mark rows that are gone, and what is mostly dead."""
        names = [
            (shard_name(shard), size)
            for shard, size in garbage(self._connection, self._folder, time.time())
        ]
        dead = [(f"{FOLDER}/{name}", size) for name, size in names]
        for name, size in [*dead, *leftovers(self._folder)]:
            self.pruned.garbage_files += 1
            self.pruned.garbage_bytes += size
            self._unlink(name)
        [(self.pruned.held,)] = self._connection.execute(
            "SELECT coalesce(sum(bytes), 0) FROM temp.shards WHERE held"
        )
        self._connection.execute(
            "INSERT INTO temp.fate SELECT shard, CASE WHEN bytes IS NULL THEN 0 ELSE live END "
            "FROM temp.shards WHERE live > 0 AND NOT held "
            "AND (bytes IS NULL OR 4 * live * width < bytes)"
        )

    def mark_older(self, moment: float) -> None:
        """Mark what was last used up to a moment."""
        self._until = dict.fromkeys(_COSTS, moment)
        self._until["files"] -= WEEK  # since a use may have gone without a note for so long
        self._connection.execute(
            "INSERT OR REPLACE INTO temp.fate SELECT shard, 0 FROM temp.shards "
            "WHERE live > 0 AND NOT held AND used <= ?",
            (moment,),
        )

    def _mark_excess(self, excess: int) -> bool:
        """Mark the least recently used, of so many bytes; tell whether there is any.

        Of what was used on the same day the embeddings go first, and evidence last: it is small,
        and dear to measure again.
        """
        values = " UNION ALL ".join(
            f"SELECT {rank} AS rank, used, {cost} AS bytes, '{table}' AS name, "  # noqa: S608
            f"0 AS live, 0 AS width FROM {table} WHERE {self._of(table)} AND used > :{table}"
            for rank, (table, cost) in enumerate(_COSTS.items(), 1)
        )
        units = self._connection.execute(
            f"SELECT name, used, bytes, live, width FROM ({values} UNION ALL "  # noqa: S608
            "SELECT 0, s.used, coalesce(2 * f.keep * s.width, s.bytes) + :row * s.live, s.shard, "
            "s.live, s.width "
            "FROM temp.shards s LEFT JOIN temp.fate f ON f.shard = s.shard "
            "WHERE s.live > 0 AND NOT s.held AND s.width > 0 AND coalesce(f.keep, 1) > 0) "
            "ORDER BY CAST((:now - used - (name = 'files') * :week) / :day AS INTEGER) DESC, "
            "rank, used",
            {**self._until, "now": time.time(), "week": WEEK, "day": _DAY, "row": _ROW},
        )
        fates: list[tuple[int, int]] = []
        marked = False
        for name, used, size, live, width in units:
            excess -= size
            marked = True
            if width:  # the last file need not go as a whole
                fates.append((name, min(live, max(0, -excess) // (2 * width + _ROW))))
            else:
                self._until[name] = used
            if excess <= 0:
                break
        self._connection.executemany("INSERT OR REPLACE INTO temp.fate VALUES (?, ?)", fates)
        return marked

    def _of(self, table: str) -> str:
        return f"kind != '{HISTORY}'" if table == "documents" and not self._history else "1"

    # -- until it fits -------------------------------------------------------------------------

    def fit(self, max_size: int) -> None:
        """Let the least recently used go until the rest is small enough.

        What an entry takes in the index is only about known, so that this may take some rounds.
        """
        if self._size() > max_size and not self._dry_run:
            compact(self._connection, always=True)
        for _ in range(_ROUNDS):
            excess = self._size() - max_size
            margin = max(1 << 15, max_size // 200)  # or the last bytes would take endless rounds
            if excess <= 0 or not self._mark_excess(excess + margin):
                break
            self.apply()
        self.pruned.fits = self._size() <= max_size

    def estimate(self) -> None:
        """Say what would go, after everything is marked."""
        self._count()
        self.pruned.after = self._size()

    def _size(self) -> int:
        """Return the bytes on disk, as they are when SQLite has tidied up; less what is marked."""
        size = sum(
            status.st_size
            for name, status in files_of(self._folder)
            if name not in (NAME, f"{NAME}-wal")
        )
        pages, free, page = (
            self._sum(f"PRAGMA {name}") for name in ("page_count", "freelist_count", "page_size")
        )
        size += (pages - free) * page
        if self._dry_run:
            size -= self.pruned.garbage_bytes
            size -= sum(
                self._sum(
                    f"SELECT sum({cost}) FROM {table} WHERE {self._of(table)} AND used <= ?",  # noqa: S608
                    self._until[table],
                )
                for table, cost in _COSTS.items()
            )
            size -= self._sum(
                f"SELECT sum(s.bytes - 2 * f.keep * s.width + {_ROW} * (s.live - f.keep)) "  # noqa: S608
                "FROM temp.shards s JOIN temp.fate f ON f.shard = s.shard"
            )
        return size

    # -- and goes ------------------------------------------------------------------------------

    def apply(self) -> None:
        """Forget what is marked."""
        if self._dry_run:
            return
        self._count()
        for table in _COSTS:
            forget_values(self._connection, table, self._of(table), self._until[table])
        move(self._connection, self._folder)
        forget_rows(self._connection)
        for (shard,) in self._connection.execute("SELECT shard FROM temp.fate").fetchall():
            self._unlink(f"{FOLDER}/{shard_name(shard)}")
        forget_spaces(self._connection, time.time() - _DAY)  # a session may just fill a new one
        self.pruned.compacted = compact(self._connection)
        self._connection.execute("DELETE FROM temp.fate")
        survey(self._connection, self._folder)

    def _count(self) -> None:
        """Count what is marked."""
        number = self.pruned.documents
        until, where = self._until, f"{self._of('documents')} AND used <= ?"
        query = f"SELECT kind, count(*) FROM documents WHERE {where} GROUP BY kind"  # noqa: S608
        for kind, some in self._connection.execute(query, (until["documents"],)):
            number[kind] = number.get(kind, 0) + some
        self.pruned.trials += self._sum(
            "SELECT count(*) FROM trials WHERE used <= ?", until["trials"]
        )
        self.pruned.files += self._sum("SELECT count(*) FROM files WHERE used <= ?", until["files"])
        self.pruned.rows += self._sum(
            "SELECT sum(s.live - f.keep) FROM temp.shards s JOIN temp.fate f ON f.shard = s.shard"
        )

    def _sum(self, query: str, *values: float) -> int:
        return int(self._connection.execute(query, values).fetchone()[0] or 0)

    def _unlink(self, name: str) -> None:
        if not self._dry_run:
            with suppress(FileNotFoundError, PermissionError):  # Windows: someone reads it
                (self._folder / name).unlink()
