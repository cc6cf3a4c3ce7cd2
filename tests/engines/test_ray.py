"""A real Ray cluster of two nodes on this machine: nodes that die, and what a cluster lacks."""

import os
import subprocess
import sys
import time

import pytest
import torch
from engine_studies import repeated, run, study
from trainers import Waiting, columns

from pytest_datasize.errors import EngineError
from pytest_datasize.study.engines import Engines, ray_cluster

OPTIONS = {
    "engine": "ray",
    "workers": None,
    "device": "cpu",
    "ray_address": "auto",
    "ray_gpus": 1.0,
    "ray_upload": False,
}


only_ray = pytest.mark.parametrize("workers", ["ray"], indirect=True)


@pytest.mark.slow
def test_a_node_may_die_in_the_middle(cluster, ray, tmp_path):
    """It dies while one of its actors is at a trial, which is repeated elsewhere."""
    node = next(iter(cluster.worker_nodes))

    def kill(*trial):
        if not (tmp_path / "go").exists():
            processes = wait_for(lambda: some if len(some := pids(tmp_path)) == 2 else None)
            cluster.remove_node(node, allow_graceful=False)
            wait_for(lambda: any(not alive(process) for process in processes))
            (tmp_path / "go").touch()

    try:
        result = run("own_training", trainer=Waiting(tmp_path), on_trial=kill, **ray)
    finally:
        cluster.add_node(num_cpus=1, wait=False)
    assert result.scores == run("own_training").scores


def pids(folder):
    """Numbers of the processes that have trained."""
    return [int(path.name.partition("-")[2]) for path in folder.glob("pid-*")]


def alive(process):
    try:
        with open(f"/proc/{process}/stat") as stream:
            return stream.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise TimeoutError


def test_images_are_sent_to_workers_that_do_not_see_the_data_set(ray, locally):
    images, labels = repeated()

    class Here(torch.utils.data.Dataset):  # cannot be pickled: it never leaves this process
        def __len__(self):
            return len(labels)

        def __getitem__(self, index):
            return images[index], labels[index]

    sent = run("heads", dataset=Here(), ray_upload=True, **ray)
    assert sent.scores == run("heads").scores
    assert sent.outcomes.keys() == run("heads").outcomes.keys()
    with pytest.raises(EngineError, match=r"ray_upload=true.*fine_tuning needs the data set"):
        run("fine_tuning", ray_upload=True, **ray)


@pytest.mark.slow
def test_gpus_are_shared_out_with_the_cores_that_go_with_them(cluster, ray):
    node = cluster.add_node(num_cpus=6, num_gpus=2)
    try:
        engine = Engines().get({**OPTIONS, "device": "auto", "ray_gpus": 0.5})
        assert engine.share == {"num_gpus": 0.5, "num_cpus": 1}
        assert engine.workers() == 4
        found = [answer for _, answer in engine.map(visible, [0.3] * 4)]
        assert sorted(found) == [("0", "1"), ("0", "1"), ("1", "1"), ("1", "1")]
        engine.close()
        whole = Engines().get({**OPTIONS, "device": "auto"})
        assert whole.share == {"num_gpus": 1, "num_cpus": 3}
        assert whole.workers() == 2
        assert Engines().get(OPTIONS).share == {"num_cpus": 1}
    finally:
        cluster.remove_node(node)


@only_ray
def test_workers_that_cannot_start_are_an_error_and_no_hang(spare, monkeypatch):
    class Broken:
        def __init__(self, *args):
            raise ModuleNotFoundError("No module named 'pytest_datasize'")

        def ready(self): ...

    monkeypatch.setattr(ray_cluster, "Actor", Broken)
    engine = Engines().get(spare)
    with pytest.raises(EngineError, match=r"cannot start .*No module named 'pytest_datasize'"):
        list(engine.map(len, [""]))
    engine.close()


@only_ray
def test_a_cluster_of_other_versions_is_refused(spare, monkeypatch):
    class Older:
        def __init__(self, *args): ...

        def ready(self):
            return {**ray_cluster.shared_versions(), "torch": "1.13.1"}

    monkeypatch.setattr(ray_cluster, "Actor", Older)
    engine = Engines().get(spare)
    with pytest.raises(EngineError, match=r"other versions.*torch 1\.13\.1 there"):
        list(engine.map(len, [""]))
    engine.close()


def test_a_cluster_without_room_is_an_error(ray, monkeypatch):
    monkeypatch.setattr(ray_cluster, "PATIENCE", 1.0)
    engine = Engines().get(OPTIONS)
    engine.share = {"num_cpus": 64}
    with pytest.raises(EngineError, match=r"no room for a worker in 1 s \(num_cpus=64\)"):
        list(engine.map(len, [""]))
    engine.close()


def test_ray_is_asked_for_only_where_it_is_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match=r"not installed.*pip install pytest-datasize\[ray\]"):
        study(trainer=columns, engine="ray").run()


NOWHERE = """
import functools
from ray._private import services
services.find_gcs_addresses = functools.lru_cache(lambda: set())
from pytest_datasize.study.engines import Engines
from pytest_datasize.errors import EngineError
for address in ("auto", "127.0.0.1:9"):
    try:
        Engines().get({{**{options}, "ray_address": address}})
    except EngineError as problem:
        print(problem)
"""


def test_no_cluster_to_join_is_told(cluster, tmp_path):
    environment = {**os.environ, "RAY_TMPDIR": str(tmp_path)}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, "-c", NOWHERE.format(options=OPTIONS)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    assert done.stderr == ""
    auto, address = done.stdout.splitlines()
    assert auto.startswith("engine=ray: cannot join the cluster at 'auto' (Could not find any")
    assert "start one with `ray start --head`" in auto
    assert address.startswith("engine=ray: cannot join the cluster at '127.0.0.1:9' ([Errno ")
    assert "Is it running, of the same versions" in address


def visible(seconds, state):
    """Task: which GPU this worker sees, and how many threads it may use."""
    time.sleep(seconds)  # or one worker would do all
    return os.environ["CUDA_VISIBLE_DEVICES"], os.environ["PYTEST_DATASIZE_THREADS"]
