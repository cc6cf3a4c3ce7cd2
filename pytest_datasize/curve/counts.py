"""Write numbers of images with the digits that are known; light, since reports import it."""

import math


def count(images: float) -> str:
    """Write a number of images with three digits, rounded up, since it is not known more exactly.

    Examples
    --------
    >>> count(3127), count(96), count(12_345_678), count(float("inf"))
    ('3,130', '96', '12.4 million', 'no number of')
    """
    if math.isinf(images):
        return "no number of"
    step = 10 ** max(0, len(str(math.ceil(images))) - 3)
    rounded = math.ceil(images / step) * step
    return f"{rounded / 1e6:g} million" if rounded >= 1_000_000 else f"{rounded:,}"
