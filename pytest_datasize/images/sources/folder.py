"""Source: a folder with one sub-folder per class, or with such folders under train/ and test/."""

import difflib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.image_set import (
    Finding,
    ImageSet,
    Loaded,
    Reading,
    few,
    one_line,
)
from pytest_datasize.images.sources import masks
from pytest_datasize.images.sources.companions import companions
from pytest_datasize.images.sources.files import (
    Boundary,
    Files,
    Found,
    folders,
    hidden,
    hidden_finding,
    holds_an_image,
    is_service,
    others_finding,
)
from pytest_datasize.images.sources.parts import NAMES, TEST, TRAIN, VALIDATION, kind
from pytest_datasize.images.sources.suffixes import SUFFIXES

MOST_OWN = 0.1
"""Share of a folder's images that may lie directly in it if it is a part and no class."""


def accepts(value: Any) -> bool:
    """Whether a path is a folder with at least two folders of images that are not parts."""
    if not isinstance(value, Path) or not value.is_dir() or masks.accepts(value):
        return False
    inner = {path.name.lower(): path for path in value.iterdir() if path.is_dir()}
    if train := _named(inner, TRAIN):
        inner = {path.name: path for path in train.iterdir() if path.is_dir()}
    of_images = (
        name
        for name, path in inner.items()
        if not is_service(name) and kind(name) is None and holds_an_image(path)
    )
    return next(of_images, None) is not None and next(of_images, None) is not None


def _hint(missing: Path) -> str:
    """Say why a path may not exist: a variable, an address, a name that is nearly right."""
    text = str(missing)
    if "$" in text or "%" in text:
        return " Variables in a path are not expanded; use os.path.expandvars in conftest.py."
    if ":/" in text:
        return " This looks like an address; the images must be on this machine."
    above = missing.parent
    names = [path.name for path in above.iterdir()] if above.is_dir() else []
    near = difflib.get_close_matches(missing.name, names, 1)
    return f" Did you mean {one_line(str(above / near[0]))}?" if near else ""


def load(value: Path, reading: Reading) -> Loaded:
    """Read the layout of a folder; no image is opened.

    A folder that holds ``train/`` is already split: its ``test/`` (or, without one, its
    ``val/``) becomes the test set, and a ``val/`` beside a ``test/`` joins the pool.

    Raises
    ------
    DatasetError
        The folder is missing, empty, not in class-per-subfolder layout, or not pulled; or a link
        leads out of it.
    """
    root = Path(value)
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise DatasetError(
            f"dataset {one_line(str(root))} {what}. Expected a folder with one folder per class."
            f"{_hint(root)}"
        )
    boundary = Boundary(root, reading.allow_outside)
    parts = {path.name.lower(): path for path in folders(root, boundary)}
    train = _named(parts, TRAIN)
    if train is None:
        return Loaded(read_classes([root], f"folder {root}", boundary))
    validation, test = _named(parts, VALIDATION), _named(parts, TEST)
    held_out = test or validation
    strangers = set(parts) - set(NAMES)
    if held_out is None or strangers:
        if not any(path.suffix.lower() in SUFFIXES for path in train.iterdir()):
            raise DatasetError(
                f"dataset {root}: found {', '.join(map(one_line, sorted(parts)))}. A folder that "
                "holds `train` is taken as already split and may hold only train, val and test, "
                "at least two of them. Name the folder you mean, such as dataset='.../train'."
            )
        text = (
            f"dataset {root}: found {', '.join(map(one_line, sorted(parts)))}. A folder that holds "
            "`train` is taken as already split and may hold only train, val and test, at least two "
            "of them. Name the folder you mean, such as dataset='.../train'; or, if `train` is a "
            "class, set checks={'split_names': 'note'}"
        )
        asked = (Finding("split_names", text, 1, (train.name,)),)
        return Loaded(read_classes([root], f"folder {root}", boundary, asked))
    roots = [train, validation] if test and validation else [train]
    told = f"already split: tested on {held_out.name}/, trained on {_listed(roots)}"
    pool = read_classes(roots, f"folder {root}", boundary, (Finding("layout", told),))
    return Loaded(pool, read_classes([held_out], f"folder {held_out}", boundary))


def read_classes(
    roots: list[Path], source: str, boundary: Boundary, findings: tuple[Finding, ...] = ()
) -> ImageSet:
    """Read the class folders of one or several roots into one set."""
    classes = sorted({folder.name for root in roots for folder in folders(root, boundary)})
    if not classes:
        raise DatasetError(_why_no_classes(roots[0], boundary))
    paths: list[Path] = []
    labels: list[int] = []
    others: Counter[str] = Counter()
    skipped: list[Path] = []
    full: list[str] = []
    empty: list[Path] = []
    for name in classes:
        found = [Found(root / name, boundary) for root in roots]
        images = [path for part in found for path in part.images]
        for part in found:
            others += part.others
            skipped += part.skipped
        if images:
            labels += [len(full)] * len(images)
            full.append(name)
            paths += images
        else:
            empty.append(roots[0] / name)
    if not full:
        raise DatasetError(_why_empty(empty[0]))
    hidden_names = [root / name for root in roots for name in hidden(root)]
    findings += (*others_finding(others), *hidden_finding([*hidden_names, *skipped]))
    findings += tuple(companions(paths, [full[label] for label in labels]))
    if len(roots) == 1:
        findings += tuple(_parts_as_classes(roots[0], paths))
    findings += tuple(_hidden_images(roots))
    if empty:
        shown = few([one_line(path.name) for path in empty])
        text = f"{_why_empty(empty[0])} (folders without images: {shown})"
        findings += (
            Finding("empty_class", text, len(empty), tuple(one_line(str(p)) for p in empty)),
        )
    base = roots[0] if len(roots) == 1 else roots[0].parent
    files = Files(paths, base=base)
    return ImageSet(
        source=source,
        classes=tuple(full),
        labels=np.array(labels, dtype=np.int64),
        read=files.read,
        name=files.name,
        findings=findings,
        stamp=files.stamp,
        key=files.key,
    )


def _parts_as_classes(root: Path, paths: Sequence[Path]) -> Iterator[Finding]:
    """Report folders that may not be classes: they share their sub-folders, or hold one per class.

    Raises
    ------
    DatasetError
        The only folder holds folders with images: the data set lies deeper.
    """
    inside: dict[str, Counter[str]] = {}  # class folder → sub-folder, "" for itself → images
    start = len(os.path.join(root, ""))
    for path in paths:
        name, *inner = str(path)[start:].split(os.sep)[:-1]
        inside.setdefault(name, Counter())[inner[0].casefold() if inner else ""] += 1
    if len(inside) == 1:
        _refuse_deeper(root, paths)
        return
    names = {name: set(counts) - {""} for name, counts in inside.items()}
    of_parts = {
        name: found
        for name, found in names.items()
        if found and MOST_OWN * inside[name].total() >= inside[name][""]
    }
    times = Counter(name for found in of_parts.values() for name in found)
    alike = [
        name
        for name, found in of_parts.items()
        if 2 * sum(times[inner] > 1 for inner in found) >= len(found)
    ]
    if len(times) > 1 and len(alike) > 1 and 2 * len(alike) >= len(inside):
        shared = sorted(one_line(name) for name, count in times.items() if count > 1)
        parts = few(sorted(map(one_line, alike)))
        text = (
            f"the folders {parts} in {root} hold no images themselves, but share the folders "
            f"{few(shared)}. If these are the classes ({few(shared)}), name one part with dataset= "
            "and another with test_dataset=, or rename the parts to train and test; if the classes "
            f"are {parts}, set checks={{'parts_as_classes': 'note'}}"
        )
        yield Finding("parts_as_classes", text, len(alike), tuple(sorted(map(one_line, alike))))
        return
    plain = {name.casefold() for name in inside}
    copies = {name: found for name, found in of_parts.items() if found <= plain}
    for name, found in copies.items():
        text = (
            f"the folder {one_line(name)} in {root} holds folders named like the classes beside it "
            f"({few(sorted(map(one_line, found)))}). If these are masks, labels or copies, move it "
            f"out of the data set; if {one_line(name)} is a class, set "
            "checks={'parts_as_classes': 'note'}"
        )
        yield Finding("parts_as_classes", text, 1, (one_line(name),))
    called = [name for name in inside if kind(name)]
    if called:
        text = f"taken as classes, not as parts of a split: {few(sorted(map(one_line, called)))}"
        yield Finding("layout", text, len(called))


def _refuse_deeper(root: Path, paths: Sequence[Path]) -> None:
    common = Path(os.path.commonpath([path.parent for path in paths]))
    inner = sorted({path.relative_to(common).parts[0] for path in paths if path.parent != common})
    if common != root and len(inner) > 1:
        raise DatasetError(
            f"dataset {root}: its only folder {one_line(common.relative_to(root).parts[0])!r} "
            f"holds the folders {few(list(map(one_line, inner)))}. Did you mean dataset="
            f"'{one_line(str(common))}'?"
        )


def _hidden_images(roots: list[Path]) -> Iterator[Finding]:
    """Report folders such as ``__background__``, which are left out although they hold images."""
    names = [
        one_line(str(root / name))
        for root in roots
        for name in hidden(root)
        if name.startswith("__") and name != "__MACOSX" and holds_an_image(root / name)
    ]
    if names:
        text = (
            f"{few(names)}: left out, since the name begins with two underscores, but holding "
            "images. Rename the folder if it is a class; if not, set "
            "checks={'hidden_images': 'note'}"
        )
        yield Finding("hidden_images", text, len(names), tuple(names))


def _why_no_classes(root: Path, boundary: Boundary) -> str:
    if any(root.glob("*.dvc")):
        return f"dataset {root} holds *.dvc files but no images; run `dvc pull`."
    images = Found(root, boundary).images
    if images:
        return (
            f"dataset {root}: {len(images)} images lie directly in it; expected one folder per "
            "class, such as data/train/cat/1.jpg."
        )
    return f"dataset {root} is empty; expected one folder per class."


def _why_empty(folder: Path) -> str:
    shown = one_line(str(folder))
    if any(folder.glob("*.dvc")) or folder.with_name(f"{folder.name}.dvc").exists():
        return f"class folder {shown} holds no image; run `dvc pull`."
    return f"class folder {shown} holds no image; add images or remove the folder."


def _named(parts: dict[str, Path], names: tuple[str, ...]) -> Path | None:
    return next((parts[name] for name in names if name in parts), None)


def _listed(paths: list[Path]) -> str:
    return " and ".join(f"{path.name}/" for path in paths)
