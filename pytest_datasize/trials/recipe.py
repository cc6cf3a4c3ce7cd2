"""Define the training recipe of a network: all its numbers in one frozen object."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Recipe:
    """Two stages: the head on frozen features, then the unfrozen layers at a lower rate.

    Attributes
    ----------
    validation
        Share of the training subsample held out for early stopping, in (0, 1).
    monitor
        Metric that early stopping uses on these images: ``loss`` (log-loss) or ``auc``.
    batch
        Images per training step.
    dropout
        Share of features dropped before the head while training, in [0, 1).
    head_rate
        Adam's rate for the head in stage one; None fits the regularised head of the strategy
        ``feature_extraction`` to its optimum instead.
    head_epochs, head_patience
        Maximum epochs of stage one, and epochs without improvement after which it ends.
    rate
        Adam's rate in stage two, for head and unfrozen layers: a tenth of the rates at which a
        head alone is trained (3e-3 and more), or less.
    epochs, patience
        The same limits for stage two.
    least_steps
        Steps that one epoch has at least: a few images are passed several times between two
        looks at the validation images.
    cautious
        Whether stage two must lower the loss of the validation images by more than one standard
        error of that difference to be kept.
    unfreeze
        Final stages to train, or (a float) their share of all; None for a sixth of them, at
        least one: the last of a ResNet's or ConvNeXt's four and of an EfficientNet's seven, the
        last two of a ViT's twelve.
    """

    validation: float = 0.2
    monitor: Literal["loss", "auc"] = "loss"
    batch: int = 32
    dropout: float = 0.0
    head_rate: float | None = None
    head_epochs: int = 30
    head_patience: int = 10
    rate: float = 3e-4
    epochs: int = 30
    patience: int = 4
    least_steps: int = 5
    cautious: bool = True
    unfreeze: int | float | None = None


FINE_TUNING = Recipe()
"""Default of the strategy ``fine_tuning``."""

FROM_SCRATCH = Recipe(monitor="auc", rate=1e-3, epochs=60, patience=10, least_steps=10)
"""Default of the strategy ``from_scratch``: a single stage for the whole network.

It watches the AUC, not the loss: a network that learns from few images is soon too sure of itself,
and its least loss is then that of the first epochs, when it has learnt nothing.
"""
