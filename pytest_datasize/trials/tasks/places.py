"""Count the pixels of masks on a grid, and choose the places of it that heads are trained on."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.decode import size_of
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.images.targets.mask_readers import VOID, Mask
from pytest_datasize.images.targets.masks import Masks
from pytest_datasize.images.undecodable import UndecodableError

PLACES: Final = 12
"""Places of an image that a head is trained on; 16 scored no more, 8 up to 3 points less with few
images."""


def areas_of(images: ImageSet, side: int) -> NDArray[Any]:
    """Count the pixels of all masks on a grid, (N, side, side, C).

    Raises
    ------
    DatasetError
        A mask has another size than its image.
    """
    masks = images.targets
    assert isinstance(masks, Masks)
    found = []
    for row in range(len(images)):
        try:
            mask = masks.target(row, size_of(images.read(row)))
        except UndecodableError as problem:
            raise DatasetError(f"{images.name(row)}: {problem}") from None
        found.append(areas_on_grid(mask, side, len(masks.names)))
    return np.stack(found)


def areas_on_grid(mask: Mask, side: int, n_classes: int) -> NDArray[np.int64]:
    """Count the pixels of each class in each place of a grid over the mask, (side, side, C).

    Examples
    --------
    >>> areas_on_grid(np.array([[0, 1], [1, 1]]), 1, 2).tolist()
    [[[1, 3]]]
    """
    height, width = mask.shape
    down, across = (np.arange(n) * side // n for n in (height, width))
    place = (down[:, None] * side + across) * n_classes + mask
    counts = np.bincount(place[mask != VOID], minlength=side * side * n_classes)
    found = counts.reshape(side, side, n_classes)
    return found.astype(np.uint16 if found.max(initial=0) < 1 << 16 else np.uint32)


def choose_places(
    image_sets: Sequence[ImageSet], seed: int, areas: NDArray[Any], side: int, finer: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose places of each image, (N, PLACES), and the class of each: the one with most pixels.

    Equally many of each class that an image shows; of a class that has most pixels nowhere, the
    place that has most of it.
    """
    rows, n_classes = len(areas), areas.shape[3]
    coarse = areas.astype(np.int64).reshape(rows, side, finer, side, finer, n_classes).sum((2, 4))
    flat = coarse.reshape(rows, side * side, n_classes)
    digests = [digest for images in image_sets for digest in _digests(images)]
    places = np.empty((rows, PLACES), dtype=np.int64)
    labels = np.empty((rows, PLACES), dtype=np.int64)
    for row, counts in enumerate(flat):
        generator = np.random.default_rng([digests[row], seed])
        most = np.where(counts.any(axis=1), counts.argmax(axis=1), VOID)
        shown = np.flatnonzero(counts.any(axis=0))
        chosen: list[tuple[int, int]] = []
        for number, label in enumerate(shown.tolist()):
            quota = (PLACES * (number + 1)) // len(shown) - len(chosen)
            of_class = np.flatnonzero(most == label)
            if not len(of_class):
                of_class = counts[:, label].argmax()[None]
            picked = generator.choice(of_class, quota, replace=len(of_class) < quota)
            chosen += [(int(place), label) for place in picked]
        if not chosen:  # nothing is judged in this image: it is not trained on
            chosen = [(0, VOID)] * PLACES
        order = generator.permutation(PLACES)
        places[row], labels[row] = np.array(chosen)[order].T
    return places, labels


def _digests(images: ImageSet) -> list[int]:
    if images.digests:
        return [int(digest[:16], 16) for digest in images.digests]
    return list(range(len(images)))
