"""What a GPU brings, and whether it gives the CPU's verdicts.

    python benchmarks/gpu.py [--device cuda] [--images 20000] [--quick]

The textiles of `conformal-clip-data` as JPEG files, again and again until there are as many as
asked. Prints images per second of: decoding alone, the bare forward pass over images that are on
the device already, and embedding (decoding and forward pass together); then scores of heads and
of fine-tuning on the CPU and on the device, with their times, and fine-tuning by four workers that
share the device. Without a GPU, ``--device cpu`` shows that the script works.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import conformal_clip_data
import numpy as np
import torch
from PIL import Image, ImageChops

from pytest_datasize import Study
from pytest_datasize.embedding.backbone import load as load_backbone
from pytest_datasize.embedding.device import describe, resolve
from pytest_datasize.embedding.embed import embed
from pytest_datasize.embedding.embedder import Embedder, first_of
from pytest_datasize.embedding.reader import decoded
from pytest_datasize.embedding.stages import with_stages
from pytest_datasize.embedding.threads import n_threads
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.images.sources.load import load as load_images
from pytest_datasize.store import Store

STRATEGIES = ("feature_extraction", "fine_tuning")
FOUR = {"engine": "processes", "workers": 4}


def main() -> None:
    """Print rates and verdicts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--quick", action="store_true", help="64 images of 64 pixels")
    arguments = parser.parse_args()
    device = resolve(arguments.device)
    side, n = (64, 64) if arguments.quick else (224, arguments.images)
    print(f"torch {torch.__version__}, {describe(device)}, {n_threads()} threads")
    with TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, n)
        rates(load_images(name)[0], device, side)
        options: dict[str, Any] = {"image_size": side, "repeats": 2}
        if arguments.quick:
            options["sizes"] = (8, 12, 16)
        for strategy in STRATEGIES:
            for where in dict.fromkeys(("cpu", str(device))):
                compare(name, strategy, where, options)
        if not arguments.quick:
            compare(name, STRATEGIES[-1], str(device), {**options, **FOUR})


def compare(data: str, strategy: str, where: str, options: dict[str, Any]) -> None:
    """Print how long a study takes, and its mean score for each size."""
    spent, result = timed(Study(data, device=where, strategy=strategy, **options).run)
    means = [round(float(np.mean(one)), 3) for one in result.scores["accuracy"]]
    shown = f"{strategy:18} {where:8} {options.get('workers', 1)} at a time"
    print(f"{shown} {spent:7.1f} s  {result.precision:9} {means}")


def write(folder: Path, n: int) -> None:
    """Write n JPEG images: the textiles again and again, each copy turned and moved a little."""
    root = Path(conformal_clip_data.textile_simulated_root())
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    order = np.random.default_rng(0).permutation(len(files))
    for number in range(n):
        path = files[order[number % len(files)]]
        with Image.open(path) as picture:
            moved = ImageChops.offset(picture.convert("RGB"), number // len(files))
        target = folder / path.parent.name / f"{number}.jpg"
        target.parent.mkdir(exist_ok=True)
        moved.save(target, quality=90)


def rates(images: ImageSet, device: torch.device, side: int) -> None:
    """Print images per second of each part, and of all together."""
    backbone = with_stages(load_backbone("tf_efficientnet_lite0", image_size=side))
    embedder = Embedder(backbone, device)
    embedder.settle(first_of([images]), Store())
    embedder.ready()
    some = [decoded(images, row, backbone.crop).pixels for row in range(min(64, len(images)))]
    pixels = [one for one in some if one is not None]
    spent, _ = timed(lambda: [decoded(images, row, backbone.crop) for row in range(len(pixels))])
    print(f"decoding, one thread  {len(pixels) / spent:9,.0f} images/s")
    bare = forward_rate(embedder, pixels)
    print(f"bare forward pass     {bare:9,.0f} images/s ({embedder.ready().precision})")
    spent, found = timed(lambda: embed([images], embedder, Store()))
    rate = max(found.computed, 1) / spent
    print(f"embedding             {rate:9,.0f} images/s, {bare / rate:.2f} times the bare pass")


def forward_rate(embedder: Embedder, pixels: list[torch.Tensor]) -> float:
    """Images per second of the model alone, over one batch that is on the device."""
    inference, device = embedder.ready(), embedder.device
    batch = torch.stack([pixels[k % len(pixels)] for k in range(embedder.batch_size)]).to(device)
    ready = embedder.backbone.normalise(batch).to(inference.dtype)
    ready = ready.contiguous(memory_format=torch.channels_last)

    def forward() -> float:
        with torch.inference_mode():
            for _ in range(rounds):
                found = inference.model(ready)
        return float(found.sum())  # waits for the device

    rounds = 1
    forward()
    rounds = 20
    spent, _ = timed(forward)
    return rounds * len(batch) / spent


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Return seconds and the result."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    main()
