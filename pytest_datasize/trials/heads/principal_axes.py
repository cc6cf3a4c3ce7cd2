"""The directions in which a pool's embeddings vary: one rotation for all heads."""

import torch
from torch import Tensor
from torch.nn import functional

from pytest_datasize.embedding.features import Features

SAMPLE = 20_000
"""Rows that the axes of a larger pool are taken from, evenly spaced."""

# share of variance dropped with the last axes: on photographs of textiles it takes a third of them
# away, and moves probabilities by 0.00006 on average
_TAIL = 1e-4
_BLOCK = 4096  # rows converted to float32 at a time
_CACHE_BYTES = 1 << 30  # rotated rows of a pool that are kept, at most


class PrincipalAxes:
    """The rotation of a pool into its principal axes, without the directions that are empty.

    Parameters
    ----------
    features
        Float rows, (N, D), on any device; the arithmetic is float32 there.
    """

    def __init__(self, features: Features) -> None:
        self._features = features
        rows = sample(features)
        self._centre = rows.mean(0)
        rows = rows - self._centre
        wide = len(rows) < rows.shape[1]
        second = rows @ rows.T if wide else rows.T @ rows
        values, vectors = eigh(second.cpu())  # MPS has none; the same axes everywhere
        values = values.clamp_min(0)
        keep = values.cumsum(0) > _TAIL * values.sum()
        keep[-1] = True  # of constant features: one axis of zeros
        values, vectors = values[keep].to(rows.device), vectors[:, keep].to(rows.device)
        if wide:
            vectors = rows.T @ (vectors / values.sqrt().clamp_min(1e-30))
        self._vectors = vectors
        small = 4 * len(features) * (vectors.shape[1] + 1) <= _CACHE_BYTES
        self._rotated = self._rotate(slice(None)) if small else None

    @property
    def width(self) -> int:
        """Number of axes."""
        return self._vectors.shape[1]

    def take(self, rows: Tensor) -> Tensor:
        """Return rows in the axes, then a one: float32, (..., width + 1)."""
        if self._rotated is not None:
            return self._rotated[rows]
        return self._rotate(rows.flatten()).view(*rows.shape, self.width + 1)

    def _rotate(self, rows: Tensor | slice) -> Tensor:
        count = len(self._features) if isinstance(rows, slice) else len(rows)
        turned = self._vectors.new_ones(count, self.width + 1)
        # two buffers for all blocks: an allocator need not find the place of the last one again
        centred = self._vectors.new_empty(min(count, _BLOCK), len(self._vectors))
        product = self._vectors.new_empty(len(centred), self.width)
        for first in range(0, count, _BLOCK):
            block = slice(first, min(first + _BLOCK, count))
            part, made = (each[: block.stop - first] for each in (centred, product))
            part.copy_(self._features[block if isinstance(rows, slice) else rows[block]])
            torch.mm(part.sub_(self._centre), self._vectors, out=made)
            turned[block, :-1] = made
        return turned


def sample(features: Features) -> Tensor:
    """Return evenly spaced rows as float32, all of them where they are few: (n, D).

    Raises
    ------
    ValueError
        Some are not finite.
    """
    n = len(features)
    evenly = torch.linspace(0, n - 1, min(n, SAMPLE), dtype=torch.float64).round().long()
    rows = features[slice(0, n) if n <= SAMPLE else evenly.to(features.device)].float()
    if not rows.isfinite().all():
        raise ValueError("features must be finite; some are nan or infinite")
    return rows


def row_space(rows: Tensor, others: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """Rows (B, n, D) and others (B, m, D) in the n principal axes of the rows, ones last."""
    centre = rows.mean(1, keepdim=True)
    rows, others = rows - centre, others - centre
    values, vectors = eigh(rows @ rows.transpose(1, 2))
    # A relative floor: centring leaves one direction empty, duplicates leave more.
    root = values.clamp_min(1e-6 * values[:, -1:]).clamp_min(floor).sqrt()[:, None]
    others = others @ (rows.transpose(1, 2) @ (vectors / root))
    return with_ones(vectors * root), with_ones(others)


def with_ones(rows: Tensor) -> Tensor:
    """Append a column of ones, which carries the bias."""
    return functional.pad(rows, (0, 1), value=1.0)


def eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors, also where LAPACK's single precision fails.

    With one thread it gives up, or gives NaN without a word, on some matrices with hundreds of
    empty rows (dead channels); which ones differs between machines.
    """
    try:
        values, vectors = torch.linalg.eigh(matrix)
        if values.isfinite().all() and vectors.isfinite().all():
            return values, vectors
    except RuntimeError:  # LinAlgError is one; torch does not type it
        pass
    values, vectors = torch.linalg.eigh(matrix.cpu().double())
    return values.to(matrix), vectors.to(matrix)
