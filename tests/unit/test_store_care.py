"""Looking after stores: merged, pruned, verified and described, whatever happens meanwhile."""

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
import zlib
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from pytest_datasize import DatasizeWarning
from pytest_datasize.errors import StoreError
from pytest_datasize.store import Store, key_of
from pytest_datasize.store.maintenance.describe import describe
from pytest_datasize.store.maintenance.merge import merge
from pytest_datasize.store.maintenance.prune import prune
from pytest_datasize.store.maintenance.verify import verify
from pytest_datasize.store.shards import WEEK

DAY = 86400
WIDTH = 7


def rows(n: int, seed: int = 0):
    half = np.random.default_rng(seed).standard_normal((n, WIDTH)).astype(np.float16)
    return [key_of([seed, k]) for k in range(n)], half


def fill(folder: Path, seed: int, n: int = 20, space: str = "space") -> Path:
    """Make a store, or add to it, as a session does."""
    names, half = rows(n, seed)
    with Store(folder) as store:
        store.put("evidence", f"key {seed}", {"score": seed}, "family")
        store.put("weights", "key", {"file": f"{seed}.pth"})
        store.put("run", f"2026 {seed}", {"records": []})
        store.remember({f"{seed}.png|1|2|3": names[0]})
        store.set_width(space, WIDTH)
        store.rows(space).add(names, half)
        store.put_trial(f"plan {seed}", 10, 3, b"outcome" * seed)
    return folder


def known(folder: Path, seed: int, n: int = 20, space: str = "space") -> int:
    """Count the embeddings of a seed that a session finds, and compare them."""
    names, half = rows(n, seed)
    with Store(folder) as store:
        found = store.rows(space)
        if found.width is None:
            return 0
        out = np.zeros((n, WIDTH), dtype=np.float16)
        there = found.fetch(names, out)
    assert (out[there] == half[there]).all()
    return int(there.sum())


def shards(folder: Path) -> list[Path]:
    return sorted((folder / "embeddings").glob("*.f16"))


def ask(folder: Path, query: str, *values) -> list[tuple]:
    with closing(sqlite3.connect(folder / "store-1.sqlite", isolation_level=None)) as connection:
        return connection.execute(query, values).fetchall()


def all_of(folder: Path) -> list[list[tuple]]:
    tables = ("files", "spaces", "rows", "documents", "trials")
    found = [ask(folder, f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables]
    return [*found, [(path.name, path.read_bytes()) for path in shards(folder)]]


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


# -- merge ---------------------------------------------------------------------------------------


def test_a_merge_takes_everything_once(tmp_path):
    one, other = fill(tmp_path / "one", 1), fill(tmp_path / "other", 2)
    fill(other, 1, n=25)  # 20 of these are known
    before = all_of(other)
    found = merge(one, other)
    assert (found.documents, found.rows, found.trials) == ({"evidence": 1, "run": 1}, 25, 1)
    assert all_of(other) == before
    merged = all_of(one)
    again = merge(one, other)
    assert (again.documents, again.rows, again.trials, again.damaged) == ({}, 0, 0, 0)
    assert all_of(one) == merged
    assert (known(one, 1, 25), known(one, 2)) == (25, 20)
    # files are copied whole: of the 25 rows of one of them 20 were known
    assert sum(path.stat().st_size for path in shards(one)) == 65 * WIDTH * 2
    with Store(one) as store:
        assert store.get("evidence", "key 2") == {"score": 2}
        assert store.trials("plan 2") == {(10, 3): b"outcomeoutcome"}


def test_where_files_lie_is_taken_only_on_the_same_machine(tmp_path):
    source = fill(tmp_path / "source", 1)
    merge(tmp_path / "abroad", source)
    merge(tmp_path / "here", source, files=True)
    stamp = ["1.png|1|2|3"]
    with Store(tmp_path / "abroad") as abroad, Store(tmp_path / "here") as here:
        assert abroad.contents(stamp) == {}
        assert abroad.get("weights", "key") is None
        assert list(here.contents(stamp)) == stamp
        assert here.get("weights", "key") == {"file": "1.pth"}


def test_where_both_have_a_value_the_good_one_stays(tmp_path):
    one, other = fill(tmp_path / "one", 1), fill(tmp_path / "other", 1)
    with Store(other) as store:
        store.put("evidence", "key 1", {"score": "other"})
    merge(one, other)
    with Store(one) as store:
        assert store.get("evidence", "key 1") == {"score": 1}
    ask(one, "UPDATE documents SET value = zeroblob(9) WHERE kind = 'evidence'")
    assert merge(one, other).documents == {"evidence": 1}
    with Store(one) as store:
        assert store.get("evidence", "key 1") == {"score": "other"}


def test_what_is_damaged_in_the_source_is_left_there(tmp_path):
    source = fill(tmp_path / "source", 1)
    flip(shards(source)[0], 5 * 2 * WIDTH)
    ask(source, "UPDATE trials SET value = zeroblob(9)")
    found = merge(tmp_path / "target", source)
    assert (found.rows, found.trials, found.damaged) == (19, 0, 2)
    assert verify(tmp_path / "target").good


def test_rows_whose_file_the_target_lost_are_taken_again(tmp_path):
    one, other = fill(tmp_path / "one", 1), fill(tmp_path / "other", 1)
    shards(one)[0].unlink()
    assert merge(one, other).rows == 20
    assert known(one, 1) == 20


def test_a_file_keeps_the_time_of_its_use(tmp_path):
    source = fill(tmp_path / "source", 1)
    os.utime(shards(source)[0], (1e9, 1e9))
    merge(tmp_path / "target", source)
    assert [path.stat().st_mtime for path in shards(tmp_path / "target")] == [1e9]


def test_a_file_that_a_session_still_wrote_to_is_copied_again(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    names, half = rows(20, 1)
    with Store(source) as store:
        store.set_width("space", WIDTH)
        for part in (slice(0, 5), slice(5, 20)):
            store.rows("space").add(names[part], half[part])
            found = merge(target, source)
            assert (found.rows, found.damaged) == (part.stop - part.start, 0)
    assert known(target, 1) == 20
    assert len(shards(target)) == 1


@pytest.mark.parametrize(
    ("target", "source", "says"),
    [
        ("good", "good", "named twice"),
        ("good", "link", "named twice"),
        ("good", "missing", "no such folder"),
        ("good", "empty", "not a store"),
        ("photos", "good", "not a store"),
        ("file", "good", "a file"),
        ("good", "newer", r"another version of pytest-datasize \(store-2.sqlite"),
        ("newer", "good", "another version"),
        ("good", "damaged", "damaged: its index .* is damaged"),
        ("damaged", "good", "damaged: its index .* is damaged"),
        ("good", "torn", "torn: its index .* is damaged"),
    ],
)
def test_what_cannot_be_merged_is_refused_and_untouched(tmp_path, target, source, says):
    fill(tmp_path / "good", 1)
    (tmp_path / "link").symlink_to(tmp_path / "good")
    for name in ("empty", "photos", "newer", "damaged"):
        (tmp_path / name).mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"photo")
    (tmp_path / "file").write_text("file")
    (tmp_path / "newer" / "store-2.sqlite").write_bytes(b"newer")
    (tmp_path / "damaged" / "store-1.sqlite").write_text("not a database, long enough " * 100)
    index = fill(tmp_path / "torn", 2) / "store-1.sqlite"
    content = index.read_bytes()
    index.write_bytes(content[:4096] + b"\xff" * 3000 + content[7096:])
    before = all_of(tmp_path / "good")
    with pytest.raises(StoreError, match=says):
        merge(tmp_path / target, tmp_path / source)
    assert all_of(tmp_path / "good") == before
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.png"]


def test_a_full_disk_stops_a_merge_that_goes_on_later(tmp_path):
    source, target = fill(tmp_path / "source", 1, n=20_000), fill(tmp_path / "target", 2)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, before[1]))
    try:
        with pytest.raises(StoreError, match=r"no space to write.*run the same command again"):
            merge(target, source)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert verify(target).good
    merge(target, source)
    assert known(target, 1, 20_000) == 20_000
    assert not list(target.glob("embeddings/*.tmp"))


MERGE = """
import sys
from pathlib import Path
from pytest_datasize.store.maintenance.merge import merge
print("ready", flush=True)
merge(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_killed_at_any_moment_a_merge_is_finished_by_the_next(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    names, half = rows(20_000, 1)
    for k in range(0, 20_000, 200):  # a file for each session
        with Store(source) as store:
            store.set_width("space", WIDTH)
            store.rows("space").add(names[k : k + 200], half[k : k + 200])
    counts = []
    for after in (1, 12, 40):  # files that are there when it is killed
        process = subprocess.Popen(
            [sys.executable, "-c", MERGE, target, source], stdout=subprocess.PIPE
        )
        process.stdout.readline()
        while process.poll() is None and len(shards(target)) < after:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        counts.append(ask(target, "SELECT count(*) FROM rows")[0][0])
        assert verify(target).good
    assert counts == sorted(counts)
    assert 0 < counts[-1] < 20_000
    merge(target, source)
    assert known(target, 1, 20_000) == 20_000
    assert not list(target.glob("embeddings/*.tmp"))
    assert len(shards(target)) == 100


WRITER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_store_care import WIDTH, rows
from pytest_datasize.store import Store
names, half = rows(2000, int(sys.argv[3]))
with Store(Path(sys.argv[1])) as store:
    store.set_width("space", WIDTH)
    for k in range(0, 2000, 10):
        store.rows("space").add(names[k:k + 10], half[k:k + 10])
        if k == 0:
            print("ready", flush=True)
        time.sleep(0.002)
    sys.stdin.readline()
"""


def writer(folder: Path, seed: int) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", WRITER, folder, Path(__file__).parent, str(seed)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    process.stdout.readline()
    return process


def test_sessions_write_to_both_stores_while_they_are_merged_and_pruned(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    running = [writer(one, 1), writer(other, 2)]
    taken = []
    written = 0
    while written < 2000:
        taken.append(merge(one, other).rows)
        prune(one, older_than=0, max_size=1)  # what is being written stays
        prune(other, older_than=0)
        assert not verify(other).damaged
        [(written,)] = ask(other, "SELECT count(*) FROM rows")
    assert taken[0] > 0
    for process in running:
        process.communicate(b"\n")
        assert process.returncode == 0
    merge(one, other)
    assert (known(one, 1, 2000), known(one, 2, 2000)) == (2000, 2000)
    prune(one, older_than=0)
    assert (known(one, 1, 2000), shards(one)) == (0, [])


# -- prune ---------------------------------------------------------------------------------------


def aged(folder: Path, days: float, *seeds: int) -> None:
    """Let what sessions of these seeds left be used so long ago."""
    when = time.time() - days * DAY
    for seed in seeds:
        ask(folder, "UPDATE documents SET used = ? WHERE key LIKE ?", when, f"%{seed}")
        ask(folder, "UPDATE trials SET used = ? WHERE key LIKE ?", when, f"%{seed}")
        names, _ = rows(1, seed)
        ask(folder, "UPDATE files SET used = ? WHERE content LIKE ?", when, names[0] + "%")
        [(shard,)] = ask(
            folder, "SELECT shard FROM rows WHERE content = ?", bytes.fromhex(names[0])
        )
        os.utime(folder / "embeddings" / f"{shard:016x}.f16", (when, when))


def test_what_was_not_used_for_long_goes(tmp_path):
    for seed in (1, 2, 3):
        fill(tmp_path, seed)
    aged(tmp_path, 100, 1)
    aged(tmp_path, 89, 2)
    planned = prune(tmp_path, older_than=90 * DAY, dry_run=True)
    assert (known(tmp_path, 2), len(shards(tmp_path))) == (20, 3)
    found = prune(tmp_path, older_than=90 * DAY)
    for one in (planned, found):
        assert (one.documents, one.trials, one.files, one.rows) == ({"evidence": 1}, 1, 1, 20)
    assert [known(tmp_path, seed) for seed in (1, 2, 3)] == [0, 20, 20]
    assert len(shards(tmp_path)) == 2
    with Store(tmp_path) as store:
        assert store.get("evidence", "key 1") is None
        assert store.get("evidence", "key 2") == {"score": 2}
        assert len(store.all("run")) == 3
    assert prune(tmp_path, older_than=90 * DAY).documents == {}
    prune(tmp_path, older_than=90 * DAY, history=True)
    with Store(tmp_path) as store:
        assert len(store.all("run")) == 2


def test_a_use_is_noted_and_keeps(tmp_path):
    for seed in (1, 2):
        fill(tmp_path, seed)
    aged(tmp_path, 100, 1, 2)
    with Store(tmp_path) as store:
        store.get("evidence", "key 1")
        store.trials("plan 1")
        store.contents(["1.png|1|2|3"])
    assert known(tmp_path, 1) == 20
    found = prune(tmp_path, older_than=90 * DAY)
    assert (found.documents, found.trials, found.files, found.rows) == ({"evidence": 1}, 1, 1, 20)
    assert (known(tmp_path, 1), known(tmp_path, 2)) == (20, 0)


def test_a_use_that_was_just_noted_writes_nothing(tmp_path):
    fill(tmp_path, 1)
    with closing(sqlite3.connect(tmp_path / "store-1.sqlite")) as connection:
        before = connection.execute("PRAGMA data_version").fetchone()
        with Store(tmp_path) as store:
            store.get("evidence", "key 1")
            store.use("evidence", "key 1")
            store.trials("plan 1")
            store.contents(["1.png|1|2|3"])
            store.rows("space")
        assert connection.execute("PRAGMA data_version").fetchone() == before


def test_remembered_files_stay_a_week_longer_since_their_use_is_noted_weekly(tmp_path):
    fill(tmp_path, 1)
    aged(tmp_path, 92, 1)
    assert prune(tmp_path, older_than=90 * DAY).files == 0
    aged_again = time.time() - 90 * DAY - WEEK - 60
    ask(tmp_path, "UPDATE files SET used = ?", aged_again)
    assert prune(tmp_path, older_than=90 * DAY).files == 1


def test_the_least_recently_used_make_room(tmp_path):
    for seed in (1, 2, 3):
        fill(tmp_path, seed, n=10_000)
    aged(tmp_path, 20, 2)
    aged(tmp_path, 10, 1)
    ask(tmp_path, "VACUUM")
    whole = prune(tmp_path).after
    one = 10_000 * (2 * WIDTH + 50)
    asked = whole - one - one // 2  # a file goes as a whole
    planned = prune(tmp_path, max_size=asked, dry_run=True)
    found = prune(tmp_path, max_size=asked)
    assert found.fits
    assert planned.rows == found.rows == 20_000
    assert planned.after == pytest.approx(found.after, rel=0.2)
    assert found.after <= asked
    assert [known(tmp_path, seed, 10_000) for seed in (1, 2, 3)] == [0, 0, 10_000]
    assert found.documents == {}  # evidence is small, and costs most to make again
    assert verify(tmp_path).good


def test_of_the_same_day_evidence_goes_last_and_history_never(tmp_path):
    fill(tmp_path, 1, n=10_000)
    found = prune(tmp_path, max_size=100_000)
    assert (found.rows > 0, found.documents, found.fits) == (True, {}, True)
    found = prune(tmp_path, max_size=1)
    assert not found.fits
    with Store(tmp_path) as store:
        assert store.get("evidence", "key 1") is None
        assert len(store.all("run")) == 1


def test_garbage_goes_and_what_could_be_needed_stays(tmp_path):
    fill(tmp_path, 1)
    folder = tmp_path / "embeddings"
    old = time.time() - 3600
    for name in ("0000000000000001.f16", "0123.tmp", "notes.txt", "0000000000000002.f16"):
        (folder / name).write_bytes(bytes(140))
        os.utime(folder / name, (old, old))
    (folder / "0000000000000003.f16").write_bytes(bytes(140))  # its session may be naming it
    (tmp_path / "store-1.sqlite.damaged-1").write_bytes(bytes(1000))
    held = (folder / "0000000000000002.f16").open("ab")
    import fcntl

    fcntl.flock(held, fcntl.LOCK_EX)
    (tmp_path / "store-2.sqlite").write_bytes(b"another version, whose files these may be")
    assert prune(tmp_path, dry_run=True).garbage_bytes == 1140
    (tmp_path / "store-2.sqlite").unlink()
    found = prune(tmp_path)
    assert (found.garbage_files, found.garbage_bytes) == (3, 1280)
    left = {path.name for path in folder.iterdir()} - {path.name for path in shards(tmp_path)}
    assert left == {"notes.txt"}
    assert len(shards(tmp_path)) == 3
    held.close()
    assert known(tmp_path, 1) == 20


def test_mostly_dead_files_are_written_anew_and_lost_rows_forgotten(tmp_path):
    for seed in (1, 2, 3):
        fill(tmp_path, seed)
    names, half = rows(20, 1)
    with Store(tmp_path, refresh=True) as store:
        store.rows("space").add(names[:15], half[:15])  # the old file holds 5 live rows
    [(lost,)] = ask(
        tmp_path, "SELECT shard FROM rows WHERE content = ?", bytes.fromhex(rows(1, 3)[0][0])
    )
    (tmp_path / "embeddings" / f"{lost:016x}.f16").unlink()
    assert describe(tmp_path)["garbage"]["dead_rows"] == 15
    assert describe(tmp_path)["garbage"]["missing_rows"] == 20
    prune(tmp_path)
    garbage = describe(tmp_path)["garbage"]
    assert (garbage["dead_rows"], garbage["missing_rows"]) == (0, 0)
    assert [known(tmp_path, seed) for seed in (1, 2, 3)] == [20, 20, 0]
    assert sum(path.stat().st_size for path in shards(tmp_path)) == 40 * 2 * WIDTH


# -- verify --------------------------------------------------------------------------------------


def test_damage_is_found_and_taken_out(tmp_path):
    for seed in (1, 2, 3):
        fill(tmp_path, seed)
    assert verify(tmp_path).good
    damaged, gone, short = shards(tmp_path)
    flip(damaged, 3 * 2 * WIDTH + 1)
    gone.unlink()
    short.write_bytes(short.read_bytes()[: 18 * 2 * WIDTH + 3])
    [(value,)] = ask(tmp_path, "SELECT value FROM documents WHERE key = 'key 2'")
    turned = bytes([value[0], value[1] ^ 1]) + value[2:]
    assert zlib.crc32(turned) != zlib.crc32(value)
    ask(tmp_path, "UPDATE documents SET value = ? WHERE key = 'key 2'", turned)
    ask(tmp_path, "UPDATE trials SET value = zeroblob(3) WHERE key = 'plan 3'")
    damage = {damaged.name: 1, gone.name: 20, short.name: 2, "evidence": 1, "trials": 1}
    found = verify(tmp_path)
    assert (found.damaged, found.missing, found.repaired) == (damage, [gone.name], False)
    assert (found.rows, found.documents, found.trials) == (60, 7, 3)
    assert verify(tmp_path, repair=True).damaged == damage
    assert verify(tmp_path).good
    assert sum(known(tmp_path, seed) for seed in (1, 2, 3)) == 37  # no warning of damage
    with Store(tmp_path) as store:
        assert store.get("evidence", "key 1") == {"score": 1}
        assert store.get("evidence", "key 2") is None


def test_a_damaged_index_is_set_aside_only_when_asked(tmp_path):
    fill(tmp_path, 1)
    index = tmp_path / "store-1.sqlite"
    content = index.read_bytes()
    index.write_bytes(content[:4096] + b"\xff" * 3000 + content[7096:])
    found = verify(tmp_path)
    assert found.index
    assert not found.repaired
    assert index.is_file()
    assert verify(tmp_path, repair=True).repaired
    assert not index.exists()
    with Store(tmp_path) as store:  # begins anew, without a warning
        store.put("evidence", "key", 1)
    assert verify(tmp_path).good
    assert describe(tmp_path)["garbage"]["files"] == 2  # the index set aside, the unnamed rows


# -- info ----------------------------------------------------------------------------------------


def test_what_a_store_holds(tmp_path):
    key = "resnet|abc|[('crop', 1)]|x86_64|bfloat16|Pillow=11.1 torch=2.6 timm=1.0 (2)"
    fill(tmp_path, 1, space=key)
    fill(tmp_path, 2, n=30, space=key)
    with Store(tmp_path) as store:
        store.put_trial("plan 2", 10, 4, b"x")
        store.rows(key).add(*rows(5, seed=9))
        found = describe(tmp_path)
    [space] = found["spaces"]
    assert space["key"] == key
    assert {name: space[name] for name in ("backbone", "machine", "precision", "torch")} == {
        "backbone": "resnet",
        "machine": "x86_64",
        "precision": "bfloat16",
        "torch": "2.6",
    }
    assert (space["rows"], space["width"], space["files"], space["bytes"]) == (55, 7, 3, 770)
    assert space["being_written"] == 1
    assert {one["kind"]: one["number"] for one in found["documents"]} == {
        "evidence": 2,
        "run": 2,
        "weights": 1,
    }
    assert [(one["key"], one["number"]) for one in found["trials"]] == [
        ("plan 1", 1),
        ("plan 2", 2),
    ]
    assert found["files"]["number"] == 2
    assert found["bytes"] >= found["index_bytes"] + 770
    assert found["oldest_use"] <= found["newest_use"]
    assert not any(found["garbage"].values())


def test_a_store_that_cannot_be_written_is_described_and_merged(tmp_path):
    source = fill(tmp_path / "source", 1)
    for path in (source / "embeddings", source):
        path.chmod(0o500)
    try:
        assert describe(source)["spaces"][0]["rows"] == 20
        assert merge(tmp_path / "target", source).rows == 20
    finally:
        source.chmod(0o700)
        (source / "embeddings").chmod(0o700)


def test_a_session_that_finds_rows_gone_says_so(tmp_path):
    fill(tmp_path, 1)
    shards(tmp_path)[0].unlink()
    with pytest.warns(DatasizeWarning, match="damaged or gone"):
        assert known(tmp_path, 1) == 0
