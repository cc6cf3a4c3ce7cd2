"""Measure whether the scores of slices are right, and how often random factors are reported.

Simulated test images whose truth is known: no images, no training, a minute of one core.

    python benchmarks/slices.py
"""

import argparse
from collections.abc import Callable

import numpy as np

from pytest_datasize.curve.advice.association import factor_facts
from pytest_datasize.curve.outcomes import gather
from pytest_datasize.curve.slices import FactorValues, Slice, slices_of

SIZES = (50, 100, 200, 400)
Truth = Callable[[np.random.Generator, int], np.ndarray]

TRUTHS: dict[str, Truth] = {
    "all 0.88": lambda generator, number: np.full(number, 0.88),
    "0.88 +- 0.05": lambda generator, number: np.clip(
        0.88 + 0.05 * generator.standard_normal(number), 0.5, 0.995
    ),
    "one 0.70, others 0.90": lambda generator, number: np.where(np.arange(number), 0.9, 0.7),
}


def measured(truth: np.ndarray, images: int, generator: np.random.Generator) -> list[Slice]:
    """Return the slices of a factor whose accuracies at the largest size are known."""
    numbers = np.repeat(np.arange(len(truth)), images)
    hard = generator.random(len(numbers))
    last = len(SIZES) - 1
    hits = [[(hard < truth[numbers] - 0.03 * (last - k)) * 1.0] for k in range(len(SIZES))]
    rows = [np.arange(len(numbers))]
    outcomes = gather(SIZES, hits, rows, len(numbers))
    factor = FactorValues("site", tuple(map(str, range(len(truth)))), numbers)
    return slices_of(factor, len(numbers), {"accuracy": (outcomes, hits)}, rows)


def of_slices(sets: int) -> None:
    """Print coverage, errors, and how much too bad the worst slice looks."""
    print("slices  images  truth                   intervals hold  of the worst   error, points")
    print("        each                            the truth, %                   raw  borrowed")
    print("                                                       worst looks off: raw  borrowed")
    generator = np.random.default_rng(1)
    for number, images in ((2, 200), (5, 60), (20, 40), (20, 200)):
        for name, of in TRUTHS.items():
            held, worst, errors, looks = [], [], [], []
            for _ in range(sets):
                truth = of(generator, number)
                found = measured(truth, images, generator)
                outcomes = [one.outcomes["accuracy"] for one in found]
                score = np.array([one.scores[-1][0] for one in outcomes])
                half = 1.645 * np.array([one.test_covariance[-1, -1] ** 0.5 for one in outcomes])
                raw = np.array([one.measured["accuracy"] for one in found])
                inside = np.abs(score - truth) < half
                held.append(inside.mean())
                worst.append(inside[score.argmin()])
                errors.append(((raw - truth) ** 2, (score - truth) ** 2))
                looks.append(
                    (
                        raw.min() - truth[raw.argmin()],
                        score.min() - truth[score.argmin()],
                    )
                )
            error = 100 * np.sqrt(np.mean(errors, axis=(0, 2)))
            off = 100 * np.mean(looks, axis=0)
            print(
                f"{number:6d}  {images:6d}  {name:22s} {100 * np.mean(held):12.0f} "
                f"{100 * np.mean(worst):13.0f} {error[0]:9.1f} {error[1]:9.1f} "
                f"  {off[0]:+6.1f} {off[1]:+6.1f}"
            )


def of_factors(sets: int) -> None:
    """Print how often factors are reported: random ones, and ones that follow the class."""
    print("\nclasses  values  images  agree, %  p <= 0.01 alone, %   reported, of 5 together")
    generator = np.random.default_rng(2)
    for classes, values, images, agree in (
        (2, 2, 150, 0),
        (5, 12, 150, 0),
        (10, 3, 2000, 0),
        (2, 2, 150, 30),
        (2, 2, 150, 60),
        (10, 2, 2000, 50),
    ):
        names = [str(label) for label in range(classes)]
        alone, called = [], []
        for _ in range(sets // 5):
            labels = generator.integers(0, classes, images)
            factors = []
            for i in range(5):
                random = generator.integers(0, values, images)
                same = generator.random(images) < agree / 100
                numbers = np.where(same, labels * values // classes, random)
                factors.append(FactorValues(str(i), tuple(map(str, range(values))), numbers))
            alone += [
                (factor_facts([one], names, labels)[0].p_value or 1) <= 0.01 for one in factors
            ]
            called.append(np.mean([one.tells for one in factor_facts(factors, names, labels)]))
        print(
            f"{classes:7d}  {values:6d}  {images:6d} {agree:9d} {100 * np.mean(alone):19.1f} "
            f"{100 * np.mean(called):30.1f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=200, help="simulated data sets a row")
    options = parser.parse_args()
    of_slices(options.sets)
    of_factors(options.sets)
