"""Measure the score that nearest neighbours allow if labels of real images are wrong at random.

    python benchmarks/second_opinion.py [--fashion-mnist DIR] [--quick]

Labels that are wrong at random lower the best possible accuracy by a known amount. Printed for each
share of wrong labels: the error of the nearest neighbour, the accuracy that it allows with its
interval, and the accuracy that is expected from the row without wrong labels.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import conformal_clip_data
import numpy as np
from features import digits, fashion

from pytest_datasize import Study
from pytest_datasize.curve.advice.bayes_error import bound
from pytest_datasize.curve.advice.neighbour_errors import neighbour_errors, sampled
from pytest_datasize.study.prepare import embedded
from pytest_datasize.study.splits import images_to_split

SHARES = (0.0, 0.1, 0.2, 0.3)


def main() -> None:
    """Print a row for each data set, side and share of wrong labels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fashion-mnist", type=Path, metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="300 digits at 64 pixels alone")
    arguments = parser.parse_args()
    images, labels = digits()
    textiles = str(conformal_clip_data.textile_simulated_root())
    runs: list[tuple[str, Any, int]] = [("digits", (images[:300], labels[:300]), 64)]
    if not arguments.quick:
        runs = [("digits", (images, labels), 96), ("textiles", textiles, 96)]
        if arguments.fashion_mnist:
            runs.append(("fashion", fashion(arguments.fashion_mnist), 96))
        runs.append(("textiles", textiles, 224))
    for name, data, side in runs:
        rows(name, data, side)


def rows(name: str, data: Any, side: int) -> None:
    """Embed images once, and bound the best accuracy for each share of wrong labels."""
    context = Study(data, image_size=side, features="stages", device="cpu").context
    found = embedded(context, (context.pool.raw.images,))
    context.pool.name(found.contents)
    pool = images_to_split(context).images
    features = found.of(pool.digests)
    widths = context.backbone.loaded.widths
    sample = sampled(len(pool), 0, features.shape[1])
    points = features[:].cpu().numpy()[sample.rows]
    together = [] if pool.groups is None else [pool.groups[sample.rows]]
    classes, clean = len(pool.classes), 1.0
    for share in SHARES:
        generator = np.random.default_rng(0)
        wrong = generator.random(len(pool)) < share
        other = (pool.labels + generator.integers(1, classes, len(pool))) % classes
        labels = np.where(wrong, other, pool.labels)[sample.rows]
        start = time.perf_counter()
        errors = neighbour_errors(points, labels, widths, together, sample.asked, sample.among)
        seconds = time.perf_counter() - start
        limits = bound(errors["accuracy"], classes)
        low, high = 1 - limits.least_high, 1 - limits.least_low
        allowed, mistaken = 1 - limits.least, wrong[sample.rows].mean()
        clean = clean if share else allowed
        expected = clean * (1 - mistaken) + (1 - clean) * mistaken / (classes - 1)
        print(
            f"{name:9} {side:4} pixels  {share:4.0%} wrong: error {limits.error:.3f}, allowed "
            f"{allowed:.3f} ({low:.3f} to {high:.3f}), expected {expected:.3f}; "
            f"{limits.best.space}, {seconds:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
