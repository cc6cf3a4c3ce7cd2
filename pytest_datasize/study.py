"""Run a plan to a result: the one room that knows all the others.

Nothing heavy is imported before something must be measured: an unchanged study is found in the
store by the contents of its images alone.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_datasize.checks import CHECKS, level_of
from pytest_datasize.engines import Engines
from pytest_datasize.errors import DatasetError, RequirementError
from pytest_datasize.identity import OF_A_TRIAL, OF_THE_EVIDENCE, OF_THE_PLAN, as_data, name_of
from pytest_datasize.images.collection import Collection
from pytest_datasize.images.findings import settle, small_classes
from pytest_datasize.images.image_set import Finding, ImageSet, Loaded
from pytest_datasize.model import Model
from pytest_datasize.options import OPTIONS
from pytest_datasize.plan import Plan, draw
from pytest_datasize.store import Store, key_of
from pytest_datasize.threads import n_threads
from pytest_datasize.vocabulary import EMBEDDING_STRATEGIES, LOCAL, STRATEGIES

if TYPE_CHECKING:
    from pytest_datasize.handout import Handout
    from pytest_datasize.presets import Preset
    from pytest_datasize.result import StudyCheck, StudyPlan, StudyResult
    from pytest_datasize.transfer.backbone import Backbone
    from pytest_datasize.transfer.cost import Cost
    from pytest_datasize.transfer.embedding import Embeddings, Space
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
        self._augmentation = augmentation  # None: no other session could tell which
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

        images, test = self.collection.once
        plan = self._draw(images, test)
        device = devices.resolve(self.options["device"])
        backbone = self.model.backbone
        total = len(images) + (len(test) if test else 0)
        cost = self._cost(backbone, total)
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
            available = self._draw(images, test).available
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
        return key_of([family, self.collection.fingerprint()])

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

        stops = getattr(until, "key", None) if until else ""
        if found := self._known(stops):
            return from_json(found)
        backbone = self.model.backbone
        with self.store.claim(backbone.key):
            if found := self._known(stops):  # measured by whom we waited for
                return from_json(found)
            with self._handout() as handout:
                result = self._measure(backbone, until, handout)
            if stops is not None:
                self._keep(to_json(result), stops)
                self._keep_scores(result)
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

        found = self._embedded(image_sets)
        ends = np.cumsum([len(part) for part in image_sets])[:-1]
        rows = np.split(np.arange(len(found.features)), ends)
        return tuple(found.features[torch.from_numpy(part)].cpu().numpy() for part in rows)

    def _known(self, stops: str | None) -> Any:
        """Return the evidence of before, as JSON."""
        key = None if stops is None else self.key()
        return self.store.get("evidence", f"{key}{stops}") if key else None

    def _keep(self, evidence: dict[str, Any], stops: str) -> None:
        family = self.family()
        if family is not None:  # None: an object that no other session could tell
            key = key_of([family, self.collection.fingerprint()])
            self.store.put("evidence", f"{key}{stops}", evidence, family)

    # -- what other strategies score on these images ------------------------------------------

    def transfer_gain(self) -> dict[str, Any] | None:
        """Say what transfer adds here; None unless both strategies ran on these images before.

        Raises
        ------
        DatasetError
            Images cannot be read.
        """
        known = [
            self.store.get("scores", self._scores_key(name))
            for name in ("feature_extraction", "from_scratch")
        ]
        if None in known:
            return None
        from pytest_datasize.insight.gain import transfer_gain

        one, other = ({int(size): s for size, s in part["scores"].items()} for part in known)
        found = transfer_gain(one, other, known[0]["n_test"])
        return None if found is None else asdict(found)

    def _keep_scores(self, result: "StudyResult") -> None:
        if (found := result.scores.get("accuracy")) and self._augmentation is not None:
            scores = {str(size): list(s) for size, s in zip(result.sizes, found, strict=True)}
            key = self._scores_key(self.options["strategy"])
            self.store.put("scores", key, {"scores": scores, "n_test": result.n_test})

    def _scores_key(self, strategy: str) -> str:
        """Name a strategy on the splits of this study, whatever sizes and repeats it has."""
        backbone = self.options["backbone"]
        name = backbone if isinstance(backbone, str) else self.model.backbone.key
        options = ("test_fraction", "sampling", "seed", "image_size")
        asked = [self._augmentation, *(self.options[option] for option in options)]
        return key_of([strategy, name, self.collection.fingerprint(), *asked])

    # -- measuring ----------------------------------------------------------------------------

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

    def _draw(self, images: ImageSet, test: ImageSet | None) -> Plan:
        return draw(
            images,
            n_fixed_test=len(test) if test else 0,
            **{name: self.options[name] for name in OF_THE_PLAN},
        )

    def _training(self) -> dict[str, Any]:
        """Return what only some strategies know, and the recipe of a preset."""
        return {**self.options, "recipe": self.preset.recipe if self.preset else None}

    def _cost(self, backbone: "Backbone", total: int) -> "Cost":
        from pytest_datasize.transfer import device as devices
        from pytest_datasize.transfer.cost import estimate

        device = devices.resolve(self.options["device"])
        return estimate(self.options["strategy"], backbone, device, total, self._training())

    def _within_budget(self, plan: Plan, cost: "Cost") -> tuple[Plan, str]:
        """Leave out what a budget has no time for, and say so."""
        from pytest_datasize.transfer.cost import shed

        budget = self.options["budget"]
        if budget is None:
            return plan, ""
        if not cost.known:
            raise RequirementError(
                f"budget={budget:g} s: no one knows how long the trainer takes. Set repeats and "
                "sizes instead."
            )
        return shed(plan, cost, budget)

    def _measure(
        self,
        backbone: "Backbone",
        until: Callable[["StudyResult", float], bool] | None,
        handout: "Handout | None",
    ) -> "StudyResult":
        from pytest_datasize.measurement import measure
        from pytest_datasize.transfer import device as devices

        device = devices.resolve(self.options["device"])
        module, _, function = STRATEGIES[self.options["strategy"]].partition(":")
        strategy = getattr(import_module(module), function)
        timings: dict[str, float] = {}
        features = space = None
        if self.options["strategy"] in EMBEDDING_STRATEGIES:
            start = time.perf_counter()
            raw = tuple(part for part in self.collection.raw if part)
            if handout:
                raw = handout.embed(raw)
            found = self._embedded(raw, handout.space if handout else None)
            timings["decode_and_embed"] = time.perf_counter() - start
            space = found.space
            self.collection.name(found.contents)
            images, test, features = self._apart(found)
            del found  # or its rows, in the order of the files, would be kept as well
        else:
            images, test, _ = self._apart(None)
        sets = (images, test) if test else (images,)
        work = self.work(sets, self._draw(images, test), device, space, features)
        if handout:
            work, strategy = handout.work(work), handout.strategy(strategy)
        notes = self.preset.notes if self.preset else ()
        if self.options["budget"] is not None:
            plan, note = self._within_budget(work.plan, self._cost(backbone, len(work.labels)))
            work, notes = replace(work, plan=plan), (*notes, note) if note else notes
        result = measure(work, strategy, timings, notes, until)
        return self._with_fit(result) if self.preset and self.preset.fits else result

    def _with_fit(self, result: "StudyResult") -> "StudyResult":
        """Note what the fit of a published recipe says of the same scores."""
        from pytest_datasize.presets import fit_note

        means = [float(np.mean(repeats)) for repeats in result.scores["accuracy"]]
        note = fit_note(result.sizes, means, result.available)
        return replace(result, notes=(*result.notes, note))

    def _embedded(
        self, image_sets: tuple[ImageSet, ...], space: "Space | None" = None
    ) -> "Embeddings":
        from pytest_datasize.transfer import device as devices
        from pytest_datasize.transfer.embedding import embed

        return embed(
            image_sets,
            self.model.backbone,
            devices.resolve(self.options["device"]),
            self.store,
            lambda done, total: self.on_progress("embedding images", done, total),
            precision=self.options["precision"],
            space=space,
        )

    def work(
        self,
        sets: tuple[ImageSet, ...],
        plan: Plan,
        device: Any,
        space: "Space | None",
        features: Any,
    ) -> "Work":
        """Gather what the trials of a plan need, and what is known of them.

        Parameters
        ----------
        sets
            The pool, and after it the test images where they are given apart.
        plan
            Which of them each trial trains on.
        device
            Where.
        space, features
            What their embeddings depend on, and they themselves; None without any.
        """
        from pytest_datasize.transfer.device import trained_in
        from pytest_datasize.transfer.trials import Work, pack, unpack

        precision = space.precision if space else trained_in(device)
        # heads cost less than looking them up; whatever trains longer is kept trial by trial
        key = None if features is not None else self._trials_key()
        kept = self.store.trials(key) if key else {}

        def on_trial(size: int, repeat: int, outcome: "Outcome") -> None:
            if key:
                self.store.put_trial(key, size, repeat, pack(outcome))
            self.on_trial(size, repeat, outcome)

        return Work(
            plan=plan,
            image_sets=sets,
            labels=np.concatenate([part.labels for part in sets]),
            n_classes=len(sets[0].classes),
            backbone=self.model.backbone,
            device=device,
            store=self.store,
            precision=precision,
            seed=self.options["seed"],
            on_progress=self.on_progress,
            features=features,
            options=self._training(),
            finished={**{at: unpack(value) for at, value in kept.items()}, **self.finished},
            on_trial=on_trial,
        )

    def _named(self, options: tuple[str, ...]) -> str | None:
        return name_of(self.options, options, self._augmentation, self.model.name)

    def _trials_key(self) -> str | None:
        depends = self._named(OF_A_TRIAL)
        return key_of([depends, self.collection.fingerprint()]) if depends else None

    def _apart(self, embeddings: "Embeddings | None") -> tuple[ImageSet, ImageSet | None, Any]:
        """Let no near-duplicate stand on the other side of a split.

        Where that leaves too few images for a split, they stay as they are, which is told.
        """
        from pytest_datasize.images.near_duplicates import comparable, keep_apart
        from pytest_datasize.images.perceptual_hash import perceptual_hashes

        plain = self.collection.once
        images, test = plain
        digests = [*images.digests, *(test.digests if test else ())]
        features = None if embeddings is None else embeddings.of(digests)
        check = "near_duplicates" if test else "alike"
        if level_of(check, self.collection.levels) == "ignore" or not comparable(plain):
            return images, test, features
        parts = [perceptual_hashes(p, self.store, n_threads()) for p in (images, test) if p]
        seen = None if features is None else features[:].cpu().numpy()
        apart, rows = keep_apart(plain, seen, np.concatenate(parts))
        new = apart.images.findings[len(images.findings) :]
        settle(Loaded(replace(images, findings=new)), self.collection.levels)
        try:
            self._draw(*apart)
        except DatasetError as problem:
            told = Finding(check, f"near-duplicates were not kept apart: {problem}")
            findings = (*images.findings, *new, told)
            return replace(images, findings=findings, near=apart.images.near), test, features
        if features is not None and len(rows) < len(features):
            from pytest_datasize.transfer.features import chosen

            features = chosen(features, rows)
        return *apart, features
