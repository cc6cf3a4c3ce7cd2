"""Engine of actors in a Ray cluster, on one or more machines."""

import logging
import os
import socket
import sys
import warnings
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pytest_datasize.embedding.threads import THREADS, WORKER, n_threads
from pytest_datasize.errors import EngineError
from pytest_datasize.requirement.versions import EVIDENCE, versions
from pytest_datasize.study.engines import MOST_TRIES, Task
from pytest_datasize.study.engines.answers import Failure, answered, pickled

LOCAL = "local"
"""Address that starts a cluster on this machine only; it ends with the session."""

_HINTS = {
    "auto": "No cluster runs on this machine: start one with `ray start --head`, name one with "
    "ray_address=HOST:PORT, or let ray_address=local start one for this session.",
    LOCAL: "Does `ray start --head` work here?",
}
_ELSEWHERE = (
    "Is it running, of the same versions of Python and Ray, and is RAY_AUTH_MODE here what it is "
    "there?"
)
PATIENCE = 60.0
"""Seconds without a live worker before an error is raised."""
_ANSWER = 10.0  # seconds within which a cluster must answer


class Actor:
    """The class of the actors in the cluster; an actor keeps its task and state."""

    def __init__(self, number: int, threads: int, path: Sequence[str]) -> None:
        os.environ[WORKER] = str(number)
        os.environ[THREADS] = str(threads)
        sys.path += [entry for entry in path if entry not in sys.path]
        self._state: dict[Any, Any] = {}
        self._task: Any = None
        self._named = ""

    def ready(self) -> dict[str, str]:
        """Answer at once: the actor has a place in the cluster; return its package versions."""
        return shared_versions()

    def answer(self, named: str, packed: Sequence[Any], item: Any) -> Any:
        """Process an item of a task; the task is fetched only if it differs from the last one."""
        import pickle

        import ray

        try:
            if named != self._named:
                self._task = pickle.loads(ray.get(packed[0]))  # noqa: S301  (our driver's)
                self._named = named
            return self._task(item, self._state)
        except Exception as problem:
            return Failure.of(problem)


class RayCluster:
    """Actors of a Ray cluster; one that dies, or whose machine dies, is replaced.

    Parameters
    ----------
    options
        ``ray_address`` (``auto`` joins the cluster that runs, ``local`` starts one, else
        ``HOST:PORT`` or ``ray://HOST:PORT``), ``ray_gpus`` (GPUs of an actor, a fraction for
        several on one), ``workers`` (None: as many as fit) and ``device``.

    Raises
    ------
    EngineError
        Ray is not installed, the cluster cannot be joined, or a GPU is named by its number.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        if options["device"].startswith("cuda:"):
            raise EngineError(
                f"engine=ray: device={options['device']!r} names a GPU of this machine, and an "
                "actor sees only the one that Ray gives it. Use device='cuda' or 'auto'."
            )
        try:
            with warnings.catch_warnings(action="ignore"):
                import ray
        except ImportError:
            raise EngineError(
                "engine=ray: Ray is not installed. Run `pip install pytest-datasize[ray]`."
            ) from None
        self._ray: Any = ray
        self._address = options["ray_address"]
        self._asked, self._gpus = options["workers"], options["ray_gpus"]
        self._on_cpu = options["device"] == "cpu"
        self._mine = False
        self._ready: dict[int, Any] = {}  # actors with a place
        self._starting: dict[Any, int] = {}  # promise of a place → number
        self._actors: dict[int, Any] = {}
        self._failed_starts = 0  # actors in a row that died before they had a place
        self.share: dict[str, float] = {}
        self._join()

    def workers(self) -> int:
        """Return how many items are processed at a time."""
        if self._asked:
            return int(self._asked)
        there = self._ray.cluster_resources()
        if "num_gpus" in self.share:
            return max(1, int(there.get("GPU", 0) / self.share["num_gpus"]))
        return max(1, int(there.get("CPU", 0)))

    def map(self, task: Task, items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        """Yield (item, answer) as answers arrive, each item once.

        Raises
        ------
        DatasizeError
            A task raised it; or actors keep dying, or the cluster has no room.
        """
        self._join()
        ray = self._ray
        packed = ray.put(pickled(task, "ray"))
        waiting, tries = deque(range(len(items))), Counter[int]()
        busy: dict[Any, tuple[int, int, Any]] = {}  # promise → actor, index of its item, item
        try:
            while waiting or busy:
                self._staff(min(self.workers(), len(waiting) + len(busy)))
                at_work = {number for number, *_ in busy.values()}
                for number in [n for n in self._ready if n not in at_work][: len(waiting)]:
                    place = waiting.popleft()
                    item, send = items[place], self._ready[number].answer.remote
                    # in a list: the actor fetches the task itself, once
                    busy[send(packed.hex(), [packed], item)] = number, place, item
                done, _ = ray.wait([*busy, *self._starting], timeout=PATIENCE)
                if not done and not busy:
                    raise self._no_room()
                for promise in done:
                    if promise in self._starting:
                        self._count_on(promise)
                        continue
                    number, place, item = busy.pop(promise)
                    try:
                        answer = ray.get(promise)
                    except ray.exceptions.RayError as problem:
                        self._dismiss(number)
                        tries[place] += 1
                        if tries[place] >= MOST_TRIES:
                            raise self._died(problem) from None
                        waiting.appendleft(place)
                    else:
                        yield item, answered(answer)
        finally:
            for number, *_ in busy.values():  # their answers are no longer needed
                self._dismiss(number)

    def close(self) -> None:
        """End the actors, and the cluster if it was started here."""
        for number in list(self._actors):
            self._dismiss(number)
        if self._mine:
            self._mine = False
            self._ray.shutdown()

    # -- the cluster ----------------------------------------------------------------------------

    def _join(self) -> None:
        """Connect, with Ray's own messages silenced, unless this process is connected.

        A test of the user may have connected or disconnected before.
        """
        if self._ray.is_initialized():
            self.share = self.share or self._resources()
            return
        self._ready, self._starting, self._actors = {}, {}, {}
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        quiet: dict[str, Any] = {"logging_level": logging.CRITICAL, "log_to_driver": False}
        if self._address == LOCAL:
            quiet |= {"num_cpus": n_threads(), "include_dashboard": False}
        try:
            _knock(self._address)
            with warnings.catch_warnings(action="ignore"):
                self._ray.init(address=self._address, **quiet)
        except Exception as problem:  # whatever gRPC, the file system or Ray raise
            first = str(problem).strip().splitlines() or [type(problem).__name__]
            raise EngineError(
                f"engine=ray: cannot join the cluster at {self._address!r} ({first[0]}). "
                f"{_HINTS.get(self._address, _ELSEWHERE)}"
            ) from None
        self._mine = True
        self.share = self._resources()

    def _resources(self) -> dict[str, float]:
        return actor_resources(self._ray.nodes(), 0 if self._on_cpu else self._gpus)

    def _staff(self, wanted: int) -> None:
        """Request actors; an actor gets work only once it has a place."""
        threads = int(self.share["num_cpus"])
        for number in range(wanted):
            if number not in self._actors:
                actor = self._ray.remote(Actor).options(**self.share, max_restarts=0)
                self._actors[number] = actor.remote(number, threads, sys.path)
                self._starting[self._actors[number].ready.remote()] = number

    def _count_on(self, promise: Any) -> None:
        """Add a started actor to those that get work.

        Raises
        ------
        EngineError
            Actors cannot start, or have other package versions.
        """
        number = self._starting.pop(promise)
        try:
            versions = self._ray.get(promise)
        except self._ray.exceptions.RayError as problem:
            self._dismiss(number)
            self._failed_starts += 1
            if self._failed_starts >= MOST_TRIES:
                self._failed_starts = 0
                raise EngineError(
                    f"engine=ray: workers cannot start ({_cause(problem)}). Every machine of the "
                    "cluster needs pytest-datasize and what it depends on, as installed here."
                ) from None
            return
        self._failed_starts = 0
        if differing := _differing(versions):
            self._dismiss(number)
            raise EngineError(
                f"engine=ray: the cluster has other versions than this machine: {differing}. "
                "Install the same on all."
            )
        self._ready[number] = self._actors[number]

    def _dismiss(self, number: int) -> None:
        self._ready.pop(number, None)
        self._starting = {p: n for p, n in self._starting.items() if n != number}
        actor = self._actors.pop(number, None)
        # when not connected, ray.kill would start a cluster of its own
        if actor is not None and self._ray.is_initialized():
            with suppress(Exception):  # it, its machine or the whole cluster may be gone
                self._ray.kill(actor)

    def _no_room(self) -> EngineError:
        wanted = ", ".join(f"{name}={value:g}" for name, value in self.share.items())
        return EngineError(
            f"engine=ray: the cluster has had no room for a worker in {PATIENCE:g} s ({wanted}). "
            "Free some, or ask for less with ray_gpus and workers."
        )

    def _died(self, problem: Exception) -> EngineError:
        return EngineError(
            f"engine=ray: {MOST_TRIES} workers died on the same piece of work, the last by "
            f"{type(problem).__name__}. Is there enough memory? Ask for more with ray_gpus, or "
            "set fewer workers."
        )


def actor_resources(nodes: Sequence[Mapping[str, Any]], gpus: float) -> dict[str, float]:
    """Return the resources of an actor: with a GPU, also its share of the cores.

    Parameters
    ----------
    nodes
        The machines, as ``ray.nodes()`` describes them.
    gpus
        GPUs of an actor; 0 if the CPU was requested.

    Examples
    --------
    >>> actor_resources([{"Alive": True, "Resources": {"CPU": 64.0, "GPU": 8.0}}], 0.5)
    {'num_gpus': 0.5, 'num_cpus': 4}
    """
    machines = [node["Resources"] for node in nodes if node["Alive"]]
    cores = [
        machine.get("CPU", 1) * gpus / max(machine["GPU"], gpus)
        for machine in machines
        if machine.get("GPU")
    ]
    if not cores or not gpus:
        return {"num_cpus": 1}
    return {"num_gpus": gpus, "num_cpus": max(1, int(min(cores)))}


def _knock(address: str) -> None:
    """Raise OSError if nothing listens at HOST:PORT; Ray would retry and log for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER).close()


def shared_versions() -> dict[str, str]:
    """Return the versions that all machines of a cluster must share."""
    # 2.8.0+cu128 and 2.8.0+cpu are the same torch
    return {name: found.partition("+")[0] for name, found in versions(EVIDENCE).items()}


def _differing(there: Mapping[str, str]) -> str:
    here = shared_versions()
    return ", ".join(
        f"{name} {there.get(name)} there, {version} here"
        for name, version in here.items()
        if there.get(name) != version
    )


def _cause(problem: Exception) -> str:
    """Return the last line of a Ray error: the error of the actor itself."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return lines[-1] if lines else type(problem).__name__
