"""Heads of masks: a linear model on the maps of features, trained on some places of each image.

Of every image a few places of the finest map are taken, the same number of each class that it
shows, see :mod:`pytest_datasize.trials.tasks.places`. Rare classes are then as well learned as
frequent ones; that they are rare is put back into the intercepts, which is all that separate
sampling of classes changes in a softmax regression (Anderson 1972, "Separate sample logistic
discrimination"). Scored are the pixels of the mask: the predicted class of a place counts for all
pixels in it.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pytest_datasize.embedding.dense import Maps, dense
from pytest_datasize.embedding.device import torch_threads
from pytest_datasize.embedding.embed import embed
from pytest_datasize.embedding.embedder import Embedder
from pytest_datasize.embedding.features import Features
from pytest_datasize.embedding.threads import n_threads
from pytest_datasize.images.targets.mask_readers import VOID
from pytest_datasize.requirement.registries import TORCH
from pytest_datasize.store import Store
from pytest_datasize.trials.heads.head_batch import FittedHead, HeadTask
from pytest_datasize.trials.heads.heads import fit_heads, in_threads
from pytest_datasize.trials.heads.principal_axes import eigh
from pytest_datasize.trials.tasks.head_data import Asked, OnHead
from pytest_datasize.trials.tasks.places import PLACES, areas_of, choose_places
from pytest_datasize.trials.work import Work, arithmetic

AXES: Final = 320
"""Main axes of the features of a place that heads see. With 800 canvases of clothes mean IoU was
0.661 with 128 axes, 0.665 with 192, 0.669 with these and 0.671 with all 464."""

ROWS: Final = 8_192
"""Places from which the axes are computed, evenly spaced."""

FINER: Final = 2
"""A mask is predicted on a grid this many times finer than the finest map."""

_GRID_BYTES: Final = 1 << 30  # of the areas of all images, else the grid is that of the map
_BATCH: Final = 16  # images that are scored at a time


def prepare(work: Work) -> "MaskHeads":
    """Compute the maps of all images, and choose the places that heads are trained on."""
    start = time.perf_counter()
    backbone, maps = dense(work.backbone)
    asked = str(work.options.get("precision") or "auto")
    runtime = str(work.options.get("runtime") or TORCH)
    found = embed(
        work.image_sets,
        Embedder(backbone, work.device, asked, runtime=runtime),
        work.store if backbone.named else Store(),
        lambda done, total: work.on_progress("computing maps of features", done, total),
    )
    rows = sum(map(len, work.image_sets))
    finer = FINER
    if rows * len(work.image_sets[0].names) * 2 * (finer * maps.side) ** 2 > _GRID_BYTES:
        finer = 1
    grid = finer * maps.side
    areas = np.concatenate([areas_of(images, grid) for images in work.image_sets])
    places, labels = choose_places(work.image_sets, work.seed, areas, maps.side, finer)
    with torch_threads(n_threads()), torch.inference_mode():
        parts = [
            maps.places(
                found.features[torch.arange(first, min(first + 64, rows)).to(work.device)].cpu(),
                torch.from_numpy(places[first : first + 64]),
            ).half()
            for first in range(0, rows, 64)
        ]
    # all first places of all images, then all second ones: the views of HeadTask
    taken = torch.cat(parts).transpose(0, 1).reshape(PLACES * rows, maps.width)
    seconds = time.perf_counter() - start
    notes: tuple[str, ...] = (
        f"masks are predicted at a stride of {work.backbone.image_size / grid:g} pixels of the "
        f"{work.backbone.image_size} x {work.backbone.image_size} to which images are resized",
    )
    if found.space.note:
        notes += (found.space.note,)
    used = arithmetic(found.space.precision, found.space.runtime)
    return MaskHeads(work, found.features, maps, areas, labels, taken, seconds, notes, used)


@dataclass(frozen=True)
class MaskHeads:
    """Fits the heads of one study, and predicts masks with them.

    Attributes
    ----------
    work
        The plan and the masks.
    features
        Maps of all images, flattened, (N, D).
    maps
        What these maps are.
    areas
        Pixels of each class in each place of the grid, (N, side, side, C).
    labels
        Class of each chosen place, (N, PLACES).
    taken
        Features of the chosen places, float16 (PLACES * N, width).
    seconds
        Time that it took to prepare.
    notes
        Notes for the report.
    arithmetic
        Precision and runtime of the backbone, in words.
    """

    work: Work
    features: Features
    maps: Maps
    areas: NDArray[Any]
    labels: NDArray[np.int64]
    taken: Tensor
    seconds: float
    notes: tuple[str, ...]
    arithmetic: str

    def fit(self, asked: Sequence[Asked], on_head: OnHead | None = None) -> list[FittedHead]:
        """Fit heads; their outcomes are pixels (true, predicted, both), (m, C, 3)."""
        rows, width = len(self.areas), self.maps.width
        labels = self.labels.T.reshape(-1)
        scale = _scale(self.taken, self.maps.channels)
        axes = _main_axes(self.taken, scale)
        # the last rows show a head's weights: its logits for one feature at a time, and for none
        columns = torch.cat(
            [(self.taken.float() * scale) @ axes, axes, torch.zeros(1, axes.shape[1])]
        )
        probes = np.arange(PLACES * rows, len(columns))
        tasks = []
        for train, _, seed in asked:
            some = train[(self.labels[train] != VOID).all(axis=1)]
            trained = (np.arange(PLACES)[:, None] * rows + some).reshape(-1)
            tasks.append(HeadTask(trained, probes, seed, PLACES, self.work.groups_of(some)))
        strata = np.zeros(len(columns), dtype=np.int64)
        padded = np.concatenate([np.maximum(labels, 0), np.zeros(width + 1, dtype=np.int64)])
        n_classes = self.areas.shape[3]

        def tell(done: int) -> None:
            self.work.on_progress("training heads", done, len(tasks))

        with torch_threads(n_threads()):
            fitted = fit_heads(
                columns,
                torch.from_numpy(padded),
                tasks,
                n_classes,
                on_progress=tell,
                strata=strata,
                logits=True,
            )
            linear = [
                self._linear(head, task, padded, train, scale)
                for head, task, (train, _, _) in zip(fitted, tasks, asked, strict=True)
            ]
            outcomes = self._scored([scored for _, scored, _ in asked], linear)
        found = []
        for number, (head, outcome) in enumerate(zip(fitted, outcomes, strict=True)):
            found.append(FittedHead(outcome, head.strength, head.converged, head.iterations))
            if on_head is not None:
                on_head(number, found[-1])
        return found

    def _linear(
        self,
        head: FittedHead,
        task: HeadTask,
        labels: NDArray[np.int64],
        train: NDArray[np.int64],
        scale: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return weights (C, width) and intercepts (C,), these with the classes' true shares."""
        values = torch.from_numpy(head.probabilities)
        bias, weights = values[-1], (values[:-1] - values[-1]).T * scale
        n_classes = len(bias)
        sampled = np.bincount(labels[task.train], minlength=n_classes) / len(task.train)
        pixels = self.areas[train].sum((0, 1, 2), dtype=np.float64)
        shares = pixels / max(pixels.sum(), 1.0)
        known = (sampled > 0) & (shares > 0)
        shift = np.log(np.where(known, shares, 1.0) / np.where(known, sampled, 1.0))
        return weights.contiguous(), bias + torch.from_numpy(shift).float()

    def _scored(
        self, tested: Sequence[NDArray[np.int64]], models: Sequence[tuple[Tensor, Tensor]]
    ) -> list[NDArray[np.int64]]:
        """Count pixels of the test images; models with the same test images share the reading."""
        together: dict[bytes, list[int]] = {}
        for number, rows in enumerate(tested):
            together.setdefault(rows.tobytes(), []).append(number)
        found: dict[int, list[NDArray[np.int64]]] = {number: [] for number in range(len(tested))}
        work = [
            (numbers, tested[numbers[0]][first : first + _BATCH])
            for numbers in together.values()
            for first in range(0, len(tested[numbers[0]]), _BATCH)
        ]

        def score(item: tuple[list[int], NDArray[np.int64]]) -> list[NDArray[np.int64]]:
            numbers, rows = item
            index = torch.from_numpy(rows).to(self.features.device)
            return self._areas_of(rows, self.features[index].cpu(), [models[n] for n in numbers])

        done = 0
        for (numbers, rows), counts in zip(work, in_threads(score, work, n_threads()), strict=True):
            for number, part in zip(numbers, counts, strict=True):
                found[number].append(part)
            done += len(rows)
            self.work.on_progress("predicting masks", done, sum(len(rows) for _, rows in work))
        return [np.concatenate(found[number]) for number in range(len(tested))]

    def _areas_of(
        self, rows: NDArray[np.int64], features: Tensor, models: Sequence[tuple[Tensor, Tensor]]
    ) -> list[NDArray[np.int64]]:
        """Return the pixels of each class that are true, predicted and both, (n, C, 3) each."""
        side, n_classes = self.areas.shape[1], self.areas.shape[3]
        weights = torch.cat([weight for weight, _ in models])
        bias = torch.cat([one for _, one in models])
        logits = self.maps.logits(features, weights, bias, side)
        counts = torch.from_numpy(self.areas[rows].astype(np.int64)).flatten(1, 2)  # (n, G, C)
        judged, true = counts.sum(2), counts.sum(1)
        found = []
        for part in torch.split(logits, n_classes, dim=1):
            predicted = part.argmax(1).flatten(1)  # (n, G)
            area = torch.zeros(len(rows), n_classes, dtype=torch.int64)
            both = torch.zeros_like(area)
            area.scatter_add_(1, predicted, judged)
            both.scatter_add_(1, predicted, counts.gather(2, predicted[..., None])[..., 0])
            found.append(torch.stack([true, area, both], dim=2).numpy())
        return found


def _main_axes(taken: Tensor, scale: Tensor) -> Tensor:
    """Return the main axes of the features of all places, (width, at most :data:`AXES`)."""
    rows = taken[:: max(1, len(taken) // ROWS)].float() * scale
    with torch_threads(1):  # the same bits on any number of cores
        rows = rows - rows.mean(0)
        _, vectors = eigh(rows.T @ rows)
    return vectors[:, -AXES:].contiguous()


def _scale(taken: Tensor, channels: Sequence[int]) -> Tensor:
    """Return one factor for all features of a map, so that its units do not matter."""
    parts = torch.split(taken.float(), list(channels), dim=1)
    scales = [part.var(0, correction=0).mean().clamp_min(1e-30).rsqrt() for part in parts]
    return torch.cat([s.expand(c) for s, c in zip(scales, channels, strict=True)])
