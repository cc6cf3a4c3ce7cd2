"""Source: a folder with one sub-folder per class, or with such folders under train/ and test/."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.image_set import ImageSet, Loaded, file_stamp

_TRAIN = ("train", "training")
_VALIDATION = ("val", "valid", "validation")
_TEST = ("test", "testing")


def accepts(value: Any) -> bool:
    """Whether this source can read ``value``."""
    return isinstance(value, (str, os.PathLike))


def load(value: str) -> Loaded:
    """Read the layout of a folder; no image is opened.

    A folder that holds ``train/`` is already split: its ``test/`` (or, without one, its
    ``val/``) becomes the test set, and a ``val/`` beside a ``test/`` joins the pool.

    Raises
    ------
    DatasetError
        The folder is missing, empty, not in class-per-subfolder layout, or not pulled.
    """
    root = Path(value)
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise DatasetError(f"dataset {root} {what}. Expected a folder with one folder per class.")
    parts = {path.name.lower(): path for path in _folders(root)}
    train = _named(parts, _TRAIN)
    if train is None:
        return Loaded(_read([root], f"folder {root}"))
    validation, test = _named(parts, _VALIDATION), _named(parts, _TEST)
    held_out = test or validation
    strangers = set(parts) - {*_TRAIN, *_VALIDATION, *_TEST}
    if held_out is None or strangers:
        raise DatasetError(
            f"dataset {root}: found {', '.join(sorted(parts))}. A folder that holds `train` is "
            "taken as already split and may hold only train, val and test, at least two of them. "
            "Name the folder you mean, such as dataset='.../train'."
        )
    roots = [train, validation] if test and validation else [train]
    notes = (f"already split: tested on {held_out.name}/, trained on {_listed(roots)}",)
    return Loaded(
        _read(roots, f"folder {root}", notes),
        _read([held_out], f"folder {held_out}"),
    )


def _read(roots: list[Path], source: str, notes: tuple[str, ...] = ()) -> ImageSet:
    classes = sorted({folder.name for root in roots for folder in _folders(root)})
    if not classes:
        raise DatasetError(_why_no_classes(roots[0]))
    paths: list[Path] = []
    labels: list[int] = []
    others = 0
    for label, name in enumerate(classes):
        before = len(paths)
        for root in roots:
            images, rest = _files(root / name)
            paths += images
            others += rest
        if len(paths) == before:
            raise DatasetError(_why_empty(roots[0] / name))
        labels += [label] * (len(paths) - before)
    if others:
        notes = (*notes, f"{others} files that are not images were left out")
    return ImageSet(
        source=source,
        classes=tuple(classes),
        labels=np.array(labels, dtype=np.int64),
        read=lambda index: _content(paths[index]),
        name=lambda index: str(paths[index]),
        notes=notes,
        stamp=lambda index: file_stamp(paths[index]),
    )


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise DatasetError(
            f"{path}: cannot be read: {problem.strerror}. Is it a link to data that were not "
            "fetched, or did the folder change during the run?"
        ) from None


def _folders(root: Path) -> list[Path]:
    visible = [path for path in sorted(root.iterdir()) if not path.name.startswith((".", "__"))]
    for path in visible:
        if path.is_symlink() and not path.exists():
            raise DatasetError(
                f"dataset {root}: {path.name} is a link to {os.readlink(path)}, which is not "
                "there. Fetch the data (`dvc pull`, `git annex get`) or remove the link."
            )
    return [path for path in visible if path.is_dir()]


def _files(folder: Path) -> tuple[list[Path], int]:
    """Image files under a class folder in a fixed order, and the number of all others."""
    suffixes = Image.registered_extensions()
    images: list[Path] = []
    others = 0
    if not folder.is_dir():
        return images, others
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.startswith(".") or Path(name).suffix.lower() not in suffixes:
                others += 1
            else:
                images.append(Path(parent, name))
    return images, others


def _why_no_classes(root: Path) -> str:
    if any(root.glob("*.dvc")):
        return f"dataset {root} holds *.dvc files but no images; run `dvc pull`."
    images, _ = _files(root)
    if images:
        return (
            f"dataset {root}: {len(images)} images lie directly in it; expected one folder per "
            "class, such as data/train/cat/1.jpg."
        )
    return f"dataset {root} is empty; expected one folder per class."


def _why_empty(folder: Path) -> str:
    if any(folder.glob("*.dvc")) or folder.with_suffix(".dvc").exists():
        return f"class folder {folder} holds no image; run `dvc pull`."
    return f"class folder {folder} holds no image; add images or remove the folder."


def _named(parts: dict[str, Path], names: tuple[str, ...]) -> Path | None:
    return next((parts[name] for name in names if name in parts), None)


def _listed(paths: list[Path]) -> str:
    return " and ".join(f"{path.name}/" for path in paths)
