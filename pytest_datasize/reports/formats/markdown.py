"""Write the results as GitHub-flavoured Markdown for job summaries, merge requests and chats."""

import html
import re
from collections.abc import Iterator
from pathlib import Path

from pytest_datasize.reports.formats.text_plot import UNICODE, plot
from pytest_datasize.reports.records.files import write_text
from pytest_datasize.reports.records.record_types import (
    ComparisonRecord,
    GateRecord,
    Record,
    RunContent,
)
from pytest_datasize.reports.records.selection import failures, judged, units, unscored
from pytest_datasize.reports.records.text import first_line, one_line
from pytest_datasize.reports.wording import (
    advice_text,
    comparison_text,
    explain,
    levers_text,
    slices_text,
)
from pytest_datasize.reports.wording.overview import headline

MOST_BYTES = 1024 * 1024
"""GitHub drops a step summary that is larger than this."""

_CUT = "*Cut here: the rest would not fit. `--datasize-html` and `--datasize-json` have it all.*\n"
_NAME = 120
_SPECIAL = re.compile(r"[\\`*\[\]|~#$!<>&@]|(?<![^\W_])_|_(?![^\W_])")
_SIGNS = {"sufficient": "✅", "met": "✅", "skipped": "⏭️", "planned": "📋", "undecided": "❔"}


def write(path: Path, run: RunContent) -> None:
    """Write a run as Markdown."""
    write_text(path, draw(run))


def draw(run: RunContent, most_bytes: int = MOST_BYTES) -> str:
    """Return a run as Markdown of at most `most_bytes` bytes.

    If it would be longer, whole blocks at the end are left out, and the text says so.
    """
    parts: list[str] = []
    room = most_bytes - len(_CUT.encode())
    for block in _blocks(run):
        room -= len(block.encode()) + 1
        if room < 0:
            return "\n".join([*parts, "", _CUT])
        parts.append(block)
    return "\n".join(parts) + "\n"


def escaped(text: str) -> str:
    r"""Escape a text so that Markdown and HTML show it unchanged, on one line.

    Examples
    --------
    >>> escaped("a|b`<i>\n@all")
    'a&#124;b&#96;&#60;i&#62;?&#64;&#8288;all'
    """
    safe = _SPECIAL.sub(lambda match: f"&#{ord(match[0])};", one_line(text))
    return safe.replace("&#64;", "&#64;&#8288;")  # an @name from the data must not notify anyone


def code(text: str) -> str:
    """Write a name as inline code; long names are shortened in the middle."""
    return f"<code>{escaped(one_line(text, _NAME))}</code>"


def _blocks(run: RunContent) -> Iterator[str]:
    """Yield the page block by block; each block is complete by itself."""
    records = run["requirements"]
    requirements, failed = judged(records), failures(records)
    yield f"## {headline(records)}\n"
    for record in failed:
        yield f"- ❌ {code(record['nodeid'])}: {escaped(explain.headline(record))}"
        yield from (f"  - {escaped(f'{name}: {text}')}" for name, text in explain.lines(record))
        for number, text in enumerate(levers_text.todo(record), 1):
            yield f"  - **{number}.** {escaped(text)}"
    for error in unscored(records):
        if error["verdict"] != "error":
            continue
        yield f"- ❌ {code(error['nodeid'])}: {escaped(first_line(error['message']))}"
    if requirements:
        yield "\n" + _row("verdict", "sure", "test", "metric", "target", "now", "needed")
        yield "| --- | ---: | --- | --- " + "| ---: " * 3 + "|"
        yield from (_judged(record) for record in requirements)
    for other in unscored(records):
        if other["verdict"] != "error":
            first = escaped(first_line(other["message"]))
            yield f"\n{_sign(other)} {code(other['nodeid'])}: {other['verdict']}: {first}"
    yield from _remarks([record for record in requirements if not record["failed"]])
    yield from _changes(requirements)
    yield from (_details(record) for record in failed)
    yield from (_compared(one) for one in run.get("comparisons", []))
    yield _origin(run)


def _remarks(met: list[GateRecord]) -> Iterator[str]:
    """Yield the remarks on requirements that are met."""
    for record in met:
        if said := slices_text.summary(record):
            name = f"{code(record['nodeid'])}, {escaped(explain.subject(record))}"
            yield f"\nSlices, {name}: {escaped(said)}"
    copies: dict[tuple[str, str], None] = {}
    for record in met:
        if text := explain.not_judged(record):
            name = escaped(explain.subject(record))
            yield f"\n{code(record['nodeid'])}, {name}: {escaped(text)}"
        if not (advice := record.get("advice")):
            continue
        if (found := advice.get("redundancy")) and found["number"]:
            copies[record["nodeid"], advice_text.copies(found)] = None
    for nodeid, said in copies:
        yield f"\nNear-copies, {code(nodeid)}: {escaped(said)}"


def _judged(record: GateRecord) -> str:
    metric = escaped(record["metric"])
    if record["class"] is not None:
        metric += f" {code(record['class'])}{escaped(explain.at(record))}"
    if part := record.get("slice"):
        metric += f" of {escaped(part['factor'])} {code(part['value'])}"
    return _row(
        f"{_sign(record)} {record['verdict']}",
        escaped(explain.certainty(record)),
        code(record["nodeid"]),
        metric,
        f"{record['target']:g}",
        explain.interval(record, "score_at_available"),
        explain.needed_briefly(record),
    )


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _sign(record: Record) -> str:
    if record["failed"]:
        return "❌"
    return _SIGNS.get(record["verdict"], "❌")


def _changes(requirements: list[GateRecord]) -> Iterator[str]:
    compared = [(one, change) for one in requirements if (change := one["baseline"])]
    if any(change["found"] for _, change in compared):
        yield "\n### Since the baseline\n"
    elif compared:
        yield f"\nBaseline: {escaped(compared[0][1]['text'])}."
        return
    for record, change in compared:
        yield f"- {code(record['nodeid'])}, {escaped(record['metric'])}"
        for line in change["lines"]:
            yield f"  - {escaped(line)}"


def _details(record: GateRecord) -> str:
    """Return the explanation and the curve of a failed requirement, in a folded section."""
    lines = [one_line(line) for line in explain.details(record)]
    lines += [f"  {name:<9}  {one_line(text)}" for name, text in advice_text.topics(record)]
    lines += [f"  {line}" for line in advice_text.steps(record)]
    lines += [f"  {line}" for line in slices_text.lines(record)]
    text = html.escape("\n".join([*lines, "", *plot(record, 90, UNICODE)]), quote=False)
    title = f"{code(record['nodeid'])}, {escaped(explain.subject(record))}: evidence"
    return f"\n<details><summary>{title}</summary>\n\n<pre>\n{text}\n</pre>\n\n</details>"


def _compared(one: ComparisonRecord) -> str:
    """Return the table of a comparison of strategies."""
    rows = [
        _row("strategy", "now", f"{units(one)} for {one['target']:g}", "best", "seconds"),
        "| --- | ---: | ---: | ---: | ---: |",
        *(_row(*map(escaped, cells)) for cells in comparison_text.cells(one)),
    ]
    title = f"\n### Strategies compared: {code(one['nodeid'])}, {escaped(one['metric'])}\n"
    worth = [f"- {escaped(text)}" for text in comparison_text.worth(one)]
    return "\n".join([title, *rows, "", *worth])


def _origin(run: RunContent) -> str:
    versions = ", ".join(f"{escaped(name)} {escaped(v)}" for name, v in run["versions"].items())
    commit = f", commit {code(run['commit'][:12])}" if run["commit"] else ""
    changed = ", with changes that are not committed" if run.get("dirty") else ""
    digest = f"; digest {run['digest'][:16]}" if "digest" in run else ""
    return f"\n<sub>{escaped(run['created'])}{commit}{changed}; {versions}{digest}</sub>"
