"""What the heads cost beside embedding their images, and what choosing the strength costs of that.

    python benchmarks/heads.py [--fashion-mnist DIR] [--quick]

On one core: a forward pass of the default backbone, scaled to the number of images, then the 80
heads of a default plan in 512 columns. Each is fitted twice: with the search for its strength, and
with all strengths of the grid; the difference of scores is paired. Features are those of all stages
of 1,797 scans of digits, 2,000 textiles, 8,000 images of Fashion-MNIST (DIR holds the idx.gz files;
in Debian: package dataset-fashion-mnist), and simulated ones of 50 and 100 classes.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import conformal_clip_data
import numpy as np
import torch
from features import digits, fashion

from pytest_datasize.embedding.backbone import Backbone
from pytest_datasize.embedding.backbone import load as load_backbone
from pytest_datasize.embedding.embed import embed
from pytest_datasize.embedding.embedder import Embedder
from pytest_datasize.embedding.stages import with_stages
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.images.sources.load import load as load_images
from pytest_datasize.store import Store
from pytest_datasize.trials.heads import head_batch, strength
from pytest_datasize.trials.heads.heads import HeadTask, fit_heads
from pytest_datasize.trials.heads.main_axes import main_axes
from pytest_datasize.trials.heads.softmax_regression import gradient_at_zero
from pytest_datasize.trials.plan import draw

SIDE = 96


def main() -> None:
    """Print a row for each data set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fashion-mnist", type=Path, metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="300 simulated images alone")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pass_96, pass_224 = (per_image(side) for side in (SIDE, 224))
    print(f"forward pass: {1e3 * pass_96:.2f} ms at {SIDE} pixels, {1e3 * pass_224:.2f} ms at 224")
    for name, features, labels in sets(arguments):
        n_classes = int(labels.max()) + 1
        names = tuple(map(str, range(n_classes)))
        images = ImageSet("pool", names, labels, lambda row: b"", str)
        plan = draw(images, repeats=10, seed=0)
        trials = [(repeat, size, seed) for size, seed, repeat in plan.trials()]
        tasks = [HeadTask(repeat.order[:size], repeat.test, k) for repeat, size, k in trials]
        fit = partial(fit_heads, features, torch.from_numpy(labels), tasks, n_classes)
        took, heads = timed(fit)
        with mock.patch.object(head_batch, "choose_strength", whole_grid):
            longer, others = timed(fit)
        gain = np.array(
            [
                np.mean(a.probabilities.argmax(1) == labels[task.test])
                - np.mean(b.probabilities.argmax(1) == labels[task.test])
                for a, b, task in zip(heads, others, tasks, strict=True)
            ]
        )
        equal = np.mean([a.strength == b.strength for a, b in zip(heads, others, strict=True)])
        n = len(labels)
        print(
            f"{name:20} {n:6,} images {n_classes:4} classes  heads {took:6.2f} s  "
            f"whole grid {longer:6.2f} s (ratio {took / longer:.2f})  "
            f"/ pass at {SIDE} {took / (n * pass_96):.2f}, at 224 {took / (n * pass_224):.2f}  "
            f"same strength {equal:4.0%}  accuracy {100 * gain.mean():+.2f} ± "
            f"{100 * gain.std(ddof=1) / len(gain) ** 0.5:.2f} points"
        )


def sets(arguments: argparse.Namespace) -> Iterator[tuple[str, torch.Tensor, Any]]:
    """Yield name, features and labels of each data set."""
    if arguments.quick:
        yield "simulated", *simulated(300, 10)
        return
    textiles = str(conformal_clip_data.textile_simulated_root())
    sources: list[tuple[str, Any]] = [("digits", digits()), ("textiles", textiles)]
    if arguments.fashion_mnist:
        sources.append(("clothes", fashion(arguments.fashion_mnist, 8_000)))
    for name, data in sources:
        images = load_images(data)[0]
        model = staged(SIDE)
        found = embed([images], Embedder(model, torch.device("cpu")), Store()).features
        features = main_axes(found, model.widths)
        assert isinstance(features, torch.Tensor)
        yield name, features, images.labels
    for n, n_classes in ((2_000, 50), (8_000, 100)):
        yield "simulated", *simulated(n, n_classes)


def simulated(n: int, n_classes: int, columns: int = 512) -> tuple[torch.Tensor, Any]:
    """Draw features with a falling spectrum, like those of a backbone in its main axes."""
    generator = np.random.default_rng(0)
    spectrum = 3 * np.geomspace(1, 0.02, columns)
    centres = generator.normal(size=(n_classes, columns))
    labels = np.arange(n) % n_classes
    rows = (0.3 * centres[labels] + generator.normal(size=(n, columns))) * spectrum
    return torch.tensor(rows, dtype=torch.float32), labels


def staged(side: int) -> Backbone:
    """Load the default backbone, with the features of all stages."""
    return with_stages(load_backbone("tf_efficientnet_lite0", image_size=side))


def per_image(side: int) -> float:
    """Seconds of the plugin's own forward pass for one image, once it is ready."""
    pixels = np.random.default_rng(0).integers(0, 256, (320, side, side, 3), np.uint8)
    images = load_images((pixels, np.arange(320) % 2))[0]
    few = load_images((pixels[:64], np.arange(64) % 2))[0]
    embedder = Embedder(staged(side), torch.device("cpu"))
    embed([few], embedder, Store())  # the first images settle the precision
    short, _ = timed(lambda: embed([few], embedder, Store()))
    long, _ = timed(lambda: embed([images], embedder, Store()))
    return (long - short) / 256


def whole_grid(problem: Any, held: Any, votes: Any, levels: Any, ridge: Any) -> Any:
    """Choose as `choose_strength` does, from fits of all strengths."""
    weight = (~held).to(ridge.dtype)
    weight = (weight / weight.sum(-1, keepdim=True))[:, None]
    at_zero = gradient_at_zero(problem, weight)
    found = [
        strength._held_out_loss(problem, weight, votes, level.expand(len(held)), ridge, at_zero)
        for level in levels
    ]
    index = torch.stack([loss for loss, _ in found], 1).argmin(1)
    weights = torch.stack([fitted for _, fitted in found], 1)
    return index, weights[torch.arange(len(index)), index].mean(2, keepdim=True)


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Return CPU seconds and the result."""
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


if __name__ == "__main__":
    main()
