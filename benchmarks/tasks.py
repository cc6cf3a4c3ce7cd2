"""Do the intervals hold for sets of labels, numbers, masks and boxes? Many gates, known truth.

    python benchmarks/tasks.py FOLDER --fashion-mnist DIR             all tasks, 40 pools each
    python benchmarks/tasks.py FOLDER --quick                         three pools, one minute
    python benchmarks/tasks.py FOLDER --task segmentation --pools 10

Images are made of real clothes (Fashion-MNIST; without it, of scikit-learn's digits), up to four on
a canvas, so that labels, boxes,
masks and a number (the share of the canvas that is covered) are known. Each pool is a study of its
own; the truth at 1, 2 and 4 times its images are models trained on other images and tested on
4,000. Embeddings are kept in FOLDER.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from truth import load_fashion_mnist

from pytest_datasize import Study
from pytest_datasize.requirement.tasks import TASKS

NAMES: Final = ("top", "trouser", "pullover", "dress", "coat")
SIDE: Final = 64
FACTORS: Final = (1, 2, 4)
LEVEL: Final = 0.9
POOL: Final = 200  # images of a pool, a fifth of which is held out in each repeat
TESTED: Final = 4_000


class Canvases(NamedTuple):
    """N images, and their labels for each task."""

    images: NDArray[np.uint8]
    labels: dict[str, Any]

    def part(self, rows: NDArray[np.int64], task: str) -> tuple[Any, Any]:
        """Return images and labels of some rows."""
        labels = self.labels[task]
        some = labels[rows] if isinstance(labels, np.ndarray) else [labels[row] for row in rows]
        return self.images[rows], some


def canvases(folder: Path | None, n: int, seed: int = 0) -> Canvases:
    """Draw clothes into the quarters of canvases; a quarter may stay empty."""
    clothes, kinds = load_fashion_mnist(folder, "train") if folder else digits()
    rows = np.flatnonzero(kinds < len(NAMES))
    generator = np.random.default_rng(seed)
    images = np.empty((n, SIDE, SIDE, 3), dtype=np.uint8)
    masks = np.zeros((n, SIDE, SIDE), dtype=np.int64)
    boxes = []
    for image, mask in zip(images, masks, strict=True):
        image[:] = generator.integers(0, 60, (SIDE, SIDE, 1))
        corners, labels = [], []
        for quarter in range(4):
            if generator.random() < 0.3:
                continue
            row = generator.choice(rows)
            cloth, ink = clothes[row], clothes[row] > 30
            half = SIDE // 2
            y, x = generator.integers(0, 5, 2) + half * np.array(divmod(quarter, 2))
            image[y : y + 28, x : x + 28][ink] = cloth[ink][:, None]
            mask[y : y + 28, x : x + 28][ink] = kinds[row] + 1
            down, across = np.nonzero(ink)
            corners.append(
                [x + across.min(), y + down.min(), x + across.max() + 1, y + down.max() + 1]
            )
            labels.append(NAMES[kinds[row]])
        boxes.append({"boxes": np.array(corners, float).reshape(-1, 4), "labels": labels})
    shown = np.array([[name in one["labels"] for name in NAMES] for one in boxes])
    covered = (masks > 0).mean(axis=(1, 2)) * 100 + generator.normal(0, 2, n)
    labels: dict[str, Any] = {
        "multilabel": shown.astype(int),
        "regression": covered,
        "segmentation": masks,
        "detection": boxes,
    }
    return Canvases(images, labels)


def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return scikit-learn's digits as images of 28 x 28 pixels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    large = np.kron(found.images, np.ones((1, 3, 3)))
    images = np.zeros((len(large), 28, 28), dtype=np.uint8)
    images[:, 2:26, 2:26] = large * 15.9
    return images, found.target.astype(np.int64)


class Found(NamedTuple):
    """One projection and its truth."""

    metric: str
    factor: int
    error: float
    held: bool
    width: float


def study(made: Canvases, rows: NDArray[np.int64], task: str, store: Path, **options: Any) -> Study:
    """Return a study of some rows."""
    return Study(
        made.part(rows, task),
        task=task,
        image_size=None if task == "segmentation" else 96,
        features="stages",
        store=store,
        device="cpu",
        checks="alike=ignore,duplicates=ignore",
        **options,
    )


def measure(made: Canvases, task: str, store: Path, pools: int, repeats: int) -> list[Found]:
    """Project the scores of many pools, and compare them with the truth."""
    n = len(made.images)
    others = np.arange(TESTED, n)
    available = POOL - POOL // 5
    sizes = tuple(available * factor for factor in FACTORS)
    whole = study(
        made,
        others,
        task,
        store,
        test_dataset=made.part(np.arange(TESTED), task),
        sizes=sizes,
        repeats=repeats,
    ).run()
    truth = {name: [float(np.mean(runs)) for runs in whole.scores[name]] for name in whole.scores}
    found = []
    generator = np.random.default_rng(1)
    for number in range(pools):
        rows = generator.choice(others, POOL, replace=False)
        result = study(made, rows, task, store, seed=number).run()
        for name, curve in result.curves.items():
            if TASKS[task].metrics[name].of_class:
                continue
            sign = result.outcomes[name].sign
            for factor, true in zip(FACTORS, truth[name], strict=True):
                images = result.available * factor
                low, high = curve.interval(images, LEVEL)
                error = curve.predict(images) - sign * true
                held = low <= sign * true <= high
                found.append(Found(name, factor, error, held, high - low))
    return found


def main() -> None:
    """Print how often intervals hold, for each task and metric."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where embeddings are kept")
    parser.add_argument("--fashion-mnist", type=Path, help="folder of its idx files")
    tasks = [name for name in TASKS if name != "classification"]
    parser.add_argument("--task", choices=tasks, action="append")
    parser.add_argument("--pools", type=int, default=40)
    parser.add_argument("--quick", action="store_true", help="three pools and fewer images")
    options = parser.parse_args()
    pools, repeats = (3, 2) if options.quick else (options.pools, 8)
    made = canvases(options.fashion_mnist, TESTED + (900 if options.quick else 4_000))
    print(f"{pools} pools of {POOL} images; {LEVEL:.0%} intervals")
    print(f"{'task':<14}{'metric':<20}{'x':>3}{'error':>9}{'bias':>9}{'width':>9}{'holds':>8}")
    for task in options.task or tasks:
        start = time.perf_counter()
        found = measure(made, task, options.folder, pools, repeats)
        by_place: dict[tuple[str, int], list[Found]] = defaultdict(list)
        for one in found:
            by_place[one.metric, one.factor].append(one)
        for (metric, factor), some in by_place.items():
            errors = np.array([one.error for one in some])
            print(
                f"{task:<14}{metric:<20}{factor:>3}{np.abs(errors).mean():>9.4f}"
                f"{errors.mean():>9.4f}{np.mean([one.width for one in some]):>9.4f}"
                f"{np.mean([one.held for one in some]):>8.0%}"
            )
        share = np.mean([one.held for one in found])
        print(f"{task:<14}{'all':<20}{share:>38.1%}   {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
