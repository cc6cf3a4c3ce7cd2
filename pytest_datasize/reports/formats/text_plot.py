"""Draw a learning curve as text, for a terminal or a log."""

import math
from collections.abc import Callable
from typing import NamedTuple

from pytest_datasize.curve.counts import count
from pytest_datasize.reports.records.curve_data import at, score_bounds
from pytest_datasize.reports.records.record_types import GateRecord


class Letters(NamedTuple):
    """Characters of a plot."""

    band: str
    curve: str
    ahead: str
    target: str
    mean: str
    axis: str
    corner: str
    base: str
    tick: str


UNICODE = Letters("░", "•", "·", "┄", "●", "│", "└", "─", "┴")
ASCII = Letters(".", "#", "-", "=", "o", "|", "+", "-", "+")

_GUTTER = 8


def letters_for(encoding: str | None) -> Letters:
    """Return the characters that a stream can encode.

    Examples
    --------
    >>> letters_for("utf-8").axis, letters_for("ascii").axis, letters_for(None).axis
    ('│', '|', '|')
    """
    try:
        "".join(UNICODE).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return UNICODE


def plot(record: GateRecord, width: int, letters: Letters = ASCII, height: int = 11) -> list[str]:
    """Draw score over training images (logarithmic), as lines of at most `width` characters.

    Parameters
    ----------
    record
        A judged requirement.
    width
        Columns, at least 40.
    letters
        Characters to draw with.
    height
        Rows of the drawing itself.
    """
    curve = record["curve"]
    columns = max(width, 40) - _GUTTER - 2
    first, last = math.log(curve["n"][0]), math.log(curve["n"][-1])
    low, high = _range(record)
    grid = [[" "] * columns for _ in range(height)]

    def column(n: float) -> int:
        return round((math.log(n) - first) / (last - first) * (columns - 1))

    def row(score: float) -> int:
        return round((high - score) / (high - low) * (height - 1))

    def put(place: int, score: float, letter: str) -> None:
        if 0 <= row(score) < height and 0 <= place < columns:
            grid[row(score)][place] = letter

    for place in range(columns):
        n = math.exp(first + (last - first) * place / (columns - 1))
        middle, below, above = at(curve, n)
        for line in range(max(row(above), 0), min(row(below), height - 1) + 1):
            grid[line][place] = letters.band
        put(place, middle, letters.curve if n <= 1.01 * record["sizes"][-1] else letters.ahead)
        if place % 2 == 0:
            put(place, record["target"], letters.target)
    for size, mean in zip(record["sizes"], record["measured"]["mean"], strict=True):
        put(column(size), mean, letters.mean)

    lines = [_label(i, height, low, high) + letters.axis + "".join(grid[i]) for i in range(height)]
    legend = (
        f"{letters.mean} measured  {letters.curve} fitted  {letters.ahead} projected  "
        f"{letters.band} 90 %  {letters.target} target {record['target']:g}"
    )
    lines += [*_axis(record, column, columns, letters), " " * (_GUTTER + 1) + legend]
    return [line.rstrip() for line in lines]


def _range(record: GateRecord) -> tuple[float, float]:
    """Return the range of scores: measured means, curve and target, with a small margin."""
    scores = [*record["measured"]["mean"], *record["curve"]["score"], record["target"]]
    low, high = min(scores), max([*scores, record["score_at_available_high"]])
    room = 0.05 * max(high - low, 0.02)
    least, greatest = score_bounds(record)
    return max(low - room, least), min(high + room, greatest)


def _label(line: int, height: int, low: float, high: float) -> str:
    if line % 2 and line != height - 1:
        return " " * _GUTTER
    return f"{high - (high - low) * line / (height - 1):{_GUTTER - 1}.3f} "


def _axis(
    record: GateRecord, column: Callable[[float], int], columns: int, letters: Letters
) -> list[str]:
    """Return the axis below the plot, and the important numbers under it."""
    base, numbers = [letters.base] * columns, [" "] * (columns + 1)
    first, last = record["curve"]["n"][0], record["curve"]["n"][-1]
    marks = [(record["available"], f"{record['available']:,} available")]
    if record["required"] is not None:
        marks.append((record["required"], f"{count(record['required'])} required"))
    marks += [(first, f"{first:,}"), (last, count(last))]
    taken: list[tuple[int, int]] = []
    for n, text in marks:
        if not first <= n <= last:
            continue
        place = column(n)
        base[place] = letters.tick
        start = min(max(place - len(text.split()[0]) // 2, 0), len(numbers) - len(text))
        if all(start > end + 1 or start + len(text) < begin - 1 for begin, end in taken):
            numbers[start : start + len(text)] = text
            taken.append((start, start + len(text)))
    gutter = " " * _GUTTER
    return [gutter + letters.corner + "".join(base), gutter + " " + "".join(numbers)]
