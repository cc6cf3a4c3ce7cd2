"""Show score and required images over time, as a table and as a drawing.

Takes plain data and does not depend on the store.
"""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_datasize.reports.records.baseline import images_needed
from pytest_datasize.reports.records.derived import in_all, smallest_measured
from pytest_datasize.reports.records.past_runs import Past, series
from pytest_datasize.reports.records.record_numbers import number
from pytest_datasize.reports.records.record_types import PastRecord
from pytest_datasize.reports.records.selection import unit_of, units
from pytest_datasize.reports.records.text import one_line
from pytest_datasize.reports.wording.explain import interval, subject

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def table(past: Sequence[Past]) -> str:
    r"""Write past runs as text, one block per requirement, the oldest run first.

    Parameters
    ----------
    past
        Runs of any requirements, in any order.

    Examples
    --------
    >>> table([])
    'no runs yet\n'
    """
    lines: list[str] = []
    for requirement in series(past):
        record = requirement[-1].record
        which = f", requirement {record['order'] + 1}" if record.get("order") else ""
        lines += ["", f"{one_line(record['nodeid'])}: {subject(record)}{which}"]
        rows = [_HEADER, *_rows(requirement)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADER))]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            lines.append(f"  {'  '.join(cells)}".rstrip())
    return "\n".join(lines[1:] or ["no runs yet"]) + "\n"


_HEADER = (
    "when",
    "commit",
    "images",
    "target",
    "score with all",
    "required",
    "available",
    "verdict",
)


def _rows(runs: Sequence[Past]) -> list[tuple[str, ...]]:
    return [
        (
            one_line(run.when.replace("T", " ")[:16]),
            one_line(run.commit or "-")[:8],
            one_line(run.fingerprint or "-")[:8],
            f"{run.record['target']:g}",
            interval(run.record, "score_at_available"),
            images_needed(in_all(run.record), unit_of(run.record), smallest_measured(run.record)),
            f"{run.record['available']:,}",
            run.record["verdict"],
        )
        for run in runs
    ]


def svg(runs: Sequence[Past]) -> str:
    """Draw the runs of one requirement: score above, required and available images below.

    Parameters
    ----------
    runs
        The runs of one requirement, as :func:`series` returns them; at least one.

    Returns
    -------
    str
        An SVG file.
    """
    from matplotlib.figure import Figure

    from pytest_datasize.reports.formats.draw import LIGHT, drawing

    records = [run.record for run in runs]
    places = list(range(len(runs)))
    with drawing():
        figure = Figure(figsize=(max(6.0, 0.5 * len(runs)), 5.2), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True)
        _band(upper, places, records, "score_at_available", LIGHT["curve"])
        upper.plot(
            places,
            [record["target"] for record in records],
            color=LIGHT["target"],
            linestyle="--",
            label="target",
        )
        upper.set_ylabel(
            f"{subject(records[-1])} with all {units(records[-1])}".replace("$", r"\$")
        )
        known = [(i, record) for i, record in enumerate(records) if record["required"] is not None]
        if known:
            where, found = [i for i, _ in known], [record for _, record in known]
            _band(lower, where, found, "required", LIGHT["required"])
        available = [record["available"] for record in records]
        lower.plot(places, available, color=LIGHT["available"], marker="s", label="available")
        lower.set_yscale("log")
        lower.set_ylabel(f"training {units(records[-1])}")
        names = [f"{run.when[:10]}\n{(run.commit or '')[:7]}" for run in runs]
        lower.set_xticks(places, names, fontsize=8, rotation=0 if len(runs) < 9 else 90)
        for axes in (upper, lower):
            axes.grid(color=LIGHT["faint"], linewidth=0.7)
            axes.legend(frameon=False)
        with io.StringIO() as file:
            figure.savefig(file, format="svg", metadata={"Date": None})
            return file.getvalue()


def _band(
    axes: "Axes", places: Sequence[int], records: Sequence[PastRecord], name: str, colour: str
) -> None:
    """Draw a number over time; an interval without upper end is drawn to ten times the number."""
    middle = [number(record, name) or 0.0 for record in records]
    low = [number(record, f"{name}_low") or 0.0 for record in records]
    ends = [number(record, f"{name}_high") for record in records]
    high = [10 * value if end is None else end for value, end in zip(middle, ends, strict=True)]
    axes.fill_between(places, low, high, color=colour, alpha=0.2, linewidth=0)
    label = "score (90 % interval)" if name != "required" else "required (90 % interval)"
    axes.plot(places, middle, color=colour, marker="o", label=label)
