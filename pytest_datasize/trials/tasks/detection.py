"""Heads of boxes: a softmax over the classes of the objects, on the embedding of each crop."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from pytest_datasize.embedding.device import torch_threads
from pytest_datasize.embedding.embed import embed
from pytest_datasize.embedding.embedder import Embedder
from pytest_datasize.embedding.features import Features
from pytest_datasize.embedding.threads import n_threads
from pytest_datasize.images.crops import crops
from pytest_datasize.images.targets.boxes import Boxes
from pytest_datasize.requirement.registries import TORCH
from pytest_datasize.store import Store
from pytest_datasize.trials.heads.head_batch import FittedHead, HeadTask
from pytest_datasize.trials.heads.heads import fit_heads
from pytest_datasize.trials.heads.main_axes import main_axes
from pytest_datasize.trials.tasks.head_data import Asked, OnHead
from pytest_datasize.trials.work import Work, arithmetic

IMAGES_OF_A_CLASS: Final = 1_500
OBJECTS_OF_A_CLASS: Final = 10_000
"""What the makers of YOLO advise for every class ("Tips for Best Training Results")."""


def prepare(work: Work) -> "CropHeads":
    """Embed the crops of all images."""
    start = time.perf_counter()
    targets = [images.targets for images in work.image_sets]
    boxes = [one for one in targets if isinstance(one, Boxes)]
    asked = str(work.options.get("precision") or "auto")
    runtime = str(work.options.get("runtime") or TORCH)
    found = embed(
        [crops(images) for images in work.image_sets],
        Embedder(work.backbone, work.device, asked, runtime=runtime),
        work.store if work.backbone.named else Store(),
        lambda done, total: work.on_progress("embedding objects", done, total),
    )
    joined = boxes[0].joined(boxes[1:])
    columns = main_axes(found.features, work.backbone.widths)
    counts = joined.amounts
    number = sum(counts.values())
    shown = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    few = shown if len(counts) <= 8 else f"{len(counts)} classes"
    note = f"{number:,} objects in {len(joined):,} images ({few})"
    notes = tuple(text for text in (note, _rule_of_thumb(joined), found.space.note) if text)
    used = arithmetic(found.space.precision, found.space.runtime)
    return CropHeads(work, columns, joined, time.perf_counter() - start, notes, used)


def _rule_of_thumb(boxes: Boxes) -> str:
    """Compare the rarest class with what is advised for detectors; empty if there is enough."""
    images = boxes.membership.sum(axis=0)
    objects = np.bincount(boxes.labels, minlength=len(boxes.names))
    rarest = int(objects.argmin())
    if images[rarest] >= IMAGES_OF_A_CLASS and objects[rarest] >= OBJECTS_OF_A_CLASS:
        return ""
    return (
        f"rule of thumb for detectors: {IMAGES_OF_A_CLASS:,} images and {OBJECTS_OF_A_CLASS:,} "
        f"objects of each class (Ultralytics, tips for best training results); here "
        f"{boxes.names[rarest]!r} has {images[rarest]:,} and {objects[rarest]:,}"
    )


@dataclass(frozen=True)
class CropHeads:
    """Fits the heads of one study.

    Attributes
    ----------
    work
        The plan and the boxes.
    columns
        Features of all objects, image after image.
    boxes
        The objects of all images.
    seconds
        Time that embedding took.
    notes
        Notes for the report.
    arithmetic
        Precision and runtime of the backbone, in words.
    """

    work: Work
    columns: Features
    boxes: Boxes
    seconds: float
    notes: tuple[str, ...]
    arithmetic: str

    def fit(self, asked: Sequence[Asked], on_head: OnHead | None = None) -> list[FittedHead]:
        """Fit heads; their outcomes are objects (true, predicted, both), (m, C, 3)."""
        boxes = self.boxes
        tasks = [
            HeadTask(
                boxes.objects(train),
                boxes.objects(scored),
                seed=seed,
                groups=self.work.groups_of(boxes.image_of[boxes.objects(train)]),
            )
            for train, scored, seed in asked
        ]

        counted: dict[int, FittedHead] = {}

        def count(number: int, head: FittedHead) -> None:
            areas = self._counts(asked[number][1], head.probabilities.argmax(axis=1))
            counted[number] = replace(head, probabilities=areas)
            if on_head is not None:
                on_head(number, counted[number])

        with torch_threads(n_threads()):
            fit_heads(
                self.columns,
                torch.from_numpy(boxes.labels).to(self.work.device),
                tasks,
                len(boxes.names),
                on_progress=lambda done: self.work.on_progress("training heads", done, len(tasks)),
                on_head=count,
            )
        return [counted[number] for number in range(len(tasks))]

    def _counts(self, rows: NDArray[np.int64], predicted: NDArray[Any]) -> NDArray[np.int64]:
        """Count the objects of each image by class: true, predicted, and both, (m, C, 3)."""
        boxes = self.boxes
        objects = boxes.objects(rows)
        sizes = boxes.starts[rows + 1] - boxes.starts[rows]
        image, true = np.repeat(np.arange(len(rows)), sizes), boxes.labels[objects]
        shape = len(rows), len(boxes.names)
        right = true == predicted
        parts = ((image, true), (image, predicted), (image[right], true[right]))
        counts = [
            np.bincount(one * shape[1] + label, minlength=shape[0] * shape[1]).reshape(shape)
            for one, label in parts
        ]
        return np.stack(counts, axis=2)
