"""How time and memory grow with the pool, from a thousand images to ten million.

    python benchmarks/scale.py [--images 1000 10000 ...] [--folder DIR] [--plot scale.png]
    python benchmarks/scale.py --steps [--images 12500 50000 200000] [--classes 20 100 500]

The embeddings are simulated (1,280 features of ten classes, written to a memory-mapped shard as the
store has them: 25 GB for ten million images), everything after them is what a gate does: plan, 80
heads with their choice of strength, curve and verdict. Every pool is a process of its own. Shown
are seconds by stage, rows that were read, the peak of memory, and of that what was there before the
first row was read (imports).

Without --images the pools grow by tens up to what the folder has room for.

``--steps`` shows the CPU seconds of every other step of a gate at three sizes, and the exponent of
the growth from the first to the last: 1 is linear. First with more images of 20 classes, then with
more classes. Hashes of contents, perceptual hashes, embeddings and predictions are simulated;
near-duplicates are searched among images that differ, and among parts in one pose, which share most
of their bits.
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
    parser.add_argument("--steps", action="store_true", help="time the other steps of a gate")
    parser.add_argument("--classes", type=int, nargs="+", default=[20, 100, 500])
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(judged(Path(arguments.child[0]), int(arguments.child[1]))))
        return
    if arguments.steps:
        images = arguments.images or [12_500, 50_000, 200_000]
        growth("images", images, [steps(n, arguments.classes[0]) for n in images])
        classes, n = arguments.classes, images[0]
        growth(f"classes, {n:,} images", classes, [steps(n, count) for count in classes])
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
    work = Work(
        plan=plan,
        image_sets=(images,),
        labels=images.labels,
        n_classes=CLASSES,
        backbone=simulated(),
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


def simulated() -> Any:
    """Return a backbone that is never run."""
    import torch
    from torch import nn

    from pytest_datasize.embedding.backbone import Backbone

    return Backbone(
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


def growth(what: str, sizes: list[int], found: list[dict[str, float]]) -> None:
    """Print the CPU seconds of every step at every size, and the exponent of the growth."""
    print(f"{'':38}" + "".join(f"{size:>11,}" for size in sizes) + f"  {what}")
    for step in found[0]:
        seconds = [one[step] for one in found]
        times = np.log(max(seconds[-1], 1e-3) / max(seconds[0], 1e-3))
        exponent = f"{times / np.log(sizes[-1] / sizes[0]):7.2f}" if len(sizes) > 1 else ""
        print(f"{step:38}" + "".join(f"{one:9.2f} s" for one in seconds) + exponent, flush=True)


def steps(n: int, classes: int) -> dict[str, float]:
    """Time every step of a gate but embedding."""
    from dataclasses import replace

    import torch

    from pytest_datasize.images.duplicates import unique
    from pytest_datasize.images.image_set import ImageSet, Loaded
    from pytest_datasize.images.near_duplicates import find, separated
    from pytest_datasize.images.pool import Pool
    from pytest_datasize.reports.records.advice import advice
    from pytest_datasize.requirement.options import OPTIONS
    from pytest_datasize.store import Store
    from pytest_datasize.study.scoring import measure
    from pytest_datasize.trials.plan import draw
    from pytest_datasize.trials.strategies import feature_extraction
    from pytest_datasize.trials.work import Trials, Work

    rng = np.random.default_rng(0)
    found: dict[str, float] = {}

    def timed(step: str, call: Any) -> Any:
        start = time.process_time()
        made = call()
        found[step] = time.process_time() - start
        return made

    contents = [bytes(row).hex() for row in rng.integers(0, 256, (n, 16), dtype=np.uint8)]
    contents[: n // 100] = contents[-(n // 100) :]
    images = ImageSet(
        source="simulated",
        classes=tuple(f"class {k}" for k in range(classes)),
        labels=rng.integers(classes, size=n),
        read=lambda row: np.zeros((8, 8, 3), np.uint8),
        name=lambda row: f"image {row}",
        digests=tuple(contents),
    )
    kept = timed("exact copies", lambda: unique(Loaded(images)))
    hashes = perceptual(rng, len(kept.images), 0.5)
    near = timed("near-duplicates of different images", lambda: find(hashes))
    posed = perceptual(rng, len(kept.images), 0.15)
    timed("near-duplicates of parts in one pose", lambda: find(posed))
    apart = timed("groups of near-duplicates", lambda: separated(kept, near))
    pool = Pool({"checks": ""}, Store(), 1, lambda *_: None)
    pool._separated = apart
    timed("fingerprint", pool.fingerprint)
    plan = timed("plan", lambda: draw(apart.images))
    options = {name: option.default for name, option in OPTIONS.items()}
    options["strategy"] = "from_scratch"  # no embeddings, whose neighbours are searched
    work = Work(
        plan=plan,
        image_sets=(apart.images,),
        labels=apart.images.labels,
        n_classes=classes,
        backbone=simulated(),
        device=torch.device("cpu"),
        store=Store(),
        precision="float32",
        seed=0,
        on_progress=lambda *_: None,
        options=options,
    )
    learnt = replace(work, features=features(rng, work.labels, classes))
    timed("heads of one repeat, 128 features", lambda: feature_extraction.run(learnt, (0, 1)))
    odds = rng.standard_normal((plan.n_test, classes), dtype=np.float32)

    def predicted(size: int, rows: Any) -> Any:
        logits = odds[rng.permutation(len(odds))][: len(rows)]
        logits[np.arange(len(rows)), work.labels[rows]] += 1 + np.log10(size)
        shares = np.exp(logits)
        return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)

    made = tuple(
        tuple(predicted(size, repeat.test) for repeat in plan.repeats) for size in plan.sizes
    )
    timings: dict[str, float] = {}

    def strategy(work: Work, span: tuple[int, int]) -> Trials:
        return Trials(tuple(one[slice(*span)] for one in made), {})

    result = timed("scores and findings", lambda: measure(work, strategy, timings))
    result = timed("curves of all metrics", lambda: fitted(result))
    verdict = timed("verdict, accuracy", lambda: result.verdict(accuracy=0.95))
    timed("verdict, recall of every class", lambda: result.verdict(recall_per_class=0.95))
    timed("class curves, all together", lambda: result.grown_classes)
    timed("advice", lambda: advice(verdict.judgements[0], result, None, None))
    return found


def features(rng: np.random.Generator, labels: Any, classes: int) -> Any:
    """Return simulated embeddings: class centres and noise."""
    import torch

    centres = rng.standard_normal((classes, 128), dtype=np.float32) * 0.3
    rows = centres[labels] + rng.standard_normal((len(labels), 128), dtype=np.float32)
    return torch.from_numpy(rows.astype(np.float16))


def fitted(result: Any) -> Any:
    """Fit the curve of every metric."""
    for metric in result.outcomes:
        assert result.curves[metric] is not None
    return result


def perceptual(rng: np.random.Generator, n: int, share: float) -> Any:
    """Return perceptual hashes that differ from a common one in a share of the bits.

    One image in a hundred is a near-duplicate of another.
    """
    common = rng.integers(0, 2, (5, 256), dtype=np.uint8)
    hashes = np.empty((n, 5, 32), dtype=np.uint8)
    for first in range(0, n, _BLOCK):
        rows = min(_BLOCK, n - first)
        turned = rng.random((rows, 5, 256), dtype=np.float32) < share
        hashes[first : first + rows] = np.packbits(common ^ turned, axis=2)
    hashes[: n // 100] = hashes[-(n // 100) :] ^ np.uint8(1)
    hashes[:, :, 0] |= 0x80  # shows enough to be compared
    return hashes


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
