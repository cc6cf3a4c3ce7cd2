"""Published recipes by name: every number has a line that says where it is from.

[K] J. Verster, "Estimating required sample size for model training", Keras examples, 2021.
[F] "Transfer learning in image classification: how much training data do we really need?", the
    study of the Oxford 102 Flowers.

Deviations of this project are listed in ``differs`` and shown in the report.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.curve.laws import fit_power2_least_squares
from pytest_datasize.errors import RequirementError
from pytest_datasize.trials.recipe import Recipe


@dataclass(frozen=True)
class Preset:
    """A published recipe.

    Attributes
    ----------
    options
        Option name → value, for every option that is not set explicitly.
    recipe
        How networks are trained.
    augmentation
        Makes the recipe's transform of a PIL image, used for ``augment=True``.
    differs
        Deviations from the publication, with reasons.
    strategies
        Configurations that the publication compares, for the fixture ``datasize_compare``.
    fits
        Whether the report shows the publication's own fit of ``a n^b`` to the mean scores.
    """

    options: Mapping[str, Any]
    recipe: Recipe
    augmentation: Callable[[], Any]
    differs: tuple[str, ...]
    strategies: tuple[str, ...] = ("fine_tuning",)
    fits: bool = False

    @property
    def notes(self) -> tuple[str, ...]:
        """Text about the recipe for the report."""
        return tuple(f"otherwise than published: {line}" for line in self.differs)


def _keras_augmentation() -> Any:
    from torchvision.transforms import v2

    return v2.Compose(
        [
            v2.RandomHorizontalFlip(),  # [K] RandomFlip("horizontal")
            v2.RandomRotation(36),  # [K] RandomRotation(0.1): a tenth of a turn to either side
            v2.RandomAffine(0, scale=(1.0, 1.1)),  # [K] RandomZoom(height_factor=(-0.1, 0)): in
            v2.ColorJitter(contrast=0.1),  # [K] RandomContrast(factor=0.1)
        ]
    )


def _flowers_augmentation() -> Any:
    from torchvision.transforms import v2

    return v2.Compose(
        [
            _CropWithin(0.9),  # [F] random crop of at least 90 %
            v2.RandomHorizontalFlip(),  # [F] mirror on both axes
            v2.RandomVerticalFlip(),  # [F] mirror on both axes
            v2.ColorJitter(brightness=0.2),  # [F] brightness delta 0.2
        ]
    )


class _CropWithin:
    """A random crop with the picture's own shape and at least a share of each side."""

    def __init__(self, least: float) -> None:
        self.least = least

    def __call__(self, picture: Any) -> Any:
        import torch

        share = self.least + (1 - self.least) * float(torch.rand(()))
        width, height = (max(1, round(share * side)) for side in picture.size)
        left = int(torch.randint(picture.size[0] - width + 1, ()))
        top = int(torch.randint(picture.size[1] - height + 1, ()))
        return picture.crop((left, top, left + width, top + height))

    def __repr__(self) -> str:
        return f"crop of at least {self.least:g} of each side"


PRESETS: dict[str, Preset] = {
    "keras-sample-size": Preset(
        options={
            "strategy": "fine_tuning",  # [K] head first, then the top of the backbone
            "backbone": "mobilenetv2_100",  # [K] MobileNetV2, ImageNet weights
            "image_size": 224,  # [K] 224 x 224
            "sizes": (0.05, 0.1, 0.25, 0.5),  # [K] 5, 10, 25, 50 %
            "repeats": 5,  # [K] five models per size
            "sampling": "replacement",  # [K] drawn with replacement
            "test_fraction": 0.1,  # [K] 90 % / 10 %
            "seed": 42,  # [K] seed 42
            "augment": True,  # [K] the training images are augmented
            "law": "power2",  # [K] a n^b, the law "power2" without its ceiling
        },
        recipe=Recipe(
            validation=0.1,  # [K] 10 % of the subsample
            monitor="auc",  # [K] early stopping on validation AUC
            batch=64,  # [K] batch size 64
            dropout=0.3,  # [K] dropout 0.3 before the softmax
            head_rate=1e-3,  # [K] Adam at 1e-3
            head_epochs=10,  # [K] 10 epochs
            head_patience=3,  # [K] patience 3
            rate=1e-4,  # [K] Adam at 1e-4
            epochs=20,  # [K] up to 20 further epochs
            patience=5,  # [K] patience 5
            least_steps=1,  # [K] an epoch is one pass
            unfreeze=0.4,  # [K] from block_10 of 16 on: in timm's MobileNetV2 stages 4 to 6 of 7
        ),
        augmentation=_keras_augmentation,
        differs=(
            "every repeat holds out a tenth of its own, instead of one for all",
            "augmented views are trained beside the plain images, instead of one view in place "
            "of each",
        ),
        fits=True,
    ),
    "flowers-transfer": Preset(
        options={
            "strategy": "fine_tuning",  # [F] the better of its two ways at every size
            "backbone": "resnet50",  # [F] ResNet50-v2, ImageNet weights
            "image_size": 224,  # [F] 224 x 224
            "sizes": (0.13, 0.5, 1.0),  # [F] Small is about 13 %, Medium about half of Large
            "sampling": "stratified",  # [F] stratified splits
        },
        recipe=Recipe(
            monitor="loss",  # [F] early stopping on validation loss
            batch=16,  # [F] batch size 16
            head_rate=1e-4,  # [F] Adam at 1e-4
            head_epochs=30,  # [F] 30 epochs
            head_patience=10,  # [F] patience 10
            rate=1e-5,  # [F] Adam at 1e-5
            epochs=60,  # [F] "more epochs": twice as many, our choice
            patience=10,  # [F] patience 10
            least_steps=1,  # [F] an epoch is one pass
            unfreeze=1,  # [F] conv5_block3 and post; the nearest whole stage is ResNet's last
        ),
        augmentation=_flowers_augmentation,
        differs=(
            "a ResNet50 of timm; its whole last stage is unfrozen, not its last block alone",
            "feature extraction fits the same softmax head to its regularised optimum, instead "
            "of 30 epochs of Adam",
            "repeats and test images are this project's: the study had one model for each size",
        ),
        strategies=(
            "feature_extraction",  # [F] experiment 1
            "feature_extraction+augment",  # [F] experiment 2
            "fine_tuning",  # [F] experiment 3
            "fine_tuning+augment",  # [F] experiment 4
        ),
    ),
}
"""Name → recipe."""


class Fit(NamedTuple):
    """A fit of ``a n^b`` to mean scores."""

    a: float
    b: float
    mean_absolute_error: float

    def predict(self, n: float) -> float:
        """Return the score with n images."""
        return float(self.a * n**self.b)


def gradient_descent_fit(sizes: Sequence[int], means: Sequence[float]) -> Fit:
    """Fit ``a n^b`` as the Keras recipe does.

    Mean squared error, plain gradient descent from (0, 0) at rate 0.01 for 5,000 steps [K].

    Examples
    --------
    >>> fit = gradient_descent_fit([165, 330, 825, 1651], [0.8071, 0.87464, 0.90028, 0.9057])
    >>> round(fit.a, 3), round(fit.b, 3), round(fit.predict(3303), 3)
    (0.645, 0.048, 0.952)
    """
    n, y = np.array(sizes, dtype=np.float64), np.array(means, dtype=np.float64)
    a = b = 0.0
    for _ in range(5000):
        power: NDArray[np.floating] = n**b
        slope = 2.0 * (a * power - y) / len(n)
        a, b = a - 0.01 * float(slope @ power), b - 0.01 * float(slope @ (a * power * np.log(n)))
    return Fit(a, b, float(np.mean(np.abs(a * n**b - y))))


def fit_note(sizes: Sequence[int], means: Sequence[float], available: int) -> str:
    """Describe the prediction of the Keras recipe's fit and of the exact least-squares fit."""
    steps = gradient_descent_fit(sizes, means)
    exact = Fit(*fit_power2_least_squares(sizes, means))
    return "recipe's fit of accuracy: " + "; ".join(
        f"{fit.a:.4f} n^{fit.b:.4f} ({how}) predicts {fit.predict(available):.3f} with "
        f"{available:,} images, mean absolute error {fit.mean_absolute_error:.3f}"
        for fit, how in ((steps, "gradient descent"), (exact, "exact least squares"))
    )


@cache
def augmentation(name: str) -> Any:
    """Return the transform of a recipe; the same object each time, since views are cached by it."""
    return preset(name).augmentation()


def preset(name: str) -> Preset:
    """Return a recipe by its name.

    Raises
    ------
    RequirementError
        There is none of that name.
    """
    if name not in PRESETS:
        raise RequirementError(f"preset={name!r}: expected one of: {', '.join(PRESETS)}.")
    return PRESETS[name]
