"""Labelled images: where they come from, how they are decoded, what they are called.

A source is a module with ``accepts(value)`` and ``load(value)``; adding one is one file and one
line in :data:`SOURCES`.
"""

from importlib import import_module
from typing import Any

import numpy as np

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.image_set import ImageSet, Loaded, aligned

__all__ = ["SOURCES", "ImageSet", "Loaded", "load"]

SOURCES: dict[str, str] = {
    "folder": "pytest_datasize.images.folder",
    "arrays": "pytest_datasize.images.arrays",
    "torch": "pytest_datasize.images.torch_dataset",
}
"""Source name → module; the first that accepts a value reads it."""


def load(dataset: Any, test_dataset: Any = None) -> Loaded:
    """Find the images, and the test images where they are given apart.

    Parameters
    ----------
    dataset
        Anything that one of :data:`SOURCES` accepts.
    test_dataset
        The same for held-out images; it takes the place of a data set's own test part.

    Raises
    ------
    DatasetError
        No source accepts the value, the classes do not fit, or there are fewer than two.
    """
    loaded = _load(dataset)
    images = loaded.images
    test = _load(test_dataset).images if test_dataset is not None else loaded.test
    if len(images.classes) < 2:
        raise DatasetError(
            f"{images.source}: only one class ({images.classes[0]!r}); a score needs at least two."
        )
    return Loaded(images, None if test is None else aligned(test, images.classes))


def load_one(dataset: Any) -> Loaded:
    """Find the images of one data set, however many classes it has.

    Raises
    ------
    DatasetError
        No source accepts the value, or there are no images.
    """
    return _load(dataset)


def _load(dataset: Any) -> Loaded:
    for module in SOURCES.values():
        source = import_module(module)
        if source.accepts(dataset):
            loaded: Loaded = source.load(dataset)
            if not np.size(loaded.images.labels):
                raise DatasetError(f"{loaded.images.source}: there are no images.")
            return loaded
    raise DatasetError(
        f"a data set of type {type(dataset).__name__} is not understood. Expected a folder, a pair "
        "(images, labels) of arrays, or a map-style torch Dataset that yields (image, label)."
    )
