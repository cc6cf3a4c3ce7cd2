"""What features of all stages are worth: scores of a head on the last layer, and on all stages.

    python benchmarks/features.py [--fashion-mnist DIR] [--quick]

The same images, splits and subsamples for both, so that differences are paired; ± is one standard
error of the mean difference over repeats. Images: 2,000 textiles (`conformal-clip-data`), 1,797
scans of handwritten digits (scikit-learn) and 2,000 of Fashion-MNIST (DIR holds the idx.gz files;
in Debian: package dataset-fashion-mnist, /usr/share/datasets/fashion-mnist).
"""

import argparse
import gzip
import time
from pathlib import Path
from typing import Any

import conformal_clip_data
import numpy as np
from sklearn.datasets import load_digits

from pytest_datasize import Study


def main() -> None:
    """Print a row for each data set, side and kind of features."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fashion-mnist", type=Path, metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="300 digits at 64 pixels alone")
    arguments = parser.parse_args()
    if arguments.quick:
        images, labels = digits()
        runs: list[tuple[str, Any, int]] = [("digits", (images[:300], labels[:300]), 64)]
    else:
        textiles = str(conformal_clip_data.textile_simulated_root())
        runs = [("textiles", textiles, 224), ("textiles", textiles, 96), ("digits", digits(), 96)]
        if arguments.fashion_mnist:
            runs.append(("fashion", fashion(arguments.fashion_mnist), 96))
    for name, data, side in runs:
        last, stages = (scores(data, side, features) for features in ("last", "stages"))
        for size in last:
            gain = stages[size] - last[size]
            error = gain.std(ddof=1) / len(gain) ** 0.5
            print(
                f"{name:9} {side:4} pixels {size:6,} images  last {last[size].mean():.3f}  "
                f"stages {stages[size].mean():.3f}  {100 * gain.mean():+5.1f} ± {100 * error:.1f} "
                "points"
            )


def scores(data: Any, side: int, features: str) -> dict[int, Any]:
    """Return size → accuracies of all repeats."""
    start = time.perf_counter()
    result = Study(data, image_size=side, features=features, device="cpu").run()
    spent = {stage: round(seconds, 1) for stage, seconds in result.timings.items()}
    print(f"  {features}: {time.perf_counter() - start:.1f} s, {spent}")
    found = zip(result.sizes, result.scores["accuracy"], strict=True)
    return {size: np.array(repeats) for size, repeats in found}


def digits() -> tuple[Any, Any]:
    """Return scans of handwritten digits, 8 x 8 grey levels."""
    found = load_digits()
    return (found.images * 15.9).astype(np.uint8), found.target


def fashion(folder: Path, n: int = 2_000) -> tuple[Any, Any]:
    """Return n images of clothes, 28 x 28 grey levels."""
    raw = gzip.decompress((folder / "train-images-idx3-ubyte.gz").read_bytes())
    kinds = gzip.decompress((folder / "train-labels-idx1-ubyte.gz").read_bytes())
    images = np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28)
    labels = np.frombuffer(kinds, np.uint8, offset=8).astype(np.int64)
    rows = np.random.default_rng(0).permutation(len(labels))[:n]
    return images[rows], labels[rows]


if __name__ == "__main__":
    main()
