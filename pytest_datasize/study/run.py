"""Run a study: embed, separate near-duplicates, draw the splits, train and score."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np

from pytest_datasize.embedding.device import current, free_memory, starting_gpu
from pytest_datasize.embedding.embed import Embeddings
from pytest_datasize.errors import DatasetError
from pytest_datasize.images.findings import settle
from pytest_datasize.images.image_set import ImageSet, Loaded
from pytest_datasize.images.undecodable import UndecodableError
from pytest_datasize.requirement.process_settings import own_settings
from pytest_datasize.requirement.registries import STRATEGIES
from pytest_datasize.store import key_of
from pytest_datasize.study.factors import facts_of, findings_of
from pytest_datasize.study.prepare import embedded, work_of
from pytest_datasize.study.result import StudyResult
from pytest_datasize.study.scoring import measure
from pytest_datasize.study.splits import images_to_split, split_names
from pytest_datasize.trials.budget import trim_to_budget
from pytest_datasize.trials.cost import estimate

if TYPE_CHECKING:
    from pytest_datasize.study.context import StudyContext
    from pytest_datasize.study.workers.dispatch import Dispatcher

_NAMED_BY = 8  # images in the claim key of a data set without files


def measured(
    context: "StudyContext",
    until: Callable[[StudyResult, float], bool] | None,
    workers: "Dispatcher | None",
    known: Callable[[], StudyResult | None],
    keep: Callable[[StudyResult], None],
) -> StudyResult:
    """Embed, train and score, or load the result that another process computed meanwhile.

    Parameters
    ----------
    context
        The study.
    until
        As in :meth:`pytest_datasize.study.study.Study.run`.
    workers
        Workers that embed and train; None if this process does.
    known
        Loads the result from the store, if it is there.
    keep
        Writes a result to the store, if another process could find it there.

    Raises
    ------
    DatasetError, BackboneError
        As in :meth:`pytest_datasize.study.study.Study.run`.
    """
    # again: torch may have been imported only now, and its own defaults are not ours
    context.check_task()
    with own_settings(), current(context.device), starting_gpu(context.device):
        try:
            embeddings: list[Embeddings] = []  # emptied below, to free memory while heads train
            if context.embeds_images:
                embeddings.append(_embedded_pool(context, workers))
                key = context.evidence_key(context.family())
            else:  # trials are cached one by one, for other sizes and repeats too
                key = context.trials_key()
            with context.claim(key, "measures the same"):
                if found := known():
                    return found
                result = _measured(context, until, workers, embeddings)
                keep(result)
            return result
        finally:
            free_memory(context.device)


def _embedded_pool(context: "StudyContext", workers: "Dispatcher | None") -> Embeddings:
    raw = tuple(part for part in context.pool.raw if part)
    with context.claim(_embedding_key(context, raw), "embeds these images"):
        start = time.perf_counter()
        if workers:
            raw = workers.embed(raw)
        found = embedded(context, raw, workers.space if workers else None)
        found = replace(found, seconds=time.perf_counter() - start)
    context.pool.name(found.contents)
    return found


def _embedding_key(context: "StudyContext", parts: tuple[ImageSet, ...]) -> str:
    """Return a claim key for images and their embedder, with as little reading as possible.

    Images whose files have a known size and time are not read; of others only a few are.
    """
    names: list[list[str | None]] = []
    for images in parts:
        stamps = list(images.stamps)
        if None in stamps:
            rows = np.linspace(0, len(images) - 1, min(len(images), _NAMED_BY)).astype(int)
            stamps = [str(len(images)), *(_pixels_hash(images, row) for row in rows.tolist())]
        names.append(stamps)
    model = context.backbone.loaded.key, context.options["precision"], context.runtime
    return key_of([model, str(context.device), names])


def _pixels_hash(images: ImageSet, row: int) -> str:
    try:
        raw = images.read(row)
    except (DatasetError, UndecodableError):  # reported later, with all unreadable images
        return ""
    return hashlib.sha256(raw if isinstance(raw, bytes) else raw.tobytes()).hexdigest()


def _measured(
    context: "StudyContext",
    until: Callable[[StudyResult, float], bool] | None,
    workers: "Dispatcher | None",
    given: list[Embeddings],
) -> StudyResult:
    module, _, function = STRATEGIES[context.options["strategy"]].partition(":")
    strategy = getattr(import_module(module), function)
    timings: dict[str, float] = {}
    space = None
    embeddings = given.pop() if given else None
    if embeddings is not None:
        timings["decode_and_embed"] = embeddings.seconds
        space = embeddings.space
    images, test = images_to_split(context)
    facts = facts_of(images)
    new = settle(Loaded(replace(images, findings=findings_of(facts))), context.pool.levels)
    images = replace(images, findings=(*images.findings, *new.images.findings))
    features = None
    if embeddings is not None:
        features = embeddings.of([*images.digests, *(test.digests if test else ())])
    del embeddings  # else its rows, in file order, would stay in memory as well
    sets = (images, test) if test else (images,)
    work = work_of(context, sets, context.draw(images, test), space, features)
    if workers:
        work, strategy = workers.work(work), workers.strategy(strategy)
    notes = context.preset.notes if context.preset else ()
    if not workers and (said := context.device_note):
        notes = (*notes, said)
    if space and space.note:
        notes = (*notes, space.note)
    if (budget := context.options["budget"]) is not None:
        asked = context.options["strategy"], context.backbone.loaded, context.device
        cost = estimate(*asked, sets, context.training())
        plan, note = trim_to_budget(work.plan, cost, budget)
        work, notes = replace(work, plan=plan), (*notes, note) if note else notes
    result = measure(work, strategy, timings, notes, until)
    names = split_names(work.plan, sets, context.pool.fingerprint(), result.repeats)
    result = replace(result, splits=names, factors=facts)
    return _with_fit(result) if context.preset and context.preset.fits else result


def _with_fit(result: StudyResult) -> StudyResult:
    """Add a note with the published recipe's own fit to the same scores."""
    from pytest_datasize.trials.presets import fit_note

    means = [float(np.mean(repeats)) for repeats in result.scores["accuracy"]]
    note = fit_note(result.sizes, means, result.available)
    return replace(result, notes=(*result.notes, note))
