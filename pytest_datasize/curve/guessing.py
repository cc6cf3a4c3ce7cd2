"""Compute what a metric scores without looking at the images: by class shares alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Guessing:
    """Scores without looking at the images.

    Attributes
    ----------
    name
        The most frequent class.
    majority
        Score of a model that always names that class.
    chance
        Expected score of labels that are drawn at random in the proportions of the classes.
    """

    name: str
    majority: float
    chance: float


def guessing(metric: str, counts: Mapping[str, int], judged: Sequence[str] = ()) -> Guessing | None:
    """Return what guessing scores; None for a metric that is not one of the built-in ones.

    Parameters
    ----------
    metric
        Name of the metric.
    counts
        Class name → number of scored images, at least one class with images.
    judged
        Classes that are judged, for a metric of single classes; empty for all.

    Examples
    --------
    >>> guessing("accuracy", {"good": 95, "rust": 5})
    Guessing(name='good', majority=0.95, chance=0.905)
    >>> guessing("recall_per_class", {"good": 95, "rust": 5}, ["good"]).majority
    1.0
    """
    name = max(counts, key=lambda one: counts[one])
    total = sum(counts.values())
    shares = [n / total for n in counts.values()]
    found = _scores(metric, shares)
    if metric == "recall_per_class" and judged:
        fewest = min(counts[one] for one in judged)
        found = (1.0 if {*judged} == {name} else 0.0, fewest / total)
    return None if found is None else Guessing(name, *(round(score, 6) for score in found))


def _scores(metric: str, shares: Sequence[float]) -> tuple[float, float] | None:
    classes, most = len(shares), max(shares)
    squares = sum(share**2 for share in shares)
    return {
        "accuracy": (most, squares),
        "f1_micro": (most, squares),
        "balanced_accuracy": (1 / classes, 1 / classes),
        # of the class named alone: precision `most`, recall 1; of all others 0
        "f1_macro": (2 * most / (1 + most) / classes, 1 / classes),
        "auc": (0.5, 0.5),
        "recall_per_class": (0.0 if classes > 1 else 1.0, min(shares)),
    }.get(metric)
