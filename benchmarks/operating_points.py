"""Measure whether intervals of operating points are right, and what thresholds give.

    python benchmarks/operating_points.py           100 data sets of each kind, about a minute
    python benchmarks/operating_points.py --quick   20 of each

Two classes whose scores are normal, two standard deviations apart, so that the expected score of
any threshold is known. Each data set is split and trained on as a gate does, with 8 sizes and 10
repeats, but the score needs no training: all error comes from choosing thresholds and from testing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from pytest_datasize.curve.metrics.operating_points import achieved
from pytest_datasize.requirement.tasks import TASKS, Metric, function_of
from pytest_datasize.study.metric_outcomes import Scored, point_outcomes

DISTANCE: Final = 2.0
POINTS: Final = {
    "recall_at_precision": 0.9,
    "sensitivity_at_specificity": 0.95,
    "false_alarm_rate": 0.9,
}
KINDS: Final = ((200, 0.5), (600, 0.5), (1000, 0.1))
"""Images of a data set, and the share of the class."""

Choose = Callable[[NDArray[np.bool_], NDArray[np.floating], float], float]


def main() -> None:
    """Print a line for each kind of data set and each metric."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    number = 20 if parser.parse_args().quick else 100
    print(f"{'images':>6}  {'of class':>8}  {'metric':<27}{'truth':>6}  projected  width  held")
    for images, share in KINDS:
        for name, given in POINTS.items():
            metric = TASKS["classification"].metrics[name]
            true = truth(metric, given, int(0.8 * images), share)
            found = [projected(metric, given, images, share, seed) for seed in range(number)]
            score, low, high, there = np.array(found).T
            held = 100 * np.mean((low <= true) & (true <= high))
            print(
                f"{images:>6,}  {share:>8.0%}  {name:<27}{true:>6.3f}  {score.mean():>9.3f}  "
                f"{(high - low).mean():.3f}  {held:>2.0f} %; {metric.given} {np.nanmean(there):.3f}"
                f" of {given:g}"
            )


def sample(
    rng: np.random.Generator, images: int, share: float
) -> tuple[NDArray[np.bool_], NDArray[np.floating]]:
    """Return which images show the class, and their scores."""
    shown = np.arange(images) < round(images * share)
    return shown, rng.standard_normal(images) + DISTANCE * shown


def truth(metric: Metric, given: float, images: int, share: float) -> float:
    """Return the expected score of a threshold that is chosen on so many fresh images."""
    rng = np.random.default_rng(99)
    choose: Choose = function_of(metric)
    thresholds = [choose(*sample(rng, images, share), given) for _ in range(1500)]
    return float(np.mean(ndtr(DISTANCE * metric.members - np.array(thresholds))))


def projected(
    metric: Metric, given: float, images: int, share: float, seed: int
) -> tuple[float, float, float, float]:
    """Return a gate's score with all images, its interval, and what its thresholds give."""
    rng = np.random.default_rng(seed)
    shown, scores = sample(rng, images, share)
    choose: Choose = function_of(metric)
    available = int(0.8 * images)
    sizes = np.geomspace(16 if share > 0.3 else 40, available, 8).round().astype(int)
    splits = list(_splits(rng, shown))
    tested = [test for test, _ in splits]
    flagged = [
        [
            (scores[test] >= choose(shown[order[:n]], scores[order[:n]], given)).astype(float)
            for test, order in splits
        ]
        for n in sizes.tolist()
    ]
    both = np.stack([~shown, shown], axis=1)
    labels = shown.astype(np.int64)
    scored = Scored(tuple(sizes.tolist()), labels, both, labels, tested, [], images)
    outcomes = point_outcomes(metric, scored, 1, flagged, given)
    curve, sign = outcomes.curve(), outcomes.sign
    low, high = sorted(sign * end for end in curve.interval(available, 0.9))
    there = [
        achieved(metric.given, shown[test], flags > 0)
        for test, flags in zip(tested, flagged[-1], strict=True)
    ]
    known = [value for value in there if value is not None]
    return sign * curve.predict(available), low, high, float(np.mean(known)) if known else np.nan


def _splits(
    rng: np.random.Generator, shown: NDArray[np.bool_]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield test rows and the order of the others: twice five stratified parts."""
    classes = [np.flatnonzero(shown == kind) for kind in (False, True)]
    for _ in range(2):
        shuffled = [rng.permutation(rows) for rows in classes]
        for fold in range(5):
            test = np.sort(np.concatenate([np.array_split(rows, 5)[fold] for rows in shuffled]))
            rest = [rng.permutation(np.setdiff1d(rows, test)) for rows in classes]
            places = np.concatenate([(np.arange(len(rows)) + 0.5) / len(rows) for rows in rest])
            yield test, np.concatenate(rest)[np.argsort(places, kind="stable")]


if __name__ == "__main__":
    main()
