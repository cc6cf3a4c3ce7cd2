"""Compare strategies on the same images: score, required images, cost, and worth in images."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pytest_datasize.curve.counts import count, plain
from pytest_datasize.curve.learning_curve import Ceiling, Interval, LearningCurve
from pytest_datasize.curve.verdict import LEVEL
from pytest_datasize.errors import DatasetError, RequirementError
from pytest_datasize.requirement.registries import STRATEGIES
from pytest_datasize.requirement.spelling import nearest
from pytest_datasize.requirement.units import IMAGE, plural
from pytest_datasize.study.result import StudyResult
from pytest_datasize.study.splits import same_splits

SHARES = (1.0, 0.5, 0.13)
"""Shares of the data in the decrement table; the flowers study's Large, Medium and Small."""

AUGMENTED = "+augment"
"""Suffix of a strategy's name: it also trains on augmented views."""

_QUANTILES = tuple((k + 0.5) / 15 for k in range(15))


@dataclass(frozen=True)
class Row:
    """The row of one strategy in the comparison.

    Attributes
    ----------
    name
        Strategy, with ``+augment`` where it trains on augmented views.
    score, interval
        Projected score with all available images, and its 90 % interval.
    required, required_interval
        Images that the target needs, and their 90 % interval; infinite if no number suffices.
    ceiling
        Score with unlimited images.
    seconds
        Wall time of its study.
    lost
        Score lost when the data shrink to each of :data:`SHARES` (the first is 0).
    """

    name: str
    score: float
    interval: Interval
    required: float
    required_interval: Interval
    ceiling: Ceiling
    seconds: float
    lost: tuple[float, ...]


@dataclass(frozen=True)
class Worth:
    """Worth of one strategy against another, as a multiple of the data.

    Attributes
    ----------
    name, against
        The strategy, and the one that it is compared with.
    times, low, high
        Multiple of the available images that the other needs for the same score, and the 90 %
        interval; infinite if no number suffices.
    unit
        What is counted: ``image`` or ``group``.
    """

    name: str
    against: str
    times: float
    low: float
    high: float
    unit: str = IMAGE

    def __str__(self) -> str:
        if math.isinf(self.times):
            return (
                f"{self.name} scores what {self.against} reaches with no number of "
                f"{plural(self.unit)}"
            )
        end = "or more" if math.isinf(self.high) else f"to {plain(self.high)}"
        return (
            f"{self.name} scores what {self.against} reaches with {plain(self.times)} times the "
            f"{plural(self.unit)} ({plain(self.low)} {end})"
        )


@dataclass(frozen=True)
class Comparison:
    """Results of several strategies on the same images, splits and subsamples.

    Attributes
    ----------
    metric, target
        Metric to compare, and the score to reach.
    available
        Images available for training.
    source
        Where the images come from.
    results
        Name → evidence.
    """

    metric: str
    target: float
    available: int
    source: str
    results: Mapping[str, StudyResult]

    @property
    def unit(self) -> str:
        """What all numbers count: ``image`` or ``group``."""
        return next(iter(self.results.values())).unit

    @property
    def rows(self) -> tuple[Row, ...]:
        """The strategies, in the order given."""
        return tuple(self._row(name, result) for name, result in self.results.items())

    @property
    def fewest(self) -> str | None:
        """Name of the strategy that surely needs the fewest images for the target.

        None if the 90 % interval of its required number overlaps with another's, so that it cannot
        be told.
        """
        best, *others = sorted(self.rows, key=lambda row: (row.required, -row.score))
        most = best.required_interval.high
        told = all(most < other.required_interval.low for other in others)
        return best.name if told else None

    @property
    def worth(self) -> tuple[Worth, ...]:
        """Worth of augmentation for each strategy, and of each strategy against the first."""
        first = next(iter(self.results))
        pairs = [
            (name, name.removesuffix(AUGMENTED))
            for name in self.results
            if name.endswith(AUGMENTED) and name.removesuffix(AUGMENTED) in self.results
        ]
        pairs += [
            (name, first) for name in self.results if name != first and not name.endswith(AUGMENTED)
        ]
        return tuple(self.worth_of(name, against) for name, against in pairs)

    def worth_of(self, name: str, against: str) -> Worth:
        """Return the multiple of the data that ``against`` needs for the score of ``name`` now.

        The interval treats the two curves as independent. They share images and splits, so it is
        somewhat too wide.
        """
        times = [
            _quantile_required(self._curve(against), score, level) / self.available
            for score in (_quantile_score(self._curve(name), self.available, q) for q in _QUANTILES)
            for level in _QUANTILES
        ]
        low, middle, high = np.quantile(times, [0.05, 0.5, 0.95], method="nearest")
        return Worth(name, against, float(middle), float(low), float(high), self.unit)

    def _curve(self, name: str) -> LearningCurve:
        return self.results[name].curves[self.metric]

    def _row(self, name: str, result: StudyResult) -> Row:
        curve = result.curves[self.metric]
        score = curve.predict(self.available)
        return Row(
            name=name,
            score=score,
            interval=curve.interval(self.available, LEVEL),
            required=curve.required(self.target),
            required_interval=curve.required_interval(self.target, LEVEL),
            ceiling=curve.ceiling,
            seconds=sum(result.timings.values()),
            lost=tuple(score - curve.predict(max(1.0, s * self.available)) for s in SHARES),
        )

    def __str__(self) -> str:
        shares = [f"lost with {share:.0%}" for share in SHARES[1:]]
        table = [
            (
                "strategy",
                "now",
                f"{plural(self.unit)} for {self.target:g}",
                "best",
                "seconds",
                *shares,
            ),
        ]
        held_out = next(iter(self.results.values())).held_out
        for row in self.rows:
            low, high = map(held_out.data_set, row.required_interval)
            needed = (
                ("out of reach" if math.isinf(low) else f"{count(low)} or more")
                if math.isinf(row.required)
                else f"{count(held_out.data_set(row.required))} ({count(low)} "
                f"{'or more' if math.isinf(high) else f'to {count(high)}'})"
            )
            table.append(
                (
                    row.name,
                    f"{row.score:z.3f} ({row.interval.low:z.3f} to {row.interval.high:z.3f})",
                    needed,
                    f"{row.ceiling.mean:z.3f} ({row.ceiling.low:z.3f} to {row.ceiling.high:z.3f})",
                    f"{row.seconds:.0f}",
                    *(f"{lost:z.3f}" for lost in row.lost[1:]),
                )
            )
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in table
        ]
        number = int(held_out.data_set(self.available))
        title = f"{self.metric} with {number:,} {plural(self.unit)} of {self.source}"
        return "\n".join([title, *lines, *map(str, self.worth)])


def compare(
    run: Callable[[str, bool], StudyResult],
    strategies: Sequence[str],
    target: float,
    metric: str = "accuracy",
) -> Comparison:
    """Run several strategies on the same images.

    Parameters
    ----------
    run
        Called with (strategy, whether it augments); returns the evidence.
    strategies
        Names from the table of strategies, with ``+augment`` to train on augmented views too.
    target
        Score to reach.
    metric
        Metric to compare by.

    Raises
    ------
    RequirementError
        A strategy is unknown or given twice.
    DatasetError
        The strategies were not tested on the same images.
    """
    for name in strategies:
        if name.removesuffix(AUGMENTED) not in STRATEGIES:
            hint = nearest(name, tuple(STRATEGIES)) or "."
            raise RequirementError(
                f"datasize_compare: unknown strategy {name!r}{hint} Allowed: "
                f"{', '.join(STRATEGIES)}, each also with {AUGMENTED!r}."
            )
    if not strategies or len(set(strategies)) < len(strategies):
        raise RequirementError("datasize_compare: give different strategies, one at least.")
    results = {
        name: run(name.removesuffix(AUGMENTED), name.endswith(AUGMENTED)) for name in strategies
    }
    first = next(iter(results.values()))
    for name, result in results.items():
        result.check([metric])
        if not same_splits(first.splits, result.splits):
            raise DatasetError(
                f"datasize_compare: {name} and {strategies[0]} were not trained and tested on the "
                f"same images of {first.source}, so their scores cannot be compared. Did the "
                "images change meanwhile? Run again when they are complete."
            )
    return Comparison(metric, target, first.available, first.source, results)


def _quantile_score(curve: LearningCurve, n: int, q: float) -> float:
    """Quantile of the score at n images."""
    if q == 0.5:
        return curve.predict(n)
    ends = curve.interval(n, abs(1.0 - 2.0 * q))
    return ends.low if q < 0.5 else ends.high


def _quantile_required(curve: LearningCurve, target: float, q: float) -> float:
    """Quantile of the number of images for a score."""
    if q == 0.5:
        return curve.required(target)
    ends = curve.required_interval(target, abs(1.0 - 2.0 * q))
    return ends.low if q < 0.5 else ends.high
