"""Sessions whose images are decoded in processes, as for a GPU: xdist, strict warnings, Ctrl-C."""

from pathlib import Path

import pytest

CONFTEST = """
import itertools
import os
import signal
from pathlib import Path

from pytest_datasize.embedding import embed, reader
from pytest_datasize.images import decoding

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
CALLS = itertools.count()
decoding.WORTH = 1
embed.embed.__kwdefaults__["forward_in_workers"] = False  # as on a GPU


class Ready(decoding.Decoders):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._starting.join()
        pids = [process.pid for process in self._processes]
        Path("pids").write_text(" ".join(map(str, pids)))

    def decode(self, places):
        found = super().decode(places)
        with Path("answers").open("a") as file:
            print(found is not None and None not in found, file=file)
        {after}
        return found


reader.Decoders = Ready
"""

GATE = """
from pytest_datasize import datasize


@datasize.requires(accuracy=0.1)
def test_enough():
    pass
"""


@pytest.fixture
def session(repository, monkeypatch):
    """Run a gate in a process of its own; return the result and what the processes answered."""
    monkeypatch.setenv("PYTEST_DATASIZE_THREADS", "2")

    def run(*arguments, after="pass"):
        conftest = repository.path / "conftest.py"
        conftest.write_text(conftest.read_text() + CONFTEST.format(after=after))
        repository.makepyfile(GATE)
        result = repository.runpytest_subprocess(*arguments)
        for number in (repository.path / "pids").read_text().split():
            assert not Path(f"/proc/{number}/cmdline").exists()
        return result, (repository.path / "answers").read_text().split()

    return run


def test_a_worker_of_xdist_lets_processes_decode_and_ends_them(session):
    result, answers = session("-n1")
    result.assert_outcomes(passed=1)
    assert answers == ["True"] * 15  # of 120 images


def test_an_interruption_ends_them(session):
    interrupt = "if next(CALLS) == 0: os.kill(os.getpid(), signal.SIGINT)"
    # an import that is interrupted leaves its file open
    result, _ = session("-W", "ignore::ResourceWarning", after=interrupt)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*KeyboardInterrupt*"])
