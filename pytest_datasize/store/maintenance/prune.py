"""Delete what has not been used for long, or the least recently used beyond a size.

First goes what no session needs: garbage, and rows whose files are gone. Then everything that was
last used before some moment, then the least recently used until the rest fits. All of it is deleted
from the index in one transaction, which a dry run rolls back; files are deleted after that, so that
a session that reads meanwhile at worst measures again.
"""

import os
import secrets
import sqlite3
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pytest_datasize.store.index import NAME
from pytest_datasize.store.maintenance.folder import (
    files_of,
    maintained,
    opened,
    total_bytes,
    transaction,
)
from pytest_datasize.store.maintenance.rows_file import RowsFile
from pytest_datasize.store.maintenance.survey import TEMPORARY, garbage, survey
from pytest_datasize.store.shards import FOLDER, WEEK, shard_name

HISTORY = "run"
_DAY = 86400.0
_VALUES = {"files": "110", "trials": "length(value) + 120", "documents": "length(value) + 160"}
"""Table → bytes that an entry takes in the index, about; what costs most to make comes last."""
_ROW = 50  # bytes of the index, for the name of an embedding
_ROUNDS = 4  # until estimates of what the index takes are close enough


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
        Whether the rest is no larger than requested.
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


class _DryRunError(Exception):
    """Rolls a transaction back."""


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
        Bytes on disk that may be left: embeddings go first, then remembered files, finished trials
        and in the end evidence, each the least recently used first.
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
        run = _Prune(connection, folder, history)
        if max_size is not None and run.size() > max_size and not dry_run:
            compact(connection, always=True)  # half full pages count as well
            run.survey()
        for _ in range(_ROUNDS):
            with suppress(_DryRunError), transaction(connection):
                run.forget_missing()
                if older_than is not None:
                    run.forget_older(time.time() - older_than)
                run.rewrite_sparse(dry_run)
                trimmed = max_size is not None and run.trim(max_size)
                if dry_run:
                    raise _DryRunError
            if dry_run:
                break
            run.delete_files()
            run.pruned.compacted = compact(connection)
            run.survey()
            if not trimmed:
                break
        run.pruned.after = run.size() if dry_run else total_bytes(folder)
        run.pruned.fits = max_size is None or run.size() <= max_size
    return run.pruned


class _Prune:
    """One prune at work, inside a transaction."""

    def __init__(self, connection: sqlite3.Connection, folder: Path, history: bool) -> None:
        self._connection, self._folder = connection, folder
        self._where = dict.fromkeys(_VALUES, "1")
        if not history:
            self._where["documents"] = f"kind != '{HISTORY}'"
        self._garbage: set[Path] = set()
        self.pruned = Pruned(before=total_bytes(folder))
        self.survey()

    def survey(self) -> None:
        """Inspect the files and their index entries."""
        survey(self._connection, self._folder)
        self._freed = 0  # bytes of the index, in a transaction that has not ended
        self._files = {
            self._folder / name: status.st_size
            for name, status in files_of(self._folder)
            if name not in (NAME, f"{NAME}-wal")
        }
        self._gone: list[Path] = []
        for path, size in garbage(self._connection, self._folder, time.time()):
            self._delete(path)
            if path not in self._garbage:
                self._garbage.add(path)
                self.pruned.garbage_bytes += size
        self.pruned.garbage_files = len(self._garbage)
        pages, free, page = (
            self._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        self._index = int((pages - free) * page)
        [(held,)] = self._connection.execute("SELECT sum(bytes) FROM temp.shards WHERE held")
        self.pruned.held = held or 0

    def size(self) -> int:
        """Return the bytes on disk once files are deleted and the index is compacted."""
        return sum(self._files.values()) + self._index - self._freed

    def forget_missing(self) -> None:
        """Delete the rows of files that are gone, and spaces without rows."""
        self._forget_shards("bytes IS NULL")
        self._connection.execute(
            "DELETE FROM spaces WHERE used < ? "  # a session may just fill a new one
            "AND NOT EXISTS (SELECT 1 FROM rows WHERE rows.space = spaces.id)",
            (time.time() - _DAY,),
        )

    def forget_older(self, moment: float) -> None:
        """Delete what was last used up to a moment."""
        self._forget_shards(f"NOT held AND used <= {moment!r}")
        for table in _VALUES:
            # the use of remembered files may have gone without a note for a week
            self._forget_values(table, moment - WEEK if table == "files" else moment)

    def trim(self, max_size: int) -> bool:
        """Delete the least recently used until the rest is about small enough; return if any."""
        before = excess = self.size() - max_size
        if excess > 0:
            moment = self._moment(
                f"SELECT used, bytes + {_ROW} * live FROM temp.shards "  # noqa: S608
                "WHERE NOT held AND bytes IS NOT NULL AND live > 0",
                excess,
            )
            self._forget_shards(f"NOT held AND used <= {moment!r}")
        for table, cost in _VALUES.items():
            excess = self.size() - max_size
            if excess > 0:
                where = self._where[table]
                query = f"SELECT used, {cost} FROM {table} WHERE {where}"  # noqa: S608
                self._forget_values(table, self._moment(query, excess))
        return self.size() - max_size < before

    def _moment(self, query: str, excess: int) -> float:
        """Return the moment up to which things were used that take so many bytes."""
        moment = -1.0
        for used, size in self._connection.execute(f"{query} ORDER BY used"):
            moment, excess = used, excess - size
            if excess <= 0:
                break
        return moment

    def _forget_values(self, table: str, moment: float) -> None:
        where = f"FROM {table} WHERE {self._where[table]} AND used <= ?"
        cost = f"SELECT sum({_VALUES[table]}) {where}"
        self._freed += self._connection.execute(cost, (moment,)).fetchone()[0] or 0
        if table == "documents":
            query = f"SELECT kind, count(*) {where} GROUP BY kind"
            for kind, number in self._connection.execute(query, (moment,)).fetchall():
                self.pruned.documents[kind] = self.pruned.documents.get(kind, 0) + number
            self._connection.execute(f"DELETE {where}", (moment,))
            return
        number = self._connection.execute(f"DELETE {where}", (moment,)).rowcount
        setattr(self.pruned, table, getattr(self.pruned, table) + number)

    def _forget_shards(self, where: str) -> None:
        """Delete the rows of some files from the index, and the files later."""
        chosen = f"FROM temp.shards WHERE live > 0 AND {where}"
        forgotten = self._connection.execute(
            f"DELETE FROM rows WHERE shard IN (SELECT shard {chosen})"  # noqa: S608
        )
        self.pruned.rows += forgotten.rowcount
        self._freed += _ROW * forgotten.rowcount
        for (shard,) in self._connection.execute(f"SELECT shard {chosen}"):
            self._delete(self._path(shard))
        self._connection.execute(f"DELETE {chosen}")

    def rewrite_sparse(self, dry_run: bool) -> None:
        """Copy the live rows of files that are mostly dead to new files."""
        sparse = self._connection.execute(
            "SELECT shard, space, width, live, used FROM temp.shards "
            "WHERE live > 0 AND NOT held AND 4 * live * width < bytes"
        ).fetchall()
        for shard, space, width, live, used in sparse:
            if dry_run:
                self._files[self._path(shard)] = 2 * width * live
                continue
            new = self._rewrite(shard, space, width)
            os.utime(self._path(new), (used, used))
            self._files[self._path(new)] = size = self._path(new).stat().st_size
            self._connection.execute(
                "UPDATE temp.shards SET shard = ?, bytes = ? WHERE shard = ?", (new, size, shard)
            )
            self._delete(self._path(shard))

    def _rewrite(self, shard: int, space: int, width: int) -> int:
        """Write the intact rows of a file to a new one; return its number."""
        new = secrets.randbits(62)
        half = self._path(new).with_suffix(TEMPORARY)
        moved: list[tuple[int, int, int, bytes]] = []
        with RowsFile(self._path(shard), width) as rows, half.open("xb") as stream:
            for content, row, checksum in self._connection.execute(
                "SELECT content, row, checksum FROM rows WHERE space = ? AND shard = ? "
                "ORDER BY row",
                (space, shard),
            ):
                if data := rows.read(row, checksum):
                    stream.write(data)
                    moved.append((new, len(moved), space, content))
            stream.flush()
            os.fsync(stream.fileno())
        half.replace(self._path(new))
        self._connection.executemany(
            "UPDATE rows SET shard = ?, row = ? WHERE space = ? AND content = ?", moved
        )
        self._connection.execute("DELETE FROM rows WHERE space = ? AND shard = ?", (space, shard))
        return new

    def delete_files(self) -> None:
        """Delete the files that the index no longer names."""
        for path in self._gone:
            with suppress(FileNotFoundError, PermissionError):  # Windows: a session reads it
                path.unlink()

    def _delete(self, path: Path) -> None:
        self._files.pop(path, None)
        self._gone.append(path)

    def _path(self, shard: int) -> Path:
        return self._folder / FOLDER / shard_name(shard)


def compact(connection: sqlite3.Connection, *, always: bool = False) -> bool:
    """Give free space of the index back to the disk; return whether it could be done now.

    Parameters
    ----------
    connection
        The index.
    always
        Also where no page is free: pages that are half full become fewer.
    """
    try:
        if always or connection.execute("PRAGMA freelist_count").fetchone()[0]:
            connection.execute("VACUUM")
        [(busy, _, _)] = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.OperationalError:  # a session writes for long, or there is no space for a copy
        return False
    return not busy
