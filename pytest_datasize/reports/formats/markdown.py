"""The results as GitHub-flavoured Markdown: for job summaries, merge requests and chats."""

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_datasize.reports.formats.terminal import required
from pytest_datasize.reports.formats.text_plot import UNICODE, plot
from pytest_datasize.reports.records.files import write_text
from pytest_datasize.reports.records.text import one_line
from pytest_datasize.reports.wording import advice_text, explain
from pytest_datasize.reports.wording.overview import failures, headline

Record = dict[str, Any]
Content = dict[str, Any]

MOST_BYTES = 1024 * 1024
"""GitHub drops the summary of a step that is larger than this."""

_CUT = "*Cut here: the rest would not fit. `--datasize-html` and `--datasize-json` have it all.*\n"
_NAME = 120
_SPECIAL = re.compile(r"[\\`*\[\]|~#$!<>&@]|(?<![^\W_])_|_(?![^\W_])")
_SIGNS = {"sufficient": "✅", "met": "✅", "skipped": "⏭️", "planned": "📋", "undecided": "❔"}


def write(path: Path, run: Content) -> None:
    """Write a run as Markdown."""
    write_text(path, draw(run))


def draw(run: Content, most_bytes: int = MOST_BYTES) -> str:
    """Return a run as Markdown of at most so many bytes.

    Whole blocks are left out at the end where it would be longer, and the text says so.
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
    r"""Write any text such that Markdown and HTML show it as it is, on one line.

    Examples
    --------
    >>> escaped("a|b`<i>\n@all")
    'a&#124;b&#96;&#60;i&#62;?&#64;&#8288;all'
    """
    safe = _SPECIAL.sub(lambda match: f"&#{ord(match[0])};", one_line(text))
    return safe.replace("&#64;", "&#64;&#8288;")  # a name from the data must call no one


def code(text: str) -> str:
    """Write a name in the typeface of names; long ones lose their middle."""
    return f"<code>{escaped(one_line(text, _NAME))}</code>"


def _blocks(run: Content) -> Iterator[str]:
    """Yield the page piece by piece; each piece is complete by itself."""
    records = run["requirements"]
    judged = [record for record in records if record["metric"] is not None]
    failed = failures(judged)
    yield f"## Image data sufficiency: {headline(records)}\n"
    for record in failed:
        yield f"- ❌ {code(record['nodeid'])}: {escaped(explain.sentence(record))}"
    for record in (r for r in records if r["metric"] is None and r["verdict"] == "error"):
        yield f"- ❌ {code(record['nodeid'])}: {escaped(record['message'].splitlines()[0])}"
    if judged:
        yield "\n" + _row(
            "", "test", "metric", "target", "score with all", "images required", "available"
        )
        yield "| --- " * 3 + "| ---: " * 4 + "|"
        yield from (_judged(record) for record in judged)
    for record in (r for r in records if r["metric"] is None and r["verdict"] != "error"):
        first = escaped(record["message"].splitlines()[0])
        yield f"\n{_sign(record)} {code(record['nodeid'])}: {record['verdict']}: {first}"
    yield from _remarks([r for r in judged if not r["failed"] and r.get("advice")])
    yield from _changes(judged)
    yield from (_details(record) for record in failed)
    yield _origin(run)


def _remarks(met: list[Record]) -> Iterator[str]:
    """What to know of requirements that are met."""
    for record in met:
        advice = record["advice"]
        if advice["rule"]["agrees"] is False:
            said = escaped(advice_text.rule(record, advice["rule"]))
            yield f"\nRule of thumb, {code(record['nodeid'])}: {said}"
    for nodeid, said in dict.fromkeys(
        (record["nodeid"], advice_text.copies(found))
        for record in met
        if (found := record["advice"].get("redundancy")) and found["number"]
    ):
        yield f"\nNear-copies, {code(nodeid)}: {escaped(said)}"


def _judged(record: Record) -> str:
    metric = escaped(record["metric"])
    if record["class"] is not None:
        metric += f" {code(record['class'])}"
    return _row(
        f"{_sign(record)} {record['verdict']}",
        code(record["nodeid"]),
        metric,
        f"{record['target']:g}",
        explain.interval(record, "score_at_available"),
        required(record),
        f"{record['available']:,}",
    )


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _sign(record: Record) -> str:
    if record["failed"]:
        return "❌"
    return _SIGNS.get(record["verdict"], "❌")


def _changes(judged: list[Record]) -> Iterator[str]:
    compared = [record for record in judged if record["baseline"]]
    if any(record["baseline"]["found"] for record in compared):
        yield "\n### Since the baseline\n"
    elif compared:
        yield f"\nBaseline: {escaped(compared[0]['baseline']['text'])}."
        return
    for record in compared:
        yield f"- {code(record['nodeid'])}, {escaped(record['metric'])}"
        for line in record["baseline"]["lines"]:
            yield f"  - {escaped(line)}"


def _details(record: Record) -> str:
    """The explanation and the curve of a failed requirement, folded away."""
    lines = [one_line(line) for line in explain.details(record)[1:]]
    text = html.escape("\n".join([*lines, "", *plot(record, 90, UNICODE)]), quote=False)
    title = f"{code(record['nodeid'])}, {escaped(explain.subject(record))}: evidence"
    return f"\n<details><summary>{title}</summary>\n\n<pre>\n{text}\n</pre>\n\n</details>"


def _origin(run: Content) -> str:
    versions = ", ".join(f"{escaped(name)} {escaped(v)}" for name, v in run["versions"].items())
    commit = f", commit {code(run['commit'][:12])}" if run["commit"] else ""
    return f"\n<sub>{escaped(run['created'])}{commit}; {versions}</sub>"
