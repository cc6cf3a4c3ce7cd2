"""Define the training recipe of a network: all its numbers in one frozen object."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: with early stopping, or for a fixed number of steps.

    With early stopping a fine-tuned network has two stages, as published recipes do: the head on
    frozen features, then the unfrozen layers at a lower rate. Without it head and unfrozen layers
    are trained together while the rate rises and falls once, and the network is combined with a
    head on frozen features.

    Attributes
    ----------
    validation
        Share of the training subsample held out, in (0, 1): for early stopping, or to weigh the
        network against the head on frozen features.
    monitor
        Metric that early stopping uses on these images: ``loss`` (log-loss) or ``auc``.
    batch
        Images per training step.
    dropout
        Share of features dropped before the head while training, in [0, 1).
    head_rate
        Adam's rate for the head in stage one.
    head_epochs, head_patience
        Maximum epochs of stage one, and epochs without improvement after which it ends.
    rate
        Adam's rate for head and unfrozen layers; without early stopping the highest one.
    epochs, patience
        The same limits for stage two; patience None for no early stopping: all epochs are run.
    cycles
        Without early stopping: the most cycles of the rate, each with twice the epochs of the one
        before. Another one follows only while the last one surely helped.
    least_steps
        Steps that one epoch has at least: a few images are passed several times between two
        looks at the validation images.
    unfreeze
        Final stages to train, or (a float) their share of all; None for a sixth of them, at
        least one: the last of a ResNet's or ConvNeXt's four and of an EfficientNet's seven, the
        last two of a ViT's twelve.
    """

    validation: float = 0.2
    monitor: Literal["loss", "auc"] = "loss"
    batch: int = 32
    dropout: float = 0.0
    head_rate: float = 3e-3
    head_epochs: int = 30
    head_patience: int = 10
    rate: float = 3e-4
    epochs: int = 30
    patience: int | None = 4
    least_steps: int = 5
    cycles: int = 1
    unfreeze: int | float | None = None


FINE_TUNING = Recipe(batch=16, rate=7e-4, epochs=2, patience=None, least_steps=80, cycles=3)
"""Default of the strategy ``fine_tuning``."""

FROM_SCRATCH = Recipe(monitor="auc", rate=1e-3, epochs=60, patience=10, least_steps=10)
"""Default of the strategy ``from_scratch``: a single stage for the whole network.

It watches the AUC, not the loss: a network that learns from few images is soon too sure of itself,
and its least loss is then that of the first epochs, when it has learnt nothing.
"""
