"""How time and memory grow with the pool, from a thousand images to ten million.

    python benchmarks/scale.py [--images 1000 10000 ...] [--folder DIR] [--plot scale.png]

The embeddings are simulated (1,280 features of ten classes, written to a memory-mapped shard as the
store has them: 25 GB for ten million images), everything after them is what a gate does: plan, 80
heads with their choice of strength, curve and verdict. Every pool is a process of its own. Shown
are seconds by stage, rows that were read, the peak of memory, and of that what was there before the
first row was read (imports).

Without --images the pools grow by tens up to what the folder has room for.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

WIDTH, CLASSES, PATTERNS = 1280, 10, 8192
_BLOCK = 1 << 15


def main() -> None:
    """Run every pool and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+")
    parser.add_argument("--folder", type=Path, help="where the pool is written")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(judged(Path(arguments.child[0]), int(arguments.child[1]))))
        return
    folder = Path(tempfile.mkdtemp(prefix="scale-", dir=arguments.folder))
    try:
        found = [
            run(folder, n)
            for n in arguments.images or [10**k for k in range(3, 8)]
            if room(folder, n)
        ]
    finally:
        shutil.rmtree(folder)
    if arguments.plot:
        plot(found, arguments.plot)


def room(folder: Path, n: int) -> bool:
    """Whether a pool fits on the disk, with a tenth to spare."""
    fits = 2.2 * WIDTH * n < shutil.disk_usage(folder).free
    if not fits:
        print(f"{n:>11,} images: no room for {2 * WIDTH * n / 1e9:.0f} GB")
    return fits


def run(folder: Path, n: int) -> dict[str, Any]:
    """Write a pool, judge it in a process of its own, print its line."""
    path = folder / f"{n}.f16"
    start = time.perf_counter()
    write(path, n)
    written = time.perf_counter() - start
    command = [sys.executable, __file__, "--child", str(path), str(n)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    path.unlink()
    found: dict[str, Any] = {"images": n, "written": written, **json.loads(done.stdout)}
    print(
        f"{n:>11,} images  {2 * WIDTH * n / 1e9:7.3f} GB  plan {found['plan']:6.1f} s  heads "
        f"{found['heads']:6.1f} s  curve {found['curve']:5.1f} s  verdict {found['verdict']:5.1f} s"
        f"  rows read {found['rows']:>9,}  peak {found['peak'] / 1e6:6.0f} MB, of that imports "
        f"{found['imports'] / 1e6:4.0f} MB  {found['says']}",
        flush=True,
    )
    return found


def labels_of(n: int) -> Any:
    """Return the classes of a pool."""
    return np.arange(n) % CLASSES


def write(path: Path, n: int) -> None:
    """Write a pool: class centres, and noise of which no two rows of a block have the same."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLASSES, WIDTH), dtype=np.float32) * 0.09
    noise = rng.standard_normal((PATTERNS, WIDTH), dtype=np.float32)
    with path.open("wb") as stream:
        for first in range(0, n, _BLOCK):
            rows = np.arange(first, min(first + _BLOCK, n))
            flip = rng.choice(np.array([-1.0, 1.0], np.float32), (1, WIDTH))
            block = noise[rng.integers(PATTERNS, size=len(rows))] * flip
            block += noise[rng.integers(PATTERNS, size=len(rows))]
            block += centres[labels_of(n)[rows]]
            stream.write(block.astype(np.float16).tobytes())


def judged(path: Path, n: int) -> dict[str, Any]:
    """Take a pool through plan, heads, curve and verdict."""
    import torch
    from torch import nn

    from pytest_datasize.embedding.backbone import Backbone
    from pytest_datasize.embedding.features import StoredFeatures
    from pytest_datasize.images.image_set import ImageSet
    from pytest_datasize.requirement.options import OPTIONS
    from pytest_datasize.store import Store
    from pytest_datasize.store.mapped import MappedRows
    from pytest_datasize.study.scoring import measure
    from pytest_datasize.trials.plan import draw
    from pytest_datasize.trials.strategies import feature_extraction
    from pytest_datasize.trials.work import Work

    class Counted(MappedRows):
        read = 0

        def take(self, rows: Any) -> Any:
            Counted.read += len(rows)
            return super().take(rows)

    imports = peak()
    images = ImageSet(
        source="simulated",
        classes=tuple(f"class {k}" for k in range(CLASSES)),
        labels=labels_of(n),
        read=lambda row: np.zeros((8, 8, 3), np.uint8),
        name=lambda row: f"image {row}",
    )
    start = time.perf_counter()
    plan = draw(images)
    planned = time.perf_counter()
    shard = np.memmap(path, dtype=np.float16, mode="r", shape=(n, WIDTH))
    rows = Counted([shard], np.zeros(n, dtype=np.int8), np.arange(n))
    model = Backbone(
        name="simulated",
        model=nn.Identity(),
        crop=lambda picture: torch.zeros(3, 8, 8, dtype=torch.uint8),
        mean=(0.0,),
        std=(1.0,),
        image_size=8,
        weights_source="simulated",
        weights_hash="",
        content="",
        files=(),
        key="simulated",
        given="",
    )
    work = Work(
        plan=plan,
        image_sets=(images,),
        labels=images.labels,
        n_classes=CLASSES,
        backbone=model,
        device=torch.device("cpu"),
        store=Store(),
        precision="float16",
        seed=0,
        on_progress=lambda *_: None,
        features=StoredFeatures([rows], torch.device("cpu")),
        options={name: option.default for name, option in OPTIONS.items()},
    )
    timings: dict[str, float] = {}
    result = measure(work, feature_extraction.run, timings)
    measured = time.perf_counter()
    curve = result.curves["accuracy"]
    fitted = time.perf_counter()
    verdict = result.verdict(accuracy=0.95)
    ended = time.perf_counter()
    return {
        "plan": planned - start,
        "heads": measured - planned,
        "curve": fitted - measured,
        "verdict": ended - fitted,
        "rows": Counted.read,
        "imports": imports,
        "peak": peak(),
        "sizes": [plan.sizes[0], plan.sizes[-1]],
        "says": f"{verdict.status.value}, accuracy {curve.predict(plan.sizes[-1]):.3f} with "
        f"{plan.sizes[-1]:,}",
    }


def peak() -> float:
    """Peak resident memory in bytes, pages of mapped files included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def plot(found: list[dict[str, Any]], path: Path) -> None:
    """Draw seconds and memory against images."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    images = [one["images"] for one in found]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for stage in ("plan", "heads", "curve", "verdict"):
        left.loglog(images, [one[stage] for one in found], "o-", label=stage)
    left.set(xlabel="images", ylabel="seconds")
    left.legend()
    right.loglog(images, [one["peak"] / 1e9 for one in found], "o-", label="peak")
    right.loglog(images, [2 * WIDTH * n / 1e9 for n in images], "--", label="all embeddings")
    right.set(xlabel="images", ylabel="GB")
    right.legend()
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
