"""Write numbers of images and probabilities as they are known; light, since reports import it."""

import math

CLOSE = (0.4, 0.6)
"""Between these probabilities, a verdict without a required confidence is too close to call."""

TELLABLE = 100
"""A required number above this multiple of today's images is too uncertain to plan with."""


def count(images: float) -> str:
    """Write a projected number of images with two digits, rounded up: more are not known.

    Examples
    --------
    >>> count(3127), count(96), count(12_345_678), count(104)
    ('3,200', '96', '13 million', '110')
    """
    rounded = two_digits(images)
    return f"{rounded / 1e6:g} million" if rounded >= 1_000_000 else f"{rounded:,}"


def two_digits(images: float) -> int:
    """Round a number of images up to two digits, as all reports write them.

    Examples
    --------
    >>> two_digits(3127), two_digits(96)
    (3200, 96)
    """
    step = 10 ** max(0, len(str(math.ceil(images))) - 2)
    return int(math.ceil(images / step) * step)


def percent(probability: float) -> str:
    """Write a probability in whole percent without claiming certainty.

    Examples
    --------
    >>> percent(0.999), percent(0.893), percent(0.0012)
    ('more than 99 %', '89 %', 'less than 1 %')
    """
    if probability < 0.01:
        return "less than 1 %"
    return "more than 99 %" if probability > 0.99 else f"{100 * probability:.0f} %"
