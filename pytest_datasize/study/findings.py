"""Collect findings beside the scores, as plain data that can be stored and judged without torch."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from pytest_datasize.curve.advice import neighbour_errors
from pytest_datasize.curve.advice.class_curves import prior_shift
from pytest_datasize.curve.advice.labels import HeldOut, held_out, suspects
from pytest_datasize.curve.advice.neighbours import agreement, sampled
from pytest_datasize.curve.advice.redundancy import redundancy
from pytest_datasize.embedding.stages import last_layer
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.study.thumbnails import thumbnail
from pytest_datasize.trials.parameters import parameters
from pytest_datasize.trials.work import Work

MOST_SUSPECTS: Final = 50
MOST_PICTURES: Final = 24
MOST_GROUPS: Final = 12
MOST_OF_A_GROUP: Final = 3


def findings(work: Work, probabilities: Sequence[Sequence[NDArray[np.floating]]]) -> dict[str, Any]:
    """Collect the data for the advice from the held-out predictions at the largest size.

    Embeddings are used only if the strategy computed them already.

    Parameters
    ----------
    work
        The plan and all inputs of its trials.
    probabilities
        Per size, per repeat: class probabilities of the repeat's test images.
    """
    images, labels, plan = work.image_sets[0], work.labels, work.plan
    classes = len(images.classes)
    repeats = plan.repeats[: max(map(len, probabilities))]
    last = probabilities[-1]
    tested = [repeat.test for repeat, _ in zip(repeats, last, strict=False)]
    sizes = [
        np.mean([np.bincount(labels[r.training(n)], minlength=classes) for r in repeats], axis=0)
        for n in plan.sizes
    ]
    rows = np.concatenate(tested)
    judged = np.unique(rows)  # in a large pool, not every image is tested
    places = [np.searchsorted(judged, part) for part in tested]
    seen = held_out(labels[judged], places, last, classes)
    return {
        "class_sizes": [[round(float(n), 2) for n in row] for row in sizes],
        "tested": np.bincount(labels[rows], minlength=classes).tolist(),
        "prior_shift": prior_shift(labels[rows], np.concatenate(last), classes),
        "labels": _labels(work.image_sets, labels, judged, seen),
        "redundancy": _redundancy(images, judged, seen),
        "neighbours": _neighbours(work),
        "parameters": parameters(work),
        "neighbour_errors": _neighbour_errors(work),
    }


def _neighbours(work: Work) -> dict[str, Any] | None:
    """Return how often neighbours in the embedding share a label; None without an embedding."""
    if work.features is None:
        return None
    rows = sampled(len(work.image_sets[0]))
    found = work.features[torch.from_numpy(rows).to(work.features.device)]
    near = agreement(last_layer(found, work.backbone).cpu().numpy(), work.labels[rows])
    return {**asdict(near), "skill": near.skill, "domain": near.domain}


def _neighbour_errors(work: Work) -> dict[str, Any] | None:
    """Return the errors of nearest neighbours in the embedding; None without an embedding."""
    if work.features is None:
        return None
    images, *tests = work.image_sets
    sample = neighbour_errors.sampled(
        len(images), sum(map(len, tests)), work.features.shape[1], work.seed
    )
    rows = torch.from_numpy(sample.rows).to(work.features.device)
    together = [] if (groups := work.groups) is None else [groups[sample.rows]]
    if images.near is not None:  # with test images of their own, near-duplicates are not groups
        fresh = len(images) + np.arange(sum(map(len, tests)))
        together.append(np.concatenate([images.near, fresh])[sample.rows])
    found = neighbour_errors.neighbour_errors(
        work.features[rows].cpu().numpy(),
        work.labels[sample.rows],
        work.backbone.widths,
        together,
        sample.asked,
        sample.among,
        work.seed,
    )
    return {
        "asked": len(sample.asked),
        "among": len(sample.among),
        "images": len(images),
        "errors": {metric: list(map(asdict, errors)) for metric, errors in found.items()},
    }


def _labels(
    image_sets: Sequence[ImageSet],
    labels: NDArray[np.int64],
    judged: NDArray[np.int64],
    seen: HeldOut,
) -> dict[str, Any]:
    doubtful = suspects(labels[judged], seen)
    names = image_sets[0].classes
    listed = []
    for place, one in enumerate(doubtful[:MOST_SUSPECTS]):
        images, row = _place(image_sets, int(judged[one.row]))
        listed.append(
            {
                "image": images.name(row),
                "label": names[one.label],
                "likely": names[one.likely],
                "probability": one.probability,
                "picture": thumbnail(images, row) if place < MOST_PICTURES else None,
            }
        )
    return {"judged": len(judged), "number": len(doubtful), "suspects": listed}


def _redundancy(
    images: ImageSet, judged: NDArray[np.int64], seen: HeldOut
) -> dict[str, Any] | None:
    """Return the near-duplicates in the pool; None if they were not searched for."""
    if images.near is None:
        return None
    own = np.full(len(images), np.nan)
    ours = np.flatnonzero(judged < len(images))
    rows = judged[ours]
    own[rows] = seen.probabilities[ours, images.labels[rows]]
    order = np.argsort(images.near, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(images.near[order])) + 1)
    groups = sorted((part for part in parts if len(part) > 1), key=len, reverse=True)
    return {
        **asdict(redundancy(images.near, images.labels, own)),
        "number": len(groups),
        "contested": sum(len(set(images.labels[part].tolist())) > 1 for part in groups),
        "groups": [
            {
                "images": len(part),
                "shown": [_shown(images, int(row)) for row in part[:MOST_OF_A_GROUP]],
            }
            for part in groups[:MOST_GROUPS]
        ],
    }


def _shown(images: ImageSet, row: int) -> dict[str, Any]:
    return {
        "image": images.name(row),
        "label": images.classes[images.labels[row]],
        "picture": thumbnail(images, row),
    }


def _place(image_sets: Sequence[ImageSet], row: int) -> tuple[ImageSet, int]:
    for images in image_sets:
        if row < len(images):
            return images, row
        row -= len(images)
    raise IndexError(row)
