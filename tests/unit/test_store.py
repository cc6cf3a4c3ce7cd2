"""The store: what goes in comes out, and what a disk does costs recomputation and nothing else."""

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from support import shapes, write_folder

from pytest_datasize import DatasizeWarning, Study
from pytest_datasize.store import Store, key_of
from pytest_datasize.store.index import NAME


def rows(n: int, seed: int = 0):
    half = np.random.default_rng(seed).standard_normal((n, 7)).astype(np.float16)
    return [key_of([seed, k]) for k in range(n)], half


def filled(folder: Path, n: int = 20) -> None:
    names, half = rows(n)
    with Store(folder) as store:
        store.put("evidence", "key", {"score": 0.1 + 0.2}, "family")
        store.remember({"a.png|1|2|3": names[0]})
        store.set_width("space", 7)
        store.rows("space").add(names, half)
        store.put_trial("plan", 10, 3, b"outcome")


def test_another_session_finds_everything(tmp_path):
    filled(tmp_path)
    names, half = rows(20)
    with Store(tmp_path) as store:
        assert store.get("evidence", "key") == {"score": 0.1 + 0.2}
        assert store.get("verdict", "key") is None
        assert store.has_family("evidence", "family")
        assert not store.has_family("evidence", "other")
        assert store.contents(["a.png|1|2|3", "a.png|1|9|3"]) == {"a.png|1|2|3": names[0]}
        assert store.trials("plan") == {(10, 3): b"outcome"}
        out = np.zeros((23, 7), dtype=np.float16)
        unknown, _ = rows(2, seed=1)
        known = store.rows("space").fetch([*names, unknown[0], names[3], unknown[1]], out)
        assert known.tolist() == [True] * 20 + [False, True, False]
        assert (out[:20] == half).all()
        assert (out[21] == half[3]).all()


def test_refresh_knows_nothing_of_before_and_all_of_its_own(tmp_path):
    filled(tmp_path)
    names, half = rows(20)
    with Store(tmp_path, refresh=True) as store:
        out = np.zeros((20, 7), dtype=np.float16)
        assert store.get("evidence", "key") is None
        assert store.contents(["a.png|1|2|3"]) == {}
        assert store.trials("plan") == {}
        assert not store.rows("space").fetch(names, out).any()
        store.rows("space").add(names[:2], half[:2] + 1)
        assert store.rows("space").fetch(names, out).sum() == 2
        assert (out[0] == half[0] + 1).all()
    with Store(tmp_path, verify=True) as store:
        assert store.contents(["a.png|1|2|3"]) == {}
        assert store.get("evidence", "key") is not None


def test_without_a_folder_everything_is_kept_for_the_session():
    names, half = rows(5)
    with Store() as store:
        store.set_width("space", 7)
        store.rows("space").add(names, half)
        out = np.zeros((5, 7), dtype=np.float16)
        assert store.rows("space").fetch(names, out).all()
        assert (out == half).all()


def test_damaged_rows_are_unknown_and_told(tmp_path):
    filled(tmp_path)
    [shard] = (tmp_path / "embeddings").iterdir()
    content = bytearray(shard.read_bytes())
    content[5 * 14 + 3] ^= 1  # one bit of row 5
    shard.write_bytes(content[: 18 * 14 + 5])  # and the end is gone
    names, half = rows(20)
    with Store(tmp_path) as store:
        out = np.zeros((20, 7), dtype=np.float16)
        with pytest.warns(DatasizeWarning, match="3 stored embeddings are damaged or gone"):
            known = store.rows("space").fetch(names, out)
        assert np.flatnonzero(~known).tolist() == [5, 18, 19]
        store.rows("space").add([names[5]], half[5:6])
    with Store(tmp_path) as store:
        assert store.rows("space").fetch(names, out).sum() == 18
        assert (out[5] == half[5]).all()


@pytest.mark.parametrize("damage", ["other", "not text", None])
def test_a_damaged_content_hash_is_read_again(tmp_path, damage):
    """One flipped bit may not make a file look changed for ever."""
    with Store(tmp_path) as store:
        store.remember({"one": "aaaa", "two": "bbbb"})
    with sqlite3.connect(tmp_path / NAME) as index:
        if damage == "other":
            index.execute("UPDATE files SET content = replace(content, 'aaaa', 'aaab')")
        elif damage == "not text":
            index.execute("UPDATE files SET content = x'00ff' WHERE content LIKE 'aaaa%'")
    with Store(tmp_path) as store:
        found = store.contents(["one", "two"])
        whole = {"one": "aaaa", "two": "bbbb"}
        assert found == (whole if damage is None else {"two": "bbbb"})
        store.remember({"one": "aaaa"})
        assert store.contents(["one"]) == {"one": "aaaa"}


@pytest.mark.parametrize("damage", ["text", "empty pages", "a folder"])
def test_a_damaged_index_is_set_aside_and_told(tmp_path, damage):
    filled(tmp_path)
    index = tmp_path / "store-1.sqlite"
    for rest in tmp_path.glob("store-1.sqlite-*"):
        rest.unlink()
    if damage == "text":
        index.write_text("not a database, though long enough to look at " * 100)
    elif damage == "empty pages":
        size = index.stat().st_size
        index.write_bytes(index.read_bytes()[:100] + bytes(size - 100))
    else:
        index.unlink()
        index.mkdir()
    with pytest.warns(DatasizeWarning, match="is damaged|cannot open"):
        store = Store(tmp_path)
    with store:
        assert store.get("evidence", "key") is None
        store.put("evidence", "key", 1)
        assert store.get("evidence", "key") == 1
    if damage != "a folder":
        assert list(tmp_path.glob("*.damaged-*"))
        with Store(tmp_path) as store:
            assert store.get("evidence", "key") == 1


def test_a_damaged_document_is_unknown(tmp_path):
    filled(tmp_path)
    with sqlite3.connect(tmp_path / "store-1.sqlite") as connection:
        connection.execute("UPDATE documents SET value = zeroblob(40)")
        connection.execute("UPDATE trials SET value = zeroblob(40)")
    connection.close()
    with Store(tmp_path) as store:
        assert store.get("evidence", "key") is None
        assert store.trials("plan") == {}


def test_a_folder_that_cannot_be_made_is_a_warning(tmp_path):
    (tmp_path / "file").write_text("in the way")
    names, half = rows(3)
    with pytest.warns(DatasizeWarning, match="cannot open it"):
        store = Store(tmp_path / "file" / "store")
    with store, store.claim("work", "works"):
        store.put("evidence", "key", 1)
        store.set_width("space", 7)
        with pytest.warns(DatasizeWarning, match="cannot write embeddings"):
            store.rows("space").add(names, half)
        out = np.zeros((3, 7), dtype=np.float16)
        assert store.rows("space").fetch(names, out).all()
        assert store.get("evidence", "key") == 1


def test_a_full_disk_costs_a_warning_and_no_result(tmp_path):
    """Files may not grow beyond 200 kB, which is what a full disk does to them."""
    images, labels = shapes(300)
    backbone = torch.nn.Sequential(torch.nn.AvgPool2d(2), torch.nn.Flatten())
    options = {"backbone": backbone, "image_size": 24, "repeats": 4}
    plain = Study((images, labels), **options).run()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Store(tmp_path) as store:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
        try:
            with pytest.warns(DatasizeWarning, match="cannot write"):
                result = Study((images, labels), **options, store=store).run()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert result.scores == plain.scores
    with Store(tmp_path) as store:  # what fitted on the disk is good
        assert Study((images, labels), **options, store=store).run().scores == plain.scores


class Counting(torch.nn.Module):
    """A backbone that counts the images it sees; its count is no part of its state."""

    seen = 0

    def forward(self, pixels):
        Counting.seen += len(pixels)
        return torch.nn.functional.avg_pool2d(pixels, (24, 6)).flatten(1)


def study(folder: Path, store: Store) -> tuple[Study, int]:
    """Run a study and count the images that went through the backbone, the check's left out."""
    made = Study(str(folder), backbone=Counting(), image_size=24, repeats=4, store=store)
    Counting.seen = 0
    made.run()
    return made, Counting.seen


def test_an_unchanged_study_runs_nothing_and_is_the_same(tmp_path, shape_folder):
    with Store(tmp_path) as store:
        made, seen = study(shape_folder, store)
        assert seen >= 120
        first = made.run()
    with Store(tmp_path) as store:
        made, seen = study(shape_folder, store)
        assert seen <= 2  # the look at what the module does
        again = made.run()
    for name in ("scores", "available", "sizes", "notes", "timings", "class_counts"):
        assert getattr(again, name) == getattr(first, name)
    assert again.verdict(accuracy=0.6) == first.verdict(accuracy=0.6)
    assert again.verdict(recall_per_class=0.6) == first.verdict(recall_per_class=0.6)


def test_a_grown_study_embeds_what_is_new_and_forgets_what_is_gone(tmp_path):
    images, labels = shapes(130)
    folder = write_folder(tmp_path / "data", images[:120], labels[:120])
    with Store(tmp_path / "store") as store:
        study(folder, store)
        write_folder(folder, images, labels)  # rewrites all: only the contents are the same
        (folder / "left" / "0000.png").unlink()
        made, seen = study(folder, store)
        assert seen <= 12 + 16  # the checks, then 10 new images in batches of 8
        grown = made.run()
        assert grown.total == 129
    fresh = Study(str(folder), backbone=Counting(), image_size=24, repeats=4).run()
    assert grown.scores == fresh.scores


def test_a_renamed_folder_is_the_same_evidence(tmp_path, shape_folder):
    images, labels = shapes(120)
    flipped = write_folder(tmp_path / "x", images[::-1], labels[::-1])
    with Store(tmp_path / "store") as store:
        first, _ = study(shape_folder, store)
        other, seen = study(flipped, store)
        assert seen <= 2
        assert first.fingerprint() == other.fingerprint()


def test_an_image_changed_in_place_is_noticed(tmp_path):
    images, labels = shapes(60)
    folder = write_folder(tmp_path / "data", images, labels)
    with Store(tmp_path / "store") as store:
        before = study(folder, store)[0].fingerprint()
        write_folder(folder, images[:1][:, ::-1] // 2, labels[:1])
        assert study(folder, store)[0].fingerprint() != before


KILLED = """
import sys
sys.path[:0] = [sys.argv[3], sys.argv[3] + "/.."]
from test_store import Counting
import time, torch
from pytest_datasize import Study
from pytest_datasize.store import Store
class Slow(Counting):
    def forward(self, pixels):
        time.sleep(0.02)
        return super().forward(pixels)
print("ready", flush=True)
Study(sys.argv[1], backbone=Slow(), image_size=24, repeats=4, store=Store(Path(sys.argv[2]))).run()
"""


def test_killed_in_the_middle_nothing_finished_is_lost(tmp_path):
    images, labels = shapes(400)
    folder = write_folder(tmp_path / "data", images, labels)
    script = tmp_path / "killed.py"
    script.write_text("from pathlib import Path" + KILLED)
    kept = []
    for moment in (0.3, 0.5):
        process = subprocess.Popen(
            [sys.executable, script, folder, tmp_path / "store", Path(__file__).parent],
            stdout=subprocess.PIPE,
        )
        process.stdout.readline()
        deadline = time.time() + 60
        while not list((tmp_path / "store").glob("embeddings/*")) and time.time() < deadline:
            time.sleep(0.01)
        time.sleep(moment)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        with sqlite3.connect(tmp_path / "store" / "store-1.sqlite") as connection:
            kept.append(connection.execute("SELECT count(*) FROM rows").fetchone()[0])
        connection.close()
    assert 0 < kept[0] <= kept[1]
    with Store(tmp_path / "store") as store:
        made = Study(str(folder), backbone=Counting(), image_size=24, repeats=4, store=store).run()
    fresh = Study(str(folder), backbone=Counting(), image_size=24, repeats=4).run()
    assert made.scores == fresh.scores


def test_long_heads_go_on_after_an_interruption(tmp_path, monkeypatch):
    """What was fitted before the interruption is in the store, and is not fitted again."""
    monkeypatch.setattr("pytest_datasize.study.prepare._LONG_HEADS", 100)
    backbone = torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.Flatten())
    images = shapes(90, seed=5)
    seen: list[tuple[int, int]] = []

    def study(**more):
        return Study(
            images,
            backbone=backbone,
            image_size=24,
            device="cpu",
            store=store,
            sizes=[10, 30, 60],
            repeats=3,
            **more,
        )

    def stop(size, repeat, outcome):
        seen.append((size, repeat))
        if len(seen) == 4:
            raise KeyboardInterrupt

    with Store(tmp_path) as store, pytest.raises(KeyboardInterrupt):
        study(on_trial=stop).run()
    trained = []
    with Store(tmp_path) as store:
        after = study(on_trial=lambda size, repeat, _: trained.append((size, repeat))).run()
        assert len(trained) == 9 - len(seen)
        assert not set(trained) & set(seen)
    with Store() as store:
        assert study().run().scores == after.scores


OPEN_AT_ONCE = """
import sys, time, warnings
from pathlib import Path
from pytest_datasize.store import Store
warnings.simplefilter("error")
while time.time() < float(sys.argv[2]): pass
for k in range(30):
    with Store(Path(sys.argv[1] + str(k))) as store:
        store.put("evidence", "key", 1, "family")
"""


def test_many_processes_may_create_a_store_at_once(tmp_path):
    """None of them meets a locked file: SQLite's own timeout does not cover the journal's mode."""
    start = str(time.time() + 1.5)
    command = [sys.executable, "-c", OPEN_AT_ONCE, str(tmp_path / "s"), start]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate()[1] for process in running] == [""] * 4
