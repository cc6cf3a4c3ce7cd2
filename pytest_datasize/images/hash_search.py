"""Find pairs of hashes that differ in few bits, without comparing all pairs.

Multi-index hashing (Norouzi, Punjani, Fleet 2012, "Fast Search in Hamming Space with Multi-Index
Hashing"): the bits are divided into chunks. Two hashes that differ in few bits agree in one chunk,
except for at most one bit, so only hashes that share a bucket of some chunk are compared. All such
pairs are found; the work grows with the number of images, not with its square.

A mirrored image has the same frequencies but for the signs of those that are odd along that side.
So bits are of four kinds, even or odd along each side; a mirror turns all bits of a kind or none. A
chunk holds bits of one kind and is looked up such that turning all of them changes nothing:
mirrored copies are found at no cost. An image turned by a quarter has the frequencies of both sides
swapped; it is looked up a second time.

How near is near depends on the data: photographs of one part in one pose share most of their bits.
So a pair counts where it differs in less than a quarter of the bits that an image and its tenth
nearest neighbour usually differ in, and in no more than :data:`MOST_BITS`. The tenth, so that a
pool of which every image was written out several times does not pass for normal.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.images.perceptual_hash import SIDE, ByteArray

MOST_BITS: Final = 23
"""Most differing bits, of 255, between near-duplicates; of 2,000 different textiles no two
differ in under 84."""

SHARE_OF_NEIGHBOURS: Final = 0.25
"""Largest distance of near-duplicates, as a share of the usual distance of near neighbours."""

MOST_OF_A_BUCKET: Final = 2048
"""Hashes of one bucket that a hash is compared with. Only where thousands agree in 20 bits or more
without being near-duplicates is one larger."""

LEAST_POOL: Final = 20
"""Fewest images from which the usual distance of neighbours can be estimated."""

_NEIGHBOUR: Final = 10
_SAMPLE: Final = 500
_BLOCK: Final = 1 << 13  # hashes compared with the sample per batch
_LOOKUPS: Final = 1 << 18  # buckets searched per batch
_CANDIDATES: Final = 1 << 20  # pairs compared per batch

_DOWN, _ACROSS = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
_ALL: Final = np.ones_like(_DOWN)
_MIRRORS: Final = np.packbits(
    np.stack(
        [
            0 * _ALL,
            _ACROSS % 2,  # left and right
            _DOWN % 2,  # top and bottom
            (_DOWN + _ACROSS) % 2,  # both: half a turn
        ]
    ).reshape(4, -1),
    axis=1,
).view("<u8")
_TURNED: Final = np.arange(SIDE**2).reshape(SIDE, SIDE).T.ravel()
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: spreads keys over buckets


def _kind(down: int, across: int) -> NDArray[np.int64]:
    """Bits that are even (0) or odd (1) along each side, the lowest frequencies first."""
    odd = np.stack([_DOWN % 2, _ACROSS % 2], axis=-1)
    bits = np.flatnonzero((odd == (down, across)).all(axis=-1) & (_DOWN + _ACROSS > 0))
    lowest_first = np.argsort((_DOWN + _ACROSS).ravel()[bits], kind="stable")
    return bits[lowest_first]


_KINDS: Final = tuple(_kind(down, across) for down in (0, 1) for across in (0, 1))
_STILL: Final = np.packbits(np.isin(np.arange(SIDE**2), _KINDS[0])).view("<u8")
"""Mask of the bits that no mirror changes: a quarter, and the steadiest."""


class Matches(NamedTuple):
    """Pairs of hashes that differ in few bits: rows of both, and in how many."""

    asked: NDArray[np.int64]
    known: NDArray[np.int64]
    bits: NDArray[np.int64]


def usual_limit(pool: ByteArray) -> int:
    """Return the number of bits from which on two images are no near-duplicates.

    Parameters
    ----------
    pool
        Hashes of the images of the pool, (N, 32).

    Returns
    -------
    int
        0 where there are fewer than :data:`LEAST_POOL` images.
    """
    if len(pool) < LEAST_POOL:
        return 0
    rows = np.unique(np.linspace(0, len(pool) - 1, _SAMPLE).astype(np.int64))
    sample = _signs(pool[rows])
    best = np.full((len(rows), 0), 0, dtype=np.float32)
    for start in range(0, len(pool), _BLOCK):
        alike = sample @ _signs(pool[start : start + _BLOCK]).T
        inside = np.flatnonzero((rows >= start) & (rows < start + _BLOCK))
        alike[inside, rows[inside] - start] = -np.inf
        best = np.concatenate([best, alike], axis=1)
        if best.shape[1] > _NEIGHBOUR:
            best.partition(best.shape[1] - _NEIGHBOUR, axis=1)
            best = best[:, -_NEIGHBOUR:].copy()
    differing = (SIDE**2 - best.min(axis=1)) / 2
    usual = int(np.ceil(SHARE_OF_NEIGHBOURS * float(np.median(differing))))
    return min(MOST_BITS + 1, usual)


class HashIndex:
    """Index of hashes by chunk; finds the indexed hashes that are near given ones.

    Parameters
    ----------
    known
        Hashes, (N, 32).
    within
        Pairs that differ in this many bits or more do not match; at most ``MOST_BITS + 1``.

    Attributes
    ----------
    compared
        Number of pairs that were compared so far.
    partly
        Number of lookups so far that checked only :data:`MOST_OF_A_BUCKET` of a larger bucket.
    """

    def __init__(self, known: ByteArray, within: int) -> None:
        self.compared = self.partly = 0
        self._rows = _shown(known)
        self._known = _words(known[self._rows])
        self._still = _still(self._known)
        self._within = within
        parts, self._flips = _scheme(within)
        self._chunks = [bits[part::parts] for bits in _KINDS for part in range(parts)]
        self._shift = np.uint64(64 - len(self._rows).bit_length() - 2)
        self._tables = [self._table(known[self._rows], chunk) for chunk in self._chunks]

    def matches(
        self, asked: ByteArray, labels: NDArray[np.int64] | None = None
    ) -> Iterator[Matches]:
        """Find the indexed hashes near the given ones, also mirrored or rotated.

        Parameters
        ----------
        asked
            Hashes, (M, 32).
        labels
            If the given hashes are the indexed ones: a group number for each. Pairs within a group
            are skipped; the caller may change the array between two results.

        Yields
        ------
        Matches
            A batch of pairs; a pair can occur several times.
        """
        rows = _shown(asked)
        if not self._within or not len(rows) or not len(self._rows):
            return
        for turned in (asked[rows], _quarter_turned(asked[rows])):
            words = _words(turned)
            still = _still(words)
            for chunk, (order, starts) in zip(self._chunks, self._tables, strict=True):
                for one, other in self._candidates(turned, chunk, order, starts):
                    self.compared += len(one)
                    if labels is not None:
                        new = labels[rows[one]] != labels[self._rows[other]]
                        one, other = one[new], other[new]
                    near = _count(still[one] ^ self._still[other]) <= self._within // 2
                    one, other = one[near], other[near]
                    if not len(one):
                        continue
                    differing = words[one] ^ self._known[other]
                    bits = np.min(
                        [_count(differing ^ mirror).sum(axis=1) for mirror in _MIRRORS], axis=0
                    )
                    near = bits < self._within
                    if near.any():
                        yield Matches(rows[one[near]], self._rows[other[near]], bits[near])

    def _table(
        self, hashes: ByteArray, chunk: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the rows in the order of their buckets, and where each bucket starts."""
        keys = _canonical(_values(hashes, chunk), chunk)
        buckets = self._buckets(keys)
        order = np.argsort(buckets, kind="stable").astype(np.int32)
        sizes = np.bincount(buckets, minlength=1 << (64 - int(self._shift)))
        return order, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)

    def _buckets(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        return ((keys * _MIX) >> self._shift).astype(np.int64)

    def _candidates(
        self,
        asked: ByteArray,
        chunk: NDArray[np.int64],
        order: NDArray[np.int32],
        starts: NDArray[np.int32],
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield pairs of rows that agree in a chunk, but for one bit where that is allowed."""
        flips = _flips(chunk) if self._flips else np.zeros(1, dtype=np.uint64)
        step = max(1, _LOOKUPS // len(flips))
        for first in range(0, len(asked), step):
            keys = _canonical(_values(asked[first : first + step], chunk), chunk)
            buckets = self._buckets((keys[:, None] ^ flips).ravel())
            start = starts[buckets]
            size = starts[buckets + 1] - start
            some = np.flatnonzero(size)
            one, start, size = some // len(flips), start[some].astype(np.int64), size[some]
            self.partly += int((size > MOST_OF_A_BUCKET).sum())
            size = np.minimum(size, MOST_OF_A_BUCKET).astype(np.int64)
            ends = np.cumsum(size)
            cuts = np.searchsorted(ends, np.arange(_CANDIDATES, ends[-1:].sum(), _CANDIDATES))
            for piece in np.split(np.arange(len(size)), cuts):
                taken = size[piece]
                before = np.repeat(np.cumsum(taken) - taken, taken)
                place = np.arange(len(before)) - before + np.repeat(start[piece], taken)
                yield first + np.repeat(one[piece], taken), order[place].astype(np.int64)


def _scheme(within: int) -> tuple[int, int]:
    """Return the number of chunks of a kind, and how many bits of one may differ.

    The longest chunks such that hashes that differ in ``within - 1`` bits agree in one of them: of
    c chunks, one has no more than 1 / c of the bits that differ.
    """
    schemes = ((1, 0), (2, 0), (1, 1), (3, 0), (2, 1), (3, 1))
    return next((c, flips) for c, flips in schemes if 4 * c * (flips + 1) >= within)


def _shown(hashes: ByteArray) -> NDArray[np.int64]:
    """Return the rows of the images with enough contrast to compare."""
    return np.flatnonzero(hashes[:, 0] & 0x80)


def _words(hashes: ByteArray) -> NDArray[np.uint64]:
    return np.ascontiguousarray(hashes).view("<u8")


def _still(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Put the bits that no mirror changes into one word: every other one of every other row."""
    one, sixteen = np.uint64(1), np.uint64(16)
    kept = words & _STILL
    halves = kept[:, :2] | (kept[:, 2:] << sixteen)
    joined: NDArray[np.uint64] = halves[:, 0] | (halves[:, 1] >> one)
    return joined


def _values(hashes: ByteArray, chunk: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Bits of a chunk as numbers, shape (N,)."""
    packed = np.zeros((len(hashes), 8), dtype=np.uint8)
    bits = (hashes[:, chunk // 8] >> (7 - chunk % 8).astype(np.uint8)) & 1
    some = np.packbits(bits, axis=1)
    packed[:, : some.shape[1]] = some
    return packed.view("<u8")[:, 0]


def _flips(chunk: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return what turns no bit of a key, or one, before it is made canonical again."""
    bit = np.arange(len(chunk))
    one = np.uint64(1) << (8 * (bit // 8) + 7 - bit % 8).astype(np.uint64)
    if chunk[0] not in _KINDS[0]:
        one[0] ^= np.bitwise_or.reduce(one)
    return np.concatenate([np.zeros(1, dtype=np.uint64), one])


def _canonical(values: NDArray[np.uint64], chunk: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Turn all bits where the first is set, in chunks whose bits a mirror turns together."""
    if chunk[0] in _KINDS[0]:
        return values
    every = _values(np.full((1, SIDE**2 // 8), 255, dtype=np.uint8), chunk)
    return np.where(values & np.uint64(1 << 7), values ^ every, values)


def _count(words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Number of bits that are set."""
    if hasattr(np, "bitwise_count"):  # numpy 2
        counted: NDArray[np.int64] = np.bitwise_count(words).astype(np.int64)
        return counted
    single = _ONES[np.ascontiguousarray(words).view(np.uint8)]
    summed: NDArray[np.int64] = single.reshape(*words.shape, 8).sum(axis=-1, dtype=np.int64)
    return summed


_ONES: Final = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1)


def _signs(hashes: ByteArray) -> NDArray[np.float32]:
    return np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1


def _quarter_turned(hashes: ByteArray) -> ByteArray:
    """Hashes of the images mirrored along their diagonal."""
    return np.packbits(np.unpackbits(hashes, axis=1)[:, _TURNED], axis=1)
