"""Are the numbers of groups right? Small gates on images in groups whose truth is known.

    python benchmarks/groups.py FOLDER [--pools 20] [--groups 40 100]

Images of Fashion-MNIST are put into groups of 3 to 9 that look alike, as those of one patient do:
an image and its nearest neighbours of the same class in the embedding (`pure`), or two such halves
of different classes (`mixed`). A pool has 40 or 100 of them. Its trials are drawn, trained and
scored as in a gate that counts groups, in one that counts images and knows the groups (`group=`),
and in one that does not know them. The truth is the score of heads that are trained on new groups
of the population and scored on others, at 1, 2 and 4 times the groups that a pool can train on.

Printed: mean error of the projected score, its bias in points, how often the 90 % interval contains
the truth, and its mean width. Embeddings are kept in FOLDER (gates.py).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from gates import _embedded
from numpy.typing import NDArray

from pytest_datasize.curve.learning_curve import LearningCurve
from pytest_datasize.curve.metrics.classification import accuracy
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.requirement.tasks import CLASSIFICATION, TASKS
from pytest_datasize.study.metric_outcomes import Scored, metric_outcomes
from pytest_datasize.trials.heads.heads import HeadTask, fit_heads
from pytest_datasize.trials.plan import draw

CLASSES: Final = (0, 2, 4, 6)
"""Of Fashion-MNIST: tops that look alike."""

FACTORS: Final = (1, 2, 4)
LEAST, MOST = 3, 9  # images of a group
TRUTHS: Final = 12  # draws behind a true score
MOST_SCORED: Final = 2000  # images behind one of them


class Population(NamedTuple):
    """Embedded images, with a class and a group each."""

    features: torch.Tensor
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]

    def heads(self, tasks: list[HeadTask]) -> list[NDArray[np.float32]]:
        """Train heads; return the probabilities of their test images."""
        found = fit_heads(self.features, torch.from_numpy(self.labels), tasks, len(CLASSES))
        return [head.probabilities for head in found]


def population(folder: Path, mixed: bool) -> Population:
    """Group the images of some classes by their looks."""
    features, labels = _embedded(folder, "fashion")
    rows = np.flatnonzero(np.isin(labels, CLASSES))
    features, labels = features[rows], np.searchsorted(CLASSES, labels[rows])
    generator = np.random.default_rng(0)
    groups = np.full(len(labels), -1)
    number = 0
    for label in range(len(CLASSES)):
        own = np.flatnonzero(labels == label)
        unit = torch.nn.functional.normalize(features[own].float(), dim=1)
        near = (unit @ unit.T).numpy()
        free = np.ones(len(own), dtype=bool)
        while free.any():
            first = generator.choice(np.flatnonzero(free))
            wanted = int(generator.integers(LEAST, MOST + 1)) // (2 if mixed else 1)
            order = np.argsort(-np.where(free, near[first], -np.inf))[: min(wanted, free.sum())]
            free[order] = False
            groups[own[order]] = number
            number += 1
    if mixed:
        partner = generator.permutation(number) // 2
        groups = partner[groups]
    return Population(features, labels.astype(np.int64), groups.astype(np.int64))


def truth(people: Population, trained: int, counted_in_groups: bool) -> float:
    """Mean accuracy of heads on fresh groups, on the images of all others."""
    generator = np.random.default_rng(trained)
    n = int(people.groups.max()) + 1
    images = np.bincount(people.groups)
    tasks = []
    for seed in range(TRUTHS):
        order = generator.permutation(n)
        enough = trained if counted_in_groups else np.searchsorted(images[order].cumsum(), trained)
        chosen = np.isin(people.groups, order[:enough])
        rows = np.flatnonzero(chosen)
        own = people.groups[rows] if counted_in_groups else None  # trained as in the gate
        others = generator.permutation(np.flatnonzero(~chosen))[:MOST_SCORED]
        tasks.append(HeadTask(rows, others, seed, groups=own))
    scores = [
        accuracy(people.labels[task.test], found).mean()
        for task, found in zip(tasks, people.heads(tasks), strict=True)
    ]
    return float(np.mean(scores))


def curve(people: Population, rows: NDArray[np.int64], way: str, seed: int) -> LearningCurve:
    """Draw, train and score the trials of a pool, and fit their curve."""
    labels = people.labels[rows]
    groups = np.unique(people.groups[rows], return_inverse=True)[1]
    images = ImageSet(
        "pool",
        tuple(map(str, CLASSES)),
        labels,
        lambda row: b"",
        str,
        groups=None if way == "unknown" else groups,
    )
    plan = draw(images, seed=seed, unit="group" if way == "group" else "image")
    trials = plan.trials()
    tasks = [
        HeadTask(
            rows[repeat.training(size)],
            rows[repeat.test],
            number,
            groups=groups[repeat.training(size)] if way == "group" else None,
        )
        for size, number, repeat in trials
    ]
    predicted: dict[int, list[NDArray[np.float32]]] = defaultdict(list)
    for (size, _, _), found in zip(trials, people.heads(tasks), strict=True):
        predicted[size].append(found)
    scored = Scored(
        sizes=plan.sizes,
        truth=labels,
        shown=images.membership,
        strata=labels,
        tested=[repeat.test for repeat in plan.repeats],
        predicted=[predicted[size] for size in plan.sizes],
        pool=int(groups.max()) + 1 if way == "group" else len(rows),
        groups=images.groups,
    )
    return metric_outcomes(TASKS[CLASSIFICATION].metrics["accuracy"], scored).curve()


WAYS: Final = {
    "group": "unit='group'",
    "image": "group=, images counted",
    "unknown": "groups unknown",
}


class Row(NamedTuple):
    """One projection, against the truth."""

    error: float
    held: bool
    width: float


def measured(people: Population, size: int, pools: int) -> Iterator[tuple[tuple[str, int], Row]]:
    """Yield (way, factor) and what a projection from a pool of so many groups was worth."""
    n = int(people.groups.max()) + 1
    known: dict[tuple[int, bool], float] = {}
    for seed in range(pools):
        chosen = np.random.default_rng([size, seed]).permutation(n)[:size]
        rows = np.flatnonzero(np.isin(people.groups, chosen))
        for way in WAYS:
            found = curve(people, rows, way, seed)
            for factor in FACTORS:
                counts_groups = way == "group"
                # pools differ by some images: the truth is measured at their mean number
                each = 1.0 if counts_groups else len(people.labels) / n
                at = round(0.8 * size * factor * each)
                if (at, counts_groups) not in known:
                    known[at, counts_groups] = truth(people, at, counts_groups)
                true = known[at, counts_groups]
                low, high = found.interval(at)
                yield (way, factor), Row(found.predict(at) - true, low <= true <= high, high - low)


def main() -> None:
    """Print one table for each kind of group and each size of pool."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pools", type=int, default=20)
    parser.add_argument("--groups", type=int, nargs="+", default=[40, 100])
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for mixed in (False, True):
        people = population(options.folder, mixed)
        n = int(people.groups.max()) + 1
        print(f"{'mixed' if mixed else 'pure'}: {n:,} groups, {len(people.labels):,} images")
        for size in options.groups:
            table: dict[tuple[str, int], list[Row]] = defaultdict(list)
            for key, row in measured(people, size, options.pools):
                table[key].append(row)
            _print(size, table)


def _print(size: int, table: dict[tuple[str, int], list[Row]]) -> None:
    pools = f"pools of {size} groups"
    print(f"  {pools:24}{'times':>6}{'error':>7}{'bias':>7}{'held':>7}{'width':>7}")
    for (way, factor), rows in sorted(table.items(), key=lambda item: [*WAYS].index(item[0][0])):
        errors = np.array([row.error for row in rows])
        print(
            f"    {WAYS[way]:22}{factor:>6}{100 * np.abs(errors).mean():>7.1f}"
            f"{100 * errors.mean():>+7.1f}{np.mean([row.held for row in rows]):>7.0%}"
            f"{100 * np.mean([row.width for row in rows]):>7.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
