"""How many threads one process may use."""

import os


def n_threads() -> int:
    """Threads this process may use: its cores, shared with the other pytest-xdist workers.

    Two processes that each use every core slow each other down many times over.
    """
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return max(1, cores // max(1, workers))
