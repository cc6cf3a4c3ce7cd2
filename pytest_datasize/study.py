"""Run a plan to a result: the one room that knows all the others."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import torch

from pytest_datasize import images as image_sources
from pytest_datasize import presets
from pytest_datasize.errors import RequirementError
from pytest_datasize.images.unique import unique
from pytest_datasize.options import METRICS, OPTIONS, STRATEGIES
from pytest_datasize.outcomes import Outcomes, bare, gather
from pytest_datasize.plan import Plan, draw
from pytest_datasize.result import WORST_CLASS, StudyPlan, StudyResult
from pytest_datasize.sequential import looks
from pytest_datasize.transfer import device as devices
from pytest_datasize.transfer.backbone import RANDOM, Backbone
from pytest_datasize.transfer.backbone import load as load_backbone
from pytest_datasize.transfer.cost import Cost, estimate, shed
from pytest_datasize.transfer.embedding import Cache
from pytest_datasize.transfer.trials import Key, Outcome, Work


class Study:
    """Train transfer models on subsamples of labelled images and fit their learning curves.

    Parameters
    ----------
    dataset
        A folder with one folder per class, a pair (images, labels) of arrays of shape
        (N, H, W[, C]) and (N,), or a map-style torch Dataset of (image, label).
    test_dataset
        Held-out images in the same forms; None sets a stratified part aside in every repeat.
    backbone, weights, strategy, augment, unfreeze, trainer, preset, budget, direction, bounds
        As in the marker; None for the default.
    image_size, sizes
        As in the marker; None for the default.
    repeats, test_fraction, sampling, seed, device, law
        As in the marker; None for the default.
    cache
        Known embeddings by content; new ones are added.
    finished
        Outcomes of trials that are known already, by (size, repeat); they are not trained again.
    on_trial
        Called with (size, repeat, outcome) as each trial ends.
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
        augment: Any = None,
        unfreeze: int | None = None,
        trainer: Any = None,
        preset: str | None = None,
        budget: str | float | None = None,
        direction: Mapping[str, str] | None = None,
        bounds: Mapping[str, tuple[float | None, float | None]] | None = None,
        image_size: int | None = None,
        sizes: Any = None,
        repeats: int | None = None,
        test_fraction: float | None = None,
        sampling: str | None = None,
        seed: int | None = None,
        device: str | None = None,
        law: str | None = None,
        cache: Cache | None = None,
        finished: Mapping[Key, Outcome] | None = None,
        on_trial: Callable[[int, int, Outcome], None] = lambda size, repeat, outcome: None,
        on_progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
    ) -> None:
        given: dict[str, Any] = {
            "dataset": dataset,
            "test_dataset": test_dataset,
            "backbone": backbone,
            "weights": weights,
            "strategy": strategy,
            "augment": augment,
            "unfreeze": unfreeze,
            "trainer": trainer,
            "preset": preset,
            "budget": budget,
            "direction": direction,
            "bounds": bounds,
            "image_size": image_size,
            "sizes": sizes,
            "repeats": repeats,
            "test_fraction": test_fraction,
            "sampling": sampling,
            "seed": seed,
            "device": device,
            "law": law,
        }
        self.preset = None if preset is None else presets.preset(preset)
        if self.preset:
            for name, value in self.preset.options.items():
                given[name] = value if given[name] is None else given[name]
            if given["augment"] is True:
                given["augment"] = presets.augmentation(str(preset))
        self.options = {
            name: OPTIONS[name].default
            if value is None
            else OPTIONS[name].parse(name, value, "Study")
            for name, value in given.items()
        }
        if dataset is None:
            raise RequirementError(f"Study: dataset=None. Expected {OPTIONS['dataset'].expected}.")
        self._settle_training(given["strategy"] if trainer is None else strategy)
        self.cache: Cache = {} if cache is None else cache
        self.finished = finished or {}
        self.on_trial = on_trial
        self.on_progress = on_progress

    def _settle_training(self, strategy: str | None) -> None:
        """Let a trainer take the strategy's place; refuse what contradicts itself."""
        trainer = self.options["trainer"]
        if trainer is not None and strategy not in (None, "own_training"):
            raise RequirementError(
                f"trainer and strategy={strategy!r} exclude each other: a trainer is the strategy."
            )
        if trainer is None and strategy == "own_training":
            raise RequirementError(
                "strategy='own_training' needs trainer=..., or the fixture datasize_trainer."
            )
        if trainer is not None:
            self.options["strategy"] = "own_training"

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
        cost = self._cost(backbone, device, total)
        plan, shed_note = self._within_budget(plan, cost)
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
            seconds=cost.seconds(plan) if cost.known else None,
            forwards=cost.forwards,
            backwards=cost.backwards(plan),
            stored=cost.stored,
            shed=shed_note,
        )

    def _cost(self, backbone: Backbone, device: torch.device, total: int) -> Cost:
        return estimate(
            self.options["strategy"],
            backbone,
            device,
            total,
            {**self.options, "recipe": self.preset.recipe if self.preset else None},
        )

    def _within_budget(self, plan: Plan, cost: Cost) -> tuple[Plan, str]:
        """Leave out what a budget has no time for, and say so."""
        budget = self.options["budget"]
        if budget is None:
            return plan, ""
        if not cost.known:
            raise RequirementError(
                f"budget={budget:g} s: no one knows how long the trainer takes. Set repeats and "
                "sizes instead."
            )
        return shed(plan, cost, budget)

    def run(self, until: Callable[[StudyResult, float], bool] | None = None) -> StudyResult:
        """Embed, train, score and fit.

        Parameters
        ----------
        until
            Called with the result and the share of repeats done, at each look of
            :func:`pytest_datasize.sequential.looks`; training stops when it returns True. None
            trains all repeats.

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
        sets = (images, test) if test else (images,)
        notes: list[str] = []
        if self.options["budget"] is not None:
            cost = self._cost(backbone, device, sum(map(len, sets)))
            plan, note = self._within_budget(plan, cost)
            notes += [note] if note else []
        labels = np.concatenate([part.labels for part in sets])
        work = Work(
            plan=plan,
            image_sets=sets,
            labels=labels,
            n_classes=len(images.classes),
            backbone=backbone,
            device=device,
            cache=self.cache,
            seed=self.options["seed"],
            on_progress=self.on_progress,
            options={**self.options, "recipe": self.preset.recipe if self.preset else None},
            finished=self.finished,
            on_trial=self.on_trial,
        )
        module, _, function = STRATEGIES[self.options["strategy"]].partition(":")
        strategy = getattr(import_module(module), function)

        found: list[list[Any]] = [[] for _ in plan.sizes]
        timings: dict[str, float] = {}
        done = 0
        for stop in looks(len(plan.repeats)) if until else (len(plan.repeats),):
            trials = strategy(work, (done, stop))
            for known, new in zip(found, trials.scores or trials.probabilities, strict=True):
                known += new
            notes += trials.notes
            if self.preset:
                notes += [f"otherwise than published: {line}" for line in self.preset.differs]
            start = time.perf_counter()
            outcomes, by_class = (
                (self._bare_outcomes(images, plan, found), {})
                if trials.scores
                else self._outcomes(images, labels, plan, found)
            )
            law = self.options["law"]
            curves = {metric: outcome.curve(law) for metric, outcome in outcomes.items()}
            for stage, seconds in {**trials.seconds, "fit": time.perf_counter() - start}.items():
                timings[stage] = timings.get(stage, 0.0) + seconds
            result = StudyResult(
                source=images.source,
                notes=(*images.notes, *dict.fromkeys(notes)),
                class_counts=images.class_counts,
                total=len(labels),
                available=plan.available,
                n_test=plan.n_test,
                sizes=plan.sizes,
                repeats=stop,
                sampling=self.options["sampling"],
                test_source=test.source
                if test
                else f"{self.options['test_fraction']:g} of the images in every repeat",
                n_trials=len(plan.trials(0, stop)),
                n_trials_planned=len(plan.trials()),
                outcomes=outcomes,
                class_outcomes=by_class,
                curves=curves,
                law=law,
                backbone=backbone.name,
                weights_source=backbone.weights_source,
                weights_hash=backbone.weights_hash,
                image_size=backbone.image_size,
                strategy=self.options["strategy"],
                device=devices.describe(device),
                seed=self.options["seed"],
                timings=timings,
            )
            if self.preset and self.preset.fits:
                means = [float(np.mean(repeats)) for repeats in result.scores["accuracy"]]
                note = presets.fit_note(result.sizes, means, result.available)
                result = replace(result, notes=(*result.notes, note))
            done = stop
            if until and until(result, stop / len(plan.repeats)):
                break
        return result

    @staticmethod
    def _outcomes(
        images: image_sources.ImageSet, labels: Any, plan: Plan, probabilities: Any
    ) -> tuple[dict[str, Outcomes], dict[str, Outcomes]]:
        n_repeats = max(map(len, probabilities))
        tested = [repeat.test for repeat in plan.repeats[:n_repeats]]
        pool = len(images)

        outcomes = {}
        for metric in METRICS:
            if metric != WORST_CLASS:
                values = _scored(metric_function(metric), labels, tested, probabilities)
                outcomes[metric] = gather(plan.sizes, values, tested, pool)
        by_class = {}
        hits = _scored(metric_function(WORST_CLASS), labels, tested, probabilities)
        for index, name in enumerate(images.classes):
            rows = [part[labels[part] == index] for part in tested]
            column = [[repeat[index] for repeat in repeats] for repeats in hits]
            by_class[name] = gather(plan.sizes, column, rows, pool)
        outcomes[WORST_CLASS] = min(by_class.values(), key=lambda o: float(np.mean(o.scores[-1])))
        return outcomes, by_class

    def _bare_outcomes(
        self, images: image_sources.ImageSet, plan: Plan, scores: list[list[Any]]
    ) -> dict[str, Outcomes]:
        """Outcomes of a trainer that scores for itself."""
        tested = [repeat.test for repeat in plan.repeats[: max(map(len, scores))]]
        bounds, direction = self.options["bounds"] or {}, self.options["direction"] or {}
        return {
            metric: bare(
                plan.sizes,
                [[repeat[metric] for repeat in repeats] for repeats in scores],
                tested,
                len(images),
                bounds.get(metric, (0.0, 1.0)),
                direction.get(metric) == "lower",
            )
            for metric in sorted(scores[0][0])
        }

    def _draw(self) -> tuple[image_sources.ImageSet, image_sources.ImageSet | None, Plan]:
        loaded = image_sources.load(self.options["dataset"], self.options["test_dataset"])
        images, test = unique(
            loaded,
            devices.n_threads(),
            lambda done, total: self.on_progress("reading images", done, total),
        )
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
        if self.options["strategy"] == "own_training":
            from pytest_datasize.transfer.own_training import backbone_of

            return backbone_of(self.options["trainer"], self.options["image_size"])
        if self.options["strategy"] == "from_scratch" and isinstance(self.options["backbone"], str):
            with torch.random.fork_rng(devices=[]):
                return load_backbone(self.options["backbone"], RANDOM, self.options["image_size"])
        return load_backbone(
            *(self.options[name] for name in ("backbone", "weights", "image_size"))
        )


def metric_function(metric: str) -> Callable[..., Any]:
    """Return the function of a metric, from the table of metrics."""
    module, _, name = METRICS[metric].partition(":")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function


def _scored(contribute: Callable[..., Any], labels: Any, tested: Any, probabilities: Any) -> Any:
    """Contributions of every trial, per size and repeat.

    The whole pool with a fixed test set is trained once: fewer repeats than test parts.
    """
    return [
        [contribute(labels[rows], p) for rows, p in zip(tested, repeats, strict=False)]
        for repeats in probabilities
    ]
