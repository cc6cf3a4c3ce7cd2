"""Measure what a study asks: embed, keep near-duplicates apart, draw, train, score."""

import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np

from pytest_datasize.embedding.embed import Embeddings
from pytest_datasize.embedding.features import Features, chosen
from pytest_datasize.embedding.threads import n_threads
from pytest_datasize.errors import DatasetError
from pytest_datasize.images.findings import settle
from pytest_datasize.images.image_set import Finding, ImageSet, Loaded
from pytest_datasize.images.near_duplicates import comparable, keep_apart
from pytest_datasize.images.perceptual_hash import perceptual_hashes
from pytest_datasize.requirement.checks import level_of
from pytest_datasize.requirement.registries import EMBEDDING_STRATEGIES, STRATEGIES
from pytest_datasize.study.prepare import embedded, work_of
from pytest_datasize.study.result import StudyResult
from pytest_datasize.study.scoring import measure
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
        images, test, features = _apart(context, found)
        del found  # or its rows, in the order of the files, would be kept as well
    else:
        images, test, _ = _apart(context, None)
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
    return _with_fit(result) if context.preset and context.preset.fits else result


def _apart(
    context: "StudyContext", embeddings: Embeddings | None
) -> tuple[ImageSet, ImageSet | None, Features | None]:
    """Let no near-duplicate stand on the other side of a split.

    Where that leaves too few images for a split, they stay as they are, which is told.
    """
    plain, levels = context.pool.once, context.pool.levels
    images, test = plain
    digests = [*images.digests, *(test.digests if test else ())]
    features = None if embeddings is None else embeddings.of(digests)
    check = "near_duplicates" if test else "alike"
    if level_of(check, levels) == "ignore" or not comparable(plain):
        return images, test, features
    parts = [perceptual_hashes(p, context.store, n_threads()) for p in (images, test) if p]
    seen = None if features is None else features[:].cpu().numpy()
    apart, rows = keep_apart(plain, seen, np.concatenate(parts))
    new = apart.images.findings[len(images.findings) :]
    settle(Loaded(replace(images, findings=new)), levels)
    try:
        context.draw(*apart)
    except DatasetError as problem:
        told = Finding(check, f"near-duplicates were not kept apart: {problem}")
        findings = (*images.findings, *new, told)
        return replace(images, findings=findings, near=apart.images.near), test, features
    if features is not None and len(rows) < len(features):
        features = chosen(features, rows)
    return *apart, features


def _with_fit(result: StudyResult) -> StudyResult:
    """Note what the fit of a published recipe says of the same scores."""
    from pytest_datasize.trials.presets import fit_note

    means = [float(np.mean(repeats)) for repeats in result.scores["accuracy"]]
    note = fit_note(result.sizes, means, result.available)
    return replace(result, notes=(*result.notes, note))
