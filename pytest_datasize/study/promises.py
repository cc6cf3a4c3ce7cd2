"""Promises: what a larger input, augmentation or another backbone would add, from one cheap trial.

Each change is tried on a few hundred images: heads are cross-validated on their embeddings with and
without the change, on the same folds. The gain is paired image by image, so that a few hundred
images show a gain of some points. It is a promise for that many images, not a verdict.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from pytest_datasize.curve.seeds import Purpose, seed_of, stream
from pytest_datasize.embedding import weights as weight_files
from pytest_datasize.embedding.device import torch_threads
from pytest_datasize.embedding.embed import embed
from pytest_datasize.embedding.embedder import Embedder
from pytest_datasize.embedding.features import Features, joined
from pytest_datasize.embedding.threads import n_threads
from pytest_datasize.embedding.views import views
from pytest_datasize.errors import DatasizeError
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.store import Store
from pytest_datasize.study.splits import images_to_split
from pytest_datasize.trials.heads.heads import HeadTask, fit_heads
from pytest_datasize.trials.heads.main_axes import main_axes

if TYPE_CHECKING:
    from pytest_datasize.study.context import StudyContext

Change = Literal["image_size", "augment", "backbone"]

IMAGES: Final = 400
"""Images of a trial; each is predicted once, by a head trained on four fifths of them."""

FOLDS: Final = 5

LARGER: Final = 10 / 7
"""Factor of the side of a larger input: 224 becomes 320 pixels, about twice the cost."""

SIDE_STEP: Final = 32
"""Sides are multiples of this: most backbones halve their input five times."""

LEVEL_QUANTILE: Final = 1.645
"""Normal quantile of a 90 % interval."""


@dataclass(frozen=True)
class Promise:
    """The gain of one change, as measured by one cheap trial.

    Attributes
    ----------
    change
        ``image_size``, ``augment`` or ``backbone``.
    value
        The value of that option.
    gain, low, high
        Gain of accuracy in [-1, 1], and its 90 % interval.
    images
        Images of the trial.
    """

    change: Change
    value: Any
    gain: float
    low: float
    high: float
    images: int


def promises(context: "StudyContext") -> Iterator[Promise]:
    """Try each change on a few images, the cheapest first.

    Parameters
    ----------
    context
        A study with a frozen backbone.

    Raises
    ------
    DatasetError, BackboneError
        Images cannot be read, or the study's own backbone cannot be loaded.
    """
    images, _ = images_to_split(context)
    rows = _sample(images, context.options["seed"])
    some = images.part(rows)
    folds = _folds(some, context.options["seed"])
    plain = _right(context, some, folds, context.options["augment"], context.store)
    for change, value in _changes(context):
        try:
            if change == "augment":
                right = _right(context, some, folds, value, Store())
            else:
                changed = context.variant(**{change: value})
                right = _right(changed, some, folds, context.options["augment"], Store())
        except DatasizeError:
            continue  # the architecture has one input size, or its weights cannot be loaded
        gains = right.astype(np.float64) - plain
        half = LEVEL_QUANTILE * float(gains.std(ddof=1)) / sqrt(len(gains))
        gain = float(gains.mean())
        yield Promise(change, value, gain, gain - half, gain + half, len(some))


def _changes(context: "StudyContext") -> Iterator[tuple[Change, Any]]:
    """Yield the changes that a study leaves open, the cheapest first."""
    options, backbone = context.options, context.backbone.loaded
    if options["image_size"] is None and isinstance(options["backbone"], str):
        larger = round(LARGER * backbone.image_size / SIDE_STEP) * SIDE_STEP
        yield "image_size", larger
    if other := _other_backbone(options):
        yield "backbone", other
    if options["augment"] is False:
        yield "augment", True


def _other_backbone(options: dict[str, Any]) -> str | None:
    """Return the largest other backbone whose weights an installed package carries, if any."""
    asked = options["backbone"]
    if not isinstance(asked, str) or options["weights"] not in ("auto", "embedded"):
        return None
    return next(
        (
            name
            for name in reversed(weight_files.EMBEDDED)
            if name != asked and weight_files.has_package(name)
        ),
        None,
    )


def _sample(images: ImageSet, seed: int) -> NDArray[np.int64]:
    """Return rows of at most :data:`IMAGES` images, with the class shares of all of them."""
    order = _by_class(images.labels, stream(seed, Purpose.PROMISES))
    number = min(len(images), IMAGES)
    return np.sort(order[np.linspace(0, len(order) - 1, number).round().astype(np.int64)])


def _folds(images: ImageSet, seed: int) -> list[NDArray[np.int64]]:
    """Return the test rows of folds, stratified by class; images of one group share a fold."""
    generator = stream(seed, Purpose.PROMISES, 1)
    if images.groups is not None:
        numbers = generator.permutation(int(images.groups.max()) + 1) % FOLDS
        found = [np.flatnonzero(numbers[images.groups] == fold) for fold in range(FOLDS)]
        return [fold for fold in found if 0 < len(fold) < len(images)]
    order = _by_class(images.labels, generator)
    return [np.sort(order[fold::FOLDS]) for fold in range(min(FOLDS, len(order)))]


def _by_class(labels: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    """Return all rows, class after class, in random order within a class.

    Classes come in the order of their first image, since their numbers depend on their names.
    """
    _, first, numbers = np.unique(labels, return_index=True, return_inverse=True)
    turn = np.argsort(np.argsort(first))[numbers]
    order = generator.permutation(len(labels))
    found: NDArray[np.int64] = order[np.argsort(turn[order], kind="stable")]
    return found


def _right(
    context: "StudyContext",
    images: ImageSet,
    folds: list[NDArray[np.int64]],
    augment: Any,
    keep: Store,
) -> NDArray[np.bool_]:
    """Return for each image whether a head trained without its fold predicts its label.

    Embeddings are loaded from `keep` and stored there.
    """
    backbone, device = context.backbone.loaded, context.device
    report: Callable[[int, int], None] = lambda done, total: context.on_progress(  # noqa: E731
        "trying other settings", done, total
    )
    parts: list[Features] = []
    for view in views(backbone, augment):
        embedder = Embedder(view, device, context.options["precision"], runtime=context.runtime)
        parts.append(embed([images], embedder, context.store, report, keep=keep).features)
    features, count = joined(parts), len(images)
    labels = torch.from_numpy(np.tile(images.labels, len(parts))).to(device)
    everything = np.arange(count)
    tasks = [
        HeadTask(
            np.concatenate(
                [np.setdiff1d(everything, fold) + count * view for view in range(len(parts))]
            ),
            fold,
            seed=seed_of(context.options["seed"], Purpose.PROMISES, 2, number),
            views=len(parts),
        )
        for number, fold in enumerate(folds)
    ]
    with torch_threads(n_threads()):
        heads = fit_heads(main_axes(features, backbone.widths), labels, tasks, len(images.classes))
    right = np.zeros(count, dtype=np.bool_)  # images that no fold tests count as wrong in both
    for fold, head in zip(folds, heads, strict=True):
        right[fold] = head.probabilities.argmax(1) == images.labels[fold]
    return right
