"""Source: a folder with one sub-folder per class, or with such folders under train/ and test/."""

import difflib
from collections import Counter
from collections.abc import Iterator
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
from pytest_datasize.images.sources.companions import companions
from pytest_datasize.images.sources.files import (
    Boundary,
    Files,
    Found,
    folders,
    hidden,
    hidden_finding,
    is_service,
    listed,
    others_finding,
)
from pytest_datasize.images.sources.parts import NAMES, TEST, TRAIN, VALIDATION, kind
from pytest_datasize.images.sources.suffixes import SUFFIXES


def accepts(value: Any) -> bool:
    """Whether a path is a folder with at least two folders of images that are not parts."""
    if not isinstance(value, Path) or not value.is_dir():
        return False
    inner = {path.name.lower(): path for path in value.iterdir() if path.is_dir()}
    if train := _named(inner, TRAIN):
        inner = {path.name: path for path in train.iterdir() if path.is_dir()}
    of_images = (
        name
        for name, path in inner.items()
        if not is_service(name) and kind(name) is None and _holds_an_image(path)
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
        if not any(path.suffix.lower() in SUFFIXES for path in listed(train)):
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
    full: list[str] = []
    empty: list[Path] = []
    for name in classes:
        found = [Found(root / name, boundary) for root in roots]
        images = [path for part in found for path in part.images]
        for part in found:
            others += part.others
        if images:
            labels += [len(full)] * len(images)
            full.append(name)
            paths += images
        else:
            empty.append(roots[0] / name)
    if not full:
        raise DatasetError(_why_empty(empty[0]))
    hidden_names = [name for root in roots for name in hidden(root)]
    findings += (*others_finding(others), *hidden_finding(hidden_names))
    findings += tuple(companions(paths))
    if len(roots) == 1:
        findings += tuple(_parts_as_classes(roots[0], full, boundary))
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


def _parts_as_classes(root: Path, classes: list[str], boundary: Boundary) -> Iterator[Finding]:
    """Report class folders that look like the parts of a split: they share their sub-folders.

    Raises
    ------
    DatasetError
        The only folder holds folders with images: the data set lies one level deeper.
    """
    inside: dict[str, set[str]] = {}
    for name in classes:
        if any(path.suffix.lower() in SUFFIXES for path in listed(root / name) if path.is_file()):
            return
        inside[name] = {
            path.name for path in folders(root / name, boundary) if _holds_an_image(path)
        }
    if len(classes) == 1 and len(inside[classes[0]]) > 1:
        [name] = classes
        raise DatasetError(
            f"dataset {root}: its only folder {one_line(name)!r} holds the folders "
            f"{few(sorted(map(one_line, inside[name])))}. Did you mean dataset="
            f"'{one_line(str(root / name))}'?"
        )
    shared = set.intersection(*inside.values()) if inside else set()
    most = max((len(names) for names in inside.values()), default=0)
    if len(classes) > 1 and len(shared) > 1 and 2 * len(shared) >= most:
        parts, names = few(sorted(map(one_line, classes))), few(sorted(map(one_line, shared)))
        text = (
            f"the folders {parts} in {root} hold no images themselves, but all hold {names}. If "
            f"{names} are the classes, name one part with dataset= and another with test_dataset=, "
            f"or rename the parts to train and test; if {parts} are the classes, set "
            "checks={'parts_as_classes': 'note'}"
        )
        yield Finding("parts_as_classes", text, len(classes), tuple(sorted(classes)))


def _hidden_images(roots: list[Path]) -> Iterator[Finding]:
    """Report folders such as ``__background__``, which are left out although they hold images."""
    names = [
        one_line(str(root / name))
        for root in roots
        for name in hidden(root)
        if name.startswith("__") and name != "__MACOSX" and _holds_an_image(root / name)
    ]
    if names:
        text = (
            f"{few(names)}: left out, since the name begins with two underscores, but holding "
            "images. Rename the folder if it is a class; if not, set "
            "checks={'hidden_images': 'note'}"
        )
        yield Finding("hidden_images", text, len(names), tuple(names))


def _holds_an_image(folder: Path) -> bool:
    return any(path.suffix.lower() in SUFFIXES for path in folder.rglob("*"))


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
