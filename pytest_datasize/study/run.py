"""Measure what a study asks: embed, separate near-duplicates, draw, train, score."""

import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np

from pytest_datasize.requirement.registries import EMBEDDING_STRATEGIES, STRATEGIES
from pytest_datasize.study.prepare import embedded, images_to_split, work_of
from pytest_datasize.study.result import StudyResult
from pytest_datasize.study.scoring import measure
from pytest_datasize.study.splits import split_names
from pytest_datasize.trials.cost import estimate, trim_to_budget

if TYPE_CHECKING:
    from pytest_datasize.study.context import StudyContext
    from pytest_datasize.study.workers.dispatch import Dispatcher


def measured(
    context: "StudyContext",
    until: Callable[[StudyResult, float], bool] | None,
    workers: "Dispatcher | None",
) -> StudyResult:
    """Measure a study, whatever is known of its result.

    Parameters
    ----------
    context
        The study.
    until
        As in :meth:`pytest_datasize.study.study.Study.run`.
    workers
        Who embeds and trains; None where this process does.

    Raises
    ------
    DatasetError, BackboneError
        As in :meth:`pytest_datasize.study.study.Study.run`.
    """
    module, _, function = STRATEGIES[context.options["strategy"]].partition(":")
    strategy = getattr(import_module(module), function)
    timings: dict[str, float] = {}
    features = space = None
    if context.options["strategy"] in EMBEDDING_STRATEGIES:
        start = time.perf_counter()
        raw = tuple(part for part in context.pool.raw if part)
        if workers:
            raw = workers.embed(raw)
        found = embedded(context, raw, workers.space if workers else None)
        timings["decode_and_embed"] = time.perf_counter() - start
        space = found.space
        context.pool.name(found.contents)
        images, test = images_to_split(context)
        features = found.of([*images.digests, *(test.digests if test else ())])
        del found  # or its rows, in the order of the files, would be kept as well
    else:
        images, test = images_to_split(context)
    sets = (images, test) if test else (images,)
    work = work_of(context, sets, context.draw(images, test), space, features)
    if workers:
        work, strategy = workers.work(work), workers.strategy(strategy)
    notes = context.preset.notes if context.preset else ()
    if (budget := context.options["budget"]) is not None:
        asked = context.options["strategy"], context.backbone.loaded, context.device
        cost = estimate(*asked, sets, context.training())
        plan, note = trim_to_budget(work.plan, cost, budget)
        work, notes = replace(work, plan=plan), (*notes, note) if note else notes
    result = measure(work, strategy, timings, notes, until)
    names = split_names(work.plan, sets, context.pool.fingerprint(), result.repeats)
    result = replace(result, splits=names)
    return _with_fit(result) if context.preset and context.preset.fits else result


def _with_fit(result: StudyResult) -> StudyResult:
    """Note what the fit of a published recipe says of the same scores."""
    from pytest_datasize.trials.presets import fit_note

    means = [float(np.mean(repeats)) for repeats in result.scores["accuracy"]]
    note = fit_note(result.sizes, means, result.available)
    return replace(result, notes=(*result.notes, note))
