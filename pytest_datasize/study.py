"""Run a plan to a result: the one room that knows all the others."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np

from pytest_datasize import images as image_sources
from pytest_datasize import metrics
from pytest_datasize.curve import LearningCurve
from pytest_datasize.errors import RequirementError
from pytest_datasize.plan import Plan, draw
from pytest_datasize.requirement import METRICS, OPTIONS, STRATEGIES, Requirement
from pytest_datasize.transfer import device as devices
from pytest_datasize.transfer.backbone import Backbone
from pytest_datasize.transfer.backbone import load as load_backbone
from pytest_datasize.transfer.cost import seconds_per_image
from pytest_datasize.transfer.embedding import Cache
from pytest_datasize.verdict import Verdict, judge

Scores = tuple[tuple[float, ...], ...]
"""One tuple of repeats per size."""


@dataclass(frozen=True)
class StudyPlan:
    """What a study would train, and what that would cost.

    Attributes
    ----------
    source
        Where the images come from.
    class_counts
        Class name → number of images.
    total, available, n_test
        Images in all; that can be trained on; behind one score.
    sizes, repeats, n_trials
        Training sizes, repeats per size, models to train.
    backbone, strategy, device, image_size
        What is trained, where, on images of which side (pixels).
    seconds
        Estimated wall time of embedding every image once, from one timed batch.
    """

    source: str
    class_counts: Mapping[str, int]
    total: int
    available: int
    n_test: int
    sizes: tuple[int, ...]
    repeats: int
    n_trials: int
    backbone: str
    strategy: str
    device: str
    image_size: int
    seconds: float


@dataclass(frozen=True)
class StudyResult:
    """The evidence: scores measured at every size, and the learning curves through them.

    Attributes
    ----------
    source, notes
        Where the images come from, and what a reader should know about them.
    class_counts
        Class name → number of images.
    total, available
        Images in all; images that can be trained on once the test images are set aside.
    n_test, n_test_distinct
        Test images behind one score; different ones behind all scores of one size.
    sizes
        Training sizes, ascending.
    scores
        Metric → one tuple of repeats per size, each in [0, 1].
    class_recalls
        Class name → the same, of its recall.
    curves
        Metric → learning curve; for ``recall_per_class`` that of the worst class.
    backbone, weights_source, weights_hash, image_size, strategy, device, seed
        How the scores were obtained.
    timings
        Stage → wall time in seconds: ``decode_and_embed``, ``heads``, ``fit``.
    """

    source: str
    notes: tuple[str, ...]
    class_counts: Mapping[str, int]
    total: int
    available: int
    n_test: int
    n_test_distinct: int
    sizes: tuple[int, ...]
    scores: Mapping[str, Scores]
    class_recalls: Mapping[str, Scores]
    curves: Mapping[str, LearningCurve]
    backbone: str
    weights_source: str
    weights_hash: str
    image_size: int
    strategy: str
    device: str
    seed: int
    timings: Mapping[str, float]

    @cached_property
    def class_curves(self) -> Mapping[str, LearningCurve]:
        """Class name → learning curve of its recall."""
        return {
            name: LearningCurve.fit(self.sizes, scores, self.class_tests(name))
            for name, scores in self.class_recalls.items()
        }

    def class_tests(self, name: str) -> int:
        """Different test images of one class behind its scores of one size."""
        share = self.class_counts[name] / sum(self.class_counts.values())
        return max(1, round(self.n_test_distinct * share))

    def verdict(self, confidence: float | None = None, **targets: float) -> Verdict:
        """Judge targets by this evidence.

        Parameters
        ----------
        confidence
            How sure the verdict must be, in (0.5, 1); None lets the median decide.
        **targets
            Metric → score to reach, in (0, 1).

        Raises
        ------
        RequirementError
            Unknown metric, or a target outside (0, 1).
        """
        asked = {} if confidence is None else {"confidence": confidence}
        requirement = Requirement.parse((), {**targets, **asked}, "verdict")
        return Verdict(
            tuple(
                judge(metric, target, self._curves_of(metric), self.available, confidence)
                for metric, target in requirement.targets.items()
            )
        )

    def _curves_of(self, metric: str) -> Mapping[Any, LearningCurve]:
        return self.class_curves if metric == "recall_per_class" else {None: self.curves[metric]}


class Study:
    """Train transfer models on subsamples of labelled images and fit their learning curves.

    Parameters
    ----------
    dataset
        A folder with one folder per class, a pair (images, labels) of arrays of shape
        (N, H, W[, C]) and (N,), or a map-style torch Dataset of (image, label).
    test_dataset
        Held-out images in the same forms; None sets a stratified part aside in every repeat.
    backbone, weights, strategy, image_size, sizes, repeats, test_fraction, sampling, seed, device
        As in the marker; None for the default.
    cache
        Known embeddings by content; new ones are added.
    on_progress
        Called with (stage, done, in all).

    Raises
    ------
    RequirementError
        An option that is not understood.

    Examples
    --------
    >>> import numpy as np, torch
    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(60) % 2
    >>> images = (rng.random((60, 16, 16)) * (1 + labels[:, None, None]) / 2).astype("float32")
    >>> backbone = torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.Flatten())
    >>> study = Study((images, labels), backbone=backbone, image_size=16, device="cpu")
    >>> result = study.run()
    >>> result.available, len(result.sizes), len(result.scores["accuracy"][0])
    (48, 8, 10)
    >>> result.verdict(accuracy=0.8).status
    <Status.SUFFICIENT: 'sufficient'>
    """

    def __init__(
        self,
        dataset: Any,
        *,
        test_dataset: Any = None,
        backbone: Any = None,
        weights: str | None = None,
        strategy: str | None = None,
        image_size: int | None = None,
        sizes: Any = None,
        repeats: int | None = None,
        test_fraction: float | None = None,
        sampling: str | None = None,
        seed: int | None = None,
        device: str | None = None,
        cache: Cache | None = None,
        on_progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
    ) -> None:
        given = {
            "dataset": dataset,
            "test_dataset": test_dataset,
            "backbone": backbone,
            "weights": weights,
            "strategy": strategy,
            "image_size": image_size,
            "sizes": sizes,
            "repeats": repeats,
            "test_fraction": test_fraction,
            "sampling": sampling,
            "seed": seed,
            "device": device,
        }
        self.options = {
            name: OPTIONS[name].default if value is None else OPTIONS[name].parse(name, value, "Study")
            for name, value in given.items()
        }
        if dataset is None:
            raise RequirementError(f"Study: dataset=None. Expected {OPTIONS['dataset'].expected}.")
        self.cache: Cache = {} if cache is None else cache
        self.on_progress = on_progress

    def plan(self) -> StudyPlan:
        """Say what would be trained and what it would cost; train nothing.

        Raises
        ------
        DatasetError, BackboneError
            What :meth:`run` would raise before it trains.
        """
        images, test, plan = self._draw()
        device = devices.resolve(self.options["device"])
        backbone = self._backbone()
        total = len(images) + (len(test) if test else 0)
        return StudyPlan(
            source=images.source,
            class_counts=images.class_counts,
            total=total,
            available=plan.available,
            n_test=plan.n_test,
            sizes=plan.sizes,
            repeats=len(plan.repeats),
            n_trials=len(plan.trials()),
            backbone=backbone.name,
            strategy=self.options["strategy"],
            device=devices.describe(device),
            image_size=backbone.image_size,
            seconds=total * seconds_per_image(backbone, device),
        )

    def run(self) -> StudyResult:
        """Embed, train, score and fit.

        Raises
        ------
        DatasetError
            Images cannot be read, or are too few to judge.
        BackboneError
            The backbone or its weights cannot be had, or fail on the images.
        """
        images, test, plan = self._draw()
        device = devices.resolve(self.options["device"])
        backbone = self._backbone()
        sets = [images, test] if test else [images]
        labels = np.concatenate([part.labels for part in sets])
        module, _, function = STRATEGIES[self.options["strategy"]].partition(":")
        trials = getattr(import_module(module), function)(
            plan,
            sets,
            labels,
            len(images.classes),
            backbone,
            device,
            self.cache,
            self.options["seed"],
            self.on_progress,
        )
        start = time.perf_counter()
        truth = {number: labels[repeat.test] for number, repeat in enumerate(plan.repeats)}
        scores: dict[str, Scores] = {
            metric: _each_trial(_function(path), trials.probabilities, truth)
            for metric, path in METRICS.items()
        }
        recalls = _each_trial(metrics.class_recalls, trials.probabilities, truth)
        class_recalls: dict[str, Scores] = {
            name: tuple(tuple(float(r[index]) for r in repeats) for repeats in recalls)
            for index, name in enumerate(images.classes)
        }
        worst = min(class_recalls, key=lambda name: float(np.mean(class_recalls[name][-1])))
        scores["recall_per_class"] = class_recalls[worst]
        share = images.class_counts[worst] / len(images)
        curves = {
            metric: LearningCurve.fit(
                plan.sizes,
                values,
                max(1, round(plan.n_test_distinct * share))
                if metric == "recall_per_class"
                else plan.n_test_distinct,
            )
            for metric, values in scores.items()
        }
        return StudyResult(
            source=images.source,
            notes=(*images.notes, *trials.notes),
            class_counts=images.class_counts,
            total=len(labels),
            available=plan.available,
            n_test=plan.n_test,
            n_test_distinct=plan.n_test_distinct,
            sizes=plan.sizes,
            scores=scores,
            class_recalls=class_recalls,
            curves=curves,
            backbone=backbone.name,
            weights_source=backbone.weights_source,
            weights_hash=backbone.weights_hash,
            image_size=backbone.image_size,
            strategy=self.options["strategy"],
            device=devices.describe(device),
            seed=self.options["seed"],
            timings={**trials.seconds, "fit": time.perf_counter() - start},
        )

    def _draw(self) -> tuple[image_sources.ImageSet, image_sources.ImageSet | None, Plan]:
        images, test = image_sources.load(self.options["dataset"], self.options["test_dataset"])
        plan = draw(
            images,
            n_fixed_test=len(test) if test else 0,
            **{
                name: self.options[name]
                for name in ("sizes", "repeats", "test_fraction", "sampling", "seed")
            },
        )
        return images, test, plan

    def _backbone(self) -> Backbone:
        return load_backbone(*(self.options[name] for name in ("backbone", "weights", "image_size")))


def _function(path: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function


def _each_trial(
    metric: Callable[..., Any], probabilities: Any, truth: Mapping[int, Any]
) -> tuple[tuple[Any, ...], ...]:
    return tuple(
        tuple(metric(truth[number], p) for number, p in enumerate(repeats))
        for repeats in probabilities
    )
