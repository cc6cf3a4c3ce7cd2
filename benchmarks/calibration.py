"""Do the gate's 90 % intervals hold the truth in 90 % of gates? Many small gates on real images.

    python benchmarks/calibration.py [--pools 40] [--images 500]

Pools of images are drawn from the 2,000 textile images of `conformal-clip-data` (the population).
Each is judged as a gate would: splits, heads, outcomes, learning curve. The truth at 1, 2 and 4
times the pool is measured with heads trained on fresh draws from the population and scored on the
rest of it. Printed for every metric: mean error of the projection, coverage and mean width of the
90 % intervals, once with all that the gate knows (per-image outcomes, test splits, pool), once from
the scores and the number of test images alone.
"""

import argparse
from collections.abc import Callable
from typing import Any

import conformal_clip_data
import numpy as np
import torch

from pytest_datasize.curve.learning_curve import LearningCurve
from pytest_datasize.curve.outcomes import gather
from pytest_datasize.embedding.backbone import load as load_backbone
from pytest_datasize.embedding.embed import embed
from pytest_datasize.embedding.embedder import Embedder
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.images.sources.load import load as load_images
from pytest_datasize.requirement.registries import METRICS
from pytest_datasize.store import Store
from pytest_datasize.study.scoring import metric_function
from pytest_datasize.trials.heads.heads import HeadTask, fit_heads
from pytest_datasize.trials.plan import draw

SHOWN = [metric for metric in METRICS if metric not in ("f1_micro", "recall_per_class")]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pools", type=int, default=40)
    parser.add_argument("--images", type=int, default=500, help="images in a pool")
    arguments = parser.parse_args()

    population, _ = load_images(str(conformal_clip_data.textile_simulated_root()))
    backbone = load_backbone("tf_efficientnet_lite0", "embedded")
    features = embed([population], Embedder(backbone, torch.device("cpu")), Store()).features
    generator = np.random.default_rng(0)
    available = draw(_part(population, np.arange(arguments.images) * 4)).available
    sizes = [n for n in (available, 2 * available, 4 * available) if n <= 0.85 * len(population)]
    truth = {n: _truth(features, population, n, generator) for n in sizes}

    rows: dict[tuple[str, int, str], list[tuple[float, float, bool]]] = {}
    for seed in range(arguments.pools):
        chosen = generator.choice(len(population), arguments.images, replace=False)
        for metric, kind, curve in _gate(features, population, np.sort(chosen), seed):
            for n in sizes:
                low, high = curve.interval(n, 0.9)
                error = curve.predict(n) - truth[n][metric]
                held = low <= truth[n][metric] <= high
                rows.setdefault((metric, n, kind), []).append((abs(error), high - low, held))
    print(f"{arguments.pools} pools of {arguments.images} images, {available} to train on")
    print("metric             images  known to the fit    error  held  width")
    for (metric, n, kind), found in sorted(rows.items()):
        error, width, held = np.mean(np.array(found, float), axis=0)
        print(f"{metric:18} {n:6}  {kind:18} {error:6.3f} {held:5.0%} {width:6.3f}")


def _part(images: ImageSet, rows: Any) -> ImageSet:
    return ImageSet("pool", images.classes, images.labels[rows], images.read, images.name)


def _truth(
    features: torch.Tensor, population: ImageSet, n: int, generator: np.random.Generator
) -> dict[str, float]:
    """Mean score of heads on n fresh images, on all other images of the population."""
    orders = [generator.permutation(len(population)) for _ in range(8)]
    tasks = [HeadTask(order[:n], order[n:], seed) for seed, order in enumerate(orders)]
    labels = population.labels
    heads = fit_heads(features, torch.from_numpy(labels), tasks, len(population.classes))
    return {
        metric: float(
            np.mean(
                [
                    metric_function(metric)(labels[task.test], head.probabilities).mean()
                    for task, head in zip(tasks, heads, strict=True)
                ]
            )
        )
        for metric in SHOWN
    }


def _gate(
    features: torch.Tensor, population: ImageSet, rows: Any, seed: int
) -> list[tuple[str, str, LearningCurve]]:
    """Curves of one pool: (metric, what the fit knows, curve)."""
    pool = _part(population, rows)
    plan = draw(pool, seed=seed)
    trials = plan.trials()
    tasks = [HeadTask(repeat.order[:size], repeat.test, number) for size, number, repeat in trials]
    labels = torch.from_numpy(pool.labels)
    heads = fit_heads(features[rows], labels, tasks, len(pool.classes))
    curves = []
    for metric in SHOWN:
        contribute: Callable[..., Any] = metric_function(metric)
        by_size: dict[int, list[Any]] = {size: [] for size in plan.sizes}
        for (size, _, repeat), head in zip(trials, heads, strict=True):
            by_size[size].append(contribute(pool.labels[repeat.test], head.probabilities))
        tested = [repeat.test for repeat in plan.repeats]
        outcomes = gather(plan.sizes, list(by_size.values()), tested, len(pool))
        bare = LearningCurve.fit(outcomes.sizes, outcomes.scores, outcomes.n_test)
        curves += [(metric, "images and splits", outcomes.curve()), (metric, "scores alone", bare)]
    return curves


if __name__ == "__main__":
    main()
