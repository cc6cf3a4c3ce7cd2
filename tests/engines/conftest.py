"""Workers that all tests of engines share."""

import pytest
from engine_studies import Between, evidence, run

from pytest_datasize.study.engines import Engines


@pytest.fixture(scope="session")
def locally():
    """Kind → its evidence, found in this process."""
    found = {}

    def get(kind):
        if kind not in found:
            found[kind] = evidence(run(kind))
        return found[kind]

    return get


@pytest.fixture(scope="session")
def processes():
    """Two worker processes, started once for all tests."""
    engines = Engines()
    yield engines
    engines.close()


@pytest.fixture
def pool(processes):
    """Options of two worker processes; nothing is known of tests before."""
    return {"engine": "processes", "workers": 2, "engines": Between(processes)}


@pytest.fixture(scope="session")
def cluster():
    """Two Ray nodes on this machine, a core each; a dead one is noticed within a second."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install pytest-datasize[ray]")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_health_check_period_ms", "500")
        patch.setenv("RAY_health_check_failure_threshold", "2")
        cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
        )
        cluster.add_node(num_cpus=1, wait=False)
        yield cluster
        cluster.shutdown()


@pytest.fixture(scope="session")
def actors(cluster):
    """Actors on that cluster, started once for all tests."""
    engines = Engines()
    yield engines
    engines.close()


@pytest.fixture
def ray(cluster, actors):
    """Options of these actors; nothing is known of tests before."""
    return {"engine": "ray", "ray_address": cluster.address, "engines": Between(actors)}


@pytest.fixture(params=["pool", "ray"])
def workers(request):
    """Options of either."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def spare(workers, request):
    """Options of one more worker: those of other tests keep their places."""
    options = {"workers": 1, "device": "cpu", "ray_address": "", "ray_gpus": 1.0, **workers}
    if workers["engine"] == "processes":
        yield {**options, "workers": 1}
        return
    cluster = request.getfixturevalue("cluster")
    node = cluster.add_node(num_cpus=1)
    yield options
    cluster.remove_node(node)
