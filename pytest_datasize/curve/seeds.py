"""Create the random streams of the package, one per purpose, so that none share numbers.

A stream derives from (seed, purpose, where), so adding repeats or sizes changes no other stream.
No global random state is read or changed.
"""

from enum import IntEnum, unique

import numpy as np


@unique
class Purpose(IntEnum):
    """Purpose of a random stream. A new stream gets a new number; existing numbers never change."""

    TEST_SPLIT = 0
    ORDER = 1
    HEAD_FOLDS = 2
    GROUP_SPLIT = 3
    CLASS_CURVES = 7
    VALIDATION_SPLIT = 10
    HEAD_TRAINING = 11
    FINE_TUNING = 12
    SCRATCH_TRAINING = 13
    SCRATCH_WEIGHTS = 14
    TRAINER_SEED = 15
    RANKING = 17
    REDUNDANCY = 19
    TWO_SAMPLE = 20
    ASKED_IMAGES = 21
    SAMPLED_IMAGES = 22
    GROUP_LENDING = 23
    SUGGESTION_FOLDS = 25
    PROMISES = 26
    TIES = 27
    REPLACEMENT = 28
    FACTORS = 29
    BAYES_ERROR = 36


FIXED_NOISE = 0
"""Seed of the noise images on which networks are tested: the same on every machine."""


def stream(seed: int, purpose: Purpose, *where: int) -> np.random.Generator:
    """Return the random stream of a purpose.

    Parameters
    ----------
    seed
        Seed of the study.
    purpose
        Purpose of the numbers.
    where
        Repeat, or size and repeat, or any other index that needs its own stream.

    Examples
    --------
    >>> one, other = (stream(0, purpose) for purpose in (Purpose.ORDER, Purpose.TEST_SPLIT))
    >>> bool(one.random() == other.random())
    False
    """
    return np.random.default_rng([seed, int(purpose), *where])


def seed_of(seed: int, purpose: Purpose, *where: int) -> int:
    """Return a seed below 2**32, for functions that take a seed instead of a generator."""
    return int(np.random.SeedSequence([seed, int(purpose), *where]).generate_state(1)[0])
