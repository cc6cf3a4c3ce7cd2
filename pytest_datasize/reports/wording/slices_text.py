"""Write the scores of slices, which are too small, and which factors predict the class."""

from collections.abc import Sequence

from pytest_datasize.curve.counts import TELLABLE, count, percent
from pytest_datasize.reports.records.derived import smallest_measured
from pytest_datasize.reports.records.record_parts import FactorRow, SliceRow
from pytest_datasize.reports.records.record_types import GateRecord
from pytest_datasize.reports.records.selection import units
from pytest_datasize.reports.records.text import one_line

_NAME = 40
_MOST_NAMED = 3


def name(row: SliceRow) -> str:
    """Name a slice, such as ``site 'B'``."""
    return f"{one_line(row['factor'], _NAME)} {one_line(row['value'], _NAME)!r}"


def header(record: GateRecord) -> tuple[str, ...]:
    """Return the titles of :func:`cells`."""
    needed_units = f"{units(record)} needed"
    return ("slice", "images", "test images", "measured", "projected", "sure", needed_units)


def judged(record: GateRecord) -> list[SliceRow]:
    """Return the slices that have a score, the worst score first."""
    return [row for row in record.get("slices", []) if row["score"] is not None]


def too_small(record: GateRecord) -> list[SliceRow]:
    """Return the slices with too few test images; none if the metric has no score of a slice."""
    if not judged(record) and not _small_only(record):
        return []
    return [row for row in record.get("slices", []) if row["score"] is None]


def _small_only(record: GateRecord) -> bool:
    return any(row["measured"] is not None for row in record.get("slices", []))


def summary(record: GateRecord) -> str:
    """Write the scores of the slice that decides and of the worst, and how many miss the target.

    They differ if another slice needs more images, or is less certain. Slices that are too small
    are named.
    """
    if not record.get("slices"):
        return ""
    rows = judged(record)
    if not rows:
        return one_line(record.get("slices_reason", ""))
    lower_is_better = record["fit"]["sign"] < 0
    worst = rows[0]
    if (deciding := next((row for row in rows if row["decides"]), worst)) is worst:
        parts = [f"{_score(worst)} in the worst slice, {name(worst)}"]
    else:
        end = "highest" if lower_is_better else "lowest"
        parts = [
            f"{_score(deciding)} in the slice that decides, {name(deciding)}",
            f"{end} score {_score(worst)}, {name(worst)}",
        ]
    missed = sum((row["probability"] or 0.0) < 0.5 for row in rows)
    side = "above" if lower_is_better else "below"
    parts.append(f"{missed:,} of {len(rows):,} slices {side} {record['target']:g}")
    if small := too_small(record):
        parts.append(f"too small to judge: {_named(small)}")
    return "; ".join(parts)


def _named(rows: Sequence[SliceRow]) -> str:
    most = sorted(rows, key=lambda row: -row["n_test"])
    shown = [f"{name(row)} ({row['n_test']:,} test images)" for row in most[:_MOST_NAMED]]
    rest = len(rows) - len(shown)
    return ", ".join(shown) + (f" and {rest:,} more" if rest else "")


def _score(row: SliceRow) -> str:
    return f"{row['score']:z.3f} ({row['score_low']:z.3f} to {row['score_high']:z.3f})"


def cells(row: SliceRow, record: GateRecord) -> tuple[str, ...]:
    """Return the cells of a slice in a table, below :func:`header`."""
    measured = "" if row["measured"] is None else f"{row['measured']:z.3f}"
    start = (name(row), f"{row['images']:,}", f"{row['n_test']:,}", measured)
    if row["score"] is None:
        groups = "" if row["n_groups"] is None else f" of {row['n_groups']:,} groups"
        return (*start, f"too small to judge{groups}" if measured else "not judged", "", "")
    return (*start, _score(row), percent(row["probability"] or 0.0), needed(row, record))


def needed(row: SliceRow, record: GateRecord) -> str:
    """Say how many images (or groups) the target needs in all, and how many are in the slice."""
    today = record["derived"]["data_set"]["images"]
    required, low = row["required"], row["required_low"]
    if required is None or required > TELLABLE * today:
        if low is not None and today < low <= TELLABLE * today:
            return f"cannot be told, at least {count(low)}"
        return "cannot be told"
    if required < (smallest := smallest_measured(record)):
        return f"at most {count(smallest)}, the smallest size measured"
    high = row["required_high"]
    least = f"{count(low or 0)} {'or more' if high is None else f'to {count(high)}'}"
    return f"{count(required)} ({least}), {count(row['in_slice'] or 0)} of this slice"


def lines(record: GateRecord) -> list[str]:
    """Return a line for every slice and factor, for details."""
    if not record.get("slices") and not record.get("factors"):
        return []
    table = [header(record), *(cells(row, record) for row in record.get("slices", []))]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    found = [
        "slices (those of a factor are estimated together); sure: today's "
        f"{units(record)} are enough"
    ]
    if reason := record.get("slices_reason"):
        found.append(f"  {one_line(reason)}")
    found += [
        "  "
        + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
    return [*found, *(f"  {factor(one)}" for one in record.get("factors", []))]


def factor(row: FactorRow) -> str:
    """Write whether a factor predicts the class, with numbers."""
    title = one_line(row["name"], _NAME)
    start = f"{title!r}, {row['values']:,} values in {row['units']:,} {units(row)}: "
    if row["p_value"] is None:
        return f"{start}not tested: {one_line(row['untested'])}"
    said = "PREDICTS THE CLASS" if row["tells"] else "does not predict the class"
    class_name, value = one_line(row["class_name"], _NAME), one_line(row["value"], _NAME)
    return (
        f"{start}{said}: right for {100 * row['guessed']:.0f} % of {units(row)} (shuffled values: "
        f"{100 * row['shuffled']:.0f} %, at best {100 * row['possible']:.0f} %), p = "
        f"{row['p_value']:.2g}; {100 * row['share']:.0f} % of {class_name!r} have {value!r}, and "
        f"{100 * row['share_of_others']:.0f} % of all others"
    )
