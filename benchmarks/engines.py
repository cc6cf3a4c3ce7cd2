"""Images embedded a second: this process, one worker, two workers, workers of a local Ray cluster.

    python benchmarks/engines.py [--images 1000] [--rounds 3] [--ray]

Every worker has one thread, so that one stands for one core; this process has as many threads as
the most workers. Workers are started, and have loaded the backbone, before the clock runs; every
figure begins with an empty store. Rounds are interleaved, the best of each figure counts.
"""

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

import conformal_clip_data

from pytest_datasize import Study
from pytest_datasize.embedding.threads import THREADS
from pytest_datasize.store import Store
from pytest_datasize.study.engines import Engines
from pytest_datasize.study.workers.dispatch import Dispatcher

WORKERS = 2


def main() -> None:
    """Run all figures and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ray", action="store_true")
    arguments = parser.parse_args()
    figures = [("local", WORKERS), ("processes", 1), ("processes", WORKERS)]
    if arguments.ray:
        figures += [("ray", 1), ("ray", WORKERS)]
    # a item for every worker: all have loaded the backbone then
    place = tempfile.TemporaryDirectory()
    pool, few = (textiles(Path(place.name), n) for n in (arguments.images, 64 * WORKERS))
    best: dict[tuple[str, int], float] = {}
    engines = Engines()
    try:
        for _ in range(arguments.rounds):
            for engine, workers in figures:
                seconds(few, engine, workers, engines)
                rate = arguments.images / seconds(pool, engine, workers, engines)
                best[engine, workers] = max(best.get((engine, workers), 0.0), rate)
    finally:
        engines.close()
        place.cleanup()
    one = best["processes", 1]
    for (engine, workers), rate in best.items():
        what = "threads" if engine == "local" else "workers"
        print(f"{engine:10} {workers} {what}  {rate:7.1f} images/s  {rate / one:5.2f} x one worker")


def textiles(folder: Path, count: int) -> Path:
    """Copy evenly spaced images of the three kinds into a folder of their own."""
    root = Path(conformal_clip_data.textile_simulated_root())
    files = sorted(root.rglob("*.jpg"))
    for path in files[:: max(1, len(files) // count)][:count]:
        place = folder / str(count) / path.parent.name / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    return folder / str(count)


def seconds(data: Path, engine: str, workers: int, all_: Engines) -> float:
    """Embed all images with an empty store."""
    os.environ[THREADS] = str(workers)
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder)) as store:
        given = {"dataset": str(data), "engine": engine, "workers": workers, "ray_address": "local"}
        study = Study(**given, store=store, engines=all_)
        started = all_.get(study.options)
        start = time.perf_counter()
        if started is None:
            study.embed(study.context.pool.raw.images)
        else:
            with Dispatcher(started, study.context) as workers:
                workers.embed(tuple(part for part in study.context.pool.raw if part))
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
