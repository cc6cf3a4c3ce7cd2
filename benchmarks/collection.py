"""Is the advice true? Plans really carried out, labels really flipped, images really chosen.

    python benchmarks/collection.py --fashion-mnist DIR --cache FILE.npz            all tables
    python benchmarks/collection.py --cache FILE.npz --only collect                 one of them

DIR holds the four idx.gz files of Fashion-MNIST; 8,000 images are embedded once by the default
backbone and kept in FILE.npz. Tables: `collect` (a plan by class against today's proportions),
`missing` (is a gate green with the number of images that it reported as missing?),
`changes` (does the model of changed compositions hold), `suggest` (labels that a ranking saves),
`labels` (flipped labels found), `drift` (false alarms of represents).
"""

from __future__ import annotations

import argparse
import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student

from pytest_datasize.curve.advice import class_curves
from pytest_datasize.curve.advice.class_curves import ClassCurves, fit_classes, prior_shift
from pytest_datasize.curve.advice.collection_plan import plan_collection
from pytest_datasize.curve.advice.labels import held_out, suspects
from pytest_datasize.curve.advice.ranking import rank
from pytest_datasize.curve.advice.two_sample import compare
from pytest_datasize.curve.held_out import HeldOut
from pytest_datasize.curve.verdict import Judgement, judge
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.requirement.tasks import CLASSIFICATION, TASKS
from pytest_datasize.study.metric_outcomes import Scored, class_outcomes, metric_outcomes
from pytest_datasize.trials.heads.heads import HeadTask, fit_heads
from pytest_datasize.trials.plan import Plan, draw

METRICS = TASKS[CLASSIFICATION].metrics

IMAGES = 8000
CLASSES = 10
RESERVE = 5000  # the rest is the truth: 3,000 images that nothing is chosen from
REPEATS = 8
DRAWS = 20


def embedded(folder: Path | None, cache: Path) -> tuple[Any, Any]:
    """Return the embeddings and labels; make them when there are none yet."""
    if not cache.exists():
        if folder is None:
            raise SystemExit("no cache yet: give --fashion-mnist DIR")
        from pytest_datasize import Study

        def idx(name: str, offset: int) -> Any:
            return np.frombuffer(gzip.open(folder / name).read(), np.uint8, offset=offset)

        rows = np.random.default_rng(0).permutation(60_000)[:IMAGES]
        pixels = idx("train-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)[rows]
        labels = idx("train-labels-idx1-ubyte.gz", 8)[rows].astype(np.int64)
        study = Study((pixels, labels))
        images = study.images()
        [features] = study.embed(images)
        np.savez(cache, x=features, y=images.labels)
    with np.load(cache) as stored:
        return stored["x"], stored["y"].astype(np.int64)


def heads(x: Any, y: Any, tasks: Sequence[tuple[Any, Any]]) -> list[Any]:
    """Train one head per (train, test) pair and return its probabilities."""
    made = [HeadTask(np.asarray(train), test, seed=5) for train, test in tasks]
    found = fit_heads(torch.from_numpy(x), torch.from_numpy(y), made, CLASSES)
    return [head.probabilities for head in found]


def recalls(y: Any, test: Any, probabilities: Any) -> Any:
    """Return the recall of every class."""
    hits = probabilities.argmax(axis=1) == y[test]
    return np.array([hits[y[test] == c].mean() for c in range(CLASSES)])


def imbalanced(y: Any, generator: Any) -> tuple[list[Any], Any]:
    """Rows of the reserve by class, in the order they are collected, and how many there are now."""
    order = generator.permutation(RESERVE)
    rows = [order[y[order] == c] for c in range(CLASSES)]
    counts = np.round(np.exp(generator.uniform(np.log(25), np.log(250), CLASSES))).astype(int)
    return rows, counts


def trained(x: Any, y: Any, rows: Any, seed: int) -> tuple[Plan, Scored]:
    """Train the heads of a gate over sorted rows; return its plan and what it scores."""
    names = tuple(map(str, range(CLASSES)))
    plan = draw(ImageSet("benchmark", names, y[rows], lambda i: b"", str), repeats=10, seed=seed)
    trials = plan.trials()
    by_size: dict[int, list[Any]] = {size: [] for size in plan.sizes}
    tasks = [(rows[repeat.order[:size]], rows[repeat.test]) for size, _, repeat in trials]
    for (size, _, _), p in zip(trials, heads(x, y, tasks), strict=True):
        by_size[size].append(p)
    return plan, Scored(
        sizes=plan.sizes,
        truth=y[rows],
        shown=y[rows][:, None] == np.arange(CLASSES),
        strata=y[rows],
        tested=[repeat.test for repeat in plan.repeats],
        predicted=list(by_size.values()),
        pool=len(rows),
    )


def study_of(x: Any, y: Any, rows: Any, seed: int) -> ClassCurves:
    """Fit all classes together, as a gate over these rows would."""
    rows = np.sort(rows)
    plan, scored = trained(x, y, rows, seed)
    outcomes = class_outcomes(METRICS["recall_per_class"], scored)
    tested = np.concatenate(scored.tested)
    shift = prior_shift(y[rows][tested], np.concatenate(scored.predicted[-1]), CLASSES)
    sizes = [
        np.mean([np.bincount(y[rows][r.order[:n]], minlength=CLASSES) for r in plan.repeats], 0)
        for n in plan.sizes
    ]
    by_class = dict(zip(map(str, range(CLASSES)), outcomes, strict=True))
    return fit_classes(by_class, np.array(sizes), np.array(shift))


def really(x: Any, y: Any, rows: list[Any], counts: Any, seed: int) -> Any:
    """True recalls with so many images of every class, the mean of draws from the reserve.

    Draws of one seed are nested: more images are the same ones and others, so that what is
    compared differs by the images that were added and not by luck.
    """
    test = np.arange(RESERVE, IMAGES)
    draws = []
    for number in range(DRAWS):
        generator = np.random.default_rng([seed, number])
        orders = [generator.permutation(r) for r in rows]
        draws.append(np.concatenate([r[:n] for r, n in zip(orders, counts, strict=True)]))
    found = heads(x, y, [(train, test) for train in draws])
    return np.mean([recalls(y, test, p) for p in found], axis=0)


def collect(x: Any, y: Any) -> None:
    """Carry plans out: as many images as there are halves, by class and in today's proportions."""
    gains: dict[str, list[float]] = {name: [] for name in COMBINED}
    for seed in range(REPEATS):
        generator = np.random.default_rng(100 + seed)
        rows, counts = imbalanced(y, generator)
        chosen = np.concatenate([r[:n] for r, n in zip(rows, counts, strict=True)])
        curves = study_of(x, y, chosen, seed)
        now = np.round(curves.images)
        wanted = int(now.sum() / 2)
        # a gate's test images have the class shares of its pool
        weights = {"accuracy": now / now.sum()}
        grown = np.round(now * (1 + wanted / now.sum())).astype(int)
        usual = really(x, y, rows, grown, seed)
        for name, combine in COMBINED.items():
            weight = weights.get(name)
            score = combine if weight is None else lambda recalls, w=weight: recalls @ w
            plan = plan_collection(curves, score, wanted).by_class
            added = np.array([plan.images[one] for one in curves.names])
            after = really(x, y, rows, (now + added).astype(int), seed)
            gains[name].append(100 * float(score(after) - score(usual)))
    print("score after the plan minus score after as many in proportion, points; 90 % interval")
    for name, found in gains.items():
        mean, error = np.mean(found), np.std(found, ddof=1) / np.sqrt(len(found))
        half = float(student.ppf(0.95, len(found) - 1)) * error
        print(f"  {name:18} {mean:+.2f} ({mean - half:+.2f} to {mean + half:+.2f})")


COMBINED: dict[str, Any] = {
    "recall_per_class": lambda recalls: recalls.min(axis=-1),
    "balanced_accuracy": lambda recalls: recalls.mean(axis=-1),
    "accuracy": lambda recalls: recalls.mean(axis=-1),  # weighted by the classes' shares
}


def missing(x: Any, y: Any) -> None:
    """Collect the number of images that a red gate reports as missing, and judge it again."""
    outcomes: list[tuple[float, float, bool]] = []
    skipped = 0
    for seed in range(POOLS):
        order = np.random.default_rng(600 + seed).permutation(RESERVE)
        today = order[:POOL]
        score = judged_on(x, y, today, seed, 0.5).score
        red = judged_on(x, y, today, seed, round(score + 0.015, 3))
        if not 0 < red.missing <= RESERVE - POOL:
            skipped += 1
            continue
        grown = order[: POOL + int(red.missing)]
        again = judged_on(x, y, grown, seed, red.target)
        outcomes.append((red.missing, red.target - again.score, again.probability >= 0.5))
    green = np.mean([passed for _, _, passed in outcomes])
    most = max(more for more, _, _ in outcomes)
    missed = 100 * np.mean([miss for _, miss, _ in outcomes])
    print(
        f"  {len(outcomes)} gates named a number (up to {most:.0f} images; {skipped} more than "
        f"there are, or none): {100 * green:.0f} % are green with it; the score then misses the "
        f"target by {missed:+.1f} points on average"
    )


POOL = 400  # images of a pool in `missing`
POOLS = 40


def judged_on(x: Any, y: Any, rows: Any, seed: int, target: float) -> Judgement:
    """Judge a target as a gate over these rows would."""
    plan, scored = trained(x, y, np.sort(rows), seed)
    curve = metric_outcomes(METRICS["accuracy"], scored).curve("power")
    held_out = HeldOut(1 - plan.available / len(rows))
    return judge("accuracy", target, {None: curve}, plan.available, held_out=held_out)


def changes(x: Any, y: Any) -> None:
    """Compare predicted with true recalls where some classes grow two- to fivefold."""
    found: dict[str, list[Any]] = {}
    for seed in range(REPEATS):
        generator = np.random.default_rng(200 + seed)
        rows, counts = imbalanced(y, generator)
        counts = np.minimum(counts, 110)
        curves = study_of(
            x, y, np.concatenate([r[:n] for r, n in zip(rows, counts, strict=True)]), seed
        )
        now = np.round(curves.images)
        grown = now * np.where(generator.random(CLASSES) < 0.4, generator.uniform(2, 4, 10), 1.0)
        base = really(x, y, rows, now.astype(int), seed)
        truth = really(x, y, rows, grown.astype(int), seed)
        for name, factor in (("without prior shift", 0.0), ("with prior shift", 1.0)):
            model = ClassCurves(**{**vars(curves), "shift": factor * curves.shift})
            draws = model.recalls(grown)
            change = np.median(draws, axis=0) - np.median(model.recalls(now), axis=0)
            low, high = np.quantile(draws, [0.05, 0.95], axis=0)
            held = (low <= truth) & (truth <= high)
            found.setdefault(name, []).append([np.abs(change - (truth - base)), held])
    for name, values in found.items():
        error, held = np.mean(values, axis=(0, 2))
        print(
            f"  {name}: error of a change {100 * error:.1f} points, 90 % intervals hold {held:.0%}"
        )
    print(f"  (own share {class_curves.OWN_SHARE}, misfit {class_curves.MISFIT})")


def suggest(x: Any, y: Any) -> None:
    """Count the random labels that give what 200 chosen ones give."""
    steps = np.array([100, 200, 300, 400, 500, 600])
    saved = []
    for seed in range(2 * REPEATS):
        order = np.random.default_rng(300 + seed).permutation(IMAGES)
        test, pool, rest = order[:3000], order[3000:3150], order[3150:]
        [p] = heads(x, y, [(pool, rest)])
        chosen = rest[rank(x[rest], p, 200, seed)]
        trained = [np.concatenate([pool, part]) for part in (chosen, *(rest[:n] for n in steps))]
        scores = [
            (q.argmax(axis=1) == y[test]).mean()
            for q in heads(x, y, [(train, test) for train in trained])
        ]
        saved.append(scores)
    saved = np.array(saved)

    def equal(part: Any) -> float:
        mean = np.maximum.accumulate(part.mean(axis=0)[1:])
        return float(np.interp(part.mean(axis=0)[0], mean, steps))

    generator = np.random.default_rng(0)
    boots = [equal(saved[generator.integers(0, len(saved), len(saved))]) for _ in range(2000)]
    low, high = np.quantile(boots, [0.05, 0.95])
    print(
        f"  200 chosen labels are worth {equal(saved):.0f} ({low:.0f} to {high:.0f}) random ones: "
        f"{100 * (1 - 200 / equal(saved)):.0f} % ({100 * (1 - 200 / low):.0f} to "
        f"{100 * (1 - 200 / high):.0f}) saved"
    )


def labels(x: Any, y: Any) -> None:
    """Flip 5 % of the labels and look for them."""
    rates = []
    for seed in range(4):
        generator = np.random.default_rng(400 + seed)
        rows = generator.permutation(IMAGES)[:2000]
        flipped = generator.random(2000) < 0.05
        given = np.where(flipped, (y[rows] + generator.integers(1, 10, 2000)) % 10, y[rows])
        images = ImageSet("benchmark", tuple(map(str, range(10))), given, lambda i: b"", str)
        plan = draw(images, repeats=10, seed=seed)
        tested = [repeat.test for repeat in plan.repeats]
        features = x[rows]
        p = heads(features, given, [(repeat.order, repeat.test) for repeat in plan.repeats])
        found = [one.row for one in suspects(given, held_out(given, tested, p, CLASSES))]
        hits = flipped[found]
        rates.append([hits.sum() / flipped.sum(), hits.mean(), hits[:20].mean(), hits[:50].mean()])
    recall, precision, first, listed = np.mean(rates, axis=0)
    print(
        f"  recall {recall:.2f}, precision {precision:.2f}; of the first 20 {first:.2f}, of the "
        f"first 50 {listed:.2f} are planted (others may be wrong in the data set itself)"
    )


def drift(x: Any, y: Any) -> None:
    """Count false alarms over 200 random splits."""
    p = []
    for seed in range(200):
        order = np.random.default_rng(500 + seed).permutation(IMAGES)
        found = compare(x[order[:200]], x[order[200:300]], seed, permutations=199)
        p.append((found.p_value, found.mmd_p_value))
    for level in (0.01, 0.05, 0.1):
        one, other = (np.array(p) <= level).sum(axis=0)
        print(
            f"  level {level}: {one} of 200 alarms (discrepancy: {other}), {200 * level:g} expected"
        )


TABLES = {
    "collect": collect,
    "missing": missing,
    "changes": changes,
    "suggest": suggest,
    "labels": labels,
    "drift": drift,
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fashion-mnist", type=Path, metavar="DIR")
    parser.add_argument("--cache", type=Path, default=Path("fashion8000.npz"), metavar="FILE")
    parser.add_argument("--only", choices=TABLES)
    options = parser.parse_args()
    x, y = embedded(options.fashion_mnist, options.cache)
    for name, table in TABLES.items():
        if options.only in (None, name):
            print(name, flush=True)
            table(x, y)


if __name__ == "__main__":
    main()
