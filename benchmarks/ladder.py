"""Compare the verdict of strategy="auto" with the truth, and with that of the best model.

    python benchmarks/ladder.py [--fashion-mnist DIR] [--pools N] [--quick]

A pool is what a team would have: some hundred images. Every model of the ladder is trained in full
on it, and its true score is measured: trained on all that the pool can train on, and scored on more
than a thousand other images. For targets from 4 points below to 4 points above the best true score,
the ladder's verdict is compared with the truth (does the best model reach the target?), with the
verdict of the best model alone, and with that of each model by itself.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import conformal_clip_data
import numpy as np
import torch
from features import digits, fashion
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from pytest_datasize import Study
from pytest_datasize.study.ladder import Ladder

OFFSETS = np.arange(-0.04, 0.0401, 0.005)
"""Targets, as distances from the best true score; those at the score itself are left out."""

LEAST = 0.0025
"""A target that is closer to the truth than this says nothing about a verdict."""

HOURS = 4 * 3600.0


class Pool(NamedTuple):
    """Images of a team, and other images that tell the truth."""

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    others: NDArray[np.uint8]
    their_labels: NDArray[np.int64]


def main() -> None:
    """Print a row for each pool, and the rates over all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fashion-mnist", type=Path, metavar="DIR")
    parser.add_argument("--pools", type=int, default=4, metavar="N", help="pools of each data set")
    parser.add_argument("--images", type=int, default=400, metavar="N", help="images of a pool")
    parser.add_argument("--side", type=int, default=None, help="side of the input (default: 224)")
    parser.add_argument("--quick", action="store_true", help="100 digits, a tiny network")
    asked = parser.parse_args()
    options: dict[str, Any] = {} if asked.side is None else {"image_size": asked.side}
    if asked.quick:
        asked.pools, asked.images = 1, 100
        options = {"image_size": 16, "backbone": tiny(), "unfreeze": 2}
    rows: list[dict[str, Any]] = []
    for pool in pools(asked):
        found = judged(pool, options)
        rows += found
        truths = ", ".join(f"{name} {score:.3f}" for name, score in found[0]["truths"].items())
        print(f"{pool.name}: {truths}", flush=True)
    summarise(rows)


def pools(asked: argparse.Namespace) -> Iterator[Pool]:
    """Yield pools that are drawn from each data set, each with the other images of it."""
    sets = {"digits": digits()}
    if not asked.quick:
        sets["textiles"] = textiles(asked.side or 224)
        if asked.fashion_mnist:
            sets["fashion"] = fashion(asked.fashion_mnist)
    for name, (images, labels) in sets.items():
        for number in range(asked.pools):
            order = np.random.default_rng(number).permutation(len(labels))
            ours, rest = order[: asked.images], order[asked.images :]
            if asked.quick:
                rest = rest[:100]
            yield Pool(f"{name} {number}", images[ours], labels[ours], images[rest], labels[rest])


def textiles(side: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return 2,000 photographs of textiles."""
    paths = sorted(Path(conformal_clip_data.textile_simulated_root()).rglob("*.jpg"))
    images = np.stack(
        [np.asarray(Image.open(p).convert("RGB").resize((side, side))) for p in paths]
    )
    _, labels = np.unique([path.parent.name for path in paths], return_inverse=True)
    return images, labels


def tiny() -> nn.Module:
    """Return a network of two layers, the same every time, to see that this benchmark runs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def judged(pool: Pool, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Train all models on a pool, and judge all targets."""
    data = (pool.images, pool.labels)
    ladder = Ladder(Study(data, device="cpu", **options))
    # a target that no model meets: all are trained
    climb = ladder.climb({"accuracy": 0.99999}, second_look=HOURS, promises=False)
    truths: dict[str, float] = {}
    models = {}
    for rung, attempt in zip(ladder.rungs, climb.attempts, strict=True):
        result = attempt.result
        assert result is not None, attempt.reason
        models[rung.name] = result
        truth = Study(
            **{
                **rung.study.context.given,
                "test_dataset": (pool.others, pool.their_labels),
                "sizes": [0.25, 0.5, result.available / len(pool.labels)],
                "repeats": 2,
            }
        ).run()
        truths[rung.name] = float(np.mean(truth.scores["accuracy"][-1]))
    best = max(truths, key=truths.__getitem__)
    rows = []
    for offset in OFFSETS:
        target = round(truths[best] + float(offset), 4)
        if abs(offset) < LEAST or not 0 < target < 1:
            continue
        auto = ladder.climb({"accuracy": target}, second_look=HOURS, promises=False)
        row = {
            "truths": truths,
            "truth": offset < 0,
            "ladder": auto.verdict.passed,
            "best alone": models[best].verdict(accuracy=target).passed,
        }
        for name, result in models.items():
            row[name] = result.verdict(accuracy=target).passed
        rows.append(row)
    return rows


def summarise(rows: list[dict[str, Any]]) -> None:
    """Print how often each way of judging is right, and how often it passes wrongly."""
    names = [name for name in rows[0] if name not in ("truths", "truth")]
    print(f"\n{len(rows)} targets: verdict agrees with the truth / passes, though truly short")
    for name in names:
        agree = np.mean([row[name] == row["truth"] for row in rows])
        wrong = np.mean([row[name] and not row["truth"] for row in rows])
        print(f"{name:14} {100 * agree:5.1f} %   {100 * wrong:5.1f} %")
    same = np.mean([row["ladder"] == row["best alone"] for row in rows])
    print(f"the ladder and the best model alone agree in {100 * same:.1f} %")


if __name__ == "__main__":
    main()
