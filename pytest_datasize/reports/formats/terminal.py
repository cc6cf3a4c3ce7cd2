"""The section at the end of a pytest run: a table, a curve for what failed, what to do about it."""

from collections.abc import Sequence
from typing import Any

from pytest_datasize.reports.formats import check_report
from pytest_datasize.reports.formats.text_plot import letters_for, plot
from pytest_datasize.reports.records.text import one_line, printable
from pytest_datasize.reports.wording import advice_text, explain
from pytest_datasize.reports.wording.explain import interval
from pytest_datasize.reports.wording.overview import failures

Record = dict[str, Any]
_COLOURS = {"sufficient": "green", "planned": "cyan", "skipped": "yellow"}
_NAME = 40
"""Longest name of a class in a table."""

_PLOTS = 3
"""Curves that are drawn without ``-v``: a log must stay readable when many gates fail."""

_ROOM = 60
"""A curve is drawn in a terminal of at least so many columns..."""

_WIDEST = 90
"""... and grows no wider than this."""


def write(reporter: Any, records: Sequence[Record], notes: Sequence[str]) -> None:
    """Write the section; with ``-q`` only what did not pass, in one line each.

    Parameters
    ----------
    reporter
        pytest's terminal reporter.
    records
        All requirements.
    notes
        What else to say at the end: files written, baselines recorded.
    """
    quiet, verbose = reporter.verbosity < 0, reporter.verbosity > 0
    judged = [record for record in records if record["metric"] is not None]
    plans = [record for record in records if record["verdict"] == "planned"]
    looked_at = [record for record in records if "checks" in record]
    others = [
        record
        for record in records
        if record["metric"] is None and record["verdict"] != "planned" and "checks" not in record
    ]
    failed = failures(judged)
    if quiet:
        others = [r for r in others if r["verdict"] != "met"]
        judged = [r for r in judged if r["failed"] or r["verdict"] != "sufficient"]
        if not (judged or plans or others or looked_at):
            return
    reporter.section("image data sufficiency")
    if judged:
        _table(reporter, judged)
    for record in plans:
        _plan(reporter, record)
    check_report.write(reporter, looked_at)
    for record in others:
        first = one_line(record["message"].splitlines()[0])
        reporter.write_line(f"{one_line(record['nodeid'])}: {record['verdict']}: {first}")
    if verbose:
        for record in judged:
            _sizes(reporter, record)
    if not quiet:
        _curves(reporter, judged if verbose else failed[:_PLOTS])
        if len(failed) > _PLOTS and not verbose:
            reporter.write_line(f"(curves of {len(failed) - _PLOTS} more with -v)")
    _what_to_do(reporter, failed)
    if not quiet:
        _rules(reporter, judged)
        _changes(reporter, judged)
        for note in dict.fromkeys(note for record in judged for note in record["notes"]):
            reporter.write_line(f"note: {one_line(note)}")
        for note in notes:
            reporter.write_line(one_line(note))


def write_comparisons(reporter: Any, comparisons: list[tuple[str, str]]) -> None:
    """Write the table of every comparison of strategies."""
    reporter.section("strategies compared")
    for nodeid, text in comparisons:
        reporter.write_line(f"{one_line(nodeid)}: {printable(text)}")


def _table(reporter: Any, records: list[Record]) -> None:
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


def _row(record: Record) -> tuple[str, ...]:
    metric = record["metric"]
    if record["class"] is not None:
        metric = f"{metric} [{one_line(record['class'], _NAME)}]"
    verdict = record["verdict"]
    if record["baseline"] and record["baseline"]["exceeded"] and verdict == "sufficient":
        verdict = "rose too far"
    return (
        one_line(record["nodeid"]),
        metric,
        f"{record['target']:g}",
        interval(record, "score_at_available"),
        required(record),
        f"{record['available']:,} of {record['total']:,}",
        verdict,
    )


def required(record: Record) -> str:
    """Write the required number of images with its interval."""
    low, high = record["required_low"], record["required_high"]
    if record["required"] is None:
        return "none" if low is None else f"over {low:,}"
    return f"{record['required']:,} ({low:,} to {f'{high:,}' if high else 'any'})"


def _plan(reporter: Any, plan: Record) -> None:
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
    if plan["shed"]:
        reporter.write_line(f"  shed     {plan['shed']}")


def _cost(plan: Record) -> str:
    if plan["estimated_seconds"] is None:
        return "unknown: the trainer's own"
    return (
        f"about {plan['estimated_seconds']:.0f} s: {plan['forwards']:,} images forward once, "
        f"{plan['backwards']:,} backward; {plan['stored_bytes'] / 2**20:,.0f} MiB kept"
    )


def _sizes(reporter: Any, record: Record) -> None:
    reporter.write_line("")
    reporter.write_line(f"{one_line(record['nodeid'])}: {record['metric']} by training size")
    for size, repeats in zip(record["sizes"], record["scores"], strict=True):
        mean = sum(repeats) / len(repeats)
        reporter.write_line(f"  {size:>9,}  {mean:.3f}  ({min(repeats):.3f} to {max(repeats):.3f})")
    for line in advice_text.more(record):
        reporter.write_line(line)
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in record["timings"].items())
    reporter.write_line(f"  {seconds}; weights {record['weights']['sha256']}")


def _curves(reporter: Any, records: Sequence[Record]) -> None:
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


def _what_to_do(reporter: Any, failed: Sequence[Record]) -> None:
    """One sentence for every failed requirement: what failed, how sure, what to do."""
    said: set[str] = set()
    if failed:
        reporter.write_line("")
    for record in failed:
        reporter.write(one_line(record["nodeid"]), bold=True)
        reporter.write_line(f": {one_line(explain.sentence(record))}")
        _advice(reporter, record, said)


def _advice(reporter: Any, record: Record, said: set[str]) -> None:
    """What to do about it, a line a topic; what was said of the same images is not said again."""
    for topic, sentence in advice_text.headlines(record):
        if sentence not in said:
            said.add(sentence)
            reporter.write_line(f"  {topic:<8} {one_line(sentence)}")


def _rules(reporter: Any, judged: Sequence[Record]) -> None:
    """Where a rule of thumb says otherwise than a requirement that is met."""
    for record in judged:
        found = (record.get("advice") or {}).get("rule")
        if found and found["agrees"] is False and not record["failed"]:
            name = f"{record['nodeid']}, {explain.subject(record)}"
            reporter.write_line(f"rule: {one_line(name)}: {advice_text.rule(record, found)}")


def _changes(reporter: Any, judged: Sequence[Record]) -> None:
    """What changed since the baseline; that there is none yet stands in the notes."""
    compared = [record for record in judged if record["baseline"]]
    if not any(record["baseline"]["found"] for record in compared):
        return
    reporter.write_line("")
    reporter.write_line("since the baseline", bold=True)
    for record in compared:
        reporter.write_line(f"{one_line(record['nodeid'])}: {explain.subject(record)}")
        for line in record["baseline"]["lines"]:
            reporter.write_line(f"  {one_line(line)}")
