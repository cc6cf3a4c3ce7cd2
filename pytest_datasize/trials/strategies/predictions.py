"""Check what a user's trainer returns for the test images of a task, and convert it to outcomes."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from pytest_datasize.errors import TrainingError
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.images.targets.mask_readers import VOID
from pytest_datasize.images.targets.masks import Masks
from pytest_datasize.requirement.tasks import CLASSIFICATION

_SUM: Final = 1e-2
"""Largest distance of a sum of probabilities from one: half precision rounds."""


def outcome_of(
    found: Any,
    where: str,
    task: str,
    rows: NDArray[np.int64],
    image_sets: Sequence[ImageSet],
    truth: NDArray[Any],
) -> NDArray[Any]:
    """Return predictions as the metrics of the task take them.

    Parameters
    ----------
    found
        What the trainer returned.
    where
        Trainer and trial, for messages.
    task
        Name of the task.
    rows
        Test images, as rows of all image sets.
    image_sets
        The pool, and the test images where given separately.
    truth
        True labels of all images.

    Raises
    ------
    TrainingError
        It has another form than the task expects.
    """
    if task == CLASSIFICATION:
        return _classes(found, where, len(rows), image_sets[0].classes)
    if task == "segmentation":
        return _areas(found, where, rows, image_sets)
    if task == "detection":
        raise TrainingError(
            f"{where}: returned {type(found).__name__}; expected scores ({{'map50': 0.6}}), or one "
            "value per test image ({'map50': [...]}), which also tells how far the luck of the "
            "test images moves the score."
        )
    array = _array(found)
    shape = (len(rows), truth.shape[1])
    if task == "regression" and array.shape == (len(rows),) and shape[1] == 1:
        array = array[:, None]
    if array.shape != shape or array.dtype.kind not in "fiub":
        what = "probabilities of each label" if task == "multilabel" else "predicted numbers"
        raise TrainingError(
            f"{where}: returned {type(found).__name__} of shape {array.shape}; expected {what}, of "
            f"shape {shape}, or scores."
        )
    values: NDArray[np.float64] = array.astype(np.float64)
    if not np.isfinite(values).all():
        raise TrainingError(f"{where}: some predictions are not finite numbers.")
    if task == "multilabel" and not ((values >= 0) & (values <= 1)).all():
        raise TrainingError(
            f"{where}: some probabilities are outside 0 to 1. Of logits, return the sigmoid."
        )
    return values


def _array(found: Any) -> NDArray[Any]:
    if isinstance(found, torch.Tensor):
        found = found.detach().cpu().numpy()
    try:
        return np.asarray(found)
    except ValueError:
        return np.asarray(None)


def _areas(
    found: Any, where: str, rows: NDArray[np.int64], image_sets: Sequence[ImageSet]
) -> NDArray[np.int64]:
    """Count the pixels of predicted masks, one (H, W) per image: true, predicted, both."""
    if not hasattr(found, "__len__") or len(found) != len(rows):
        raise TrainingError(
            f"{where}: returned {type(found).__name__}; expected a mask of class numbers, of shape "
            f"(H, W), for each of the {len(rows)} test images, or scores."
        )
    n_classes = len(image_sets[0].names)
    read = _reader(image_sets)
    areas = np.zeros((len(rows), n_classes, 3), dtype=np.int64)
    for number, row in enumerate(rows.tolist()):
        true, predicted = read(row), _array(found[number])
        if predicted.shape != true.shape or predicted.dtype.kind not in "iub":
            raise TrainingError(
                f"{where}: mask {number} has shape {predicted.shape} of {predicted.dtype}; "
                f"expected class numbers of shape {true.shape}."
            )
        judged = true != VOID
        true, own = true[judged], predicted[judged].astype(np.int64)
        if len(own) and not 0 <= own.min() <= own.max() < n_classes:
            raise TrainingError(f"{where}: mask {number} has a class outside 0 to {n_classes - 1}.")
        for place, values in enumerate((true, own, true[true == own])):
            areas[number, :, place] = np.bincount(values, minlength=n_classes)
    return areas


def _reader(image_sets: Sequence[ImageSet]) -> Callable[[int], NDArray[np.int64]]:
    masks = [images.targets for images in image_sets]
    first = masks[0]
    assert isinstance(first, Masks)
    return first.joined([one for one in masks[1:] if one is not None]).read


def _classes(found: Any, where: str, n_test: int, classes: tuple[str, ...]) -> NDArray[np.floating]:
    """Check class probabilities (n_test, C), or convert predicted labels (n_test,) to them."""
    array = _array(found)
    n_classes = len(classes)
    if array.shape == (n_test,) and array.dtype.kind in "iub":
        labels = array.astype(np.int64)
    elif array.shape == (n_test,) and array.dtype.kind in "OU" and set(array) <= set(classes):
        labels = np.array([classes.index(name) for name in array], dtype=np.int64)
    elif array.shape == (n_test, n_classes) and array.dtype.kind in "fiu":
        if not np.isfinite(array).all():
            raise TrainingError(f"{where}: some probabilities are not finite numbers.")
        probabilities: NDArray[np.floating] = array.astype(np.float64)
        sums = probabilities.sum(axis=1)
        wrong = np.flatnonzero((np.abs(sums - 1.0) > _SUM) | (probabilities < -_SUM).any(axis=1))
        if wrong.size:
            raise TrainingError(
                f"{where}: {wrong.size} of {n_test} rows are no probabilities: row {wrong[0]} sums "
                f"to {sums[wrong[0]]:.3g}. Of logits, return the softmax."
            )
        return probabilities
    else:
        raise TrainingError(
            f"{where}: returned {type(found).__name__} of shape {array.shape}; expected scores "
            f"({{'accuracy': 0.87}}), predicted labels of shape ({n_test},) or class "
            f"probabilities of shape ({n_test}, {n_classes})."
        )
    if not ((labels >= 0) & (labels < n_classes)).all():
        raise TrainingError(f"{where}: predicted a label outside 0 to {n_classes - 1}.")
    one_hot: NDArray[np.floating] = np.eye(n_classes)[labels]
    return one_hot
