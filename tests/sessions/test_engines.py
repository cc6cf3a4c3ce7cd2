"""Sessions with workers: the same numbers, nothing left behind, each trial trained once."""

import json
import os
import subprocess
import sys
import tempfile

import pytest
from engine_studies import embedded

pytestmark = pytest.mark.slow
GATES = """
from pytest_datasize import datasize
import theirs

@datasize.requires(accuracy=0.6, f1_macro=0.6)
def test_enough(): ...

@datasize.requires(accuracy=0.999, confidence=0.9)
def test_short(): ...

@datasize.requires(accuracy=0.55, trainer=theirs.train, sizes=[10, 24, 60], repeats=2)
def test_own(): ...
"""

TRAINER = """
import contextlib, multiprocessing, os, signal, time
from pathlib import Path
import numpy as np

LOG, SLOW, KILL = (Path(__file__).with_name(name) for name in ("log", "slow", "kill"))

def train(train, test, *, seed, device):
    with LOG.open("a") as stream:
        stream.write(f"{len(train)}-{seed} {os.getpid()}\\n")
    time.sleep(0.1 if SLOW.exists() else 0.0)
    if KILL.exists() and KILL.read_text() == str(len(LOG.read_text().splitlines())):
        with contextlib.suppress(ProcessLookupError):  # the other worker did
            os.kill(multiprocessing.parent_process().pid, signal.SIGKILL)
    means = [train.pixels(6)[train.labels == label].mean(axis=0) for label in (0, 1)]
    return np.argmin([((test.pixels(6) - m) ** 2).sum(axis=(1, 2, 3)) for m in means], axis=0)
"""


@pytest.fixture
def gates(repository):
    repository.makepyfile(theirs=TRAINER)
    repository.makepyfile(test_gates=GATES)
    return repository


def trained(repository) -> list[str]:
    return [line.split()[0] for line in (repository.path / "log").read_text().splitlines()]


def records(repository, name="r.json"):
    found = json.loads((repository.path / name).read_text())["requirements"]
    return [{**r, "timings": {}, "settings": {}} for r in found]


def session(repository, *arguments, **environment):
    """Run pytest in a process of its own, with a folder of its own for what is temporary."""
    temporary = repository.path / "tmp"
    temporary.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--datasize-json=r.json", *arguments],
        cwd=repository.path,
        env={**os.environ, "TMPDIR": str(temporary), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize(
    "options",
    [
        ["--datasize-engine=processes", "--datasize-workers=2"],
        ["--datasize-engine=ray", "--datasize-ray-address=local"],
    ],
    ids=["processes", "ray"],
)
def test_workers_give_the_numbers_of_this_process_and_leave_nothing(gates, options):
    if "--datasize-engine=ray" in options:
        pytest.importorskip("ray", reason="Ray is not installed: pip install pytest-datasize[ray]")
    here = gates.runpytest("--datasize-json=here.json", "--datasize-store=off")
    here.assert_outcomes(passed=2, failed=1)
    # Ray's sockets need a short path
    done = session(gates, "--datasize-store=off", *options, RAY_TMPDIR=tempfile.gettempdir())
    assert done.stderr == ""
    assert "1 failed, 2 passed" in done.stdout
    assert records(gates) == records(gates, "here.json")
    words = done.stdout.replace("--datasize-engine=ray", "").lower().split()
    assert not {"ray", "raylet", "traceback", "resourcewarning"} & set(words)
    left = [path.name for path in (gates.path / "tmp").iterdir() if path.name.startswith("data")]
    assert left == []
    assert len(set(trained(gates))) * 2 == len(trained(gates)) == 12  # here and there


def test_a_killed_session_leaves_no_worker_and_the_next_trains_the_rest(gates):
    options = ["--datasize-engine=processes", "--datasize-workers=2", "--datasize-store=kept"]
    (gates.path / "kill").write_text("3")
    killed = session(gates, *options, "-k", "own")
    assert killed.returncode == -9
    (gates.path / "kill").unlink()
    done = session(gates, *options, "-k", "own")
    assert "1 passed" in done.stdout, done.stdout
    before = trained(gates)
    assert len(set(before)) == 6
    assert len(before) <= 7  # what the other worker was at when the session was killed
    pids = {int(line.split()[1]) for line in (gates.path / "log").read_text().splitlines()}
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


MORE = """
from pytest_datasize import datasize
import theirs

@datasize.requires(accuracy=0.7, repeats=5)
def test_more_repeats(): ...

@datasize.requires(accuracy=0.5, trainer=theirs.train, sizes=[10, 24, 60], repeats=3)
def test_own_with_more_repeats(): ...

@datasize.requires(f1_macro=0.5, trainer=theirs.train, sizes=[10, 24, 40, 60], repeats=3)
def test_own_with_another_size(): ...
"""


@pytest.mark.parametrize("dist", ["load", "loadfile"])  # loadscope distributes functions by file
def test_xdist_workers_share_what_is_computed_and_report_together(gates, dist):
    gates.makepyfile(test_more=MORE)
    (gates.path / "slow").touch()
    done = session(gates, "-n2", f"--dist={dist}", "--datasize-store=kept")
    found = records(gates)
    assert len(found) == 7, done.stdout  # one gate has two targets
    assert len({record["nodeid"] for record in found}) == 6
    calls = trained(gates)
    assert len(calls) == len(set(calls)) == 4 * 3  # sizes x repeats
    assert embedded(gates.path / "kept", width=12) == (120, 120)
