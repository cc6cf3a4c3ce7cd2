"""Define the data checks that run before training, with their default level.

Pure Python: options are checked against this table at every pytest start.
"""

from collections.abc import Mapping
from typing import NamedTuple

from pytest_datasize.requirement.spelling import nearest

LEVELS = ("error", "warning", "note", "ignore")
"""Levels, from failing the gate to not reported."""


class Check(NamedTuple):
    """One check of a data set.

    Attributes
    ----------
    level
        Default level, one of :data:`LEVELS`.
    meaning
        What was found, as in the table of the docs.
    consequence
        What happens to the images if the level is not ``error``.
    decodes
        Whether it must decode images: done by ``--datasize=check``, and by a gate if the settings
        name the check.
    settable
        Whether settings may change the level; False if nothing could be judged.
    """

    level: str
    meaning: str
    consequence: str
    decodes: bool = False
    settable: bool = True


CHECKS: dict[str, Check] = {
    "missing_files": Check(
        "error", "a manifest or annotation names files that are not there", "left out"
    ),
    "missing_labels": Check("error", "images have no label", "left out"),
    "several_labels": Check("error", "annotations give one image several classes", "left out"),
    "empty_class": Check("error", "a class folder holds no image", "left out"),
    "companions": Check(
        "error",
        "most images have a companion of the same name: a mask, a preview, a copy",
        "kept as images",
    ),
    "parts_as_classes": Check(
        "error",
        "the folders hold no images themselves and share sub-folders: parts, not classes?",
        "taken as classes",
    ),
    "split_names": Check(
        "error",
        "a folder is named like a part of a split, but others beside it are not",
        "taken as a class",
    ),
    "hidden_images": Check(
        "error", "folders whose name begins with two underscores hold images", "left out"
    ),
    "empty_files": Check(
        "error", "files hold no bytes, or are git-LFS pointers to images not fetched", "left out"
    ),
    "unreadable": Check("error", "images cannot be decoded", "left out", decodes=True),
    "conflicting_labels": Check(
        "warning", "images with the same content have different labels", "left out"
    ),
    "test_leak": Check("warning", "test images are also in the pool", "left out of the test"),
    "group_leak": Check(
        "warning", "test images belong to a group of the pool", "left out of the test"
    ),
    "near_duplicates": Check(
        "warning", "test images are nearly the same as one of the pool", "left out of the test"
    ),
    "alike": Check(
        "note",
        "images of the pool are nearly the same as others there",
        "kept on one side of every split",
    ),
    "factor_tells_class": Check(
        "warning",
        "a factor of `slices` predicts the class: all rust was photographed at one site",
        "kept; the model may learn the factor instead of the class",
    ),
    "factor_not_tested": Check(
        "note", "a factor of `slices` has one value, or nearly one for each image", "not tested"
    ),
    "one_class": Check("error", "there is one class only", "nothing to judge", settable=False),
    "too_few": Check(
        "error",
        "a class has too few images, or groups, to train and to test on",
        "nothing to judge",
        settable=False,
    ),
    "few_per_class": Check("note", "a class has fewer than 20 images", "kept"),
    "constant": Check("warning", "images are of one colour all over", "kept", decodes=True),
    "duplicates": Check("note", "images are exact copies of others", "counted once"),
    "sizes": Check(
        "note", "long sides of images differ by more than 8 times", "kept", decodes=True
    ),
    "hidden_folders": Check("note", "hidden and service folders are no classes", "left out"),
    "other_files": Check("note", "files are no images", "left out"),
    "layout": Check("note", "how the data set was read", "reported"),
}
"""Check → its level, meaning and consequence; the docs hold the same table."""


def level_of(check: str, set_levels: Mapping[str, str]) -> str:
    """Return the level of a check: from the settings, else the default.

    Examples
    --------
    >>> level_of("duplicates", {}), level_of("duplicates", {"duplicates": "error"})
    ('note', 'error')
    """
    return set_levels.get(check, CHECKS[check].level)


def must_decode(set_levels: Mapping[str, str]) -> bool:
    """Whether settings name a check that decodes images."""
    return any(CHECKS[name].decodes for name in set_levels) or "empty_files" in set_levels


def parse_levels(text: str) -> dict[str, str]:
    """Parse the option text, such as ``duplicates=error,sizes=ignore``.

    Raises
    ------
    ValueError
        A check or a level is unknown, or the check cannot be set.

    Examples
    --------
    >>> parse_levels("duplicates=error, sizes=ignore")
    {'duplicates': 'error', 'sizes': 'ignore'}
    """
    levels = {}
    for part in text.split(","):
        name, _, level = (word.strip() for word in part.partition("="))
        if not name and not level:
            continue
        if name not in CHECKS:
            hint = nearest(name, CHECKS) or "."
            raise ValueError(f"there is no check {name!r:.60}{hint} Allowed: {', '.join(CHECKS)}")
        if level not in LEVELS:
            raise ValueError(f"{name} is one of {', '.join(LEVELS)}, not {level!r}")
        if not CHECKS[name].settable and level != CHECKS[name].level:
            raise ValueError(f"{name} stays an error: nothing could be judged")
        levels[name] = level
    return levels
