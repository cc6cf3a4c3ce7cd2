"""Write the terminal section: a table, curves of failed requirements, and what to do."""

from collections.abc import Sequence
from typing import Any

from pytest_datasize.reports.formats import check_report
from pytest_datasize.reports.formats.text_plot import letters_for, plot
from pytest_datasize.reports.records.record_types import (
    GateRecord,
    PlannedModel,
    PlanRecord,
    Record,
)
from pytest_datasize.reports.records.selection import (
    checked,
    exceeded_only,
    failures,
    is_checked,
    is_planned,
    judged,
    planned,
    unscored,
)
from pytest_datasize.reports.records.text import first_line, one_line, printable
from pytest_datasize.reports.wording import advice_text, explain
from pytest_datasize.reports.wording.explain import interval, required

_COLOURS = {"sufficient": "green", "planned": "cyan", "skipped": "yellow"}
_NAME = 40
"""Longest name of a class in a table."""

_PLOTS = 3
"""Most curves without ``-v``: a log must stay readable when many gates fail."""

_ROOM = 60
"""Least width of a terminal in which a curve is drawn, in columns."""

_WIDEST = 90
"""Largest width of a curve, in columns."""


def write(reporter: Any, records: Sequence[Record]) -> None:
    """Write the section; with ``-q`` only failures, one line each.

    Parameters
    ----------
    reporter
        pytest's terminal reporter.
    records
        All requirements.
    """
    quiet, verbose = reporter.verbosity < 0, reporter.verbosity > 0
    requirements, plans, data_checks = judged(records), planned(records), checked(records)
    others = [one for one in unscored(records) if not (is_planned(one) or is_checked(one))]
    failed = failures(records)
    if quiet:
        others = [r for r in others if r["verdict"] != "met"]
        requirements = [r for r in requirements if r["failed"] or r["verdict"] != "sufficient"]
        if not (requirements or plans or others or data_checks):
            return
    reporter.section("image data sufficiency")
    if requirements:
        _table(reporter, requirements)
    for plan in plans:
        _plan(reporter, plan)
    check_report.write(reporter, data_checks)
    for other in others:
        first = one_line(first_line(other["message"]))
        reporter.write_line(f"{one_line(other['nodeid'])}: {other['verdict']}: {first}")
    if verbose:
        for record in requirements:
            _sizes(reporter, record)
    if not quiet:
        _curves(reporter, requirements if verbose else failed[:_PLOTS])
        if len(failed) > _PLOTS and not verbose:
            reporter.write_line(f"(curves of {len(failed) - _PLOTS} more with -v)")
    _what_to_do(reporter, failed)
    if not quiet:
        _rules(reporter, requirements)
        _changes(reporter, requirements)
        for note in dict.fromkeys(note for record in requirements for note in record["notes"]):
            reporter.write_line(f"note: {one_line(note)}")


def write_comparisons(reporter: Any, comparisons: list[tuple[str, str]]) -> None:
    """Write the table of every comparison of strategies."""
    reporter.section("strategies compared")
    for nodeid, text in comparisons:
        reporter.write_line(f"{one_line(nodeid)}: {printable(text)}")


def _table(reporter: Any, records: list[GateRecord]) -> None:
    header = (
        "test",
        "metric",
        "target",
        "score with all",
        "images required",
        "available",
        "verdict",
    )
    rows = [header, *(_row(record) for record in records)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    for number, row in enumerate(rows):
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)]
        reporter.write("  ".join(cells) + "  ")
        verdict = row[-1]
        if number == 0:
            reporter.write_line(verdict)
        else:
            reporter.write_line(verdict, **{_COLOURS.get(verdict, "red"): True})


def _row(record: GateRecord) -> tuple[str, ...]:
    metric = record["metric"]
    if record["class"] is not None:
        metric = f"{metric} [{one_line(record['class'], _NAME)}]"
    return (
        one_line(record["nodeid"]),
        metric,
        f"{record['target']:g}",
        interval(record, "score_at_available"),
        required(record),
        f"{record['available']:,} of {record['total']:,}",
        "rose too far" if exceeded_only(record) else record["verdict"],
    )


def _plan(reporter: Any, plan: PlanRecord) -> None:
    sizes = ", ".join(f"{size:,}" for size in plan["sizes"])
    counts = ", ".join(f"{one_line(name, _NAME)} {n:,}" for name, n in plan["class_counts"].items())
    reporter.write_line(f"{one_line(plan['nodeid'])}: {plan['message']}")
    reporter.write_line(f"  images   {plan['total']:,} from {one_line(plan['source'])} ({counts})")
    reporter.write_line(
        f"  split    {plan['available']:,} to train on, {plan['n_test']:,} to test each repeat"
    )
    reporter.write_line(
        f"  trials   {plan['n_trials']:,}: sizes {sizes}, {plan['repeats']} repeats each"
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
    reporter.write_line("")
    reporter.write_line(f"{one_line(record['nodeid'])}: {record['metric']} by training size")
    ranges = record["derived"]["repeats"]
    columns = (record["sizes"], record["measured"]["mean"], ranges["least"], ranges["most"])
    for size, mean, least, most in zip(*columns, strict=True):
        reporter.write_line(f"  {size:>9,}  {mean:.3f}  ({least:.3f} to {most:.3f})")
    for line in advice_text.more(record):
        reporter.write_line(line)
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in record["timings"].items())
    reporter.write_line(f"  {seconds}; weights {record['weights']['sha256']}")


def _curves(reporter: Any, records: Sequence[GateRecord]) -> None:
    writer = reporter._tw
    width = writer.fullwidth
    if width < _ROOM:
        return
    letters = letters_for(getattr(writer._file, "encoding", None))
    for record in records:
        reporter.write_line("")
        title = f"{one_line(record['nodeid'])}: {explain.subject(record)} over training images"
        reporter.write_line(title, bold=True)
        for line in plot(record, min(width, _WIDEST), letters):
            reporter.write_line(line)


def _what_to_do(reporter: Any, failed: Sequence[GateRecord]) -> None:
    """Write one sentence for every failed requirement: what failed, how sure, what to do."""
    said: set[str] = set()
    if failed:
        reporter.write_line("")
    for record in failed:
        reporter.write(one_line(record["nodeid"]), bold=True)
        reporter.write_line(f": {one_line(explain.sentence(record))}")
        _advice(reporter, record, said)


def _advice(reporter: Any, record: GateRecord, said: set[str]) -> None:
    """Write the advice, one line per topic; skip lines already written for the same images."""
    for topic, sentence in advice_text.headlines(record):
        if sentence not in said:
            said.add(sentence)
            reporter.write_line(f"  {topic:<8} {one_line(sentence)}")


def _rules(reporter: Any, requirements: Sequence[GateRecord]) -> None:
    """Write where a rule of thumb contradicts a requirement that is met."""
    for record in requirements:
        advice = record.get("advice")
        found = advice["rule"] if advice else None
        if found and found["agrees"] is False and not record["failed"]:
            name = f"{record['nodeid']}, {explain.subject(record)}"
            reporter.write_line(f"rule: {one_line(name)}: {advice_text.rule(record, found)}")


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
