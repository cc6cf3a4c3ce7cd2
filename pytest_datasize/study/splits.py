"""Name the splits of a study, so that two studies can be checked for the same test images."""

from collections.abc import Sequence

import numpy as np

from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.store import key_of
from pytest_datasize.trials.plan import Plan


def split_names(
    plan: Plan, image_sets: Sequence[ImageSet], fingerprint: str, repeats: int
) -> tuple[str, ...]:
    """Name the split of each repeat by the content of its images.

    Parameters
    ----------
    plan
        Test rows of each repeat.
    image_sets
        The pool, followed by the test images if they are given separately.
    fingerprint
        Hash of all images and their groups.
    repeats
        Number of repeats that were run.
    """
    digests = np.array([digest for part in image_sets for digest in part.digests])
    fixed = len(image_sets) > 1  # every repeat uses the given test images
    names = tuple(
        key_of([fingerprint, fixed, sorted(digests[repeat.test].tolist())])
        for repeat in plan.repeats[: 1 if fixed else repeats]
    )
    return names * repeats if fixed else names


def same_splits(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether the repeats that two studies share have the same splits.

    Examples
    --------
    >>> same_splits(["a", "b", "c"], ["a", "b"]), same_splits(["a"], ["b"]), same_splits([], ["a"])
    (True, False, False)
    """
    common = min(len(one), len(other))
    return common > 0 and list(one[:common]) == list(other[:common])
