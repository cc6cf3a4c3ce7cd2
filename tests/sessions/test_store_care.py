"""Commands on the stores of real sessions, and the session after them."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest
from support import shapes, write_folder

from pytest_datasize.__main__ import main

GATE = """
from pytest_datasize import datasize

@datasize.requires(accuracy=0.6)
def test_enough(): ...
"""


@pytest.fixture
def halves(repository):
    """A repository with 120 images in ``whole``, and half of them in ``a`` and in ``b``."""
    images, labels = shapes(120)
    for name, part in (("a", slice(0, 60)), ("b", slice(60, 120)), ("whole", slice(0, 120))):
        write_folder(repository.path / name, images[part], labels[part])
    repository.makepyfile(GATE)
    return repository


def session(repository, data: str, store: str, *arguments):
    file = repository.path / "r.json"
    result = repository.runpytest(
        f"--datasize-store={store}",
        f"--datasize-dataset={repository.path / data}",
        f"--datasize-json={file}",
        *arguments,
    )
    result.assert_outcomes(passed=1)
    return json.loads(file.read_text())["requirements"]


def embedded(repository, store: str) -> list[int]:
    """Return the numbers of embeddings in the files of a store: one for each session's work."""
    folder = repository.path / store
    with closing(sqlite3.connect(folder / "store-1.sqlite")) as connection:
        hashes = connection.execute(
            "SELECT DISTINCT shard FROM rows JOIN spaces ON spaces.id = rows.space "
            "WHERE name LIKE 'perceptual hash%'"
        )
        others = {f"{shard:016x}.f16" for (shard,) in hashes}
    paths = [path for path in (folder / "embeddings").glob("*.f16") if path.name not in others]
    return sorted(path.stat().st_size // (2 * 12) for path in paths)


def command(repository, *words: str) -> int:
    return main(
        ["store", words[0], *(str(repository.path / w) if w in STORES else w for w in words[1:])]
    )


STORES = ("one", "two", "both")


def test_after_a_merge_the_whole_data_set_is_known(halves, capsys):
    first = session(halves, "a", "one")
    session(halves, "b", "two")
    assert command(halves, "merge", "one", "two", "--into", "both") == 0
    out = capsys.readouterr().out
    assert "both takes from" in out
    assert "120 rows of embeddings and hashes, 1 evidence" in out
    assert embedded(halves, "both") == [60, 60]
    merged = session(halves, "whole", "both")
    assert embedded(halves, "both") == [60, 60]  # nothing went through the backbone
    plain = session(halves, "whole", "off")
    assert merged[0]["scores"] == plain[0]["scores"]
    again = session(halves, "a", "both")  # its evidence came along, with the time it took
    assert again[0]["timings"] == first[0]["timings"]


def test_after_a_prune_only_what_went_is_made_again(halves, capsys):
    session(halves, "a", "one")
    age(halves.path / "one", 100)
    session(halves, "b", "one")
    capsys.readouterr()
    assert command(halves, "prune", "one", "--older-than", "90d") == 0
    assert "120 rows of embeddings and hashes, 1 evidence" in capsys.readouterr().out
    assert embedded(halves, "one") == [60]
    session(halves, "whole", "one")
    assert embedded(halves, "one") == [60, 60]


def age(store, days: float) -> None:
    """Let everything in a store be used so long ago."""
    old = time.time() - days * 86400
    for shard in (store / "embeddings").iterdir():
        os.utime(shard, (old, old))
    with closing(sqlite3.connect(store / "store-1.sqlite")) as connection:
        for table in ("documents", "files", "spaces"):
            connection.execute(f"UPDATE {table} SET used = ?", (old,))
        connection.commit()


def test_an_unchanged_gate_keeps_what_it_is_judged_by(halves, capsys):
    session(halves, "a", "one")
    age(halves.path / "one", 100)
    session(halves, "a", "one")  # takes the verdict, and looks at nothing else
    capsys.readouterr()
    assert command(halves, "prune", "one", "--older-than", "90d") == 0
    gone = capsys.readouterr().out
    assert "120 rows of embeddings and hashes" in gone  # which it did not need
    assert "evidence" not in gone
    assert "verdict" not in gone
    assert "remembered" not in gone


def test_what_verify_takes_out_the_next_session_makes_again(halves, capsys):
    first = session(halves, "a", "one")
    files = (halves.path / "one" / "embeddings").iterdir()
    [shard] = [path for path in files if path.stat().st_size < 60 * 32]  # the others are hashes
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    with closing(sqlite3.connect(halves.path / "one" / "store-1.sqlite")) as connection:
        connection.execute(
            "UPDATE documents SET value = zeroblob(9) WHERE kind IN ('evidence', 'verdict')"
        )
        connection.commit()
    capsys.readouterr()
    assert command(halves, "verify", "one") == 1
    out = capsys.readouterr().out
    assert "3 damaged" in out
    assert f"1 of {shard.name}" in out
    assert command(halves, "verify", "one", "--repair") == 0
    assert "taken out" in capsys.readouterr().out
    assert session(halves, "a", "one")[0]["scores"] == first[0]["scores"]
    assert embedded(halves, "one") == [1, 60]
    assert command(halves, "verify", "one") == 0
    assert "all good" in capsys.readouterr().out


def test_the_default_is_the_store_in_the_cache_of_pytest(halves, capsys, monkeypatch):
    halves.makeini("[pytest]\ndatasize_image_size = 24\ndatasize_repeats = 4")
    halves.runpytest(f"--datasize-dataset={halves.path / 'a'}").assert_outcomes(passed=1)
    monkeypatch.chdir(halves.path)
    capsys.readouterr()
    assert main(["store", "info"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(".pytest_cache/d/datasize: ")
    assert "embeddings  60 of width 12" in shown
    assert "files       60 remembered" in shown
    assert main(["store", "info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["spaces"][0]["rows"] == 60


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["info", "nowhere"], "nowhere: no such folder"),
        (["info", "."], "not a store"),
        (["merge", "one"], "the following arguments are required: OTHER"),
        (["prune", "nowhere", "--older-than", "90"], "argument --older-than: '90': expected"),
        (
            ["prune", "nowhere", "--max-size", "5 GBit"],
            "argument --max-size: '5 GBit': expected",
        ),
        (["verify", "nowhere", "--repair"], "nowhere: no such folder"),
        ([], "the following arguments are required: ACTION"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, monkeypatch, capsys, words, says):
    monkeypatch.chdir(tmp_path)
    if words[:1] in (["info"], ["verify"]):
        assert main(["store", *words]) == 2
    else:
        with pytest.raises(SystemExit, match="2"):
            main(["store", *words])
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("action", ["info", "merge", "prune", "verify"])
def test_every_action_helps(action, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["store", action, "--help"])
    assert "STORE" in capsys.readouterr().out


def test_nothing_heavy_is_imported(halves):
    session(halves, "a", "one")
    words = (["merge", "new", "one"], ["info", "new"], ["prune", "one"], ["verify", "one"])
    probe = (
        "import sys; from pytest_datasize.__main__ import main\n"
        f"done = [main(['store', *some]) for some in {words!r}]\n"
        "heavy = {'numpy', 'scipy', 'torch', 'PIL', 'matplotlib', 'pytest'} & set(sys.modules)\n"
        "print('status', done, 'heavy', sorted(heavy))"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=halves.path, capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("status [0, 0, 0, 0] heavy []\n")
    assert done.stderr == ""
