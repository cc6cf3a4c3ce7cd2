"""Engine of worker processes on this machine, one per GPU or per share of the cores."""

import atexit
import os
import pickle
import signal
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing import get_context, get_start_method, set_start_method
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from pytest_datasize.embedding.threads import THREADS, WORKER, n_threads
from pytest_datasize.errors import EngineError
from pytest_datasize.study.engines import MOST_TRIES, Task
from pytest_datasize.study.engines.answers import Failure, answered, pickled

_CORES = 4  # per worker on large machines: up to four, threads of one process are as fast


class _Worker(NamedTuple):
    """A worker process and its connection."""

    number: int
    process: Any
    line: Connection


class Processes:
    """A pool of worker processes; one that dies is replaced, and its item repeated.

    Parameters
    ----------
    options
        ``workers`` (None: one for every visible GPU; without any, one for every four cores, at
        least two) and ``device``.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._number = options["workers"] or _default(options["device"])
        self._threads = max(1, n_threads() // self._number)
        self._workers: dict[int, _Worker] = {}
        self._known: dict[int, int] = {}  # worker → identity of the task that it holds
        self._jobs = 0
        # before multiprocessing waits for processes that wait for us
        atexit.register(self.close)

    def workers(self) -> int:
        """Return how many items are processed at a time."""
        return self._number

    def map(self, task: Task, items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        """Yield (item, answer) as answers arrive, each item once.

        Raises
        ------
        DatasizeError
            A task raised it; or workers keep dying on an item.
        """
        packed = pickled(task, "processes")
        self._jobs += 1
        waiting, tries = deque(range(len(items))), Counter[int]()
        busy: dict[int, tuple[int, Any]] = {}  # worker → index of its item, the item
        try:
            while waiting or busy:
                idle = [number for number in range(self._number) if number not in busy]
                for number in idle[: len(waiting)]:
                    place = waiting.popleft()
                    busy[number] = place, items[place]
                    self._send(number, packed, busy[number][1])
                for number in self._ready(busy):
                    place, item = busy.pop(number)
                    try:
                        answer = self._workers[number].line.recv()
                    except (EOFError, OSError):
                        tries[place] += 1
                        died = self._bury(number)
                        if tries[place] >= MOST_TRIES:
                            raise EngineError(
                                f"engine=processes: {MOST_TRIES} worker processes died on the same "
                                f"piece of work, the last with exit code {died}. Is there enough "
                                "memory? Set fewer workers, or engine=local."
                            ) from None
                        waiting.appendleft(place)
                    else:
                        yield item, answered(answer)
        finally:
            for number in busy:  # their answers are no longer needed
                self._bury(number)

    def close(self) -> None:
        """End the processes."""
        atexit.unregister(self.close)
        for number in list(self._workers):
            self._bury(number)

    def _send(self, number: int, packed: bytes, item: Any) -> None:
        worker = self._workers.get(number) or self._start(number)
        task = b"" if self._known.get(number) == self._jobs else packed
        self._known[number] = self._jobs
        with suppress(OSError):  # it is dead; detected when no answer arrives
            worker.line.send((task, item))

    def _start(self, number: int) -> _Worker:
        context = get_context("spawn")  # a forked process cannot use CUDA, nor torch's threads
        line, other = context.Pipe()
        process = context.Process(
            target=_serve,
            args=(other, number, self._threads, get_start_method()),
            name=f"datasize worker {number}",
        )  # no daemon: those may not have children, such as the workers of a DataLoader
        process.start()
        other.close()
        self._workers[number] = _Worker(number, process, line)
        return self._workers[number]

    def _ready(self, busy: Mapping[int, Any]) -> list[int]:
        lines = {self._workers[number].line: number for number in busy}
        return [lines[line] for line in wait(list(lines)) if isinstance(line, Connection)]

    def _bury(self, number: int) -> int | None:
        worker = self._workers.pop(number)
        self._known.pop(number, None)
        worker.line.close()
        worker.process.kill()
        worker.process.join()
        code: int | None = worker.process.exitcode
        return code


def _default(device: str) -> int:
    if device.startswith("cuda:"):  # only this GPU was requested
        return 1
    if device != "cpu":
        import torch

        if count := torch.cuda.device_count():
            return count
    return max(2, n_threads() // _CORES)


def _serve(line: Connection, number: int, threads: int, method: str) -> None:
    """Answer items until the connection closes."""
    _settle(number, threads)
    set_start_method(method, force=True)  # that of a spawned process would be spawn
    state: dict[Any, Any] = {}
    task: Any = None
    while True:
        try:
            packed, item = line.recv()
        except (EOFError, OSError):
            return
        try:
            task = pickle.loads(packed) if packed else task  # noqa: S301  (from our own parent)
            answer = task(item, state)
        except BaseException as problem:
            answer = Failure.of(problem)
        with suppress(OSError):  # the parent has gone
            line.send(answer)


def _settle(number: int, threads: int) -> None:
    """Limit this worker to its share of the threads, before torch counts cores; ignore Ctrl-C.

    The parent handles Ctrl-C. Threads are not pinned to cores: a pinned worker waits whenever
    another program uses its core.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ[WORKER] = str(number)
    os.environ[THREADS] = str(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)
