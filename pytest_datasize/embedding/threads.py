"""Number of threads and worker number of this process."""

import os

WORKER, THREADS = "PYTEST_DATASIZE_WORKER", "PYTEST_DATASIZE_THREADS"
"""Environment of a worker: its number, and how many threads it may use."""


def n_threads() -> int:
    """Threads this process may use: its cores, shared with the other pytest-xdist workers.

    Two processes that each use every core slow each other down many times over.
    """
    if given := os.environ.get(THREADS):
        return max(1, int(given))
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return max(1, cores // max(1, workers))


def worker_number() -> int | None:
    """Number of this process among those that share a machine's GPUs; None where it is alone."""
    number = os.environ.get(WORKER) or os.environ.get("PYTEST_XDIST_WORKER", "")[2:]  # gw3
    return int(number) if number.isdigit() else None
