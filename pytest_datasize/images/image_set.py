"""Define ImageSet, the common form of labelled images from every source."""

import os
from collections.abc import Callable, Mapping, Sequence, Set
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
    """What may differ between images beside their label, such as the site of a photograph.

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


def labelled(values: Any, source: str) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Convert labels of any kind (strings, integers with gaps) to class names and indices.

    Raises
    ------
    DatasetError
        Labels are not one-dimensional, are missing (None, NaN) or are continuous numbers.
    """
    _refuse_objects(values, source)
    array = np.asarray(values)
    if array.ndim != 1 or isinstance(values, (str, bytes, Mapping, Set)):
        raise DatasetError(
            f"{source}: labels have shape {array.shape}; expected one label per image, shape (N,). "
            "One-hot labels: pass labels.argmax(axis=1). Several labels per image as 0 and 1: "
            "task='multilabel'; several numbers: task='regression'."
        )
    if array.dtype.kind in _NO_CLASSES:
        raise DatasetError(f"{source}: labels are {_NO_CLASSES[array.dtype.kind]}.")
    lacking = _missing_rows(values, array)
    if lacking:
        shown = str(array[lacking[0]]) if array.dtype.kind in "OSU" else "NaN or masked"
        raise DatasetError(
            f"{source}: {len(lacking)} labels are missing, first that of image {lacking[0]} "
            f"({shown!r}). Label these images, or leave them out; if this is the name of a class, "
            "give it another."
        )
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise DatasetError(f"{source}: some labels are infinite.")
        if (array != np.round(array)).any():
            raise DatasetError(
                f"{source}: labels are continuous numbers; expected classes. "
                "To predict the numbers, set task='regression'."
            )
        array = array.astype(np.int64)
    if array.dtype.kind == "i" and array.size and array.min() == -1 and len(np.unique(array)) > 2:
        raise DatasetError(
            f"{source}: {int((array == -1).sum())} labels are -1, which usually means that there "
            "is none. Label these images, or leave them out; if it is a class, give the classes "
            "names."
        )
    if array.dtype.kind in "OSU":
        array = array.astype(str)
    names, labels = np.unique(array, return_inverse=True)
    return tuple(str(name) for name in names), labels.astype(np.int64)


_NO_CLASSES = {
    "m": "times; expected classes",
    "M": "dates or times; expected classes",
    "c": "complex numbers; expected classes",
    "V": "records or raw bytes; expected classes, such as one column of them",
}
"""Kind of array → what its values are."""

MISSING = ("", "nan", "NaN", "-nan", "<NA>", "NaT", "NA", "N/A", "n/a", "#N/A", "null", "NULL")
"""Texts that mean "no label", as libraries for tables and spreadsheets write them.

``None`` and ``none`` are not among them: data sets of defects have a class of that name.
"""


def is_missing(value: Any) -> bool:
    """Whether a label is missing: None, NaN, pandas' NA or NaT, or one of :data:`MISSING`.

    Examples
    --------
    >>> is_missing(float("nan")), is_missing(" N/A "), is_missing("cat"), is_missing(0)
    (True, True, False, False)
    """
    if value is None or type(value).__name__ in ("NAType", "NaTType", "MaskedConstant"):
        return True
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        return value.strip() in MISSING
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))


def _missing_rows(values: Any, array: NDArray[Any]) -> list[int]:
    mask = getattr(values, "mask", None)  # of numpy's masked arrays
    if isinstance(mask, np.ndarray) and mask.shape == array.shape and mask.dtype == np.bool_:
        return np.flatnonzero(mask).tolist()
    if array.dtype.kind == "f":
        return np.flatnonzero(np.isnan(array)).tolist()
    if array.dtype.kind not in "OSU":
        return []
    return [row for row, value in enumerate(array) if is_missing(value)]


def _refuse_objects(values: Any, source: str) -> None:
    """Refuse labels that are neither texts nor numbers, such as dicts, lists and boxes."""
    if isinstance(values, np.ndarray) and values.dtype.kind != "O":
        return
    kinds: dict[bool, str] = {}  # whether a text → the first such label
    for row, value in enumerate(values):
        if is_missing(value):
            continue
        if isinstance(value, (str, bytes, int, float, np.generic)):
            kinds.setdefault(isinstance(value, (str, bytes)), f"image {row} has {value!r}")
            if len(kinds) > 1:
                raise DatasetError(
                    f"{source}: labels are texts and numbers: {', '.join(kinds.values())}. Is 1 "
                    "the class '1'? Give all of them as texts, or all as numbers."
                )
            continue
        shape = tuple(getattr(value, "shape", ()))
        if hasattr(value, "shape") and not shape:
            continue
        what = f"of shape {shape}" if shape else f"a {type(value).__name__}"
        hint = (
            " One-hot labels: use their argmax; several labels per image: task='multilabel'; a "
            "mask (H, W) per image: task='segmentation'."
            if shape or isinstance(value, (list, tuple, set))
            else " Objects, as {'boxes': (n, 4), 'labels': (n,)}, are for task='detection'."
        )
        raise DatasetError(
            f"{source}: the label of image {row} is {what}; expected one class per image, a text "
            f"or a whole number.{hint}"
        )


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
            "needs some, or its score cannot be told."
        )
    index = np.array([classes.index(name) for name in test.classes], dtype=np.int64)
    return replace(test, classes=classes, labels=index[test.labels])
