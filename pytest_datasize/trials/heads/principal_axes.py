"""The directions in which a pool's embeddings vary: one rotation for all heads.

Every function here gives a head's rows the same bits whatever other heads are requested with them.
"""

import torch
from torch import Tensor
from torch.nn import functional

from pytest_datasize.embedding.features import Features

SAMPLE = 20_000
"""Rows used to compute the axes of a larger pool, evenly spaced."""

# share of variance dropped with the last axes: on photographs of textiles it removes a third of
# them, and moves probabilities by 0.00006 on average
_TAIL = 1e-4
_BLOCK = 4096  # rows converted to float32 at a time
_CACHE_BYTES = 1 << 30  # rotated rows of a pool that are kept, at most
_ALIGNED = 16  # float32 in the 64 bytes at which torch starts every tensor


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
        self._columns = _aligned(vectors.shape[1] + 1)
        small = 4 * len(features) * self._columns <= _CACHE_BYTES
        self._rotated = self._rotate(slice(None), self._blank(len(features))) if small else None

    @property
    def width(self) -> int:
        """Number of axes."""
        return self._vectors.shape[1]

    def take(self, rows: Tensor) -> Tensor:
        """Return the rows of B heads, int64 (B, n), in the axes.

        Returns
        -------
        Tensor, float32, shape (B, n, D)
            As :func:`with_ones` has them.
        """
        if self._rotated is not None:
            return self._rotated[rows]
        turned = self._blank(*rows.shape)
        for head, out in zip(rows, turned, strict=True):  # each in blocks of its own
            self._rotate(head, out)
        return turned

    def _blank(self, *shape: int) -> Tensor:
        blank = self._vectors.new_zeros(*shape, self._columns)
        blank[..., -1] = 1.0
        return blank

    def _rotate(self, rows: Tensor | slice, turned: Tensor) -> Tensor:
        count = len(turned)
        # two buffers for all blocks: avoids an allocation for each block
        centred = self._vectors.new_empty(min(count, _BLOCK), len(self._vectors))
        product = self._vectors.new_empty(len(centred), self.width)
        for first in range(0, count, _BLOCK):
            block = slice(first, min(first + _BLOCK, count))
            part, made = (each[: block.stop - first] for each in (centred, product))
            part.copy_(self._features[block if isinstance(rows, slice) else rows[block]])
            torch.mm(part.sub_(self._centre), self._vectors, out=made)
            turned[block, : self.width] = made
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
    if rows.device.type == "cpu" and len(rows) > 1:  # tensors of their own are aligned
        heads = zip(torch.split(rows, 1), torch.split(others, 1), strict=True)
        turned = [row_space(one, other, floor) for one, other in heads]
        return torch.cat([one for one, _ in turned]), torch.cat([other for _, other in turned])
    centre = rows.mean(1, keepdim=True)
    rows, others = rows - centre, others - centre
    values, vectors = eigh(rows @ rows.transpose(1, 2))
    # A relative floor: centring leaves one direction empty, duplicates leave more.
    root = values.clamp_min(1e-6 * values[:, -1:]).clamp_min(floor).sqrt()[:, None]
    others = others @ (rows.transpose(1, 2) @ (vectors / root))
    return with_ones(vectors * root), with_ones(others)


def with_ones(rows: Tensor) -> Tensor:
    """Append columns of zeros and at last one of ones, which carries the bias.

    There are as many zeros as make the width a multiple of 64 bytes. MKL's products of small
    matrices have other bits where a matrix starts elsewhere, and in a batch of heads each starts
    where the one before it ends.

    Examples
    --------
    >>> with_ones(torch.full((1, 2), 5.0)).int().tolist()
    [[5, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]]
    """
    width = rows.shape[-1]
    padded = functional.pad(rows, (0, _aligned(width + 1) - width))
    padded[..., -1] = 1.0
    return padded


def _aligned(count: int) -> int:
    return -(-count // _ALIGNED) * _ALIGNED


def aligned_matrices(like: Tensor, b: int, rows: int, columns: int) -> Tensor:
    """Return B matrices (B, rows, columns), each starting at a multiple of 64 bytes; not filled."""
    size = rows * columns
    return like.new_empty(b, _aligned(size))[:, :size].view(b, rows, columns)


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
