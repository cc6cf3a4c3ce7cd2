"""What fine-tuning costs and gains, against a head on frozen features and against early stopping.

    python benchmarks/fine_tuning.py [--fashion-mnist DIR] [--only NAME] [--quick]

``default`` is the strategy ``fine_tuning`` as it is. ``stopped`` is the usual recipe: the head by
steps, then Adam at a constant rate of 3e-4 for at most 30 epochs, until the loss of a fifth of the
images has not fallen for four. ``head`` is the head on the features of all stages, which the
default is combined with. All have the same splits and subsamples, so that differences are paired;
± is one standard error of the mean difference over repeats. Seconds are processor time of one
trial: training and scoring, not the frozen layers, which run once for all trials.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import conformal_clip_data
import numpy as np
import torch
from features import digits, fashion

from pytest_datasize.curve.metrics.classification import accuracy
from pytest_datasize.embedding.backbone import load as load_backbone
from pytest_datasize.images.content_hash import read_contents
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.images.sources.load import load
from pytest_datasize.store import Store
from pytest_datasize.trials.plan import draw
from pytest_datasize.trials.recipe import FINE_TUNING, Recipe
from pytest_datasize.trials.strategies import fine_tuning
from pytest_datasize.trials.work import Stop, Work

CPU = torch.device("cpu")
STOPPED = Recipe()
BACKBONE = "tf_efficientnet_lite0"


def main() -> None:
    """Print a row for each data set, number of unfrozen stages and size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fashion-mnist", type=Path, metavar="DIR")
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--sizes", type=int, nargs="+", default=[60, 200, 800])
    parser.add_argument("--unfreeze", type=int, nargs="+", default=[2])
    parser.add_argument("--only", metavar="NAME", help="textiles, digits or fashion")
    parser.add_argument("--quick", action="store_true", help="200 digits at 32 pixels alone")
    arguments = parser.parse_args()
    sizes = tuple(arguments.sizes)
    if arguments.quick:
        images, labels = digits()
        data: list[tuple[str, Any, int]] = [("digits", (images[:200], labels[:200]), 32)]
        sizes, arguments.repeats, arguments.unfreeze = (20, 30, 40), 2, [1]
    else:
        textiles = str(conformal_clip_data.textile_simulated_root())
        data = [("textiles", textiles, 128), ("digits", digits(), 96)]
        if arguments.fashion_mnist:
            data.append(("fashion", fashion(arguments.fashion_mnist), 96))
    torch.set_num_threads(1)
    for name, given, side in data:
        if arguments.only not in (None, name):
            continue
        images = load(given).images
        images = replace(images, digests=read_contents(images, Store()))
        for unfreeze in arguments.unfreeze:
            for size, rows in measured(images, side, unfreeze, sizes, arguments.repeats):
                print(f"{name:8} {side:3} pixels, unfreeze={unfreeze}, {size:5,} images", end="  ")
                print(line(rows), flush=True)


def measured(
    images: ImageSet, side: int, unfreeze: int, sizes: tuple[int, ...], repeats: int
) -> Iterator[tuple[int, list[dict[str, tuple[float, float]]]]]:
    """Yield for each size: per repeat, name → (accuracy, processor seconds)."""
    plan = draw(images, sizes=sizes, repeats=repeats)
    work = Work(
        plan=plan,
        image_sets=(images,),
        labels=images.labels,
        n_classes=len(images.classes),
        backbone=load_backbone(BACKBONE, image_size=side),
        device=CPU,
        store=Store(),
        precision="float32",
        seed=0,
        on_progress=lambda *_: None,
    )
    found = fine_tuning.cut(work.backbone, unfreeze)
    studies = {
        name: fine_tuning.TuningStudy.prepare(work, recipe, found)
        for name, recipe in (("default", FINE_TUNING), ("stopped", STOPPED))
    }
    for size in plan.sizes:
        rows = []
        for trial in plan.trials():
            if trial[0] != size:
                continue
            truth, row = images.labels[trial[2].test], {}
            for name, study in studies.items():
                start = time.process_time()
                study.heads([trial])
                heads = time.process_time() - start
                probabilities = study.train(trial, Stop())
                spent = time.process_time() - start
                row[name] = float(accuracy(truth, probabilities).mean()), spent
                if name == "default":
                    head = study.first[trial[:2]][1].probabilities
                    row["head"] = float(accuracy(truth, head).mean()), heads
            rows.append(row)
        yield size, rows


def line(rows: list[dict[str, tuple[float, float]]]) -> str:
    """Describe the repeats of one size."""
    scores = {name: np.array([row[name][0] for row in rows]) for name in rows[0]}
    seconds = {name: np.mean([row[name][1] for row in rows]) for name in rows[0]}
    parts = [f"{n} {scores[n].mean():.3f} in {seconds[n]:.1f} s" for n in scores]
    for other in ("head", "stopped"):
        gain = 100 * (scores["default"] - scores[other])
        error = gain.std(ddof=1) / len(gain) ** 0.5
        parts.append(f"{gain.mean():+.1f} ± {error:.1f} points against {other}")
    parts.append(f"{seconds['stopped'] / seconds['default']:.1f} times cheaper than stopped")
    return ", ".join(parts)


if __name__ == "__main__":
    main()
