"""The images of a study to split, and names of its splits, by which two studies are compared."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.image_set import Finding, ImageSet, Loaded
from pytest_datasize.requirement.units import GROUP
from pytest_datasize.store import key_of
from pytest_datasize.study.context import StudyContext
from pytest_datasize.trials.plan import Plan


def images_to_split(context: StudyContext) -> Loaded:
    """Return every image once, near-duplicates grouped or left out of the test images.

    Raises
    ------
    DatasetError
        Images cannot be read, a check of the level ``error`` found something, or there are too few
        images or groups for the plan once near-duplicates are kept together.
    """
    plain, separated = context.pool.once, context.pool.separated
    if separated is plain:
        return plain
    if context.options["unit"] == GROUP:
        separated = _with_joined(separated, plain)
    try:
        context.draw(*separated)
    except DatasetError as problem:
        context.draw(*plain)  # whose error says more, if near-duplicates are not the reason
        check = "alike" if plain.test is None else "near_duplicates"
        found = [one.text for one in separated.images.findings if one.check == check]
        raise DatasetError(
            f"{problem} Images that are nearly the same are kept in one group: "
            f"{'; '.join(found)}. "
            "Tested on near-duplicates of training images, a model looks better than it is. "
            "Collect images that differ more; or, if these differ in what matters, set "
            f"checks={{{check!r}: 'ignore'}}."
        ) from None
    return separated


def _with_joined(separated: Loaded, plain: Loaded) -> Loaded:
    """Add a finding if near-duplicates link groups, which then count as one."""
    images, before = separated.images, plain.images
    if images.groups is None or before.groups is None:
        return separated
    numbers = [len(np.unique(groups)) for groups in (before.groups, images.groups)]
    if numbers[0] == numbers[1]:
        return separated
    text = (
        f"near-duplicates link groups: the {numbers[0]:,} groups count as {numbers[1]:,} "
        "independent ones"
    )
    finding = Finding("alike", text, numbers[0] - numbers[1])
    return separated._replace(images=replace(images, findings=(*images.findings, finding)))


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
