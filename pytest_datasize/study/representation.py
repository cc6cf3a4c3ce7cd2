"""Compare the study's images with deployment images in the embedding space."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.content_hash import read_contents
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.images.sources.unlabelled import load_unlabelled
from pytest_datasize.store import key_of

if TYPE_CHECKING:
    from pytest_datasize.study.study import Study

LEAST = 20
"""Least number of images on each side; fewer cannot show a difference."""

MOST_SHOWN = 12
_USUAL = 0.99
_VERSION = 1
_OF_THE_COMPARISON = ("backbone", "weights", "image_size", "precision", "runtime")


class Sides(NamedTuple):
    """The images to compare, identified by their contents.

    Attributes
    ----------
    pool
        The images of the study, exact copies counted once.
    field
        The images of the deployment.
    names
        Contents of the deployment images.
    """

    pool: ImageSet
    field: ImageSet
    names: tuple[str, ...]


def sides_of(study: "Study", deployment: Any) -> Sides:
    """Read the images of a study and of the deployment, without embedding them.

    Parameters
    ----------
    study
        The study with its images and store.
    deployment
        See :func:`pytest_datasize.images.sources.unlabelled.load_unlabelled`.

    Raises
    ------
    DatasetError
        Images cannot be read.
    """
    from pytest_datasize.embedding.threads import n_threads

    field = load_unlabelled(deployment, "deployment", study.options["allow_outside"])
    pool = study.images()
    return Sides(pool, field, read_contents(field, study.store, n_threads()))


def subject(study: "Study", sides: Sides, false_alarms: float) -> dict[str, Any]:
    """Return what a comparison depends on, the same on every machine: both sides and the model."""
    options = study.subject()["options"]
    return {
        "images": _named(sides.pool.digests),
        "deployment": _named(sides.names),
        "asked": {"false_alarms": false_alarms},
        "options": {name: options[name] for name in _OF_THE_COMPARISON if name in options},
    }


def _named(contents: Sequence[str]) -> dict[str, Any]:
    different = sorted(set(contents))
    return {"number": len(different), "fingerprint": key_of(different)}


def representation(study: "Study", sides: Sides, false_alarms: float) -> dict[str, Any]:
    """Compare the images of a study with those of the deployment.

    Parameters
    ----------
    study
        The study with its backbone and store.
    sides
        The images of both sides.
    false_alarms
        Rate of false alarms that the p-values must be able to resolve.

    Returns
    -------
    dict
        Plain data: the classifier two-sample test, the maximum mean discrepancy, and the images
        least alike in both directions.

    Raises
    ------
    DatasetError
        There are too few images.
    """
    pool, field, names = sides
    known = set(pool.digests)
    fresh = [row for row, name in _first_rows(names) if name not in known]
    for part, number in ((pool, len(pool)), (field, len(fresh))):
        if number < LEAST:
            raise DatasetError(
                f"{part.source}: {number} different images that are not on the other side too; "
                f"comparing needs {LEAST} at least."
            )
    family = study.context.family()
    content = [_VERSION, false_alarms, study.fingerprint(), [names[row] for row in fresh]]
    key = family and key_of([family, *content])
    found: dict[str, Any] | None = study.store.get("represents", key) if key else None
    if found is None:
        features = study.embed(pool, field)
        found = _compared(features, np.array(fresh), pool, field, false_alarms)
        found["copies"] = len(field) - len(fresh)
        if family := study.context.family():  # the weights are known at this point
            study.store.put("represents", key_of([family, *content]), found, family)
    return found


def _first_rows(names: Sequence[str]) -> list[tuple[int, str]]:
    first: dict[str, int] = {}
    for row, name in enumerate(names):
        first.setdefault(name, row)
    return [(row, name) for name, row in first.items()]


def _compared(
    features: tuple[NDArray[np.floating], NDArray[np.floating]],
    fresh: NDArray[np.int64],
    pool: ImageSet,
    field: ImageSet,
    false_alarms: float,
) -> dict[str, Any]:
    from pytest_datasize.curve.advice.neighbours import share_interval
    from pytest_datasize.curve.advice.two_sample import PERMUTATIONS, compare

    ours, theirs = features[0], features[1][fresh]
    test = compare(ours, theirs, permutations=max(PERMUTATIONS, round(2 / false_alarms)))
    strangers, outside = _least_alike(theirs, ours, field, fresh)
    unseen, _ = _least_alike(ours, theirs, pool, np.arange(len(ours)))
    low, high = share_interval(outside, len(theirs))
    return {
        **asdict(test),
        "compared": list(test.compared),
        "source": pool.source,
        "deployment": field.source,
        "images": len(ours),
        "deployment_images": len(theirs),
        "outside": outside / len(theirs),
        "outside_low": low,
        "outside_high": high,
        "least_alike": strangers,
        "unseen": unseen,
    }


def _least_alike(
    asked: NDArray[np.floating],
    among: NDArray[np.floating],
    images: ImageSet,
    rows: NDArray[np.int64],
) -> tuple[list[dict[str, Any]], int]:
    """Return the images farthest from all images of the other side, and how many are unusual.

    A distance is unusual if only 1 % of the other side's images have a larger one to their own
    nearest neighbour.
    """
    from pytest_datasize.curve.advice.neighbours import nearest_of
    from pytest_datasize.study.thumbnails import thumbnail

    _, distances = nearest_of(asked, among)
    _, usual = nearest_of(among, among, own=np.arange(len(among)))
    limit = float(np.quantile(usual, _USUAL))
    furthest = np.argsort(-distances, kind="stable")[:MOST_SHOWN]
    shown = [
        {
            "image": images.name(int(rows[place])),
            "distance": round(float(distances[place]), 4),
            "unusual": bool(distances[place] > limit),
            "picture": thumbnail(images, int(rows[place])),
        }
        for place in furthest
    ]
    return shown, int((distances > limit).sum())
