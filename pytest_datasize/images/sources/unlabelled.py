"""Images whose labels are unknown or do not matter: from the deployment, or waiting for a label."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.image_set import ImageSet, SafeName
from pytest_datasize.images.sources import load as sources
from pytest_datasize.images.sources.files import Boundary, Files
from pytest_datasize.images.sources.suffixes import SUFFIXES


def load_unlabelled(value: Any, what: str, allow_outside: bool = False) -> ImageSet:
    """Find images without asking for labels.

    Parameters
    ----------
    value
        A folder, with or without class folders, whose images are taken from all levels; an array
        of images (N, H, W[, C]); or anything a data set may be.
    what
        What the images are, for messages.
    allow_outside
        Whether links in a folder may lead outside it.

    Raises
    ------
    DatasetError
        There are no images.
    """
    if isinstance(value, (str, os.PathLike)):
        return _folder(Path(value), what, Boundary(Path(value), allow_outside))
    if isinstance(value, np.ndarray):
        value = (value, np.zeros(len(value), dtype=np.int64))
    found = sources.load_one(value).images
    return replace(found, classes=("",), labels=np.zeros(len(found), dtype=np.int64))


def _folder(root: Path, what: str, boundary: Boundary) -> ImageSet:
    if not root.is_dir():
        state = "is a file" if root.exists() else "does not exist"
        raise DatasetError(f"{what} {root} {state}. Expected a folder with images.")
    paths: list[Path] = []
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths += [
            boundary.check(Path(parent, name))
            for name in sorted(names)
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
        ]
    if not paths:
        raise DatasetError(
            f"{what} {root} holds no images. If they are under version control, fetch them "
            "(`dvc pull`, `git lfs pull`)."
        )
    files = Files(paths, ())
    return ImageSet(
        source=f"folder {root}",
        classes=("",),
        labels=np.zeros(len(paths), dtype=np.int64),
        read=files.read,
        name=SafeName(files.name),
        stamp=files.stamp,
    )
