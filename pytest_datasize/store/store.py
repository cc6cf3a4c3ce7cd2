"""One folder a project: ``store-1.sqlite`` is the index, ``embeddings/`` holds the rows."""

import hashlib
import json
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_datasize.store.index import Index
from pytest_datasize.store.shards import FOLDER, HOUR, WEEK

if TYPE_CHECKING:
    from pytest_datasize.store.rows import Rows


DEFAULT_FOLDER = Path(".pytest_cache/d/datasize")
"""Where sessions keep their store, relative to pytest's root directory."""


def key_of(parts: Any) -> str:
    """Return the cache key of plain (JSON-able) data: 32 hexadecimal digits.

    Examples
    --------
    >>> key_of({"a": 1, "b": [2, None]}) == key_of({"b": (2, None), "a": 1})
    True
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


class Store:
    """Values by key, shared by processes and sessions.

    Parameters
    ----------
    folder
        Folder of the store, created if missing. None keeps everything in memory, for this
        session only.
    refresh
        Whether to ignore and replace the results of other sessions.
    verify
        Whether to ignore cached content hashes, so that all files are read again.

    Examples
    --------
    >>> with Store() as store:
    ...     store.put("evidence", "key", {"score": 0.9})
    ...     store.get("evidence", "key"), store.get("evidence", "another")
    ({'score': 0.9}, None)
    """

    def __init__(
        self, folder: Path | None = None, *, refresh: bool = False, verify: bool = False
    ) -> None:
        self.folder, self.refresh, self.verify = folder, refresh, verify
        self._index = Index(folder)
        self._own: set[tuple[str, ...]] = set()
        self._spaces: dict[str, Rows] = {}
        self._uses: dict[str, list[tuple[Any, ...]]] = {}

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; data kept in memory only is lost."""
        for rows in self._spaces.values():
            rows.close()
        self._spaces = {}
        for statement, uses in self._uses.items():
            self._index.note(statement, uses)
        self._uses = {}
        self._index.close()

    # -- documents: evidence, verdicts ---------------------------------------------------------

    def get(self, kind: str, key: str) -> Any:
        """Return the JSON value of a key, or None."""
        if self.refresh and (kind, key) not in self._own:
            return None
        found = self._index.read(
            "SELECT value, checksum, used FROM documents WHERE kind = ? AND key = ?", (kind, key)
        )
        for value, checksum, used in reversed(found):
            if zlib.crc32(value) == checksum:
                self._note("documents", "kind = ? AND key = ?", (kind, key), used)
                return json.loads(zlib.decompress(value))
        return None

    def all(self, kind: str) -> list[Any]:
        """Return the JSON values of a kind, in the order of their keys."""
        found = self._index.read(
            "SELECT value, checksum FROM documents WHERE kind = ? ORDER BY key", (kind,)
        )
        return [
            json.loads(zlib.decompress(v)) for v, checksum in found if zlib.crc32(v) == checksum
        ]

    def put(self, kind: str, key: str, value: Any, family: str = "") -> None:
        """Store a JSON value; ``family`` is the part of the key shared by related values."""
        packed = zlib.compress(json.dumps(value, separators=(",", ":")).encode())
        self._own.add((kind, key))
        self._index.write(
            "INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?, ?, ?)",
            [(kind, key, family, packed, zlib.crc32(packed), time.time())],
        )

    def has_family(self, kind: str, family: str) -> bool:
        """Return whether there is any value of a family."""
        query = "SELECT 1 FROM documents WHERE kind = ? AND family = ? LIMIT 1"
        return bool(self._index.read(query, (kind, family)))

    # -- files ---------------------------------------------------------------------------------

    def contents(self, stamps: Sequence[str]) -> dict[str, str]:
        """Return stamp → content hash of the files that were read before."""
        names = {_short(stamp): stamp for stamp in stamps}
        if self.refresh or self.verify:
            names = {short: stamp for short, stamp in names.items() if ("file", stamp) in self._own}
        found = self._index.read_many(
            "SELECT stamp, content, used FROM files WHERE stamp IN ({})", (), list(names)
        )
        long_ago = time.time() - WEEK
        for short in [stamp for stamp, _, used in found if used < long_ago]:
            self._note("files", "stamp = ?", (short,), long_ago)
        whole = ((stamp, *str(text).partition(":")) for stamp, text, _ in found)
        return {
            names[stamp]: content
            for stamp, content, _, check in whole
            if check == _check(stamp, content)
        }

    def remember(self, contents: Mapping[str, str]) -> None:
        """Store stamp → content hash."""
        now = time.time()
        self._own.update(("file", stamp) for stamp in contents)
        self._index.write(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?)",
            [
                (short, f"{content}:{_check(short, content)}", now)
                for short, content in ((_short(stamp), c) for stamp, c in contents.items())
            ],
        )

    # -- embeddings ----------------------------------------------------------------------------

    def rows(self, key: str) -> "Rows":
        """Return the embeddings made under one key."""
        if key not in self._spaces:
            from pytest_datasize.store.rows import Rows

            space = int(key_of(key)[:15], 16)
            folder = self.folder / FOLDER if self.folder else None
            self._spaces[key] = Rows(self._index, folder, space, None, self.refresh)
        rows = self._spaces[key]
        if rows.width is None:  # another process may have begun it since
            found = self._index.read("SELECT width, used FROM spaces WHERE id = ?", (rows.space,))
            if found:
                rows.width = int(found[-1][0])
                self._note("spaces", "id = ?", (rows.space,), found[-1][1])
        return rows

    def set_width(self, key: str, width: int) -> None:
        """Set the number of features of a key's rows, before the first is added."""
        rows = self.rows(key)
        rows.width = width
        self._index.write(
            "INSERT OR REPLACE INTO spaces VALUES (?, ?, ?, ?)",
            [(rows.space, key, width, time.time())],
        )

    # -- trials --------------------------------------------------------------------------------

    def trials(self, key: str) -> dict[tuple[int, int], bytes]:
        """Return (size, repeat) → value of the trials that were finished under a key."""
        if self.refresh and ("trials", key) not in self._own:
            return {}
        found = self._index.read(
            "SELECT size, repeat, value, checksum, used FROM trials WHERE key = ?", (key,)
        )
        if found:
            self._note("trials", "key = ?", (key,), min(used for *_, used in found))
        return {
            (size, repeat): zlib.decompress(value)
            for size, repeat, value, checksum, _ in found
            if zlib.crc32(value) == checksum
        }

    def put_trial(self, key: str, size: int, repeat: int, value: bytes) -> None:
        """Store the outcome of one trial."""
        packed = zlib.compress(value, 1)
        self._own.add(("trials", key))
        self._index.write(
            "INSERT OR REPLACE INTO trials VALUES (?, ?, ?, ?, ?, ?)",
            [(key, size, repeat, packed, zlib.crc32(packed), time.time())],
        )

    # -- when something was last used ----------------------------------------------------------

    def use(self, kind: str, key: str) -> None:
        """Update the last-used time of a value without reading it."""
        found = self._index.read(
            "SELECT used FROM documents WHERE kind = ? AND key = ?", (kind, key)
        )
        if found:
            self._note("documents", "kind = ? AND key = ?", (kind, key), found[-1][0])

    def _note(self, table: str, where: str, key: tuple[Any, ...], used: float) -> None:
        """Update the last-used time on close, at most hourly."""
        now = time.time()
        if self.folder is not None and now - used > HOUR:
            statement = f"UPDATE {table} SET used = ? WHERE {where}"  # noqa: S608 (words of ours)
            self._uses.setdefault(statement, []).append((now, *key))

    # -- several processes ---------------------------------------------------------------------

    @contextmanager
    def claim(
        self, key: str, work: str, on_wait: Callable[[str], None] = lambda text: None
    ) -> Iterator[str]:
        """Claim a piece of work: other processes that need it wait, then load the result.

        Without a shared folder, or with ``refresh``, nobody waits.

        Parameters
        ----------
        key
            Cache key of the work: everything that its result depends on.
        work, on_wait
            As in :func:`pytest_datasize.store.claims.claimed`.

        Yields
        ------
        str
            Message with the time waited and the holder; empty if this process did not wait.
        """
        if self.folder is None or self.refresh:
            yield ""
            return
        from pytest_datasize.store.claims import FOLDER as CLAIMS
        from pytest_datasize.store.claims import claimed

        with claimed(self.folder / CLAIMS / key_of(key), work, on_wait) as waited:
            yield waited


def _check(short: bytes, content: str) -> str:
    """Return a checksum of a row of `files`, so that damage is read again instead of believed."""
    return f"{zlib.crc32(short + content.encode('utf-8', 'surrogatepass')):08x}"


def _short(stamp: str) -> bytes:
    return hashlib.sha256(stamp.encode("utf-8", "surrogateescape")).digest()[:16]
