"""Claims between real processes: who waits, for whom, and for how long."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from pytest_datasize.store import Store
from pytest_datasize.store.claims import FOLDER, claimed

HOLD = """
import sys, time
from pathlib import Path
from pytest_datasize.store.claims import claimed
with claimed(Path(sys.argv[1]), "holds this", lambda text: None):
    print("holding", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(path):
    """Another process that holds a claim until its input ends."""
    command = [sys.executable, "-c", HOLD, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        try:
            assert process.stdout.readline() == "holding\n"
            yield process
        finally:
            process.kill()


def path_of(folder, name="key"):
    return folder / FOLDER / name


def test_who_waits_says_for_whom_and_gets_the_claim_when_it_is_released(tmp_path):
    told = []

    def release_when_told(text):
        told.append(text)
        process.stdin.close()

    with holder(path_of(tmp_path)) as process:
        with claimed(path_of(tmp_path), "embeds these images", release_when_told) as waited:
            assert process.wait(5) == 0
        assert told == [f"waiting for process {process.pid}, which embeds these images"]
        assert waited.startswith("waited ")
        assert waited.endswith(f" s for process {process.pid}, which embeds these images")
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_a_claim_on_something_else_does_not_wait(tmp_path):
    with holder(path_of(tmp_path)), claimed(path_of(tmp_path, "other"), "", pytest.fail) as waited:
        assert waited == ""


def test_a_killed_holder_leaves_the_claim_free(tmp_path):
    with holder(path_of(tmp_path)) as process:
        process.kill()
        process.wait()
        assert path_of(tmp_path).exists()
        with claimed(path_of(tmp_path), "", pytest.fail, quiet=60) as waited:
            assert waited == ""


@pytest.mark.skipif(sys.platform == "win32", reason="no signal stops a process there")
def test_a_stopped_holder_is_passed_and_named_and_keeps_its_claim(tmp_path):
    told = []
    with holder(path_of(tmp_path)) as process:
        process.send_signal(signal.SIGSTOP)
        start = time.monotonic()
        with claimed(path_of(tmp_path), "embeds these images", told.append, quiet=2) as waited:
            assert 2 <= time.monotonic() - start < 20
        assert path_of(tmp_path).exists()
        process.send_signal(signal.SIGCONT)
    assert waited == told[-1]
    assert "has shown no sign of life for 2 s" in waited
    assert f"process {process.pid}, which embeds these images" in waited
    assert "went on without waiting" in waited


def test_a_busy_holder_is_waited_for_until_the_most(tmp_path, monkeypatch):
    script = HOLD.replace("with claimed", "from pytest_datasize.store import claims\n"
                          "claims._TOUCH_SECONDS = 0.2\nwith claimed")  # fmt: skip
    monkeypatch.setattr(sys.modules[__name__], "HOLD", script)
    with holder(path_of(tmp_path)):
        start = time.monotonic()
        with claimed(path_of(tmp_path), "works", lambda text: None, quiet=2, most=4) as waited:
            assert time.monotonic() - start >= 4
        assert "was not done after 4 s" in waited


def test_many_processes_hold_a_claim_one_at_a_time(tmp_path):
    """Also while its file is deleted and made again by each of them."""
    script = f"""
import sys
from pathlib import Path
from pytest_datasize.store.claims import claimed
here, log = Path({str(tmp_path)!r}), Path({str(tmp_path / "log")!r})
for number in range(40):
    with claimed(here / "claims" / "key", "works", lambda text: None):
        (here / "inside").open("x").close()  # fails if another is inside
        (here / "inside").unlink()
"""
    running = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]


def test_nobody_waits_where_nothing_is_shared(tmp_path):
    again = Store(tmp_path, refresh=True)
    with Store(tmp_path) as store, store.claim("key", "works"):
        with again, again.claim("key", "works", pytest.fail) as waited:
            pass
        assert waited == ""
    with Store() as store, store.claim("key", "works") as waited:
        assert waited == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_keep_a_claim_that_was_released(tmp_path):
    with claimed(path_of(tmp_path), "works", pytest.fail):
        child = os.fork()
        if child == 0:
            time.sleep(30)
            os._exit(0)
    try:
        with claimed(path_of(tmp_path), "works", pytest.fail, quiet=5):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
