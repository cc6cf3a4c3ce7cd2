"""What every strategy is given, and what it gives back."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.ndarrays import FloatArray, IntArray
from pytest_datasize.plan import Plan
from pytest_datasize.store import Store
from pytest_datasize.transfer.backbone import Backbone

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Work:
    """Everything that the trials of a plan need.

    Attributes
    ----------
    plan
        Rows of the joined image sets to train and to test on.
    image_sets
        The pool, and after it the test images where they are given apart.
    labels
        int64 array: labels of all images of all sets in order.
    n_classes
        Number of classes; a label is below it.
    backbone
        The pretrained model and its preprocessing.
    device
        Where it runs.
    store
        Knows embeddings of before; new ones are added.
    precision
        What the backbone calculates in, or ``auto``.
    seed
        Seed of whatever a strategy draws at random; mix it with a purpose and the repeat.
    on_progress
        Called with (stage, done, in all).
    """

    plan: Plan
    image_sets: tuple[ImageSet, ...]
    labels: IntArray
    n_classes: int
    backbone: Backbone
    device: torch.device
    store: Store
    precision: str
    seed: int
    on_progress: Progress


@dataclass(frozen=True)
class Trials:
    """The outcome of every trial of some repeats of a plan.

    Attributes
    ----------
    probabilities
        Per size, per repeat: class probabilities of the repeat's test images, (n_test, C).
    seconds
        Stage → wall time in seconds.
    notes
        What a reader of the report should know.
    """

    probabilities: tuple[tuple[FloatArray, ...], ...]
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()
