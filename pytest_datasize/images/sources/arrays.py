"""Source: a pair (images, labels) of arrays or tensors."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.image_set import ImageSet, Loaded, Reading, one_line
from pytest_datasize.images.steady import steady
from pytest_datasize.images.targets.read import described
from pytest_datasize.images.undecodable import UnreadableError


def accepts(value: Any) -> bool:
    """Whether this source can read ``value``."""
    return isinstance(value, (tuple, list)) and len(value) == 2 and hasattr(value[0], "shape")


def load(value: Any, reading: Reading) -> Loaded:
    """Take images of shape (N, H, W) or (N, H, W, C) and N labels; nothing is copied.

    Labels are classes (N,), sets as (N, L) of 0 and 1 or lists of labels, numbers (N,) or (N, K),
    or masks (N, H, W).

    A torch tensor may also have its channels first, (N, C, H, W).

    Raises
    ------
    DatasetError
        Shapes do not fit, or labels are not those of a task.
    """
    images, labels = value[0], detached(value[1])
    if len(images.shape) not in (3, 4):
        raise DatasetError(
            f"arrays: images have shape {tuple(images.shape)}; expected (N, H, W) or (N, H, W, C)."
        )
    source = "arrays " + " x ".join(str(side) for side in images.shape)
    if not hasattr(labels, "__len__"):
        raise DatasetError(
            f"{source}: labels are a {type(labels).__name__}; expected a list or an array."
        )
    if len(images) != len(labels):
        raise DatasetError(f"{source}: {len(images)} images but {len(labels)} labels.")
    found = described(labels, source, reading.task)
    array = _Array(images)
    read = steady(array.read, array.name, len(images))  # a lazy array may compute them each time
    return Loaded(
        ImageSet(source, **found.fields, read=read, name=array.name, findings=found.findings)
    )


@dataclass(frozen=True, eq=False)
class _Array:
    images: Any

    def read(self, index: int) -> np.ndarray[Any, Any]:
        try:
            return pixels(self.images[index])
        except Exception as problem:  # of any library that computes or loads arrays when asked
            what = f"{type(problem).__name__}: {one_line(str(problem))}"
            raise UnreadableError(f"{self.name(index)} raised {what}") from None

    def name(self, index: int) -> str:
        return f"image {index} of the array"


def detached(values: Any) -> Any:
    """Return a torch tensor in a form that numpy reads, whatever its device, and other values."""
    if not hasattr(values, "detach"):
        return values
    values = values.detach().cpu()
    return values.float() if str(values.dtype) == "torch.bfloat16" else values


def pixels(image: Any) -> np.ndarray[Any, Any]:
    """Return one image as an (H, W[, C]) array, whatever library it comes from."""
    from PIL import Image

    from pytest_datasize.images.decode import to_rgb

    if isinstance(image, Image.Image):
        return np.asarray(to_rgb(image))
    array = np.asarray(detached(image))
    first = not isinstance(image, np.ndarray) and hasattr(image, "permute")
    if first and array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] > 4:
        array = array.transpose(1, 2, 0)
    return array
