"""Draw a learning curve as SVG with matplotlib, when a report is written.

Pyplot is not used and matplotlib's settings are restored: the user's own figures do not change.
"""

import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pytest_datasize.curve.counts import count_measured
from pytest_datasize.reports.records.curve_data import score_bounds
from pytest_datasize.reports.records.record_types import GateRecord
from pytest_datasize.reports.records.selection import units
from pytest_datasize.requirement.tasks import of_class

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LIGHT = {
    "ink": "#1b1f24",
    "faint": "#d0d7de",
    "paper": "#ffffff",
    "curve": "#0b5cad",
    "dot": "#5b6b7b",
    "target": "#b3261e",
    "available": "#1a6b35",
    "required": "#8a3ea8",
}
"""Role → colour on white; contrast of at least 4.5 to 1 where it colours text."""

_GEOMETRY = re.compile(r'\b(?:d|x|y|transform|width|height)="[^"]*"')
_LONG = re.compile(r"(\.\d\d)\d+")
"""Coordinates are rounded to hundredths of a point, finer than any screen."""

_WIDTH, _HEIGHT = 5.4, 3.7  # inches; small, so that letters stay readable on a phone
_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "datasize",
    "font.family": "sans-serif",
    "font.sans-serif": ["system-ui", "DejaVu Sans"],
    "font.size": 10.5,
}


def learning_curve(record: GateRecord, name: str, *, logarithmic: bool = True) -> str:
    """Draw the learning curve of one judged requirement for a page with both themes.

    Parameters
    ----------
    record
        A judged requirement.
    name
        Unique in the page; the SVG's own names begin with it.
    logarithmic
        Whether the number of images is on a logarithmic axis.

    Returns
    -------
    str
        An ``<svg>`` element whose colours are the page's variables ``--curve``, ``--ink``, ...
    """
    marked = {role: f"#0000{number:02x}" for number, role in enumerate(LIGHT, 16)}
    text = _svg(record, marked, logarithmic)
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)
    for role, colour in marked.items():
        text = text.replace(colour, f"var(--{role})")
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = _GEOMETRY.sub(lambda match: _LONG.sub(r"\1", match[0]), text)
    return re.sub(r"<svg [^>]*?viewBox", '<svg aria-hidden="true" viewBox', text, count=1)


def standalone(record: GateRecord) -> str:
    """Draw the curve as a standalone SVG file, in light colours."""
    return _svg(record, LIGHT, logarithmic=True)


def _svg(record: GateRecord, colours: dict[str, str], logarithmic: bool) -> str:
    from matplotlib.figure import Figure

    with drawing():
        figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
        figure.patch.set_alpha(0.0)
        axes = figure.add_subplot()
        _curve(axes, record, colours)
        _frame(axes, record, colours, logarithmic)
        _marks(axes, record, colours)
        with io.StringIO() as file:
            figure.savefig(file, format="svg", metadata={"Date": None})
            return file.getvalue()


@contextmanager
def drawing() -> Iterator[None]:
    """Configure matplotlib for reproducible drawings, and restore its settings at the end.

    Text stays text in the browser's font; matplotlib's warning that it lacks the font is silenced.
    """
    import matplotlib as mpl

    fonts = logging.getLogger("matplotlib.font_manager")
    level = fonts.level
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        fonts.setLevel(logging.ERROR)
        try:
            yield
        finally:
            fonts.setLevel(level)


def _curve(axes: "Axes", record: GateRecord, colours: dict[str, str]) -> None:
    """Draw dots, means and the fitted law; beyond the measured sizes dashed and lighter."""
    curve, sizes = record["curve"], record["sizes"]
    n, colour = curve["n"], colours["curve"]
    inside = [i for i, size in enumerate(n) if size <= sizes[-1]]
    parts = ((inside, "-", 0.28), (list(range(inside[-1], len(n))), (0, (4, 2)), 0.14))
    for part, style, opacity in parts:
        x, low, middle, high = (
            [values[i] for i in part] for values in (n, curve["low"], curve["score"], curve["high"])
        )
        axes.fill_between(x, low, high, color=colour, alpha=opacity, linewidth=0)
        axes.plot(x, middle, color=colour, linestyle=style, linewidth=1.8)
    dots = [
        (size, y) for size, repeats in zip(sizes, record["scores"], strict=True) for y in repeats
    ]
    axes.plot(
        *zip(*dots, strict=True),
        linestyle="none",
        marker="o",
        markersize=3.4,
        markeredgewidth=0,
        color=colours["dot"],
        alpha=0.75,
    )
    means = record["measured"]
    below = [m - low for m, low in zip(means["mean"], means["low"], strict=True)]
    above = [high - m for m, high in zip(means["mean"], means["high"], strict=True)]
    axes.errorbar(
        sizes,
        means["mean"],
        yerr=[below, above],
        fmt="s",
        markersize=4.5,
        color=colours["ink"],
        elinewidth=1.2,
        capsize=2.5,
    )


def _frame(axes: "Axes", record: GateRecord, colours: dict[str, str], logarithmic: bool) -> None:
    """Set range, scale, grid and titles of the axes."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    curve = record["curve"]
    if logarithmic:
        axes.set_xscale("log")
        axes.set_xlim(0.85 * curve["n"][0], 1.1 * curve["n"][-1])
        decades = len(str(curve["n"][-1])) - len(str(curve["n"][0]))
        steps = (1.0, 2.0, 5.0) if decades < 3 else (1.0,)
        axes.xaxis.set_major_locator(LogLocator(subs=steps, numticks=12))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(0, _linear_end(record))
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: _short(n)))
    scores = [y for repeats in record["scores"] for y in repeats] + curve["score"]
    low = min([*scores, record["target"]])
    high = max([*scores, record["target"], record["score_at_available_high"]])
    room = 0.08 * max(high - low, 0.02)
    least, greatest = score_bounds(record)
    axes.set_ylim(max(low - room, least - 0.1 * room), min(high + 2 * room, greatest + 0.2 * room))
    axes.set_xlabel(f"training {units(record)}")
    axes.set_ylabel(of_class(record["metric"]) if record["class"] is not None else record["metric"])
    axes.grid(color=colours["faint"], linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=colours["ink"])
    axes.xaxis.label.set_color(colours["ink"])
    axes.yaxis.label.set_color(colours["ink"])
    axes.set_facecolor("none")
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(colours["ink"])


def _marks(axes: "Axes", record: GateRecord, colours: dict[str, str]) -> None:
    """Draw the target, and the available and required numbers of images, named at their lines."""
    bottom, top = axes.get_ylim()
    left, right = axes.get_xlim()
    target = record["target"]
    axes.axhline(target, color=colours["target"], linewidth=1.4, linestyle=(0, (6, 2, 1, 2)))
    axes.annotate(
        f"target {target:g}",
        (0, target),
        xycoords=axes.get_yaxis_transform(),
        xytext=(4, 3 if target < top - 0.12 * (top - bottom) else -12),
        textcoords="offset points",
        color=colours["target"],
    )
    _spans(axes, record, colours)
    smallest = record["sizes"][0]
    numbers = ((record["available"], "available", 0.03), (record["required"], "required", 0.12))
    for number, role, where in numbers:
        n = max(number or 0, smallest)  # what is less than the smallest measured size is not known
        if number is None or not left <= n <= right:
            continue
        axes.axvline(n, color=colours[role], linewidth=1.4, linestyle=(0, (2, 1.5)))
        logarithmic = axes.get_xscale() == "log"
        middle = (left * right) ** 0.5 if logarithmic else (left + right) / 2
        axes.annotate(
            f"{count_measured(number, smallest) if role == 'required' else f'{n:,}'} {role}",
            (n, where),
            xycoords=axes.get_xaxis_transform(),
            xytext=(4 if n < middle else -4, 0),
            textcoords="offset points",
            ha="left" if n < middle else "right",
            color=colours[role],
        )


def _spans(axes: "Axes", record: GateRecord, colours: dict[str, str]) -> None:
    """Draw the interval of the required number at the target, and the best reachable score."""
    bottom, top = axes.get_ylim()
    left, right = axes.get_xlim()
    low, high = record["required_low"], record["required_high"]
    if low is not None and low < right:  # without an upper limit it runs out of the figure
        end = right if high is None else min(high, right)
        axes.hlines(
            record["target"],
            max(low, left),
            end,
            colors=colours["required"],
            linewidth=5,
            alpha=0.35,
            zorder=1,
        )
    ceiling = record["ceiling"]
    if bottom < ceiling < top:
        axes.axhline(ceiling, color=colours["curve"], linewidth=1, linestyle=(0, (1, 2)))
        axes.annotate(
            f"best {ceiling:z.3f}",
            (1, ceiling),
            xycoords=axes.get_yaxis_transform(),
            xytext=(-4, 3),
            textcoords="offset points",
            ha="right",
            color=colours["curve"],
        )


def _linear_end(record: GateRecord) -> float:
    """Return the end of a linear axis: it shows required and available unless one is far larger."""
    known = max(record["available"], record["sizes"][-1])
    wanted = record["required"] or known
    return 1.15 * float(wanted if known < wanted <= 8 * known else known)


def _short(n: float) -> str:
    """Write a number of images on an axis.

    Examples
    --------
    >>> _short(500), _short(20_000), _short(3e6)
    ('500', '20k', '3M')
    """
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if n >= 10 * unit or (n >= unit and unit == 1e6):
            return f"{n / unit:g}{letter}"
    return f"{n:,.0f}"
