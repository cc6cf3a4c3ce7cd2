"""The random streams of the package: one purpose each, so that no two draw the same numbers.

A stream derives from (seed, purpose, where), so that adding repeats or sizes changes no other one,
and no global random state is read or changed.
"""

from enum import IntEnum, unique

import numpy as np


@unique
class Purpose(IntEnum):
    """What a random stream is for. A new stream takes a number of its own; old ones keep theirs."""

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
    FINE_TUNING_FOLDS = 24
    SUGGESTION_FOLDS = 25


FIXED_NOISE = 0
"""Seed of the images of noise that networks are tried on: the same on every machine."""


def stream(seed: int, purpose: Purpose, *where: int) -> np.random.Generator:
    """Return the random stream of a purpose.

    Parameters
    ----------
    seed
        Of the study.
    purpose
        What the numbers are for.
    where
        Repeat, or size and repeat, or whatever else has a stream of its own.

    Examples
    --------
    >>> one, other = (stream(0, purpose) for purpose in (Purpose.ORDER, Purpose.TEST_SPLIT))
    >>> bool(one.random() == other.random())
    False
    """
    return np.random.default_rng([seed, int(purpose), *where])


def seed_of(seed: int, purpose: Purpose, *where: int) -> int:
    """Return a seed below 2**32, for what takes a seed instead of a generator."""
    return int(np.random.SeedSequence([seed, int(purpose), *where]).generate_state(1)[0])
