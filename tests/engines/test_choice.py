"""Which engine, how many workers, which GPU: nothing here needs a worker of its own."""

import sys
from types import ModuleType

import pytest
import torch
from engine_studies import evidence, run, study

from pytest_datasize.embedding import device
from pytest_datasize.embedding.device import resolve
from pytest_datasize.errors import EngineError
from pytest_datasize.requirement import validators
from pytest_datasize.requirement.options import OPTIONS
from pytest_datasize.requirement.registries import ENGINES
from pytest_datasize.study.engines import Engines, processes, ray_cluster

HEAD, BOX, SMALL = {"CPU": 4.0}, {"CPU": 64.0, "GPU": 8.0}, {"CPU": 6.0, "GPU": 1.0}
THEIRS = """
import pickle

class Theirs:
    def __init__(self, options):
        self.state, self.closed = {}, False

    def workers(self):
        return 3

    def map(self, task, items):
        task = pickle.loads(pickle.dumps(task))
        for item in reversed(items):
            yield item, task(item, self.state)

    def close(self):
        self.closed = True
"""


@pytest.mark.parametrize("kind", ["heads", "own_training"])
def test_an_engine_is_one_file_and_one_line(kind, locally, monkeypatch):
    module = ModuleType("theirs")
    exec(THEIRS, module.__dict__)
    monkeypatch.setitem(sys.modules, "theirs", module)
    monkeypatch.setitem(ENGINES, "theirs", "theirs:Theirs")
    # the table of options is made of that line when it is imported
    check = validators.choice(*ENGINES)
    monkeypatch.setitem(OPTIONS, "engine", OPTIONS["engine"]._replace(check=check))
    engines = Engines()
    assert evidence(run(kind, engine="theirs", engines=engines)) == locally(kind)
    engine = engines.get(study(engine="theirs").options)  # that of the run
    assert type(engine) is module.Theirs
    engines.close()
    assert engine.closed


def test_gates_that_ask_for_the_same_share_workers_and_others_are_let_go(monkeypatch):
    made = []

    class Some:
        def __init__(self, options):
            made.append(self)
            self.closed = False

        def close(self):
            self.closed = True

    monkeypatch.setattr(processes, "Processes", Some)
    engines, options = Engines(), {"engine": "processes", "workers": 2, "device": "cpu"}
    options |= {"ray_address": "auto", "ray_gpus": 1.0}
    assert engines.get(options) is engines.get({**options, "repeats": 4})
    assert engines.get({**options, "engine": "local"}) is None
    assert engines.get({**options, "workers": 3}) is made[1]
    assert [engine.closed for engine in made] == [True, False]
    engines.close()
    assert made[1].closed


@pytest.mark.parametrize(
    ("device", "gpus", "cores", "expected"),
    [
        ("auto", 8, 64, 8),
        ("cuda", 2, 4, 2),
        ("cuda:3", 8, 64, 1),
        ("cpu", 8, 64, 16),
        ("auto", 0, 64, 16),
        ("auto", 0, 2, 2),
    ],
)
def test_a_worker_for_every_gpu_or_for_a_share_of_the_cores(
    monkeypatch, device, gpus, cores, expected
):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(processes, "n_threads", lambda: cores)
    assert processes.Processes({"workers": None, "device": device}).workers() == expected
    assert processes.Processes({"workers": 5, "device": device}).workers() == 5


@pytest.mark.parametrize(
    ("environment", "count", "expected"),
    [
        ({}, 4, None),  # alone: torch's own choice
        ({"PYTEST_XDIST_WORKER": "gw0"}, 4, 0),
        ({"PYTEST_XDIST_WORKER": "gw1"}, 4, 1),
        ({"PYTEST_XDIST_WORKER": "gw6"}, 4, 2),
        ({"PYTEST_XDIST_WORKER": "gw6"}, 1, None),
        ({"PYTEST_DATASIZE_WORKER": "3"}, 4, 3),
        ({"PYTEST_DATASIZE_WORKER": "3", "PYTEST_XDIST_WORKER": "gw1"}, 4, 3),
        ({"PYTEST_XDIST_WORKER": "master"}, 4, None),
    ],
)
def test_processes_that_share_a_machine_take_different_gpus(
    monkeypatch, environment, count, expected
):
    monkeypatch.setattr(device, "gpu", lambda: (True, ""))
    monkeypatch.setattr(device, "visible", lambda: (True, ""))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_DATASIZE_WORKER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for asked in ("auto", "cuda"):
        assert resolve(asked) == torch.device("cuda", expected)
    assert resolve("cuda:0") == torch.device("cuda", 0)
    assert resolve("cpu") == torch.device("cpu")


def test_an_actor_has_no_second_gpu():
    with pytest.raises(EngineError, match=r"device='cuda:1' names a GPU of this machine"):
        ray_cluster.RayCluster({"device": "cuda:1"})


@pytest.mark.parametrize(
    ("machines", "gpus", "expected"),
    [
        ([HEAD], 1.0, {"num_cpus": 1}),
        ([HEAD, BOX], 1.0, {"num_gpus": 1, "num_cpus": 8}),
        ([HEAD, BOX, SMALL], 1.0, {"num_gpus": 1, "num_cpus": 6}),
        ([BOX], 0.25, {"num_gpus": 0.25, "num_cpus": 2}),
        ([BOX], 2.0, {"num_gpus": 2, "num_cpus": 16}),
        ([BOX], 0, {"num_cpus": 1}),
    ],
)
def test_cores_that_go_with_a_gpu(machines, gpus, expected):
    nodes = [{"Alive": True, "Resources": machine} for machine in machines]
    nodes.append({"Alive": False, "Resources": {"CPU": 1.0, "GPU": 1.0}})
    assert ray_cluster.actor_resources(nodes, gpus) == expected
