"""Shuffle images by keys that derive from their content, so that a draw depends on nothing else.

A permutation of row numbers changes as a whole when one image is added or a class is renamed. A key
of each image, a hash of its content mixed with the seed and the repeat, changes only where the
image does: the order of all other images stays.
"""

from copy import copy

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.curve.seeds import Purpose
from pytest_datasize.images.image_set import ImageSet

Keys = NDArray[np.uint64]

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class Shuffle:
    """Makes keys of the images; images in the order of their keys are shuffled.

    Parameters
    ----------
    images
        N images; without content hashes (:attr:`ImageSet.digests`) their row numbers count.
    seed
        Seed of the study.
    """

    def __init__(self, images: ImageSet, seed: int) -> None:
        self._seed = seed
        if images.digests:
            found = [int(digest[:16], 16) for digest in images.digests]
            self._contents = np.array(found, dtype=np.uint64)
        else:
            self._contents = np.arange(len(images), dtype=np.uint64)

    def of_groups(self, groups: NDArray[np.int64]) -> "Shuffle":
        """Return a shuffle of groups: each counts as the image of its that has the least hash.

        Parameters
        ----------
        groups
            Number of every image's group, shape (N,); numbers reach from 0 to G - 1.
        """
        shuffle = copy(self)
        most = np.iinfo(np.uint64).max
        shuffle._contents = np.full(int(groups.max()) + 1, most, dtype=np.uint64)
        np.minimum.at(shuffle._contents, groups, self._contents[: len(groups)])
        return shuffle

    def keys(self, purpose: Purpose, *where: int) -> Keys:
        """Return independent keys of all images for one purpose and, say, one repeat.

        Parameters
        ----------
        purpose
            Purpose of the shuffle.
        where
            Repeat, or any other index that needs an order of its own.

        Returns
        -------
        ndarray
            Uniform keys, uint64 of shape (N,).
        """
        keys = self._contents
        with np.errstate(over="ignore"):  # the product modulo 2**64 is meant
            for number in (self._seed, int(purpose), *where):
                keys = _mixed(keys + np.uint64(number + 1) * _STEP)
        return keys


def in_order(rows: NDArray[np.int64], keys: Keys) -> NDArray[np.int64]:
    """Return rows in the order of their keys."""
    ordered: NDArray[np.int64] = rows[np.argsort(keys[rows], kind="stable")]
    return ordered


def as_shares(keys: Keys) -> NDArray[np.float64]:
    """Return keys as uniform numbers in [0, 1).

    Examples
    --------
    >>> as_shares(np.array([0, 2**63], dtype=np.uint64)).tolist()
    [0.0, 0.5]
    """
    return (keys >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(keys: Keys) -> Keys:
    """Mix the bits of every key (Steele et al. 2014, "Fast splittable pseudorandom numbers")."""
    keys = (keys ^ (keys >> np.uint64(30))) * _FIRST
    keys = (keys ^ (keys >> np.uint64(27))) * _SECOND
    return keys ^ (keys >> np.uint64(31))
