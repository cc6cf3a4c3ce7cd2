"""Write numbers of images and probabilities as they are known; light, since reports import it."""

import math

CLOSE = (0.4, 0.6)
"""Between these probabilities, a verdict without a required confidence is too close to call."""


def count(images: float) -> str:
    """Write a projected number of images with two digits: more of them are not known.

    Examples
    --------
    >>> count(3127), count(96), count(12_345_678), count(104)
    ('3,100', '96', '12 million', '100')
    """
    digits = len(str(math.ceil(images)))
    rounded = int(round(images, min(0, 2 - digits))) if digits > 2 else math.ceil(images)
    return f"{rounded / 1e6:g} million" if rounded >= 1_000_000 else f"{rounded:,}"


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
