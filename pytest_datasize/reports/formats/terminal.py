"""Write the terminal section: a table of all gates, and ten lines on each that failed."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from pytest_datasize.curve.counts import beside
from pytest_datasize.reports.formats import check_report
from pytest_datasize.reports.formats.text_plot import Letters, letters_for, plot
from pytest_datasize.reports.records.record_types import (
    ComparisonRecord,
    GateRecord,
    PlannedModel,
    PlanRecord,
    Record,
)
from pytest_datasize.reports.records.selection import (
    checked,
    conditions,
    exceeded_only,
    failures,
    is_checked,
    is_condition,
    is_planned,
    judged,
    planned,
    unit_of,
    unscored,
)
from pytest_datasize.reports.records.text import first_line, one_line, printable
from pytest_datasize.reports.wording import (
    advice_text,
    condition_text,
    explain,
    levers_text,
    models_text,
    slices_text,
)
from pytest_datasize.reports.wording.overview import headline
from pytest_datasize.requirement.tasks import of_class
from pytest_datasize.requirement.units import GROUP

_COLOURS = {"sufficient": "green", "met": "green", "planned": "cyan", "skipped": "yellow"}
_NAME = 40
"""Longest name of a class in a table."""

_PLOTS = 3
"""Most curves without ``-v``: a log must stay readable when many gates fail."""

_ROOM = 60
"""Least width of a terminal in which a curve is drawn, in columns."""

_WIDE = 100
"""Least width of a terminal in which the table has intervals, in columns."""

_WIDEST = 90
"""Largest width of a curve, in columns."""

_HEIGHT = 4
"""Rows of a curve without ``-v``."""

_LONGEST = 120
"""Longest line of a report, in columns."""


def write(reporter: Any, records: Sequence[Record]) -> None:
    """Write the section; with ``-q`` one line for each gate that is not met.

    Parameters
    ----------
    reporter
        pytest's terminal reporter.
    records
        All requirements.
    """
    verbose = reporter.verbosity > 0
    if reporter.verbosity < 0:
        _quiet(reporter, records)
        return
    requirements, plans, data_checks = judged(records), planned(records), checked(records)
    others = [
        one
        for one in unscored(records)
        if not (is_planned(one) or is_checked(one) or is_condition(one))
    ]
    reporter.section("image data sufficiency")
    _table(reporter, [*requirements, *conditions(records)])
    for plan in plans:
        _plan(reporter, plan)
    check_report.write(reporter, data_checks)
    for other in others:
        first = one_line(first_line(other["message"]))
        reporter.write_line(f"{one_line(other['nodeid'])}: {other['verdict']}: {first}")
    for condition in conditions(records):
        if condition["failed"]:
            _condition(reporter, condition)
    failed = failures(records)
    for number, record in enumerate(failed):
        _report(reporter, record, curve=verbose or number < _PLOTS)
    if verbose:
        for record in requirements:
            _details(reporter, record)
    _passed(reporter, [record for record in requirements if not record["failed"]])
    _changes(reporter, [record for record in requirements if not record["failed"]])
    for note in dict.fromkeys(note for record in requirements for note in record["notes"]):
        reporter.write_line(f"note: {one_line(note)}")
    if failed and not verbose:
        reporter.write_line("Details: -v, --datasize-html=PATH, docs/red-gate.md")


def write_headline(reporter: Any, records: Sequence[Record]) -> None:
    """Write the outcome of the run in one line; the last words of a session are read first."""
    bad = any(record["failed"] for record in records)
    reporter.write_line(headline(records), bold=True, **{"red" if bad else "green": True})


def _quiet(reporter: Any, records: Sequence[Record]) -> None:
    """Write one line for each record that is not met, and nothing if all are."""
    for record in records:
        if not record["failed"] and record["verdict"] in ("sufficient", "met"):
            continue
        for reason in explain.reasons(record) or [first_line(record["message"])]:
            verdict = record["verdict"]
            reporter.write_line(
                f"{one_line(record['nodeid'])}: {verdict}: {one_line(first_line(reason))}"
            )


def _report(reporter: Any, record: GateRecord, *, curve: bool) -> None:
    """Write about ten lines on a requirement that failed its test."""
    reporter.write_line("")
    reporter.write_line(one_line(record["nodeid"]), bold=True)
    _wrapped(reporter, "", explain.headline(record), red=True)
    for label, text in explain.lines(record):
        _wrapped(reporter, f"  {label:<7}  ", text)
    if curve:
        _curve(reporter, record)
    for number, text in enumerate(levers_text.todo(record), 1):
        _wrapped(reporter, f"  {'to do' if number == 1 else '':<7}  {number}. ", text)
    if trust := explain.belief(record):
        _wrapped(reporter, "  check    ", trust)


def _details(reporter: Any, record: GateRecord) -> None:
    reporter.write_line("")
    reporter.write_line(f"{one_line(record['nodeid'])}: details", bold=True)
    for line in explain.details(record):
        reporter.write_line(one_line(line))
    _sizes(reporter, record)
    if not record["failed"]:
        _curve(reporter, record, height=11)


def _condition(reporter: Any, record: Any) -> None:
    reporter.write_line("")
    reporter.write_line(one_line(record["nodeid"]), bold=True)
    reporter.write_line(one_line(record["message"]), red=True)
    for line in condition_text.details(record):
        reporter.write_line(one_line(line))


def _wrapped(reporter: Any, label: str, text: str, **markup: bool) -> None:
    """Write a text after a label, wrapped by words below its own start."""
    width = max(_ROOM, min(reporter._tw.fullwidth, _LONGEST))
    for line in textwrap.wrap(
        one_line(text),
        width,
        initial_indent=label,
        subsequent_indent=" " * len(label),
        break_long_words=False,
        break_on_hyphens=False,
    ):
        reporter.write_line(line, **markup)


def write_comparisons(reporter: Any, comparisons: Sequence[ComparisonRecord]) -> None:
    """Write the table of every comparison of strategies."""
    reporter.section("strategies compared")
    for one in comparisons:
        reporter.write_line(f"{one_line(one['nodeid'])}: {printable(one['text'])}")


def _table(reporter: Any, records: Sequence[Record]) -> None:
    """Write a line for each test, and below it one for each of its targets."""
    wide = reporter._tw.fullwidth >= _WIDE
    gates: dict[str, list[tuple[str, ...]]] = {}
    for record in records:
        gates.setdefault(record["nodeid"], []).append(_row(record, wide))
    if not gates:
        return
    header = ("verdict", "sure", "target", "now", "needed")
    every = [header, *(row for rows in gates.values() for row in rows)]
    widths = [max(len(row[column]) for row in every) for column in range(len(header) - 1)]
    for line in _lines(header, widths):
        reporter.write_line(line)
    for nodeid, rows in gates.items():
        reporter.write_line(one_line(nodeid))
        for row in rows:
            for line in _lines(row, widths):
                reporter.write_line(line, **{_COLOURS.get(row[0], "red"): True})


def _lines(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)]
    yield ("  " + "  ".join([*cells, row[-1]])).rstrip()


def _row(record: Record, wide: bool) -> tuple[str, ...]:
    if is_condition(record):
        check = record["check"]
        kind = check["kind"]
        if check["kind"] == "images_per_class":
            fewest = min(check["class_counts"].values(), default=0)
            target = f"{kind} {check['images_per_class']:,}"
            return record["verdict"], "", target, f"{fewest:,} in the smallest", ""
        return record["verdict"], "", kind, f"AUC {check['auc']:.3f}", ""
    assert "score_at_available" in record
    gate: Any = record
    metric = gate["metric"]
    if gate["class"] is not None:
        metric = f"{of_class(gate['metric'])} {one_line(gate['class'], _NAME)!r}"
    elif gate.get("slice"):
        metric = explain.subject(gate)
    score = explain.interval(gate, "score_at_available")
    return (
        "rose too far" if exceeded_only(gate) else gate["verdict"],
        explain.certainty(gate),
        f"{metric} {gate['target']:g}{explain.at(gate)}",
        score if wide else beside(gate["score_at_available"], gate["target"]),
        explain.needed_briefly(gate),
    )


def _plan(reporter: Any, plan: PlanRecord) -> None:
    sizes = ", ".join(f"{size:,}" for size in plan["sizes"])
    counts = ", ".join(f"{one_line(name, _NAME)} {n:,}" for name, n in plan["class_counts"].items())
    groups, images = (" groups", " images") if unit_of(plan) == GROUP else ("", "")
    reporter.write_line(f"{one_line(plan['nodeid'])}: {plan['message']}")
    reporter.write_line(f"  images   {plan['total']:,} from {one_line(plan['source'])} ({counts})")
    reporter.write_line(
        f"  split    {plan['available']:,}{groups} to train on, {plan['n_test']:,}{images} to test "
        "each repeat"
    )
    reporter.write_line(
        f"  trials   {plan['n_trials']:,}: sizes {sizes}{groups}, {plan['repeats']} repeats each"
    )
    reporter.write_line(
        f"  model    {plan['strategy']} with {plan['backbone']} at {plan['image_size']} pixels "
        f"on {plan['device']}"
    )
    reporter.write_line(f"  cost     {_cost(plan)}")
    models = plan.get("models", [])
    for number, model in enumerate(models if len(models) > 1 else []):
        word = "order" if number == 0 else ""
        reporter.write_line(f"  {word:<9}{_planned(model, number)}")
    if left_out := plan.get("shed"):
        reporter.write_line(f"  left out {left_out}")


def _planned(model: PlannedModel, number: int) -> str:
    sizes, repeats = len(model["sizes"]), model["repeats"]
    time = "" if model["seconds"] is None else f", about {model['seconds']:.0f} s"
    when = "" if number == 0 else "; if no model before meets the targets"
    if model["name"] == "second look":
        when += ", within second_look"
    return (
        f"{model['strategy']} at {model['image_size']} pixels, {sizes} sizes, "
        f"{repeats} repeats{time}{when}"
    )


def _cost(plan: PlanRecord) -> str:
    if plan["estimated_seconds"] is None:
        return "unknown: the trainer's own"
    return (
        f"about {plan['estimated_seconds']:.0f} s: {plan.get('forwards', 0):,} images forward "
        f"once, {plan.get('backwards', 0):,} backward; "
        f"{plan.get('stored_bytes', 0) / 2**20:,.0f} MiB kept"
    )


def _sizes(reporter: Any, record: GateRecord) -> None:
    counted = ", in groups" if unit_of(record) == GROUP else ""
    reporter.write_line(f"  {record['metric']} by training size{counted}")
    ranges = record["derived"]["repeats"]
    columns = (record["sizes"], record["measured"]["mean"], ranges["least"], ranges["most"])
    for size, mean, least, most in zip(*columns, strict=True):
        reporter.write_line(f"  {size:>9,}  {mean:.3f}  ({least:.3f} to {most:.3f})")
    for line in slices_text.lines(record):
        reporter.write_line(f"  {line}")
    for line in advice_text.more(record):
        reporter.write_line(line)
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in record["timings"].items())
    reporter.write_line(f"  {seconds}; weights {record['weights']['sha256']}")


def _curve(reporter: Any, record: GateRecord, height: int = 0) -> None:
    """Draw the curve: in `height` rows with a legend, or in a few without."""
    writer = reporter._tw
    width = writer.fullwidth
    if width < _ROOM:
        return
    letters = letters_for(getattr(writer._file, "encoding", None))
    drawn = plot(record, min(width, _WIDEST), letters, height or _HEIGHT)
    for line in drawn if height else _without_legend(drawn, letters):
        reporter.write_line(line)


def _without_legend(drawn: list[str], letters: Letters) -> list[str]:
    """Write the numbers of the axis into the axis itself, and leave out the legend."""
    *rows, axis, numbers, _ = drawn
    merged = [
        number if number != " " else line
        for line, number in zip_longest(axis, numbers, fillvalue=" ")
    ]
    text = re.sub(rf"(?<=[0-9]){re.escape(letters.base)}(?=[a-z])", " ", "".join(merged))
    return [*rows, text]


def _passed(reporter: Any, requirements: Sequence[GateRecord]) -> None:
    """Write what a reader of a met requirement must know: how it is met, and weak targets."""
    for record in requirements:
        name = f"{record['nodeid']}, {explain.subject(record)}"
        guess = record.get("guessing")
        if guess and record["target"] <= guess["majority"]:
            _wrapped(reporter, "note: ", f"{name}: {explain.proves_nothing(record)}")
        if text := explain.not_judged(record):
            _wrapped(reporter, "note: ", f"{name}: {text}")
        if text := slices_text.summary(record):
            _wrapped(reporter, "slices: ", f"{name}: {text}")
        if text := models_text.how_to_reach_it(record):
            _wrapped(reporter, "note: ", f"{name}: {text}")


def _changes(reporter: Any, requirements: Sequence[GateRecord]) -> None:
    """Write what changed since the baseline; a missing baseline is reported in the notes."""
    compared = [(one, change) for one in requirements if (change := one["baseline"])]
    if not any(change["found"] for _, change in compared):
        return
    reporter.write_line("")
    reporter.write_line("since the baseline", bold=True)
    for record, change in compared:
        reporter.write_line(f"{one_line(record['nodeid'])}: {explain.subject(record)}")
        for line in change["lines"]:
            reporter.write_line(f"  {one_line(line)}")
