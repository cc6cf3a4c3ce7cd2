"""What one asks of images: plan, check, run; what was measured before comes from the store.

Nothing heavy is imported before something must be measured: an unchanged study is found in the
store by the contents of its images alone.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_datasize.checks import CHECKS, level_of
from pytest_datasize.engines import Engines
from pytest_datasize.errors import DatasetError, RequirementError
from pytest_datasize.identity import OF_A_TRIAL, OF_THE_EVIDENCE, OF_THE_PLAN, as_data, name_of
from pytest_datasize.images.collection import Collection
from pytest_datasize.images.findings import small_classes
from pytest_datasize.images.image_set import Finding, ImageSet
from pytest_datasize.model import Model
from pytest_datasize.options import OPTIONS
from pytest_datasize.plan import Plan, draw
from pytest_datasize.store import Store, key_of
from pytest_datasize.vocabulary import LOCAL

if TYPE_CHECKING:
    import torch

    from pytest_datasize.handout import Handout
    from pytest_datasize.presets import Preset
    from pytest_datasize.result import StudyCheck, StudyPlan, StudyResult
    from pytest_datasize.transfer.trials import Key, Outcome


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
    group, checks, allow_outside, max_pixels, precision
        As in the marker; None for the default.
    engine, workers, ray_address, ray_gpus, ray_upload
        As in the marker; None for the default.
    store
        Knows what was found out before, and learns what is new; None forgets all at the end.
    engines
        Workers of this session, to be shared with other studies; None starts some for each run.
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
        precision: str | None = None,
        sizes: Any = None,
        repeats: int | None = None,
        test_fraction: float | None = None,
        sampling: str | None = None,
        seed: int | None = None,
        device: str | None = None,
        law: str | None = None,
        group: Any = None,
        checks: Any = None,
        allow_outside: bool | None = None,
        max_pixels: int | None = None,
        engine: str | None = None,
        workers: int | None = None,
        ray_address: str | None = None,
        ray_gpus: float | None = None,
        ray_upload: bool | None = None,
        store: Store | None = None,
        engines: Engines | None = None,
        finished: "Mapping[Key, Outcome] | None" = None,
        on_trial: "Callable[[int, int, Outcome], None]" = lambda size, repeat, outcome: None,
        on_progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
    ) -> None:
        asked = locals()
        given: dict[str, Any] = {name: asked[name] for name in OPTIONS if name in asked}
        self._given = dict(given)  # what makes the same study elsewhere
        augmentation = None if callable(augment) else str(augment)
        self.preset: Preset | None = None
        if preset is not None:
            from pytest_datasize import presets

            self.preset = presets.preset(preset)
            for name, value in self.preset.options.items():
                given[name] = value if given[name] is None else given[name]
            if given["augment"] is True:
                given["augment"] = presets.augmentation(str(preset))
                augmentation = f"that of {preset}"
        self.options = {
            name: OPTIONS[name].default
            if value is None
            else OPTIONS[name].parse(name, value, "Study")
            for name, value in given.items()
        }
        if dataset is None:
            raise RequirementError(f"Study: dataset=None. Expected {OPTIONS['dataset'].expected}.")
        self._settle_training(given["strategy"] if trainer is None else strategy)
        self.store = Store() if store is None else store
        self._engines = engines
        if self.options["engine"] != LOCAL and self.store.folder is None:
            self._meeting = engines or Engines()  # whose folder goes with it
            self.store = Store(self._meeting.folder)
        self.finished = finished or {}
        self.on_trial = on_trial
        self.on_progress = on_progress
        self.augmentation = augmentation  # None: no other session could tell which
        self.collection = Collection(self.options, self.store, on_progress)
        self.model = Model(self.options, self.store)

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

    def plan(self) -> "StudyPlan":
        """Say what would be trained and what it would cost; train nothing.

        Raises
        ------
        DatasetError, BackboneError
            What :meth:`run` would raise before it trains.
        """
        from pytest_datasize.result import StudyPlan
        from pytest_datasize.transfer import device as devices
        from pytest_datasize.transfer.cost import estimate, shed

        images, test = self.collection.once
        plan = self.draw(images, test)
        backbone = self.model.backbone
        sets = (images, test) if test else (images,)
        cost = estimate(self.options["strategy"], backbone, self.device, sets, self.training())
        plan, shed_note = shed(plan, cost, self.options["budget"])
        return StudyPlan(
            source=images.source,
            class_counts=images.class_counts,
            total=sum(map(len, sets)),
            available=plan.available,
            n_test=plan.n_test,
            sizes=plan.sizes,
            repeats=len(plan.repeats),
            n_trials=len(plan.trials()),
            backbone=backbone.name,
            strategy=self.options["strategy"],
            device=devices.describe(self.device),
            image_size=backbone.image_size,
            seconds=cost.seconds(plan) if cost.known else None,
            forwards=cost.forwards,
            backwards=cost.backwards(plan),
            stored=cost.stored,
            shed=shed_note,
        )

    def check(self) -> "StudyCheck":
        """Look at every image and say what is odd about the data set; train nothing.

        Raises
        ------
        DatasetError
            The data set cannot be read at all.
        """
        from pytest_datasize.result import StudyCheck

        told = dict.fromkeys(CHECKS, "note")  # all of them, whatever they will be worth
        images, test = self.collection.looked_at(told)
        findings = (*images.findings, *small_classes(images))
        available = None
        try:
            available = self.draw(images, test).available
        except DatasetError as problem:
            findings += (Finding("too_few", str(problem)),)
        graded = [
            (level_of(finding.check, self.collection.levels), finding) for finding in findings
        ]
        return StudyCheck(
            source=images.source,
            test_source=test.source if test else None,
            class_counts=images.class_counts,
            total=len(images) + (len(test) if test else 0),
            available=available,
            findings=tuple((level, finding) for level, finding in graded if level != "ignore"),
        )

    def key(self) -> str | None:
        """Name everything that the evidence depends on; None if only measuring can tell.

        Images whose files are unknown are read when the store has evidence of a study that
        differs from this one in nothing but its images.

        Raises
        ------
        DatasetError
            Images cannot be read.
        """
        family = self.family()
        if family is None:
            return None
        if not self.collection.known and not self.store.has_family("evidence", family):
            return None
        return self._key_in(family)

    def subject(self) -> dict[str, Any]:
        """Say what the evidence is about, wherever it was measured: plain data."""
        images, test = self.collection.once
        options = as_data(self.options)
        backbone = self.options["backbone"]
        options["backbone"] = backbone if isinstance(backbone, str) else self.model.backbone.key
        number = len(images) + (len(test) if test else 0)
        fingerprint = self.collection.fingerprint()
        return {"images": {"number": number, "fingerprint": fingerprint}, "options": options}

    def run(self, until: Callable[["StudyResult", float], bool] | None = None) -> "StudyResult":
        """Embed, train, score and fit; or take from the store what was measured before.

        Parameters
        ----------
        until
            Called with the result and the share of repeats done, at each look of
            :func:`pytest_datasize.sequential.looks`; training stops when it returns True. None
            trains all repeats. Its ``key``, a text that names what it does, lets the store tell
            its evidence apart; without one the evidence is not kept.

        Raises
        ------
        DatasetError
            Images cannot be read, or are too few to judge.
        BackboneError
            The backbone or its weights cannot be had, or fail on the images.
        """
        from pytest_datasize.evidence import from_json, to_json
        from pytest_datasize.experiment import measured
        from pytest_datasize.known_scores import keep_scores

        stops = getattr(until, "key", None) if until else ""
        if found := self._known(stops):
            return from_json(found)
        backbone = self.model.backbone
        with self.store.claim(backbone.key):
            if found := self._known(stops):  # measured by whom we waited for
                return from_json(found)
            with self._handout() as handout:
                result = measured(self, until, handout)
            if stops is not None:
                self._keep(to_json(result), stops)
                keep_scores(self, result)
        return result

    def images(self) -> ImageSet:
        """Every image of the pool once, copies left out; read and decoded, nothing is trained.

        Raises
        ------
        DatasetError
            Images cannot be read.
        """
        return self.collection.once.images

    def fingerprint(self) -> str:
        """Name the images: what they show, their labels and groups, which are for testing."""
        return self.collection.fingerprint()

    def family(self) -> str | None:
        """Name all that the embeddings depend on but the images; None before weights are known."""
        return self._named(OF_THE_EVIDENCE)

    def embed(self, *image_sets: ImageSet) -> tuple[Any, ...]:
        """Return the embeddings of image sets, one float16 array (N, D) each.

        Raises
        ------
        DatasetError, BackboneError
            Images cannot be decoded, or the backbone cannot be had.
        """
        import torch

        from pytest_datasize.experiment import embedded

        found = embedded(self, image_sets)
        ends = np.cumsum([len(part) for part in image_sets])[:-1]
        rows = np.split(np.arange(len(found.features)), ends)
        return tuple(found.features[torch.from_numpy(part)].cpu().numpy() for part in rows)

    def draw(self, images: ImageSet, test: ImageSet | None) -> Plan:
        """Draw which images each trial trains and is tested on.

        Raises
        ------
        DatasetError
            They are too few.
        """
        return draw(
            images,
            n_fixed_test=len(test) if test else 0,
            **{name: self.options[name] for name in OF_THE_PLAN},
        )

    def trials_key(self) -> str | None:
        """Name all that a single trial depends on; None where no other session could tell."""
        depends = self._named(OF_A_TRIAL)
        return key_of([depends, self.collection.fingerprint()]) if depends else None

    def training(self) -> dict[str, Any]:
        """Return what only some strategies know, and the recipe of a preset."""
        return {**self.options, "recipe": self.preset.recipe if self.preset else None}

    @property
    def device(self) -> "torch.device":
        """Where models run."""
        from pytest_datasize.transfer import device as devices

        return devices.resolve(self.options["device"])

    def _named(self, options: tuple[str, ...]) -> str | None:
        return name_of(self.options, options, self.augmentation, self.model.name)

    def _known(self, stops: str | None) -> Any:
        """Return the evidence of before, as JSON."""
        key = None if stops is None else self.key()
        return self.store.get("evidence", f"{key}{stops}") if key else None

    def _keep(self, evidence: dict[str, Any], stops: str) -> None:
        family = self.family()
        if family is not None:  # None: an object that no other session could tell
            key = self._key_in(family)
            self.store.put("evidence", f"{key}{stops}", evidence, family)

    def _key_in(self, family: str) -> str:
        return key_of([family, self.collection.fingerprint()])

    @contextmanager
    def _handout(self) -> "Iterator[Handout | None]":
        """Turn to the engine that was asked for; None where all runs in this process."""
        engines = self._engines or Engines()
        try:
            engine = engines.get(self.options)
            if engine is None:
                yield None
                return
            from pytest_datasize.handout import Handout, portable

            with Handout(engine, self, portable(self._given)) as handout:
                yield handout
        finally:
            if engines is not self._engines:
                engines.close()
