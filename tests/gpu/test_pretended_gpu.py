"""Studies on a pretended CUDA device: the CPU's results, and errors where a GPU has errors.

Needs a C compiler and a CUDA build of torch; what a real GPU calculates is not tested here.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
COMPILER = shutil.which("cc") or shutil.which("gcc")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(COMPILER is None, reason="no C compiler"),
    pytest.mark.skipif(torch.version.cuda is None, reason="torch is built without CUDA"),
    pytest.mark.skipif(sys.platform != "linux", reason="the libraries are Linux's"),
]


SCENARIOS = (
    "heads",
    "heads in float32",
    "augmented heads",
    "test images apart",
    "own training",
    "fine-tuning",
    "fine-tuning with a budget",
    "fine-tuning of everything",
    "BEiT",
    "from scratch",
    "from scratch with a budget",
    "preset",
)
STRATEGIES = ("feature_extraction", "fine_tuning", "from_scratch")
CALLS = [
    *([name] for name in SCENARIOS),
    *(["little", strategy] for strategy in STRATEGIES),
    ["no_memory_for_heads"],
    ["full_for_a_moment"],
    ["overflow"],
    ["chosen"],
    ["decoded_in_processes"],
    ["resident"],
    ["attention"],
]
"""Name and arguments of all that `scenarios.py` runs."""


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """The variables that make torch load the two libraries."""
    folder = tmp_path_factory.mktemp("pretended")
    (folder / "lib").mkdir()
    for source, made in (("libcuda.c", "lib/libcuda.so.1"), ("libcudart.c", "runtime.so")):
        command = [COMPILER, "-shared", "-fPIC", "-w", "-o", folder / made, HERE / source]
        subprocess.run(command, check=True)
    return {
        **os.environ,
        "LD_LIBRARY_PATH": str(folder / "lib"),
        "LD_PRELOAD": str(folder / "runtime.so"),
        "PYTHONPATH": os.pathsep.join(map(str, (HERE, HERE.parent, HERE.parents[1]))),
        "OMP_NUM_THREADS": "1",
        "PYTEST_DATASIZE_THREADS": "1",
    }


@pytest.fixture(scope="session")
def ran(environment):
    """Run all scenarios in one process, since every import of torch takes seconds."""
    command = [sys.executable, HERE / "scenarios.py", json.dumps(CALLS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    every = json.loads(done.stdout.splitlines()[-1])
    results = {tuple(call): one for call, one in zip(CALLS, every, strict=True)}

    def results_of(*calls):
        found = [results[tuple(call)] for call in calls]
        assert not [one["error"] for one in found if "error" in one]
        return found

    return results_of


EXACT = ("heads in float32", "own training")
PRECISION = {
    "heads": "float16",
    "augmented heads": "float16",
    "test images apart": "float16",
    "heads in float32": "float32",
    "own training": "the trainer's own",
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_study_gives_what_it_gives_on_the_cpu(ran, name):
    [found] = ran([name])
    cpu, cuda = found["cpu"], found["cuda"]
    assert not any("cannot be cut" in note for note in cuda["notes"])
    if "budget" not in name:  # its notes name seconds
        both = (cpu["notes"], cuda["notes"])
        mine, its = ([note for note in one if "recipe's fit" not in note] for one in both)
        assert mine == its  # the fit is to scores, which differ by rounding
    if name in EXACT:
        assert cuda["scores"] == cpu["scores"]
    for mine, its in zip(cuda["scores"]["accuracy"], cpu["scores"]["accuracy"], strict=True):
        assert sum(mine) / len(mine) == pytest.approx(sum(its) / len(its), abs=0.15)
    assert cuda["precision"] == PRECISION.get(name, "mixed")


def test_a_module_on_a_device_with_little_memory_and_without_float64(ran):
    """What goes through at once is halved until it fits."""
    for found in ran(*(["little", strategy] for strategy in STRATEGIES)):
        assert found["scores"]["accuracy"]
        assert found["refused"]


def test_heads_without_memory_are_fitted_on_the_cpu(ran):
    [found] = ran(["no_memory_for_heads"])
    assert found["refused"] >= 6  # batches are halved first
    pairs = zip(found["cuda"]["accuracy"], found["cpu"]["accuracy"], strict=True)
    assert all(sum(a) / len(a) == pytest.approx(sum(b) / len(b), abs=0.1) for a, b in pairs)


def test_precision_is_chosen_again_after_full_memory_and_overflow(ran):
    """Full memory decides nothing; an image beyond float16 is embedded in another precision."""
    moment, beyond = ran(["full_for_a_moment"], ["overflow"])
    assert moment == {"first": "float16", "second": "float16"}
    assert beyond["precision"] == "bfloat16"


def test_auto_leaves_little_work_to_the_cpu_and_says_so(ran):
    [found] = ran(["chosen"])
    few, much, large = found["few"], found["much"], found["with large heads"]
    assert [few["device"], much["device"], large["device"]] == [
        "cpu",
        "cuda (Pretended)",
        "cuda (Pretended)",
    ]
    assert [few["heads"], much["heads"], large["heads"]] == [["cpu"], ["cpu"], ["cuda"]]
    assert few["scores"] == found["cpu"]["scores"]
    assert [note for note in few["notes"] if "too little work for the GPU" in note]
    assert not [note for note in much["notes"] if "GPU" in note]


def test_processes_decode_for_the_device(ran):
    [found] = ran(["decoded_in_processes"])
    assert found["cuda"] == found["cpu"]
    assert len(found["done"]) == 8  # of 60 images
    assert all(found["done"])


def test_activations_stay_on_the_device_if_they_fit(ran):
    [found] = ran(["resident"])
    assert [found["little"]["held"], found["enough"]["held"]] == [False, True]
    assert found["little"]["batch"] == found["enough"]["batch"] == found["cpu"]


def test_attention_adds_its_gradients_in_a_fixed_order(ran):
    [found] = ran(["attention"])
    assert found["trained"]
    assert not any(found["trained"])
    assert all(found["scored"])
