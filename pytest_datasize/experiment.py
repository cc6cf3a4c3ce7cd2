"""Measure what a study asks: embed, keep near-duplicates apart, draw, train, score."""

import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np

from pytest_datasize.checks import level_of
from pytest_datasize.errors import DatasetError
from pytest_datasize.images.findings import settle
from pytest_datasize.images.image_set import Finding, ImageSet, Loaded
from pytest_datasize.images.near_duplicates import comparable, keep_apart
from pytest_datasize.images.perceptual_hash import perceptual_hashes
from pytest_datasize.measurement import measure
from pytest_datasize.plan import Plan
from pytest_datasize.result import StudyResult
from pytest_datasize.threads import n_threads
from pytest_datasize.transfer.cost import estimate, shed
from pytest_datasize.transfer.device import trained_in
from pytest_datasize.transfer.embedder import Embedder, Space
from pytest_datasize.transfer.embedding import Embeddings, embed
from pytest_datasize.transfer.features import Features, chosen
from pytest_datasize.transfer.trials import Outcome, Work, pack, unpack
from pytest_datasize.vocabulary import EMBEDDING_STRATEGIES, STRATEGIES

if TYPE_CHECKING:
    from pytest_datasize.handout import Handout
    from pytest_datasize.study import Study


def measured(
    study: "Study",
    until: Callable[[StudyResult, float], bool] | None,
    handout: "Handout | None",
) -> StudyResult:
    """Measure a study, whatever is known of its result.

    Parameters
    ----------
    study
        The study.
    until
        As in :meth:`pytest_datasize.study.Study.run`.
    handout
        Who embeds and trains; None where this process does.

    Raises
    ------
    DatasetError, BackboneError
        As in :meth:`pytest_datasize.study.Study.run`.
    """
    module, _, function = STRATEGIES[study.options["strategy"]].partition(":")
    strategy = getattr(import_module(module), function)
    timings: dict[str, float] = {}
    features = space = None
    if study.options["strategy"] in EMBEDDING_STRATEGIES:
        start = time.perf_counter()
        raw = tuple(part for part in study.collection.raw if part)
        if handout:
            raw = handout.embed(raw)
        found = embedded(study, raw, handout.space if handout else None)
        timings["decode_and_embed"] = time.perf_counter() - start
        space = found.space
        study.collection.name(found.contents)
        images, test, features = _apart(study, found)
        del found  # or its rows, in the order of the files, would be kept as well
    else:
        images, test, _ = _apart(study, None)
    sets = (images, test) if test else (images,)
    work = work_of(study, sets, study.draw(images, test), space, features)
    if handout:
        work, strategy = handout.work(work), handout.strategy(strategy)
    notes = study.preset.notes if study.preset else ()
    if (budget := study.options["budget"]) is not None:
        asked = study.options["strategy"], study.model.backbone, study.device
        cost = estimate(*asked, sets, study.training())
        plan, note = shed(work.plan, cost, budget)
        work, notes = replace(work, plan=plan), (*notes, note) if note else notes
    result = measure(work, strategy, timings, notes, until)
    return _with_fit(result) if study.preset and study.preset.fits else result


def embedded(
    study: "Study", image_sets: tuple[ImageSet, ...], space: Space | None = None
) -> Embeddings:
    """Embed images with the backbone of a study, in a space that was settled before if any."""
    return embed(
        image_sets,
        Embedder(study.model.backbone, study.device, study.options["precision"], space),
        study.store,
        lambda done, total: study.on_progress("embedding images", done, total),
    )


def work_of(
    study: "Study",
    sets: tuple[ImageSet, ...],
    plan: Plan,
    space: Space | None,
    features: Features | None,
) -> Work:
    """Gather what the trials of a plan need, and what is known of them.

    Parameters
    ----------
    study
        Whose trials.
    sets
        The pool, and after it the test images where they are given apart.
    plan
        Which of them each trial trains on.
    space, features
        What their embeddings depend on, and they themselves; None without any.
    """
    device = study.device
    # heads cost less than looking them up; whatever trains longer is kept trial by trial
    key = None if features is not None else study.trials_key()
    kept = study.store.trials(key) if key else {}

    def on_trial(size: int, repeat: int, outcome: Outcome) -> None:
        if key:
            study.store.put_trial(key, size, repeat, pack(outcome))
        study.on_trial(size, repeat, outcome)

    return Work(
        plan=plan,
        image_sets=sets,
        labels=np.concatenate([part.labels for part in sets]),
        n_classes=len(sets[0].classes),
        backbone=study.model.backbone,
        device=device,
        store=study.store,
        precision=space.precision if space else trained_in(device),
        seed=study.options["seed"],
        on_progress=study.on_progress,
        features=features,
        options=study.training(),
        finished={**{at: unpack(value) for at, value in kept.items()}, **study.finished},
        on_trial=on_trial,
    )


def _apart(
    study: "Study", embeddings: Embeddings | None
) -> tuple[ImageSet, ImageSet | None, Features | None]:
    """Let no near-duplicate stand on the other side of a split.

    Where that leaves too few images for a split, they stay as they are, which is told.
    """
    plain, levels = study.collection.once, study.collection.levels
    images, test = plain
    digests = [*images.digests, *(test.digests if test else ())]
    features = None if embeddings is None else embeddings.of(digests)
    check = "near_duplicates" if test else "alike"
    if level_of(check, levels) == "ignore" or not comparable(plain):
        return images, test, features
    parts = [perceptual_hashes(p, study.store, n_threads()) for p in (images, test) if p]
    seen = None if features is None else features[:].cpu().numpy()
    apart, rows = keep_apart(plain, seen, np.concatenate(parts))
    new = apart.images.findings[len(images.findings) :]
    settle(Loaded(replace(images, findings=new)), levels)
    try:
        study.draw(*apart)
    except DatasetError as problem:
        told = Finding(check, f"near-duplicates were not kept apart: {problem}")
        findings = (*images.findings, *new, told)
        return replace(images, findings=findings, near=apart.images.near), test, features
    if features is not None and len(rows) < len(features):
        features = chosen(features, rows)
    return *apart, features


def _with_fit(result: StudyResult) -> StudyResult:
    """Note what the fit of a published recipe says of the same scores."""
    from pytest_datasize.presets import fit_note

    means = [float(np.mean(repeats)) for repeats in result.scores["accuracy"]]
    note = fit_note(result.sizes, means, result.available)
    return replace(result, notes=(*result.notes, note))
