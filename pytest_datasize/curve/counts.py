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


def count_measured(images: float, smallest: float) -> str:
    """Write a projected number; below the smallest measured size only that size is known.

    Examples
    --------
    >>> count_measured(3127, 50), count_measured(2, 50)
    ('3,200', 'at most 50')
    """
    return count(images) if images >= smallest else f"at most {count(smallest)}"


def plain(number: float, digits: int = 2) -> str:
    """Write a number with its first digits, and a large one without a power of ten.

    Examples
    --------
    >>> plain(9812.3), plain(1234.5, 3), plain(12), plain(0.5234)
    ('9,800', '1,230', '12', '0.52')
    """
    rounded = float(f"{number:.{digits}g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 1000 else f"{rounded:g}"


def price(money: float) -> str:
    """Write a sum of money, from 100 on in whole units.

    Examples
    --------
    >>> price(66_897.93), price(99.5), price(0.35)
    ('66,898', '99.50', '0.35')
    """
    return f"{money:,.{0 if abs(money) >= 100 else 2}f}"


def models_tried(level: float, confidence: float | None) -> int:
    """Return how many models were tried, from the certainty that the last of them must reach.

    The inverse of :func:`pytest_datasize.curve.verdict.level_after`.

    Examples
    --------
    >>> models_tried(0.5, None), models_tried(0.75, None), models_tried(0.95, 0.9)
    (1, 2, 2)
    """
    return round((1.0 - (confidence or 0.5)) / (1.0 - level))


def of_model(level: float, confidence: float | None) -> str:
    """Say of which model a certainty is required; empty if only one was tried.

    Examples
    --------
    >>> of_model(0.5, None), of_model(0.75, None)
    ('', ' of the second model tried')
    """
    tried = models_tried(level, confidence)
    word = {2: "second", 3: "third"}.get(tried, f"{tried}th")
    return f" of the {word} model tried" if tried > 1 else ""


def percent(probability: float, required: float = 0.0) -> str:
    """Write a probability in whole percent without claiming certainty.

    Parameters
    ----------
    probability
        The probability.
    required
        A probability that stands beside it: a lower one is not rounded up to it.

    Examples
    --------
    >>> percent(0.999), percent(0.893), percent(0.0012)
    ('more than 99 %', '89 %', 'less than 1 %')
    >>> percent(0.8997), percent(0.8997, required=0.9)
    ('90 %', '89.9 %')
    """
    if probability < 0.01:
        return "less than 1 %"
    hidden = probability > 0.99 or round(100 * probability) >= round(100 * required)
    if probability < required and hidden:
        return f"{math.floor(1000 * probability) / 10:g} %"
    return "more than 99 %" if probability > 0.99 else f"{100 * probability:.0f} %"


def required_percent(level: float) -> str:
    """Write a probability that is required, to a tenth of a percent.

    Examples
    --------
    >>> required_percent(0.9), required_percent(5 / 6), percent(0.832, required=5 / 6)
    ('90 %', '83.3 %', '83.2 %')
    """
    return f"{round(100 * level, 1):g} %"


def beside(score: float, target: float) -> str:
    """Write a score with three digits, or as many as show on which side of a target it lies.

    Examples
    --------
    >>> beside(0.8123, 0.9), beside(0.8997, 0.9), beside(0.9, 0.9)
    ('0.812', '0.8997', '0.900')
    """
    texts = [f"{score:z.{digits}f}" for digits in range(3, 8)]
    sides = score < target, score > target
    same = (text for text in texts if (float(text) < target, float(text) > target) == sides)
    return next(same, texts[0])
