"""Augmented views of training images: random variants of the same image.

A view is made before the backbone's own preprocessing: crop, mirror, light and a small
turn, drawn from a seed of the image's content and the number of the view. So the same image has
the same views in every run, and what a backbone makes of them can be kept like any embedding. Test
images are never augmented: they have their plain view alone.
"""

import hashlib
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pytest_datasize.embedding.backbone import Backbone
from pytest_datasize.errors import RequirementError

VIEWS = 4
"""Number of augmented views computed and stored for every image."""

LEAST_CROP = 0.9  # of the area; flowers study: "random crop of at least 90 %"
LIGHT = 0.2  # brightness is multiplied by 1 ± this; flowers study: brightness delta 0.2
CONTRAST = 0.1  # contrast is multiplied by 1 ± this; Keras recipe: contrast ±0.1
TURN = 10.0  # degrees to either side; Keras recipe: ±36, which is more than a small turn
ZOOM = 0.1  # in by up to this; Keras recipe: zoom in up to 0.1

_GLOBAL_STATE = threading.Lock()  # torch's generator is one for all threads


def standard(picture: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Return a random crop of at least 90 %, mirrored or not, turned, zoomed and relit a little.

    Parameters
    ----------
    picture
        8-bit RGB image.
    generator
        Random generator for all choices.

    Examples
    --------
    >>> picture = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    >>> standard(picture, np.random.default_rng(0)).size
    (4, 4)
    """
    from torchvision.transforms import v2  # slow to import, and needed for views only
    from torchvision.transforms.v2 import functional as pictures

    width, height = picture.size
    angle = float(generator.uniform(-TURN, TURN))
    scale = float(generator.uniform(1.0, 1.0 + ZOOM))
    found: Any = pictures.affine(
        picture,
        angle=angle,
        translate=[0, 0],
        scale=scale,
        shear=[0.0, 0.0],
        interpolation=v2.InterpolationMode.BILINEAR,
        fill=[round(float(value)) for value in np.asarray(picture).mean(axis=(0, 1))],
    )
    side = float(generator.uniform(LEAST_CROP, 1.0)) ** 0.5
    kept_width, kept_height = max(1, round(side * width)), max(1, round(side * height))
    left = int(generator.integers(width - kept_width + 1))
    top = int(generator.integers(height - kept_height + 1))
    found = pictures.resized_crop(
        found, top, left, kept_height, kept_width, [height, width], antialias=True
    )
    if generator.random() < 0.5:
        found = pictures.horizontal_flip(found)
    found = pictures.adjust_brightness(found, float(generator.uniform(1 - LIGHT, 1 + LIGHT)))
    found = pictures.adjust_contrast(found, float(generator.uniform(1 - CONTRAST, 1 + CONTRAST)))
    picture = found
    return picture


def views(backbone: Backbone, augment: Any) -> tuple[Backbone, ...]:
    """Return the backbone with its plain preprocessing, and with that of each augmented view.

    Parameters
    ----------
    backbone
        What the images are for.
    augment
        False for the plain view alone; True for :func:`standard`; or any transform of a PIL
        image, such as a ``torchvision.transforms.v2.Compose``.
    """
    if augment is False or augment is None:
        return (backbone,)
    return (
        backbone,
        *(
            replace(
                backbone,
                crop=_view(backbone.crop, augment, number),
                key=f"{backbone.key}|view {number} of {named(augment)}",
            )
            for number in range(1, VIEWS + 1)
        ),
    )


def named(augment: Any) -> str:
    """Return a name of an augmentation with its visible parameters."""
    if augment is True:
        return f"standard {LEAST_CROP} {LIGHT} {CONTRAST} {TURN} {ZOOM}"
    # an object with the same text can behave differently
    return f"{' '.join(repr(augment).split())} {id(augment)}"


def _view(
    crop: Callable[[Image.Image], Tensor], augment: Any, number: int
) -> Callable[[Image.Image], Tensor]:
    def view(picture: Image.Image) -> Tensor:
        content = hashlib.blake2b(picture.tobytes(), digest_size=7).digest()
        seed = [int.from_bytes(content, "big"), number]
        if augment is True:
            return crop(standard(picture, np.random.default_rng(seed)))
        return crop(_transformed(augment, picture, seed))

    return view


def _transformed(augment: Any, picture: Image.Image, seed: list[int]) -> Image.Image:
    """Apply a user's transform, which draws from torch's generator; restore its state."""
    state = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
    with _GLOBAL_STATE, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(state)  # torch.manual_seed would seed every GPU
        try:
            found = augment(picture)
        except Exception as problem:
            raise RequirementError(
                f"augment={named(augment)} raised {type(problem).__name__}: {problem}. Expected a "
                "transform of a PIL image, such as torchvision.transforms.v2.RandomRotation(10)."
            ) from problem
    if isinstance(found, Tensor):
        if found.ndim != 3 or found.dtype != torch.uint8:
            raise RequirementError(
                f"augment={named(augment)} returned a tensor of {found.dtype} and shape "
                f"{tuple(found.shape)}; expected an image: leave ToDtype and Normalize out, the "
                "backbone brings its own."
            )
        from torchvision.transforms.v2 import functional as pictures

        found = pictures.to_pil_image(found)
    if not isinstance(found, Image.Image):
        raise RequirementError(
            f"augment={named(augment)} returned {type(found).__name__}; expected a PIL image."
        )
    return found if found.mode == "RGB" else found.convert("RGB")
