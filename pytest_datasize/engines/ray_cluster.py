"""Engine: the actors of a Ray cluster, on as many machines as it has."""

import logging
import os
import sys
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pytest_datasize.engines import MOST_TRIES, Job
from pytest_datasize.engines.answers import Failure, answered, pickled
from pytest_datasize.errors import EngineError
from pytest_datasize.threads import THREADS, WORKER, n_threads

LOCAL = "local"
"""Address that starts a cluster of this machine alone, which ends with the session."""

_PATIENCE = 60.0  # seconds without any worker alive until that is an error


class Hand:
    """What runs in the cluster: one actor, which keeps the job and its desk."""

    def __init__(self, number: int, threads: int, path: Sequence[str]) -> None:
        os.environ[WORKER] = str(number)
        os.environ[THREADS] = str(threads)
        sys.path += [entry for entry in path if entry not in sys.path]
        self._desk: dict[Any, Any] = {}
        self._job: Any = None
        self._packed: bytes | None = None

    def ready(self) -> bool:
        """Answer at once: the actor has a place in the cluster."""
        return True

    def answer(self, packed: bytes, portion: Any) -> Any:
        """Do a portion of a job."""
        import pickle

        try:
            if packed != self._packed:
                self._job, self._packed = pickle.loads(packed), packed  # noqa: S301  (our driver's)
            return self._job(portion, self._desk)
        except Exception as problem:
            return Failure.of(problem)


class RayCluster:
    """Actors that hold the backbone; one that dies, or whose machine does, is replaced.

    Parameters
    ----------
    options
        ``ray_address`` (``auto`` joins the cluster that runs, ``local`` starts one, else
        ``HOST:PORT`` or ``ray://HOST:PORT``), ``ray_gpus`` (GPUs of an actor, a fraction for
        several on one), ``workers`` (None: as many as there is room for) and ``device``.

    Raises
    ------
    EngineError
        Ray is not installed, or the cluster cannot be joined.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        try:
            import ray
        except ImportError:
            raise EngineError(
                "engine=ray: Ray is not installed. Run `pip install pytest-datasize[ray]`."
            ) from None
        self._ray: Any = ray
        self._address = options["ray_address"]
        self._asked, self._gpus = options["workers"], options["ray_gpus"]
        self._on_cpu = options["device"] == "cpu"
        self._mine = not ray.is_initialized()
        self._hands: dict[int, Any] = {}  # actors with a place
        self._coming: dict[Any, int] = {}  # promise of a place → number
        self._made: dict[int, Any] = {}
        if self._mine:
            self._join()
        self._share = self._resources()

    def workers(self) -> int:
        """Return how many portions are at work at a time."""
        if self._asked:
            return int(self._asked)
        there = self._ray.cluster_resources()
        if "num_gpus" in self._share:
            return max(1, int(there.get("GPU", 0) / self._share["num_gpus"]))
        return max(1, int(there.get("CPU", 0)))

    def map(self, job: Job, portions: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        """Yield (portion, answer) as they come, each portion once.

        Raises
        ------
        DatasizeError
            What a job raised; or actors keep dying, or the cluster has no room.
        """
        ray = self._ray
        packed = ray.put(pickled(job, "ray"))
        waiting, tries = deque(range(len(portions))), Counter[int]()
        busy: dict[Any, tuple[int, int]] = {}  # promise of an answer → actor, portion
        while waiting or busy:
            self._staff(min(self.workers(), len(waiting) + len(busy)))
            at_work = {number for number, _ in busy.values()}
            for number in [n for n in self._hands if n not in at_work][: len(waiting)]:
                place = waiting.popleft()
                promise = self._hands[number].answer.remote(packed, portions[place])
                busy[promise] = number, place
            done, _ = ray.wait([*busy, *self._coming], timeout=_PATIENCE)
            if not done and not busy:
                raise EngineError(
                    f"engine=ray: the cluster has had no room for a worker in {_PATIENCE:g} s "
                    f"({self._wanted()}). Free some, or ask for less with ray_gpus and workers."
                )
            for promise in done:
                if promise in self._coming:
                    self._welcome(promise)
                    continue
                number, place = busy.pop(promise)
                try:
                    answer = ray.get(promise)
                except ray.exceptions.RayError as problem:
                    tries[place] += 1
                    self._dismiss(number)
                    if tries[place] >= MOST_TRIES:
                        raise EngineError(
                            f"engine=ray: {MOST_TRIES} workers died on the same piece of work, "
                            f"the last by {type(problem).__name__}. Is there enough memory? Ask "
                            "for more with ray_gpus, or set fewer workers."
                        ) from None
                    waiting.appendleft(place)
                else:
                    yield portions[place], answered(answer)

    def close(self) -> None:
        """End the actors, and the cluster if it was started here."""
        for number in list(self._made):
            self._dismiss(number)
        if self._mine:
            self._ray.shutdown()

    # -- the cluster ----------------------------------------------------------------------------

    def _join(self) -> None:
        """Connect without Ray's own words on the terminal."""
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        quiet: dict[str, Any] = {
            "logging_level": logging.CRITICAL,
            "log_to_driver": False,
            "configure_logging": True,
        }
        if self._address == LOCAL:
            quiet |= {"num_cpus": n_threads(), "include_dashboard": False}
        try:
            self._ray.init(address=self._address, **quiet)
        except Exception as problem:  # whatever gRPC, the file system or Ray raise
            hint = (
                "No cluster runs on this machine: start one with `ray start --head`, name one with "
                "ray_address=HOST:PORT, or let ray_address=local start one for this session."
                if self._address == "auto"
                else "Is it running, and of the same versions of Python and Ray?"
            )
            first = str(problem).strip().splitlines() or [type(problem).__name__]
            raise EngineError(
                f"engine=ray: cannot join the cluster at {self._address!r} ({first[0]}). {hint}"
            ) from None

    def _resources(self) -> dict[str, float]:
        if not self._on_cpu and self._ray.cluster_resources().get("GPU"):
            return {"num_gpus": self._gpus, "num_cpus": 1}
        return {"num_cpus": 1}

    def _wanted(self) -> str:
        return ", ".join(f"{name}={value:g}" for name, value in self._share.items())

    def _staff(self, wanted: int) -> None:
        """Ask for actors; one that has no place yet gets no work."""
        for number in range(wanted):
            if number not in self._made:
                actor = self._ray.remote(Hand).options(**self._share, max_restarts=0)
                self._made[number] = actor.remote(number, 1, sys.path)
                self._coming[self._made[number].ready.remote()] = number

    def _welcome(self, promise: Any) -> None:
        number = self._coming.pop(promise)
        try:
            self._ray.get(promise)
        except self._ray.exceptions.RayError:
            self._made.pop(number, None)
        else:
            self._hands[number] = self._made[number]

    def _dismiss(self, number: int) -> None:
        self._hands.pop(number, None)
        self._coming = {p: n for p, n in self._coming.items() if n != number}
        if (actor := self._made.pop(number, None)) is not None:
            with suppress(Exception):  # it, its machine or the whole cluster may be gone
                self._ray.kill(actor)
