"""How true are the projections? Our fit beside the published methods, on curves that are known.

    python benchmarks/truth.py                        the tables, half a minute
    python benchmarks/truth.py --quick                the same on one curve in seven
    python benchmarks/truth.py --fashion-mnist DIR    from 1,000 images to 60,000, end to end

Every curve in curves.npz was measured far beyond the sizes that a fit sees: the truth is known at
2, 4 and 8 times the largest of them. README.md says where the curves come from and what the figures
mean. DIR holds the four idx.gz files of Fashion-MNIST (in Debian: package dataset-fashion-mnist,
/usr/share/datasets/fashion-mnist).
"""

from __future__ import annotations

import argparse
import gzip
import math
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from baselines import METHODS, Method, Projection
from numpy.typing import NDArray

from pytest_datasize import LearningCurve, Study
from pytest_datasize.study.result import StudyResult

LEVEL: Final = 0.9
FACTORS: Final = (1, 2, 4, 8)
"""Where the truth is known, in multiples of the largest size that a fit sees."""

TARGETS: Final = (0.75, 0.85, 0.93, 1.08, 1.18, 1.33)
"""Targets of verdicts, as multiples of the true error: below 1 they are truly missed."""

MOST_OCTAVES: Final = 3.0
"""A number of images that is more than this many doublings off, or "never", counts as this."""

LEAST_GAIN: Final = 0.03
"""Share of the error that a doubling must truly remove, for required images to be well defined."""

FIGURES: Final[Mapping[str, tuple[str, int]]] = {
    "error 2": ("error of the score at 2 x the images, points", 2),
    "error 4": ("                          4 x", 2),
    "error 8": ("                          8 x", 2),
    "held 2": ("90 % intervals that hold the truth at 2 x, %", 0),
    "held 4": ("                                      4 x", 0),
    "held 8": ("                                      8 x", 0),
    "width 4": ("width of these intervals at 4 x, points", 1),
    "interval score": ("interval score (width + 20 x miss), points", 1),
    "octaves": ("images required, doublings off", 2),
    "never": ('  "never" though truly met, %', 0),
    "required held": ("  90 % intervals that hold the truth, %", 0),
    "right": ("verdicts that are right, %", 0),
    "balanced": ("  where a projection decides, balanced, %", 0),
    "false pass": ("  passed though truly short, %", 1),
    "milliseconds": ("processor time of a fit, milliseconds", 1),
}
"""Figure -> how it is called in the table, decimals."""


@dataclass(frozen=True)
class Curve:
    """One experiment: what a fit sees, and the truth at :data:`FACTORS` times its largest size.

    Attributes
    ----------
    family, data
        Kind of data; data set and learner.
    sizes, scores, n_test
        Arguments of a fit.
    true_sizes, truth
        Sizes at which the accuracy over the population is known, and that accuracy.
    """

    family: str
    data: str
    sizes: tuple[int, ...]
    scores: tuple[tuple[float, ...], ...]
    n_test: int
    true_sizes: tuple[int, ...]
    truth: tuple[float, ...]


def load_curves(path: Path) -> list[Curve]:
    """Read the curves that ship with the project."""
    with np.load(path) as file:
        packed = {name: file[name] for name in file.files}
    return [
        Curve(
            family=str(packed["family"][row]),
            data=str(packed["data"][row]),
            sizes=tuple(int(n) for n in packed["sizes"][row] if n > 0),
            scores=tuple(
                tuple(float(score) for score in repeats if not math.isnan(score))
                for repeats, n in zip(packed["scores"][row], packed["sizes"][row], strict=True)
                if n > 0
            ),
            n_test=int(packed["n_test"][row]),
            true_sizes=tuple(int(n) for n in packed["true_sizes"][row]),
            truth=tuple(float(score) for score in packed["truth"][row]),
        )
        for row in range(len(packed["family"]))
    ]


Figures = dict[str, float]


def judge(curve: Curve, method: Method) -> Figures:
    """Fit one curve by one method and compare its answers with the truth."""
    start = time.process_time()
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        fit = method(curve.sizes, curve.scores, curve.n_test)
        seconds = time.process_time() - start
        return {
            "milliseconds": 1000.0 * seconds,
            **_projected(curve, fit),
            **_required(curve, fit),
            **_verdicts(curve, fit),
        }


def _projected(curve: Curve, fit: Projection) -> Figures:
    """Compare scores, and their intervals, at 2, 4 and 8 times the largest size seen."""
    found: Figures = {}
    interval_scores = []
    for factor, n, truth in zip(FACTORS[1:], curve.true_sizes[1:], curve.truth[1:], strict=True):
        low, high = (float(np.clip(end, 0.0, 1.0)) for end in fit.interval(n, LEVEL))
        miss = max(low - truth, truth - high, 0.0)
        found[f"error {factor}"] = 100.0 * abs(float(np.clip(fit.predict(n), 0.0, 1.0)) - truth)
        found[f"held {factor}"] = 100.0 * (miss < 1e-9)
        found[f"width {factor}"] = 100.0 * (high - low)
        interval_scores.append(100.0 * (high - low + 2.0 / (1.0 - LEVEL) * miss))
    return {**found, "interval score": float(np.mean(interval_scores))}


def _required(curve: Curve, fit: Projection) -> Figures:
    """Ask for the images that the true score at 2 and 4 times the largest size needs."""
    octaves, never, held = [], [], []
    for i in (1, 2):
        n, target = curve.true_sizes[i], curve.truth[i]
        if 1.0 - target > (1.0 - LEAST_GAIN) * (1.0 - max(curve.truth[:i])):
            continue
        required = fit.required(target)
        low, high = fit.required_interval(target, LEVEL)
        octaves.append(min(abs(math.log2(max(required, 1.0) / n)), MOST_OCTAVES))
        never.append(100.0 * math.isinf(required))
        held.append(100.0 * (low * 0.999 <= n <= high * 1.001))
    if not octaves:
        return {}
    means = (float(np.mean(values)) for values in (octaves, never, held))
    return dict(zip(("octaves", "never", "required held"), means, strict=True))


def _verdicts(curve: Curve, fit: Projection) -> Figures:
    """Judge targets around the true score with 1, 2 and 4 times the largest size available."""
    right, false_pass = [], []
    hard: dict[bool, list[bool]] = {True: [], False: []}  # truly enough -> right
    last = float(np.mean(curve.scores[-1]))
    for available, truth in zip(curve.true_sizes[:3], curve.truth[:3], strict=True):
        for share in TARGETS:
            target, enough = 1.0 - share * (1.0 - truth), share > 1.0
            passed = fit.required(target) <= available
            right.append(passed == enough)
            if not enough:
                false_pass.append(passed)
            if target > last and available > curve.true_sizes[0]:
                hard[enough].append(passed == enough)
    return {
        "right": 100.0 * float(np.mean(right)),
        "false pass": 100.0 * float(np.mean(false_pass)),
        **{f"hard {enough}": 100.0 * float(np.mean(h)) for enough, h in hard.items() if h},
    }


def summarise(curves: Sequence[Curve], judged: Sequence[Figures]) -> Figures:
    """Average: families count alike, and so do the data sets within a family."""
    found = {
        name: _mean(name, curves, judged) for name in {n for figures in judged for n in figures}
    }
    found["balanced"] = (found.get("hard True", math.nan) + found.get("hard False", math.nan)) / 2.0
    found["milliseconds"] = float(np.median([figures["milliseconds"] for figures in judged]))
    return found


def _mean(name: str, curves: Sequence[Curve], judged: Sequence[Figures]) -> float:
    values: dict[str, dict[str, list[float]]] = {}
    for curve, figures in zip(curves, judged, strict=True):
        if name in figures:
            data = curve.data.partition(",")[0]
            values.setdefault(curve.family, {}).setdefault(data, []).append(figures[name])
    return float(
        np.mean([np.mean([np.mean(v) for v in family.values()]) for family in values.values()])
    )


def print_table(title: str, columns: Mapping[str, Figures]) -> None:
    """Print figures in rows, methods in columns."""
    print(f"\n{title:<46}" + "".join(f"{name:>11}" for name in columns))
    for figure, (label, decimals) in FIGURES.items():
        cells = (f"{column.get(figure, math.nan):11.{decimals}f}" for column in columns.values())
        print(f"{label:<46}" + "".join(cells))


def compare(curves: Sequence[Curve]) -> None:
    """Fit all curves by all methods and print the tables."""
    methods: dict[str, tuple[str, Method]] = {
        "datasize": ("LearningCurve.fit of this project", LearningCurve.fit),
        **METHODS,
    }
    judged: dict[str, list[Figures]] = {name: [] for name in methods}
    for done, curve in enumerate(curves, start=1):
        _progress(f"{done} of {len(curves)} curves")
        for name, (_, method) in methods.items():
            judged[name].append(judge(curve, method))
    _progress("")
    families = {"all families alike": {curve.family for curve in curves}}
    families |= {f"{name} curves": {name} for name in sorted(families["all families alike"])}
    for title, chosen in families.items():
        rows = [row for row, curve in enumerate(curves) if curve.family in chosen]
        summaries = {
            name: summarise([curves[r] for r in rows], [figures[r] for r in rows])
            for name, figures in judged.items()
        }
        print_table(f"{title} ({len(rows)} experiments)", summaries)
    print()
    for name, (description, _) in methods.items():
        print(f"{name:<12}{description}")


def load_fashion_mnist(directory: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read the images (N, 28, 28) and labels of a part, ``train`` or ``t10k``."""

    def read(name: str, header: int) -> NDArray[np.uint8]:
        with gzip.open(directory / f"{part}-{name}-ubyte.gz") as file:
            return np.frombuffer(file.read(), dtype=np.uint8, offset=header)

    return read("images-idx3", 16).reshape(-1, 28, 28), read("labels-idx1", 8).astype(np.int64)


SHOWN_METRICS: Final = {"accuracy": "accuracy", "f1_macro": "macro F1", "auc": "AUC"}


def fashion_mnist(options: argparse.Namespace) -> None:
    """Project from a few images of Fashion-MNIST, and compare with the scores of all of them."""
    images, labels = load_fashion_mnist(options.fashion_mnist, "train")
    settings = {"image_size": options.image_size, "device": options.device}
    settings |= {"cache": {}, "on_progress": _on_progress}
    complete = Study(
        (images, labels),
        test_dataset=load_fashion_mnist(options.fashion_mnist, "t10k"),
        sizes=[n for n in options.true_sizes if n <= len(labels)],
        repeats=options.true_repeats,
        **settings,
    ).run()
    results = []
    for seed in range(options.pools):
        rows = np.random.default_rng(seed).choice(len(labels), options.seen, replace=False)
        results.append(Study((images[rows], labels[rows]), seed=seed, **settings).run())
    _progress("")
    _print_one(results[0], complete)
    _print_pools(results, complete)


def _print_one(seen: StudyResult, complete: StudyResult) -> None:
    curve = seen.curves["accuracy"]
    print(
        f"\nFashion-MNIST at {seen.image_size} pixels, {seen.backbone}: accuracy projected from "
        f"{seen.total:,} images\n(at most {seen.available:,} to train on, {curve.means[-1]:.3f}), "
        f"truth on {complete.n_test:,} other images\n"
    )
    print(
        f"{'images':>8}{'projected':>11}{'90 % interval':>18}{'truth':>8}   images required for it"
    )
    for n, truth in _truths(complete, "accuracy"):
        low, high = curve.interval(n, LEVEL)
        few, many = curve.required_interval(truth, LEVEL)
        required = curve.required(truth)
        needed = "none" if math.isinf(required) else _count(required)
        needed += f" ({_count(few)} to {_count(many)})"
        span = f"{low:.3f} to {high:.3f}"
        print(f"{n:>8,}{curve.predict(n):>11.3f}{span:>18}{truth:>8.3f}   {needed}")


def _print_pools(results: Sequence[StudyResult], complete: StudyResult) -> None:
    """Summarise many draws of the images seen: error, intervals that hold the truth, width."""
    print(f"\n{len(results)} such draws of {results[0].total:,} images, mean (points)\n")
    print(f"{'':<10}{'images':>8}{'truth':>8}{'bias':>8}{'error':>8}{'width':>8}   intervals hold")
    for metric, name in SHOWN_METRICS.items():
        for n, truth in _truths(complete, metric):
            curves = [result.curves[metric] for result in results]
            missed = 100.0 * np.array([curve.predict(n) - truth for curve in curves])
            ends = [curve.interval(n, LEVEL) for curve in curves]
            held = sum(low <= truth <= high for low, high in ends)
            width = 100.0 * float(np.mean([high - low for low, high in ends]))
            print(
                f"{name:<10}{n:>8,}{truth:>8.3f}{missed.mean():>+8.2f}{abs(missed).mean():>8.2f}"
                f"{width:>8.2f}   {held} of {len(curves)}"
            )


def _truths(complete: StudyResult, metric: str) -> Iterator[tuple[int, float]]:
    for n, scores in zip(complete.sizes, complete.scores[metric], strict=True):
        yield n, float(np.mean(scores))


def _count(n: float) -> str:
    if math.isinf(n):
        return "any"
    return f"{n:,.0f}" if n < 10_000_000 else "more than 10 million"


def _on_progress(stage: str, done: int, total: int) -> None:
    if done == total or done % 100 == 0:
        _progress(f"{stage}: {done:,} of {total:,}")


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text:<60}", end="\r" if not text else "", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, or run end to end on Fashion-MNIST."""
    options = _parser().parse_args(arguments)
    if options.fashion_mnist:
        fashion_mnist(options)
    else:
        compare(load_curves(options.curves)[:: 7 if options.quick else 1])


def _parser() -> argparse.ArgumentParser:
    raw: Any = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("--quick", action="store_true", help="one curve in seven, some seconds")
    add("--curves", type=Path, default=Path(__file__).with_name("curves.npz"), metavar="FILE")
    group = parser.add_argument_group("end to end")
    add = group.add_argument
    add("--fashion-mnist", type=Path, metavar="DIR", help="folder of the idx.gz files")
    add("--seen", type=int, default=1000, metavar="N", help="images to project from")
    add("--pools", type=int, default=10, metavar="N", help="draws of these images")
    add("--image-size", type=int, default=64, metavar="PIXELS", help="input of the backbone")
    add("--device", default="auto", help="as of Study")
    add("--true-repeats", type=int, default=2, metavar="N", help="runs behind each true score")
    add(
        "--true-sizes",
        type=int,
        nargs="+",
        default=[2000, 4000, 8000, 16000, 32000, 60000],
        metavar="N",
        help="training images at which the truth is measured",
    )
    return parser


if __name__ == "__main__":
    main()
