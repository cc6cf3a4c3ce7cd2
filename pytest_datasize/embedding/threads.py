"""Number of threads and worker number of this process."""

import os

WORKER, THREADS = "PYTEST_DATASIZE_WORKER", "PYTEST_DATASIZE_THREADS"
"""Environment of a worker: its number, and how many threads it may use."""

_FEEDING = 4


def n_threads() -> int:
    """Threads this process may use: its cores, shared with the other pytest-xdist workers.

    Two processes that each use every core slow each other down many times over.
    """
    if given := os.environ.get(THREADS):
        return max(1, int(given))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return max(1, _cores() // max(1, workers))


def feeding_threads() -> int:
    """Threads that read images for a GPU: at least four where there are as many cores.

    With pytest-xdist one worker embeds, and the others wait for its embeddings or for the GPU.
    """
    given = n_threads()
    return given if os.environ.get(THREADS) else max(given, min(_FEEDING, _cores()))


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def worker_number() -> int | None:
    """Number of this process among those that share a machine's GPUs; None where it is alone."""
    number = os.environ.get(WORKER) or os.environ.get("PYTEST_XDIST_WORKER", "")[2:]  # gw3
    return int(number) if number.isdigit() else None
