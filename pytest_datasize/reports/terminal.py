"""The section at the end of a pytest run: one row per requirement, more with ``-v``."""

from typing import Any

from pytest_datasize.reports.explain import interval
from pytest_datasize.reports.text import printable

Record = dict[str, Any]
_COLOURS = {"sufficient": "green", "planned": "cyan", "skipped": "yellow"}


def write(reporter: Any, records: list[Record], json_path: str | None) -> None:
    """Write the section; with ``-q`` only what did not pass, in one line each."""
    quiet, verbose = reporter.verbosity < 0, reporter.verbosity > 0
    judged = [record for record in records if record["metric"] is not None]
    plans = [record for record in records if record["verdict"] == "planned"]
    others = [r for r in records if r["metric"] is None and r["verdict"] != "planned"]
    if quiet:
        judged = [record for record in judged if record["verdict"] != "sufficient"]
        if not (judged or plans or others):
            return
    reporter.section("image data sufficiency")
    if judged:
        _table(reporter, judged)
    for record in plans:
        _plan(reporter, record)
    for record in others:
        first = printable(record["message"].splitlines()[0])
        reporter.write_line(f"{printable(record['nodeid'])}: {record['verdict']}: {first}")
    if verbose:
        for record in judged:
            _sizes(reporter, record)
    if json_path and not quiet:
        reporter.write_line(f"written: {json_path}")


def write_comparisons(reporter: Any, comparisons: list[tuple[str, str]]) -> None:
    """Write the table of every comparison of strategies."""
    reporter.section("strategies compared")
    for nodeid, text in comparisons:
        reporter.write_line(f"{printable(nodeid)}: {printable(text)}")


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
        metric = f"{metric} [{printable(record['class'])}]"
    low, high = record["required_low"], record["required_high"]
    if record["required"] is None:
        required = "none" if low is None else f"over {low:,}"
    else:
        required = f"{record['required']:,} ({low:,} to {f'{high:,}' if high else 'any'})"
    return (
        printable(record["nodeid"]),
        metric,
        f"{record['target']:g}",
        interval(record, "score_at_available"),
        required,
        f"{record['available']:,} of {record['total']:,}",
        record["verdict"],
    )


def _plan(reporter: Any, plan: Record) -> None:
    sizes = ", ".join(f"{size:,}" for size in plan["sizes"])
    counts = ", ".join(f"{printable(name)} {n:,}" for name, n in plan["class_counts"].items())
    reporter.write_line(f"{printable(plan['nodeid'])}: {plan['message']}")
    reporter.write_line(f"  images   {plan['total']:,} from {printable(plan['source'])} ({counts})")
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
    reporter.write_line(f"{printable(record['nodeid'])}: {record['metric']} by training size")
    for size, repeats in zip(record["sizes"], record["scores"], strict=True):
        mean = sum(repeats) / len(repeats)
        reporter.write_line(f"  {size:>9,}  {mean:.3f}  ({min(repeats):.3f} to {max(repeats):.3f})")
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in record["timings"].items())
    reporter.write_line(f"  {seconds}; weights {record['weights']['sha256']}")
