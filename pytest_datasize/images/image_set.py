"""Define ImageSet, the common form of labelled images from every source."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.targets.protocol import Shown, Targets
from pytest_datasize.requirement.tasks import AUTO, CLASSIFICATION
from pytest_datasize.requirement.versions import DECODING, text_of
from pytest_datasize.store import Store

Raw = bytes | np.ndarray[Any, Any]
"""An image before decoding: the bytes of a file, or an (H, W[, C]) array of pixels."""


_T = TypeVar("_T")

MAX_PIXELS = 178_956_970
"""Largest image that is decoded by default: Pillow's own limit, half a gigabyte as RGB."""


@dataclass(frozen=True)
class Finding:
    """A problem or note about a data set, shown in the report.

    Attributes
    ----------
    check
        Name in :data:`pytest_datasize.requirement.checks.CHECKS`, which defines its default level.
    text
        What was detected and what was done about it, in one line.
    count
        Number of images, files or folders concerned.
    names
        Their names, all or the first of them.
    """

    check: str
    text: str
    count: int = 1
    names: tuple[str, ...] = ()


class Factor(NamedTuple):
    """What may differ between images besides their label, such as the site of a photograph.

    Attributes
    ----------
    name
        Its name.
    values
        Names of its values.
    numbers
        int64 array (N,): an index into them for every image.
    """

    name: str
    values: tuple[str, ...]
    numbers: NDArray[np.int64]


@dataclass(frozen=True)
class Reading:
    """Options for reading a data set.

    Attributes
    ----------
    group
        What images belong together (frames of a patient): the name of a column, a regular
        expression over paths, a function of a path, or one value per image; None when every
        image is its own group.
    slices
        Factors whose values divide the images into slices: name → column, regular expression over
        paths, function of a path, or one value per image; None for no factors.
    allow_outside
        Whether links and paths that leave the data set's own folder may be followed.
    max_pixels
        Largest width x height that is decoded.
    task
        What labels are, a name in :data:`pytest_datasize.requirement.tasks.TASKS`; ``auto`` where
        the data say so.
    store
        Cache of what is known of files; None for none.
    """

    group: Any = None
    slices: Mapping[str, Any] | None = None
    allow_outside: bool = False
    max_pixels: int = MAX_PIXELS
    task: str = AUTO
    store: Store | None = None


@dataclass(frozen=True, eq=False)
class Chosen(Generic[_T]):
    """A function of row numbers, applied to positions in a selection of rows.

    Examples
    --------
    >>> Chosen(str, np.array([7, 9]))(1)
    '9'
    """

    function: Callable[[int], _T]
    rows: NDArray[np.int64]

    def __call__(self, index: int) -> _T:
        """Return the value of the row at a position."""
        return self.function(int(self.rows[index]))


def no_stamp(index: int) -> None:
    """Return None: a change of the image is detected only by reading it."""


@dataclass(frozen=True)
class ImageSet:
    """Labelled images that are read one at a time and never held in memory all together.

    Attributes
    ----------
    source
        Description for messages, such as ``folder data/train``.
    classes
        Class names; a label is an index into them.
    labels
        int64 array of shape (N,): class of each image. With ``targets``, their stratum: splits and
        subsamples have the shares of the classes, or strata.
    read
        Index → the image before decoding. Called from several threads. This and the other
        functions can be pickled where they are methods or objects of module-level classes, so
        that images reach processes that are spawned.
    name
        Index → name of the image for messages.
    findings
        Findings for the report, such as files that were left out.
    digests
        Content hash of each image; empty until the images have been read.
    stamp
        Index → a text that changes whenever the file does, such as :func:`file_stamp`; None where
        only reading detects a change. Images with a cached stamp are not read again.
    key
        Index → text that ``group`` is applied to, such as a path inside the data set; None: the
        name.
    groups
        int64 array of shape (N,): images with one number belong together and are never divided
        by a split. None when every image is its own group.
    group_names
        Names of the groups; a group's number is an index into them.
    factors
        Factors of ``slices``, with a value for every image.
    near
        int64 array of shape (N,): images with the same number are near-duplicates. None if
        they were not searched.
    max_pixels
        Largest width x height that is decoded; passed to ``decode``.
    depth
        Bits that the pixels of 16-bit images use, see :mod:`pytest_datasize.images.bit_depth`.
    targets
        Labels of another task than one class per image.
    """

    source: str
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    read: Callable[[int], Raw]
    name: Callable[[int], str]
    findings: tuple[Finding, ...] = ()
    digests: tuple[str, ...] = ()
    stamp: Callable[[int], str | None] = no_stamp
    key: Callable[[int], str] | None = None
    groups: NDArray[np.int64] | None = None
    group_names: tuple[str, ...] = ()
    factors: tuple[Factor, ...] = ()
    near: NDArray[np.int64] | None = None
    max_pixels: int = MAX_PIXELS
    depth: int = 16
    targets: Targets | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def task(self) -> str:
        """What the labels are, a name in :data:`pytest_datasize.requirement.tasks.TASKS`."""
        return CLASSIFICATION if self.targets is None else self.targets.task

    @property
    def names(self) -> tuple[str, ...]:
        """What images are counted by: classes, labels, or ranges of a number."""
        return self.classes if self.targets is None else self.targets.names

    @property
    def membership(self) -> Shown:
        """Whether an image counts for a name, bool (N, number of names)."""
        if self.targets is not None:
            return self.targets.membership
        found: Shown = self.labels[:, None] == np.arange(len(self.classes))
        return found

    @property
    def truth(self) -> NDArray[Any]:
        """What metrics and heads take, one row per image: classes, unless a task has others."""
        return self.labels if self.targets is None else self.targets.truth

    @property
    def amounts(self) -> dict[str, int] | None:
        """Class name → number of objects or pixels; None where only images are counted."""
        found = None if self.targets is None else self.targets.amounts
        return None if found is None else dict(found)

    def identity(self, row: int) -> Any:
        """Return the label of an image as JSON data, equal for equal labels."""
        return int(self.labels[row]) if self.targets is None else self.targets.identity(row)

    @property
    def notes(self) -> tuple[str, ...]:
        """Texts of the findings."""
        return tuple(finding.text for finding in self.findings)

    def part(self, rows: Sequence[int] | NDArray[np.int64]) -> "ImageSet":
        """Return the images of the given rows, in the given order."""
        chosen = np.asarray(rows, dtype=np.int64)
        return replace(
            self,
            labels=self.labels[chosen],
            read=Chosen(self.read, chosen),
            name=Chosen(self.name, chosen),
            stamp=Chosen(self.stamp, chosen),
            key=None if self.key is None else Chosen(self.key, chosen),
            groups=None if self.groups is None else self.groups[chosen],
            factors=tuple(one._replace(numbers=one.numbers[chosen]) for one in self.factors),
            near=None if self.near is None else self.near[chosen],
            digests=tuple(self.digests[row] for row in chosen) if self.digests else (),
            targets=None if self.targets is None else self.targets.part(chosen),
        )

    @cached_property
    def stamps(self) -> tuple[str | None, ...]:
        """Stamp of every image, taken once: before any of them is read.

        It names the decoders and their limit, too: what an image is called, remembered by its
        stamp, depends on them.
        """
        deep = "" if self.depth == 16 else f"{self.depth} bits|"
        reading = f"{self.max_pixels}|{deep}{text_of(DECODING)}"
        found = (self.stamp(row) for row in range(len(self)))
        return tuple(None if stamp is None else f"{stamp}|{reading}" for stamp in found)

    @cached_property
    def class_counts(self) -> dict[str, int]:
        """Class name → number of images that show it; range of a number → images in it."""
        if self.targets is not None:
            shown = self.targets.membership.sum(axis=0).tolist()
            return dict(zip(self.targets.names, shown, strict=True))
        counts = np.bincount(self.labels, minlength=len(self.classes))
        return dict(zip(self.classes, counts.tolist(), strict=True))


class Loaded(NamedTuple):
    """A data set as loaded by its source: the images, and test images if it is split."""

    images: ImageSet
    test: ImageSet | None = None


def file_stamp(path: str | os.PathLike[str]) -> str | None:
    """Return path, size, times of content and inode, and inode of a file; None if there is none.

    The time of the inode (ctime) cannot be set by a program that restores the time of the content,
    as archives and ``rsync`` do.
    """
    try:
        status = os.stat(path)
    except OSError:
        return None
    place = os.path.abspath(path)
    return f"{place}|{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}|{status.st_ino}"


def one_line(name: str) -> str:
    r"""Escape a name from data so that it cannot break a line or send terminal control codes.

    Examples
    --------
    >>> one_line("cat\n::error::\x1b[31m")
    'cat\\n::error::\\x1b[31m'
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in name
    )


@dataclass(frozen=True, eq=False)
class SafeName:
    """Names of images, escaped by :func:`one_line` for messages."""

    name: Callable[[int], str]

    def __call__(self, index: int) -> str:
        """Return the name of an image."""
        return one_line(self.name(index))


def few(names: Sequence[str], most: int = 3) -> str:
    """Join the first names of a list, and count the others.

    Examples
    --------
    >>> few(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def settled(images: ImageSet) -> ImageSet:
    """Return the images with the strata of their targets, once all of them are known.

    Raises
    ------
    DatasetError
        There is nothing to learn from the targets.
    """
    if images.targets is None:
        return images
    targets = images.targets.settled(images.source)
    classes, labels = targets.strata
    return replace(images, targets=targets, classes=classes, labels=labels)


def aligned(test: ImageSet, pool: ImageSet) -> ImageSet:
    """Express the labels of test images in the classes of the pool.

    Raises
    ------
    DatasetError
        The test images have a class that the pool lacks, or lack one that it has; or their labels
        are of another task.
    """
    if test.task != pool.task:
        raise DatasetError(
            f"{test.source}: labels are for {test.task}, those of {pool.source} for {pool.task}."
        )
    if test.targets is not None:
        assert pool.targets is not None
        targets = test.targets.aligned(pool.targets, test.source)
        labels = targets.strata[1]
        return replace(test, classes=pool.classes, labels=labels, targets=targets)
    classes = pool.classes
    unknown = sorted(set(test.classes) - set(classes))
    if unknown:
        raise DatasetError(
            f"{test.source}: class {', '.join(map(repr, unknown))} is not among the classes that "
            f"can be trained on ({', '.join(classes)})."
        )
    missing = [name for name in classes if not test.class_counts.get(name)]
    if missing:
        raise DatasetError(
            f"{test.source}: no test image of class {', '.join(map(repr, missing))}; every class "
            "needs some to have a score."
        )
    index = np.array([classes.index(name) for name in test.classes], dtype=np.int64)
    return replace(test, classes=classes, labels=index[test.labels])
