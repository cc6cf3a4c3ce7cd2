"""Small gates on real images whose truth is known: populations, pools, trials, true scores.

A *population* is a set of embedded images. A *pool* is what a user would have: some hundred images
drawn from it. Its trials are drawn, trained and scored as in a gate; the truth is measured with
heads that are trained on fresh draws from the population and scored on the rest of it. Embeddings,
trials and truths are kept in a folder, so that a change of the curve is judged in seconds.

Populations belong to one of two halves: constants of the noise model and of the laws are chosen on
the ``development`` half alone, and the figures that are quoted come from the ``test`` half.
"""

from __future__ import annotations

import gzip
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from pytest_datasize.curve.outcomes import Outcomes
from pytest_datasize.embedding.backbone import load as load_backbone
from pytest_datasize.embedding.embed import embed
from pytest_datasize.embedding.embedder import Embedder
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.images.sources.load import load as load_images
from pytest_datasize.requirement.tasks import CLASSIFICATION, function_of
from pytest_datasize.requirement.tasks import TASKS as TASKS_OF_GATES
from pytest_datasize.store import Store
from pytest_datasize.study.metric_outcomes import Scored, class_outcomes, metric_outcomes
from pytest_datasize.trials.heads.heads import HeadTask, fit_heads
from pytest_datasize.trials.plan import Plan, draw

WORST_CLASS: Final = "recall_per_class"
METRICS: Final = ("accuracy", "balanced_accuracy", "f1_macro", "auc", WORST_CLASS)
FACTORS: Final = (1, 2, 4, 8)
"""Where the truth is measured, in multiples of the images that a pool can train on."""

MOST_TRAINED: Final = 0.75
"""Largest share of a population to train on: the rest scores."""

REPEATS: Final = 20
"""Repeats of every pool; the first ten are those of a gate with ten."""

FASHION: Final = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts its files."""

_TEXTILES: Final = "textiles"
_FASHION: Final = "fashion"
_DIGITS: Final = "digits"


@dataclass(frozen=True)
class Task:
    """A population: an image source, some of its classes, and how many images each has.

    Attributes
    ----------
    half
        ``development`` or ``test``.
    source
        Image source.
    classes
        Labels of the source that are kept, in this order; None for all.
    tail
        Images of the rarest class per image of the commonest; classes fall geometrically, in the
        order of ``classes``.
    """

    half: str
    source: str
    classes: tuple[int, ...] | None = None
    tail: float = 1.0


TASKS: Final = {
    "textiles, 3 classes": Task("development", _TEXTILES),
    "fashion, 10 classes": Task("development", _FASHION),
    "fashion, long tail": Task("development", _FASHION, tuple(range(10)), 0.1),
    "textiles, 2 classes": Task("test", _TEXTILES, (0, 1)),
    "fashion, 4 classes": Task("test", _FASHION, (0, 2, 4, 6)),
    "fashion, other tail": Task("test", _FASHION, (9, 8, 6, 4, 2, 0, 7, 5, 3, 1), 0.1),
    "digits, 10 classes": Task("test", _DIGITS),
}


@dataclass(frozen=True)
class Population:
    """All embedded images of a task."""

    name: str
    half: str
    features: torch.Tensor
    labels: NDArray[np.int64]

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return int(self.labels.max()) + 1


@dataclass(frozen=True)
class Gate:
    """One pool with its trials.

    Attributes
    ----------
    task, half, images, seed
        Which pool it is.
    labels
        Classes of its images.
    plan
        Its sizes, repeats and test images.
    probabilities
        Per size, per repeat: predictions for the test images.
    truth
        Training images → metric → true score; recalls as one list.
    """

    task: str
    half: str
    images: int
    seed: int
    labels: NDArray[np.int64]
    plan: Plan
    probabilities: list[list[NDArray[np.float32]]]
    truth: dict[int, dict[str, Any]]

    def outcomes(
        self, metric: str, repeats: int = 10, sizes: tuple[int, ...] | None = None
    ) -> dict[int | None, Outcomes]:
        """Class (None for a metric of all) → outcomes of some repeats and sizes (by index)."""
        chosen = tuple(range(len(self.plan.sizes))) if sizes is None else sizes
        evidence = Scored(
            sizes=tuple(self.plan.sizes[k] for k in chosen),
            truth=self.labels,
            shown=self.labels[:, None] == np.arange(int(self.labels.max()) + 1),
            strata=self.labels,
            tested=[repeat.test for repeat in self.plan.repeats[:repeats]],
            predicted=[self.probabilities[k][:repeats] for k in chosen],
            pool=len(self.labels),
        )
        entry = TASKS_OF_GATES[CLASSIFICATION].metrics[metric]
        if metric == WORST_CLASS:
            return dict(enumerate(class_outcomes(entry, evidence)))
        return {None: metric_outcomes(entry, evidence)}


def gates(
    folder: Path,
    pools: tuple[int, ...] = (200, 400, 800),
    seeds: int = 8,
    tasks: Collection[str] = tuple(TASKS),
) -> Iterator[Gate]:
    """Load the gates of tasks from a folder; those that it lacks are measured first."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, task in TASKS.items():
        if name not in tasks or (task.source == _FASHION and not FASHION.is_dir()):
            continue
        population = _population(folder, name, task)
        for images in pools:
            for seed in range(seeds):
                yield _gate(folder, population, images, seed)


def _population(folder: Path, name: str, task: Task) -> Population:
    features, labels = _embedded(folder, task.source)
    if task.classes is None:
        return Population(name, task.half, features, labels)
    parts = [np.flatnonzero(labels == label) for label in task.classes]
    shares = task.tail ** (np.arange(len(parts)) / max(len(parts) - 1, 1))
    largest = min(len(part) / share for part, share in zip(parts, shares, strict=True))
    parts = [part[: int(largest * share)] for part, share in zip(parts, shares, strict=True)]
    rows = np.concatenate(parts)
    renamed = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return Population(name, task.half, features[rows], renamed)


def _embedded(folder: Path, source: str) -> tuple[torch.Tensor, NDArray[np.int64]]:
    """Embeddings and labels of all images of a source."""
    path = folder / f"{source}.npz"
    if not path.exists():
        images, side = _images(source)
        backbone = load_backbone("tf_efficientnet_lite0", "embedded", image_size=side)
        features = embed([images], Embedder(backbone, torch.device("cpu")), Store()).features
        np.savez(
            path, features=np.asarray(features.float()).astype(np.float16), labels=images.labels
        )
    with np.load(path) as found:
        return torch.from_numpy(found["features"]), found["labels"]


def _images(source: str) -> tuple[ImageSet, int | None]:
    if source == _TEXTILES:
        import conformal_clip_data

        return load_images(str(conformal_clip_data.textile_simulated_root()))[0], None
    if source == _DIGITS:
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        grey = (pixels.reshape(-1, 8, 8) * 15.9).astype(np.uint8)
        return load_images((grey.repeat(8, axis=1).repeat(8, axis=2), labels))[0], 64
    pixels, labels = fashion_mnist(FASHION, "train")
    return load_images((pixels[:20_000], labels[:20_000]))[0], 64


def fashion_mnist(folder: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read the images (N, 28, 28) and labels of a part, ``train`` or ``t10k``."""

    def read(name: str, header: int) -> NDArray[np.uint8]:
        with gzip.open(folder / f"{part}-{name}-ubyte.gz") as file:
            return np.frombuffer(file.read(), dtype=np.uint8, offset=header)

    return read("images-idx3", 16).reshape(-1, 28, 28), read("labels-idx1", 8).astype(np.int64)


def _gate(folder: Path, population: Population, images: int, seed: int) -> Gate:
    slug = population.name.replace(",", "").replace(" ", "-")
    generator = np.random.default_rng([images, seed])
    rows = np.sort(_stratified(population.labels, images, generator)[0])
    labels = population.labels[rows]
    names = tuple(map(str, range(population.n_classes)))
    plan = draw(ImageSet("pool", names, labels, lambda row: b"", str), repeats=REPEATS, seed=seed)
    path = folder / f"gate-{slug}-{images}-{seed}.npz"
    if not path.exists():
        tasks = [
            HeadTask(rows[repeat.order[:size]], rows[repeat.test], number)
            for size, number, repeat in plan.trials()
        ]
        heads = fit_heads(
            population.features, torch.from_numpy(population.labels), tasks, population.n_classes
        )
        flat = np.stack([head.probabilities for head in heads]).astype(np.float32)
        np.savez(path, probabilities=flat.reshape(len(plan.sizes), REPEATS, *flat.shape[1:]))
    with np.load(path) as found:
        probabilities = [list(repeats) for repeats in found["probabilities"]]
    most = MOST_TRAINED * len(population.labels)
    wanted = [plan.available * factor for factor in FACTORS if plan.available * factor <= most]
    truth = {n: _truth(folder, population, n, slug) for n in wanted}
    return Gate(population.name, population.half, images, seed, labels, plan, probabilities, truth)


def _stratified(
    labels: NDArray[np.int64], n: int, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw n rows with the classes' shares, at least four of each; and all other rows."""
    counts = np.bincount(labels)
    wanted = np.maximum(np.round(counts * n / len(labels)).astype(int), 4)
    taken, left = [], []
    for label, size in enumerate(wanted):
        shuffled = generator.permutation(np.flatnonzero(labels == label))
        taken.append(shuffled[:size])
        left.append(shuffled[size:])
    return np.concatenate(taken), np.concatenate(left)


def _truth(folder: Path, population: Population, n: int, slug: str) -> dict[str, Any]:
    """Mean scores of heads on n fresh images, on all other images of the population."""
    near = round(n / 10) * 10  # pools of one size differ by a few images to train on
    path = folder / f"truth-{slug}-{near}.npz"
    if not path.exists():
        generator = np.random.default_rng(near)
        draws = [
            _stratified(population.labels, near, generator)
            for _ in range(int(np.clip(16_000 // near, 4, 20)))
        ]
        tasks = [HeadTask(some, rest, seed) for seed, (some, rest) in enumerate(draws)]
        labels = population.labels
        heads = fit_heads(
            population.features, torch.from_numpy(labels), tasks, population.n_classes
        )
        found = {}
        for metric in METRICS:
            function = function_of(TASKS_OF_GATES[CLASSIFICATION].metrics[metric])
            values = [
                function(labels[task.test], head.probabilities)
                for task, head in zip(tasks, heads, strict=True)
            ]
            if metric == WORST_CLASS:
                found[metric] = np.mean([[hits.mean() for hits in one] for one in values], axis=0)
            else:
                found[metric] = np.mean([one.mean() for one in values])
        np.savez(path, **found)
    with np.load(path) as known:
        return {metric: known[metric] for metric in METRICS}
