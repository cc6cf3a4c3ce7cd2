"""Show a learning curve in a notebook: as a table of pandas, as HTML, drawn by matplotlib.

Both libraries are imported when they are used; neither is a dependency.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_AHEAD = 4.0
"""A curve is drawn up to this multiple of the largest size."""

_POINTS = 60


class Curve(Protocol):
    """What is shown: a :class:`pytest_datasize.LearningCurve`."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Training sizes, ascending."""

    @property
    def scores(self) -> tuple[tuple[float, ...], ...]:
        """Repeats at every size."""

    @property
    def level(self) -> float:
        """Level of the intervals."""

    def predict(self, n: float) -> float:
        """Return the projected score at `n` images."""

    def interval(self, n: float) -> tuple[float, float]:
        """Return its interval."""


def rows(curve: Curve) -> list[dict[str, float]]:
    """Return a row per training size: measured mean, repeats, projected score and its interval."""
    found = []
    for size, repeats in zip(curve.sizes, curve.scores, strict=True):
        low, high = curve.interval(size)
        found.append(
            {
                "images": size,
                "measured": float(np.mean(repeats)),
                "repeats": len(repeats),
                "projected": curve.predict(size),
                "low": low,
                "high": high,
            }
        )
    return found


def as_html(curve: Curve, title: str) -> str:
    """Return the rows as an HTML table."""
    found = rows(curve)
    head = "".join(f"<th>{html.escape(name)}</th>" for name in found[0])
    body = "".join(
        "<tr>"
        + "".join(
            f"<td>{value:,}</td>" if isinstance(value, int) else f"<td>{value:.3f}</td>"
            for value in row.values()
        )
        + "</tr>"
        for row in found
    )
    return (
        f"<table><caption>{html.escape(title)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def as_frame(curve: Curve) -> Any:
    """Return the rows as a pandas DataFrame.

    Raises
    ------
    ImportError
        pandas is not installed.
    """
    import pandas

    return pandas.DataFrame(rows(curve))


def draw(curve: Curve, axes: Axes | None, target: float | None) -> Axes:
    """Draw the repeats, their means, and the curve with its interval; return the axes.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    if axes is None:
        from matplotlib import pyplot

        axes = pyplot.figure().add_subplot()
    images = np.geomspace(curve.sizes[0], _AHEAD * curve.sizes[-1], _POINTS)
    middle = [curve.predict(n) for n in images]
    ends = np.array([curve.interval(n) for n in images])
    [line] = axes.plot(images, middle, label="fitted, projected")
    axes.fill_between(
        images, *ends.T, alpha=0.2, color=line.get_color(), label=f"{100 * curve.level:g} %"
    )
    for size, repeats in zip(curve.sizes, curve.scores, strict=True):
        axes.plot([size] * len(repeats), repeats, ".", color="0.6", markersize=3)
    means = [float(np.mean(repeats)) for repeats in curve.scores]
    axes.plot(curve.sizes, means, "s", color="0.2", label="measured")
    axes.axvline(curve.sizes[-1], linestyle=":", color="0.6")
    if target is not None:
        axes.axhline(target, linestyle="--", color="0.4", label=f"target {target:g}")
    axes.set(xscale="log", xlabel="training images", ylabel="score")
    axes.legend()
    return axes
