"""Gates in several processes: different data at the same time, the same data once."""

import json
import os
import re
import subprocess
import sys
import time

import pytest
from engine_studies import embedded
from support import shapes, write_folder

BACKBONE = """
import os, time
from pathlib import Path
import pytest, torch

HERE = Path(__file__).parent

class Backbone(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Sequential(torch.nn.AvgPool2d((24, 6)), torch.nn.Flatten())
    def forward(self, images):
        if len(images) < 8:  # it is only tried out, before anything is claimed
            return self.inner(images)
        (HERE / f"inside-{os.getpid()}").touch()
        until("MEET", lambda: len(list(HERE.glob("inside-*"))) > 1)
        until("HOLD", lambda: (HERE / "release").exists())
        if "OTHER" in os.environ and not (HERE / "released").exists():
            until("OTHER", lambda: len(list(HERE.glob("ready-*"))) > 1)
            time.sleep(4)  # the other has its backbone, and now comes to its images
            (HERE / "released").touch()
        return self.inner(images)

def until(name, happened):
    # Wait as many seconds as a variable says for something to happen
    give_up = time.monotonic() + float(os.environ.get(name, 0))
    while name in os.environ and not happened():
        if time.monotonic() > give_up:
            raise RuntimeError(f"{name}: it did not happen")
        time.sleep(0.05)

@pytest.fixture(scope="session")
def datasize_backbone():
    (HERE / f"ready-{os.getpid()}").touch()
    return Backbone()
"""

GATES = """
from pytest_datasize import datasize

@datasize.requires(accuracy=0.6, dataset={0!r}, seed=1)
def test_one(): ...

@datasize.requires(accuracy=0.6, dataset={1!r}, seed=2)
def test_two(): ...
"""


@pytest.fixture
def slow(repository):
    """A repository whose backbone waits for another process, or sleeps, as it is asked to."""
    repository.makeconftest(BACKBONE)
    return repository


def session(repository, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", "--datasize-store=kept", *arguments],
        cwd=repository.path,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_gates_on_different_images_embed_them_at_the_same_time(slow, shape_folder):
    other = write_folder(slow.path / "other", *shapes(120, seed=5))
    slow.makepyfile(test_gates=GATES.format(str(shape_folder), str(other)))
    output, _ = session(slow, "-n2", MEET="120").communicate(timeout=240)
    assert "2 passed" in output, output
    assert "Waited" not in output


def test_gates_on_the_same_images_embed_them_once_and_say_that_they_waited(slow, shape_folder):
    slow.makepyfile(test_gates=GATES.format(str(shape_folder), str(shape_folder)))
    output, _ = session(slow, "-n2", "--datasize-json=r.json", OTHER="120").communicate(timeout=240)
    assert "2 passed" in output, output
    assert embedded(slow.path / "kept", width=12) == (120, 120)
    assert re.search(r"note: Waited \d+ s for process \d+, which embeds these images\.", output)
    # what was kept says nothing of it: the next session waits for nobody
    again = slow.runpytest("--datasize-store=kept", "--datasize-json=again.json")
    again.assert_outcomes(passed=2)
    for record in json.loads((slow.path / "again.json").read_text())["requirements"]:
        assert not any("aited" in note for note in record["notes"])


def test_a_session_says_on_its_terminal_for_whom_it_waits(slow, shape_folder):
    slow.makepyfile(test_gates=GATES.format(str(shape_folder), str(shape_folder)))
    with session(slow, "-k", "one", HOLD="200") as first:
        while not list(slow.path.glob("inside-*")):
            assert first.poll() is None
            time.sleep(0.05)
        with session(slow, "-k", "two") as second:
            seen = ""
            for line in second.stdout:
                seen += line
                if line.startswith("datasize: waiting"):
                    (slow.path / "release").touch()
            (slow.path / "release").touch()
        assert f"datasize: waiting for process {first.pid}, which embeds these images\n" in seen
        assert "1 passed" in seen
        assert "1 passed" in first.communicate(timeout=240)[0]
