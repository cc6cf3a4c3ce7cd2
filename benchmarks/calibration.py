"""Is what a gate says true? Many small gates on real images whose truth is known.

    python benchmarks/calibration.py FOLDER            the test half: tables in README.md
    python benchmarks/calibration.py FOLDER --quick    one task, two pools, under a minute
    python benchmarks/calibration.py FOLDER --plans    sizes x repeats, and what they cost

Embeddings, trials and truths are kept in FOLDER (gates.py says how they are made): the first run
takes long, any other a minute. For every metric, at 1, 2, 4 and 8 times the images of a pool: error
and bias of the projected score, and how often its 90 % interval holds the truth. Over all of them:
whether a stated chance that the images suffice comes true, how often a verdict at confidence 0.9 is
wrong, how often a required number has no upper end, and whether what is called unreachable is.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from gates import FACTORS, METRICS, TASKS, Gate, gates

from pytest_datasize.curve.learning_curve import LearningCurve
from pytest_datasize.curve.outcomes import Outcomes

LEVEL: Final = 0.9
TARGETS: Final = (0.75, 0.85, 0.93, 1.08, 1.18, 1.33)
"""Targets of verdicts, as multiples of the true error: below 1 they are truly missed."""

Fit = Callable[[Outcomes], LearningCurve]

PLANS: Final = {
    "8 sizes x 10 repeats": (10, tuple(range(8))),
    "8 sizes x 20 repeats": (20, tuple(range(8))),
    "4 of them x 20": (20, (1, 3, 5, 7)),
    "the 5 largest x 10": (10, (3, 4, 5, 6, 7)),
    "the 5 largest x 12": (12, (3, 4, 5, 6, 7)),
    "3 of them x 20": (20, (1, 4, 7)),
    "8 sizes x 5 repeats": (5, tuple(range(8))),
}
"""What a plan trains: repeats, and which of the eight default sizes."""


@dataclass(frozen=True)
class Projected:
    """One projection of one curve, and the truth."""

    task: str
    metric: str
    factor: int
    weight: float  # classes of one gate count as one metric
    error: float
    low: float
    high: float

    @property
    def held(self) -> bool:
        """Whether the interval holds the truth."""
        return self.low - 1e-9 <= 0.0 <= self.high + 1e-9

    @property
    def interval_score(self) -> float:
        """Width, plus 20 times the distance by which the truth lies outside."""
        miss = max(self.low, -self.high, 0.0)
        return self.high - self.low + 2.0 / (1.0 - LEVEL) * miss


@dataclass(frozen=True)
class Judged:
    """One target, what the curve says of it, and the truth."""

    weight: float
    chance: float
    enough: bool
    hard: bool  # a projection decides: the target lies above what was measured, images beyond it
    endless: bool
    unreachable: bool
    beyond: bool  # the target lies above the best score that is known


def judge(
    gate: Gate, repeats: int = 10, sizes: tuple[int, ...] | None = None
) -> Iterator[Projected | Judged]:
    """Compare all that a gate says with the truth."""
    for metric in METRICS:
        outcomes = gate.outcomes(metric, repeats, sizes)
        for label, one in outcomes.items():
            curve = one.curve()
            truth = {
                n: float(found[metric] if label is None else found[metric][label])
                for n, found in gate.truth.items()
            }
            for factor in FACTORS:
                n = factor * gate.plan.available
                if n in truth:
                    weight = 1.0 / len(outcomes)
                    low, high = (end - truth[n] for end in curve.interval(n, LEVEL))
                    error = curve.predict(n) - truth[n]
                    yield Projected(gate.task, metric, factor, weight, error, low, high)
                    if factor < FACTORS[-1]:
                        yield from _judged(curve, n, truth, weight, beyond=factor > 1)


def _judged(
    curve: LearningCurve, n: int, truth: dict[int, float], weight: float, beyond: bool
) -> Iterator[Judged]:
    for share in TARGETS:
        target = 1.0 - share * (1.0 - truth[n])
        yield Judged(
            weight=weight,
            chance=curve.probability(n, target),
            enough=share > 1.0,
            hard=beyond and target > curve.means[-1],
            endless=math.isinf(curve.required_interval(target, LEVEL).high),
            unreachable=not curve.reachable(target),
            beyond=target > max(truth.values()),
        )


def _mean(found: Iterable[Projected], figure: Callable[[Projected], float]) -> float:
    """Average in points; tasks count alike."""
    by_task: dict[str, list[tuple[float, float]]] = {}
    for one in found:
        by_task.setdefault(one.task, []).append((figure(one), one.weight))
    tables = (np.array(pairs) for pairs in by_task.values())
    means = [np.average(table[:, 0], weights=table[:, 1]) for table in tables]
    return 100.0 * float(np.mean(means)) if means else math.nan


FIGURES: Final[dict[str, Callable[[Projected], float]]] = {
    "bias": lambda one: one.error,
    "error": lambda one: abs(one.error),
    "held": lambda one: float(one.held),
    "width": lambda one: one.high - one.low,
    "score": lambda one: one.interval_score,
}


def print_metrics(found: Sequence[Projected]) -> None:
    """Print a row per metric and number of images, and the means over metrics."""
    print(f"\n{'metric':<20}{'images':>7}" + "".join(f"{name:>8}" for name in FIGURES))
    for metric in METRICS:
        for factor in FACTORS:
            some = [one for one in found if (one.metric, one.factor) == (metric, factor)]
            cells = "".join(f"{_mean(some, figure):8.2f}" for figure in FIGURES.values())
            print(f"{metric:<20}{factor:>5} x{cells}")
    for factor in FACTORS:
        cells = "".join(f"{_over_metrics(found, name, (factor,)):8.2f}" for name in FIGURES)
        print(f"{'mean of metrics':<20}{factor:>5} x{cells}")


def _over_metrics(found: Sequence[Projected], name: str, factors: Sequence[int] = FACTORS) -> float:
    cells = [
        _mean([o for o in found if (o.metric, o.factor) == (metric, factor)], FIGURES[name])
        for metric in METRICS
        for factor in factors
    ]
    return float(np.nanmean(cells))


def reliability(judged: Sequence[Judged], bins: int = 10) -> list[tuple[float, float, int]]:
    """Return per bin of the stated chance: mean chance, share that truly suffices, cases."""
    rows = []
    for number in range(bins):
        some = [j for j in judged if min(int(j.chance * bins), bins - 1) == number]
        if some:
            weights = [j.weight for j in some]
            rows.append(
                (
                    float(np.average([j.chance for j in some], weights=weights)),
                    float(np.average([j.enough for j in some], weights=weights)),
                    len(some),
                )
            )
    return rows


def verdicts(judged: Sequence[Judged]) -> dict[str, float]:
    """Summarise the verdicts, in per cent but for the mean miss of stated chances."""

    def share(what: Callable[[Judged], bool], among: Callable[[Judged], bool]) -> float:
        some = [j for j in judged if among(j)]
        if not some:
            return math.nan
        return 100.0 * float(np.average([what(j) for j in some], weights=[j.weight for j in some]))

    def right(j: Judged) -> bool:
        return (j.chance >= 0.5) == j.enough

    decided = share(lambda j: not 0.1 < j.chance < 0.9, lambda j: True)
    return {
        "stated chance, mean miss in five bins": float(
            np.mean([abs(stated - true) for stated, true, _ in reliability(judged, 5)])
        ),
        "decided at confidence 0.9, %": decided,
        "wrong among these, %": share(
            lambda j: (j.chance >= 0.9) != j.enough, lambda j: not 0.1 < j.chance < 0.9
        ),
        "balanced verdicts where a projection decides, %": (
            share(right, lambda j: j.hard and j.enough)
            + share(right, lambda j: j.hard and not j.enough)
        )
        / 2.0,
        'required number without an upper end ("any"), %': share(
            lambda j: j.endless, lambda j: True
        ),
        "called unreachable, %": share(lambda j: j.unreachable, lambda j: True),
        "of these above the best score that is known, %": share(
            lambda j: j.beyond, lambda j: j.unreachable
        ),
    }


def _split(found: Iterable[Projected | Judged]) -> tuple[list[Projected], list[Judged]]:
    everything = list(found)
    return (
        [one for one in everything if isinstance(one, Projected)],
        [one for one in everything if isinstance(one, Judged)],
    )


def report(measured: Sequence[Gate], repeats: int) -> None:
    """Print all tables for one plan."""
    projected, judged = _split(one for gate in measured for one in judge(gate, repeats))
    print_metrics(projected)
    print("\nstated chance that the images suffice, and how often they do")
    for stated, true, cases in reliability(judged):
        print(f"{stated:8.2f}{true:8.2f}{cases:8,} cases")
    print()
    for name, value in verdicts(judged).items():
        print(f"{name:<52}{value:8.3f}" if value < 1 else f"{name:<52}{value:8.1f}")


def compare_plans(measured: Sequence[Gate]) -> None:
    """Print one row per plan: what its trials cost, and how tight and true its intervals are."""
    print(f"\n{'plan':<24}{'heads':>6}{'rows':>7}{'score':>8}{'width':>8}{'held':>7}{'error 4':>9}")
    for name, (repeats, sizes) in PLANS.items():
        found, _ = _split(one for gate in measured for one in judge(gate, repeats, sizes))
        rows = [
            repeats * sum(gate.plan.sizes[k] for k in sizes) / (10 * sum(gate.plan.sizes))
            for gate in measured
        ]
        cells = (_over_metrics(found, figure) for figure in ("score", "width", "held"))
        print(
            f"{name:<24}{repeats * len(sizes):>6}{np.mean(rows):>7.2f}"
            + "".join(f"{value:{size}.2f}" for value, size in zip(cells, (8, 8, 7), strict=True))
            + f"{_over_metrics(found, 'error', (4,)):9.2f}"
        )


def main() -> None:
    """Measure what FOLDER lacks, and print the tables."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="where embeddings, trials and truths are kept")
    add("--quick", action="store_true", help="digits alone, two pools of 200 images")
    add("--half", choices=("development", "test", "all"), default="test")
    add("--pools", type=int, nargs="+", default=[200, 400, 800], help="images in a pool")
    add("--seeds", type=int, default=6, help="pools of each size and task")
    add("--repeats", type=int, default=10)
    add("--plans", action="store_true", help="compare sizes x repeats instead")
    options = parser.parse_args()
    tasks = [name for name, task in TASKS.items() if options.half in (task.half, "all")]
    if options.quick:
        tasks, options.pools, options.seeds = ["digits, 10 classes"], [200], 2
    measured = list(gates(options.folder, tuple(options.pools), options.seeds, tasks))
    names = dict.fromkeys(gate.task for gate in measured)
    print(f"{len(measured)} gates with pools of {options.pools} images; {'; '.join(names)}")
    if options.plans:
        compare_plans(measured)
    else:
        report(measured, options.repeats)


if __name__ == "__main__":
    main()
