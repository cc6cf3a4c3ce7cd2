"""What a study knows before it trains: its plan with the estimated cost, and its data check."""

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_datasize.images.image_set import Finding
from pytest_datasize.requirement.tasks import CLASSIFICATION
from pytest_datasize.requirement.units import IMAGE


@dataclass(frozen=True)
class StudyPlan:
    """What a study would train, and its estimated cost.

    Attributes
    ----------
    source
        Where the images come from.
    class_counts
        Class name → number of images.
    total, available, n_test
        Images in all; images (or groups) available for training; test images behind one score.
    sizes, repeats, n_trials
        Training sizes in images (or groups), repeats per size, models to train.
    backbone, strategy, device, image_size
        Model, strategy, device, and side of the input in pixels.
    seconds
        Estimated wall time, from a few timed batches; None if a trainer's time is unknown.
    forwards, backwards
        Images that pass forward through (part of) a network; images whose gradient is computed.
    stored
        Bytes of embeddings or activations to store.
    shed
        What is left out to stay within a budget; empty if nothing is.
    unit
        What sizes and ``available`` count: ``image`` or ``group``.
    """

    source: str
    class_counts: Mapping[str, int]
    total: int
    available: int
    n_test: int
    sizes: tuple[int, ...]
    repeats: int
    n_trials: int
    backbone: str
    strategy: str
    device: str
    image_size: int
    seconds: float | None
    forwards: int = 0
    backwards: int = 0
    stored: int = 0
    shed: str = ""
    unit: str = IMAGE


@dataclass(frozen=True)
class StudyCheck:
    """Result of the data checks on every image.

    Attributes
    ----------
    source, test_source
        Where the images come from, and the test images if they are given separately.
    class_counts
        Class name → number of images to train on or to split, exact copies counted once.
    total
        Images in all.
    available
        Images (or groups) available for training; None if no split can be made.
    findings
        (level, finding) pairs, see :mod:`pytest_datasize.requirement.checks`.
    task
        What the labels are, a name in :data:`pytest_datasize.requirement.tasks.TASKS`.
    unit
        What `available` counts: ``image`` or ``group``.
    """

    source: str
    test_source: str | None
    class_counts: Mapping[str, int]
    total: int
    available: int | None
    findings: tuple[tuple[str, Finding], ...]
    task: str = CLASSIFICATION
    unit: str = IMAGE

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that stop a gate."""
        return tuple(finding for level, finding in self.findings if level == "error")
