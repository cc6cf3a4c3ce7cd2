"""Reduce the features of several stages to few columns: scale each stage, then main axes."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from pytest_datasize.embedding.device import torch_threads
from pytest_datasize.embedding.features import Features
from pytest_datasize.trials.heads.principal_axes import eigh

AXES: Final = 512
"""Columns kept: no loss of score from 3,328 features (benchmarks/README.md)."""

ROWS: Final = 2_048
"""Rows used to compute scales and axes, evenly spaced over the pool."""

_BLOCK: Final = 4_096  # rows that are rotated at a time
_EMPTY: Final = 1e-6  # an axis with this share of the first one's variance is rounding


class MainAxes:
    """Rows of several blocks of features, scaled and rotated when read.

    Each block is divided by the root of its mean variance, so that its units do not matter. One
    scale for a whole block is safe where channels are dead; a scale for each channel is not. With
    equal weight for every block, whatever its width, scores on textiles fell below those of the
    last layer alone (benchmarks/README.md).

    Parameters
    ----------
    features
        Rows of shape (N, D), on any device.
    widths
        Widths of the blocks, D together.
    """

    def __init__(self, features: Features, widths: Sequence[int]) -> None:
        self._features = features
        evenly = torch.linspace(0, len(features) - 1, min(len(features), ROWS), dtype=torch.float64)
        rows = features[evenly.round().long().to(features.device)].float()
        self._centre = rows.mean(0)
        rows = rows - self._centre
        variance = torch.cat(
            [
                block.square().mean().clamp_min(1e-30).expand(block.shape[1])
                for block in torch.split(rows, list(widths), 1)
            ]
        )
        self._scale = variance.rsqrt()
        rows = rows * self._scale
        with torch_threads(1):  # the same bits on any number of cores
            wide = len(rows) < rows.shape[1]
            values, vectors = eigh((rows @ rows.T if wide else rows.T @ rows).cpu())
            values, vectors = values[-AXES:], vectors[:, -AXES:]
            held = values > _EMPTY * values[-1].clamp_min(1e-30)
            held[-1] = True  # of constant features: one axis of zeros
            values, vectors = values[held], vectors[:, held]
            if wide:
                vectors = rows.cpu().T @ (vectors / values.clamp_min(1e-30).sqrt())
        self._vectors = vectors.to(rows.device)

    @property
    def shape(self) -> tuple[int, int]:
        """N and the number of axes."""
        return len(self._features), self._vectors.shape[1]

    @property
    def device(self) -> torch.device:
        """Device of the rows that are read."""
        return self._features.device

    def __len__(self) -> int:
        return len(self._features)

    def __getitem__(self, rows: Tensor | slice, /) -> Tensor:
        """Return rows in the main axes, float32: one for each entry of an index of any shape."""
        found = self._features[rows].float().sub_(self._centre).mul_(self._scale)
        return found @ self._vectors


def main_axes(features: Features, widths: Sequence[int]) -> Features:
    """Return the features in few columns where they consist of several blocks.

    Parameters
    ----------
    features
        Rows of shape (N, D).
    widths
        Widths of their blocks; fewer than two leave the features as they are.
    """
    if len(widths) < 2:
        return features
    found = MainAxes(features, widths)
    if not isinstance(features, Tensor):  # stored in files: rotated when read
        return found
    with torch_threads(1):
        parts = [found[slice(first, first + _BLOCK)] for first in range(0, len(features), _BLOCK)]
    return torch.cat(parts)
