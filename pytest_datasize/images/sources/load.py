"""Load labelled images: select the source, read the data set, and match classes.

A source is a module with ``accepts(value)`` and ``load(value, reading)``; adding one is one file
and one line in :data:`SOURCES`. A string is a path; ``NAME:PATH`` selects the source.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.bit_depth import with_depth
from pytest_datasize.images.factors import sliced
from pytest_datasize.images.findings import refuse
from pytest_datasize.images.groups import grouped, without_shared_groups
from pytest_datasize.images.image_set import (
    ImageSet,
    Loaded,
    Reading,
    SafeName,
    aligned,
    one_line,
    settled,
)
from pytest_datasize.requirement.tasks import AUTO, TASKS

__all__ = ["SOURCES", "ImageSet", "Loaded", "Reading", "load"]

SOURCES: dict[str, str] = {
    "folder": "pytest_datasize.images.sources.folder",
    "manifest": "pytest_datasize.images.sources.manifest",
    "coco": "pytest_datasize.images.sources.coco",
    "yolo": "pytest_datasize.images.sources.yolo",
    "voc": "pytest_datasize.images.sources.voc",
    "masks": "pytest_datasize.images.sources.masks",
    "webdataset": "pytest_datasize.images.sources.webdataset",
    "huggingface": "pytest_datasize.images.sources.huggingface",
    "torchvision": "pytest_datasize.images.sources.torchvision_dataset",
    "arrays": "pytest_datasize.images.sources.arrays",
    "torch": "pytest_datasize.images.sources.torch_dataset",
}
"""Source name → module. The first that accepts an object reads it; a path must fit just one."""


def load(
    dataset: Any,
    test_dataset: Any = None,
    reading: Reading | None = None,
    levels: Mapping[str, str] | None = None,
) -> Loaded:
    """Find the images, and the test images where given separately.

    Parameters
    ----------
    dataset
        Anything that one of :data:`SOURCES` accepts.
    test_dataset
        The same for held-out images; it replaces a data set's own test part.
    reading
        Groups, and what may be read.
    levels
        Check → level, where it is not the one of :data:`pytest_datasize.requirement.checks.CHECKS`.

    Raises
    ------
    DatasetError
        No source accepts the value or several do, the classes do not fit, there are fewer than
        two, or a finding has the level ``error``.
    """
    how = reading or Reading()
    loaded = _load(dataset, how)
    images = loaded.images
    test = _load(test_dataset, how).images if test_dataset is not None else loaded.test
    for part in (images, test):
        if part is not None:
            refuse(part.findings, levels or {})
    if images.targets is None and len(images.classes) < 2:
        reasons = " ".join(f.text for f in images.findings if f.check == "empty_class")
        raise DatasetError(
            f"{images.source}: only one class ({images.classes[0]!r}); a score needs at least two. "
            f"{reasons}".rstrip()
        )
    images = with_depth(sliced(grouped(settled(images), how.group), how.slices))
    if test is None:
        return Loaded(_safe(images, how))
    test = replace(test, depth=images.depth)
    if isinstance(how.group, str) or callable(how.group):
        test = grouped(test, how.group)
    test = aligned(sliced(test, how.slices, test=True), images)
    images = replace(images, findings=(*images.findings, *test.findings))
    return without_shared_groups(Loaded(_safe(images, how), _safe(replace(test, findings=()), how)))


def load_one(dataset: Any, reading: Reading | None = None) -> Loaded:
    """Find the images of one data set, however many classes it has.

    Raises
    ------
    DatasetError
        No source accepts the value, or there are no images.
    """
    how = reading or Reading()
    loaded = _load(dataset, how)
    refuse(loaded.images.findings, {})
    return Loaded(_safe(loaded.images, how))


def _safe(images: ImageSet, how: Reading) -> ImageSet:
    """Escape names of files for messages."""
    return replace(images, name=SafeName(images.name), max_pixels=how.max_pixels)


def _load(dataset: Any, how: Reading) -> Loaded:
    if isinstance(dataset, str) and "\0" in dataset:
        raise DatasetError(f"dataset {one_line(dataset)} is not a path.")
    if isinstance(dataset, str):
        kind, colon, rest = dataset.partition(":")
        named = kind in SOURCES and bool(colon)
        value: Any = rest if named and kind == "torchvision" else Path(rest if named else dataset)
        source = SOURCES[kind] if named else SOURCES[_guess(Path(dataset))]
    else:
        value = dataset
        fits = [name for name, module in SOURCES.items() if import_module(module).accepts(dataset)]
        if not fits:
            raise DatasetError(
                f"a data set of type {type(dataset).__name__} is not understood. Expected a folder "
                "or a file, a pair (images, labels) of arrays, a map-style torch Dataset that "
                "yields (image, label), or a Hugging Face Dataset."
            )
        source = SOURCES[fits[0]]
    loaded: Loaded = _with_plain_names(import_module(source).load(value, how))
    found = loaded.images.task
    if how.task not in (AUTO, found):
        raise DatasetError(
            f"{loaded.images.source}: task={how.task!r} takes {TASKS[how.task].labels}; here is "
            f"{TASKS[found].labels}."
        )
    if not np.size(loaded.images.labels):
        raise DatasetError(f"{loaded.images.source}: there are no images.")
    return loaded


def _with_plain_names(loaded: Loaded) -> Loaded:
    """Write class names in one way (NFC): the same word may be stored in two, which look alike.

    Raises
    ------
    DatasetError
        Two classes of one data set look alike.
    """
    images, test = loaded
    return Loaded(_plain(images), None if test is None else _plain(test))


def _plain(images: ImageSet) -> ImageSet:
    targets = images.targets
    if targets is None:
        return replace(images, classes=_plain_names(images.classes, "class", images.source))
    if targets.task == "regression":  # names are those of ranges
        return images
    names = _plain_names(targets.names, TASKS[targets.task].label, images.source)
    return replace(images, targets=replace(cast(Any, targets), names=names))


def _plain_names(given: tuple[str, ...], what: str, source: str) -> tuple[str, ...]:
    several = {"class": "classes", "label": "labels"}[what]
    names = tuple(unicodedata.normalize("NFC", name) for name in given)
    alike: dict[str, int] = {}
    for number, name in enumerate(names):
        other = alike.setdefault(_looks(name), number)
        if other == number:
            continue
        before, after = one_line(given[other]), one_line(given[number])
        if given[other] == given[number]:
            raise DatasetError(f"{source}: two {several} have the name {after!r}.")
        differ = "their case, spaces or zeros" if names[other] != name else "how accents are stored"
        raise DatasetError(
            f"{source}: the {several} {before!r} and {after!r} differ only in {differ}. Are they "
            f"one {what}? Give them one name, or clearly different ones."
        )
    return names


def _looks(name: str) -> str:
    """Return one text for all names that a reader takes for the same.

    Examples
    --------
    >>> _looks("Cat "), _looks("01"), _looks("1.0"), _looks("1.5"), _looks("a  b")
    ('cat', '1', '1', '1.5', 'a b')
    """
    folded = unicodedata.normalize("NFKC", name).casefold()
    shown = "".join(letter for letter in folded if unicodedata.category(letter) != "Cf")
    shown = " ".join(shown.split())
    if re.fullmatch(r"\d+(\.0*)?", shown, re.ASCII):
        return str(int(shown.partition(".")[0]))
    return shown


def _guess(path: Path) -> str:
    """Find the one layout that a path has; a folder of no layout is read for its error."""
    try:
        fits = [name for name, module in SOURCES.items() if import_module(module).accepts(path)]
    except OSError as problem:
        raise DatasetError(
            f"dataset {one_line(str(path))}: cannot be looked at: {problem.strerror}."
        ) from None
    if len(fits) > 1:
        choices = " or ".join(f"dataset='{name}:{path}'" for name in fits)
        raise DatasetError(
            f"dataset {path} can be read as {' and as '.join(fits)}. Say which is meant: {choices}."
        )
    if not fits and path.is_file():
        raise DatasetError(
            f"dataset {path}: a file of this kind is not understood. Expected .csv, .tsv, .jsonl "
            "or .parquet (a manifest), .json (COCO), .yaml (YOLO) or .tar (WebDataset)."
        )
    return fits[0] if fits else "folder"
