"""Choose some of many rows, the same ones every time, without a random generator."""

_GOLDEN = 0.6180339887498949
"""Steps of this share of a circle come evenly close to every place, and repeat with no period."""


def spread(number: int, most: int) -> list[int]:
    """Return at most so many of the rows 0 to `number` - 1, spread over all, ascending.

    Examples
    --------
    >>> spread(3, 5), spread(100, 4)
    ([0, 1, 2], [0, 23, 61, 85])
    """
    if number <= most:
        return list(range(number))
    return sorted({int(k * _GOLDEN % 1.0 * number) for k in range(most)})
