"""Rules of thumb for images per class, and their sources."""

from collections.abc import Mapping
from typing import Final, NamedTuple

FROM_SCRATCH: Final = 1000
WITH_TRANSFER: Final = 20

SOURCE: Final = (
    "Pete Warden 2017, How many images do you need to train a neural network?, "
    "petewarden.com/2017/12/14/how-many-images-do-you-need-to-train-a-neural-network"
)

WORD: Final = "rule-of-thumb"


class Rule(NamedTuple):
    """Images per class by a rule of thumb.

    Attributes
    ----------
    images
        Decodable, different images per class.
    reason
        Where the number comes from.
    """

    images: int
    reason: str


def rule_of(asked: int | str, strategy: str) -> Rule:
    """Return the rule for a number or for ``rule-of-thumb``.

    Examples
    --------
    >>> rule_of("rule-of-thumb", "feature_extraction").images
    20
    >>> rule_of("rule-of-thumb", "from_scratch").images
    1000
    """
    if asked != WORD:
        return Rule(int(asked), "marker")
    if strategy == "from_scratch":
        return Rule(FROM_SCRATCH, f"rule of thumb for training from scratch ({SOURCE})")
    return Rule(
        WITH_TRANSFER, f"rule of thumb for transfer within the backbone's domain ({SOURCE})"
    )


def short_classes(counts: Mapping[str, int], images: int) -> dict[str, int]:
    """Return class → images for the classes with too few, the smallest first.

    Examples
    --------
    >>> short_classes({"a": 30, "b": 5, "c": 12}, 20)
    {'b': 5, 'c': 12}
    """
    short = {name: n for name, n in counts.items() if n < images}
    return dict(sorted(short.items(), key=lambda pair: (pair[1], pair[0])))
