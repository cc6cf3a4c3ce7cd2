"""The public class Study: plan, check or run; earlier results are loaded from the store."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.findings import small_classes
from pytest_datasize.images.image_set import Finding, ImageSet
from pytest_datasize.requirement.checks import CHECKS, level_of
from pytest_datasize.requirement.options import StudyOptions
from pytest_datasize.requirement.process_settings import own_settings
from pytest_datasize.store import Store
from pytest_datasize.study.before_training import StudyCheck, StudyPlan
from pytest_datasize.study.context import StudyContext
from pytest_datasize.study.engines import Engines

if TYPE_CHECKING:
    from pytest_datasize.study.result import StudyResult
    from pytest_datasize.trials.work import Key, Outcome


class Study:
    """Train transfer models on subsamples of labelled images and fit their learning curves.

    Parameters
    ----------
    dataset
        A folder with one folder per class, a pair (images, labels) of arrays of shape
        (N, H, W[, C]) and (N,), a map-style torch Dataset of (image, label), or any other form
        that the marker takes.
    store
        Store of earlier results, or its folder, which is created if missing; None stores
        nothing.
    engines
        Workers of this session, shared with other studies; None starts workers for each run.
    finished
        Known outcomes of trials, by (size, repeat); these trials are not trained again.
    on_trial
        Called with (size, repeat, outcome) as each trial ends.
    on_progress
        Called with (stage, done, total); total is 0 if the stage is a complete sentence, such as
        "waiting for process 1, which embeds these images".
    **options
        As in the marker, see :class:`pytest_datasize.requirement.options.StudyOptions`; None for
        the default.

    Raises
    ------
    RequirementError
        An option is unknown, or its value is not allowed.

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
        store: Store | Path | str | None = None,
        engines: Engines | None = None,
        finished: "Mapping[Key, Outcome] | None" = None,
        on_trial: "Callable[[int, int, Outcome], None]" = lambda size, repeat, outcome: None,
        on_progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
        **options: Unpack[StudyOptions],
    ) -> None:
        self.context = StudyContext(
            {"dataset": dataset, **options},
            store=store,
            engines=engines,
            finished=finished,
            on_trial=on_trial,
            on_progress=on_progress,
        )

    def variant(self, **options: Unpack[StudyOptions]) -> "Study":
        """Return a study of the same images with other options; images are loaded once for both.

        Parameters
        ----------
        **options
            Options that differ from those of this study.
        """
        found = copy.copy(self)
        found.context = self.context.variant(**options)
        return found

    @property
    def options(self) -> dict[str, Any]:
        """Option name → checked value, defaults and preset filled in."""
        return self.context.options

    @property
    def store(self) -> Store:
        """Store of earlier results."""
        return self.context.store

    def plan(self) -> StudyPlan:
        """Return what would be trained and its estimated cost; train nothing.

        Raises
        ------
        DatasetError, BackboneError
            As :meth:`run` raises before it trains.
        """
        from pytest_datasize.study.planning import estimated
        from pytest_datasize.study.splits import images_to_split
        from pytest_datasize.trials.budget import trim_to_budget

        context = self.context
        context.check_task()
        images, test = images_to_split(context)
        plan = context.draw(images, test)
        sets = (images, test) if test else (images,)
        machine, cost = estimated(context, sets)
        plan, left_out = trim_to_budget(plan, cost, context.options["budget"])
        return StudyPlan(
            source=images.source,
            class_counts=images.class_counts,
            total=sum(map(len, sets)),
            available=plan.available,
            n_test=plan.n_test,
            sizes=plan.sizes,
            repeats=len(plan.repeats),
            n_trials=len(plan.trials()),
            backbone=machine.backbone,
            strategy=context.options["strategy"],
            device=machine.device,
            image_size=machine.image_size,
            seconds=cost.seconds(plan) if cost.known else None,
            forwards=cost.forwards,
            backwards=cost.backwards(plan),
            stored=cost.stored,
            shed=left_out,
            unit=plan.unit,
        )

    def check(self) -> StudyCheck:
        """Read every image, run all data checks and return their findings; train nothing.

        Raises
        ------
        DatasetError
            The data set cannot be read at all.
        """
        from pytest_datasize.study.factors import facts_of, findings_of

        pool = self.context.pool
        all_noted = dict.fromkeys(CHECKS, "note")  # report every check, whatever its level
        images, test = pool.looked_at(all_noted)
        of_factors = findings_of(facts_of(images))
        findings = (*images.findings, *small_classes(images), *of_factors)
        available = None
        try:
            available = self.context.draw(images, test).available
        except DatasetError as problem:
            findings += (Finding("too_few", str(problem)),)
        graded = [(level_of(finding.check, pool.levels), finding) for finding in findings]
        return StudyCheck(
            source=images.source,
            test_source=test.source if test else None,
            class_counts=images.class_counts,
            total=len(images) + (len(test) if test else 0),
            available=available,
            findings=tuple((level, finding) for level, finding in graded if level != "ignore"),
            task=images.task,
            unit=self.context.options["unit"],
        )

    def run(self, until: Callable[["StudyResult", float], bool] | None = None) -> "StudyResult":
        """Embed, train, score and fit; or load an earlier result from the store.

        Parameters
        ----------
        until
            Called with the result and the share of repeats done, at each interim look of
            :func:`pytest_datasize.study.stopping.looks`; training stops when it returns True. None
            trains all repeats. Its ``key``, a text that names the rule, enters the cache key of the
            evidence; without one the evidence is not stored.

        Raises
        ------
        DatasetError
            Images cannot be read, or are too few to judge.
        BackboneError
            The backbone or its weights cannot be loaded, or fail on the images.
        """
        with own_settings():
            return self._run(until)

    def _run(self, until: Callable[["StudyResult", float], bool] | None) -> "StudyResult":
        from pytest_datasize.study.result_json import from_json, to_json
        from pytest_datasize.study.run import measured
        from pytest_datasize.study.transfer_gain import keep_scores
        from pytest_datasize.study.workers.dispatch import dispatcher

        context = self.context
        stops = getattr(until, "key", None) if until else ""

        def known() -> "StudyResult | None":
            found = self._known(stops)
            return from_json(found) if found else None

        def keep(result: "StudyResult") -> None:
            if stops is not None:
                self._keep(to_json(result), stops)
                keep_scores(context, result)

        if found := known():
            return found
        with dispatcher(context) as workers:
            return measured(context, until, workers, known, keep)

    @property
    def waits(self) -> tuple[str, ...]:
        """One sentence for each wait of :meth:`run` for another process: how long and why."""
        return tuple(self.context.waits)

    def key(self) -> str | None:
        """Return the cache key of the evidence; None if it is not known.

        Images whose files are unknown are read only if the store has evidence of a study that
        differs from this one only in its images.

        Raises
        ------
        DatasetError
            Images cannot be read.
        """
        context = self.context
        family = context.family()
        if family is None:
            return None
        if not context.pool.known and not context.store.has_family("evidence", family):
            return None
        return context.evidence_key(family)

    def subject(self) -> dict[str, Any]:
        """Return what the evidence is about as plain data, the same on every machine."""
        return self.context.subject()

    def images(self) -> ImageSet:
        """Return every image of the pool, without exact copies; train nothing.

        Raises
        ------
        DatasetError
            Images cannot be read.
        """
        return self.context.pool.once.images

    def fingerprint(self) -> str:
        """Return a hash of the images' content, their labels and groups, and the test images."""
        return self.context.pool.fingerprint()

    def embed(self, *image_sets: ImageSet) -> tuple[Any, ...]:
        """Return the embeddings of image sets, one float16 array (N, D) each.

        Raises
        ------
        DatasetError, BackboneError
            Images cannot be decoded, or the backbone cannot be loaded.
        """
        import torch

        from pytest_datasize.embedding.stages import last_layer
        from pytest_datasize.study.prepare import embedded

        found = embedded(self.context, image_sets)
        ends = np.cumsum([len(part) for part in image_sets])[:-1]
        rows = np.split(np.arange(len(found.features)), ends)
        backbone = self.context.backbone.loaded
        return tuple(
            last_layer(found.features[torch.from_numpy(part)], backbone).cpu().numpy()
            for part in rows
        )

    def _known(self, stops: str | None) -> Any:
        """Return stored evidence, as JSON."""
        key = None if stops is None else self.key()
        return self.store.get("evidence", f"{key}{stops}") if key else None

    def _keep(self, evidence: dict[str, Any], stops: str) -> None:
        family = self.context.family()
        if family is not None:  # None: it includes an object that another session cannot identify
            key = self.context.evidence_key(family)
            self.store.put("evidence", f"{key}{stops}", evidence, family)
