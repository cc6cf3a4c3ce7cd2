"""Read prices of images: of one, of each class, and of a group with its images."""

from collections.abc import Mapping

Prices = float | Mapping[str, float] | None

_OTHERS = "*"
"""Key of the price of all classes that have none of their own."""


def prices_of_classes(prices: Prices, names: tuple[str, ...]) -> dict[str, float] | None:
    """Return class name → price of one image; None if a class has no price, or there is none."""
    if prices is None or isinstance(prices, (int, float)):
        return None if prices is None else dict.fromkeys(names, float(prices))
    if unpriced(prices, names):
        return None
    return {name: float(prices.get(name, prices.get(_OTHERS, 0.0))) for name in names}


def unpriced(prices: Prices, names: tuple[str, ...]) -> str | None:
    """Return which class has no price, or which price no class, in words."""
    if not isinstance(prices, Mapping):
        return None
    lacking = [name for name in names if name not in prices and _OTHERS not in prices]
    strange = [name for name in prices if name not in names and name != _OTHERS]
    if strange:
        return f"cost_per_image names {strange[0]!r}, which is no class"
    if lacking:
        return f"cost_per_image has no price of {lacking[0]!r}; give one, or '*' for all others"
    return None


def mean_price(prices: float | Mapping[str, float], counts: Mapping[str, float]) -> float:
    """Return the price of one image in the proportions of the classes.

    Parameters
    ----------
    prices
        Price of one image; class name → price (``*`` for all others).
    counts
        Class name → number of images.

    Raises
    ------
    ValueError
        A class has no price.

    Examples
    --------
    >>> mean_price({"rust": 4.0, "*": 1.0}, {"rust": 100, "good": 200})
    2.0
    """
    by_class = prices_of_classes(prices, tuple(counts))
    if by_class is None:
        raise ValueError(unpriced(prices, tuple(counts)))
    return sum(n * by_class[name] for name, n in counts.items()) / sum(counts.values())


def price_of_group(image: float | None, group: float | None, per_group: float) -> float:
    """Return the price of one group: its own, and that of its images.

    Examples
    --------
    >>> price_of_group(0.5, 100.0, 12.0), price_of_group(None, 100.0, 12.0)
    (106.0, 100.0)
    """
    return (image or 0.0) * per_group + (group or 0.0)
