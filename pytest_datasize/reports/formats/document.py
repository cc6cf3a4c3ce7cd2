"""Draw a document of headings, facts, tables and lists as Markdown or as one HTML page.

All its text comes from records and is escaped here, since names of classes and paths may contain
anything. The same content gives the same bytes.
"""

import html
from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import NamedTuple

from pytest_datasize.reports.formats.markdown import escaped
from pytest_datasize.reports.records.text import one_line


class Facts(NamedTuple):
    """Pairs of a label and a text."""

    pairs: Sequence[tuple[str, str]]


class Table(NamedTuple):
    """A table with a heading for each column."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


class Points(NamedTuple):
    """Items of a list."""

    texts: Sequence[str]


Block = str | Facts | Table | Points
"""A part of a section; a text is a paragraph."""


class Section(NamedTuple):
    """A heading and its content; the level is 2 for a chapter, 3 for a part of one."""

    level: int
    title: str
    blocks: Sequence[Block]


class Document(NamedTuple):
    """A document with its title and sections."""

    title: str
    sections: Sequence[Section]


def as_markdown(document: Document) -> str:
    r"""Return the document as Markdown; no text of it can be markup.

    Examples
    --------
    >>> facts = Facts([("Images", "a|b <i>")])
    >>> print(as_markdown(Document("Title", [Section(2, "1 Data", ["As read.", facts])])))
    # Title
    <BLANKLINE>
    ## 1 Data
    <BLANKLINE>
    As read.
    <BLANKLINE>
    - **Images:** a&#124;b &#60;i&#62;
    <BLANKLINE>
    """
    parts = [f"# {escaped(document.title)}"]
    for section in document.sections:
        parts.append(f"{'#' * section.level} {escaped(section.title)}")
        parts += map(_markdown, section.blocks)
    return "\n\n".join(parts) + "\n"


def _markdown(block: Block) -> str:
    if isinstance(block, str):
        return escaped(block)
    if isinstance(block, Facts):
        return "\n".join(f"- **{escaped(name)}:** {escaped(text)}" for name, text in block.pairs)
    if isinstance(block, Points):
        return "\n".join(f"- {escaped(text)}" for text in block.texts)
    rows = [block.heads, ["---"] * len(block.heads), *block.rows]
    lines = [
        f"| {' | '.join(cell if number == 1 else escaped(cell) for cell in row)} |"
        for number, row in enumerate(rows)
    ]
    return "\n".join([f"*{escaped(block.caption)}*", "", *lines])


def as_html(document: Document) -> str:
    """Return the document as a self-contained page."""
    css = (
        files("pytest_datasize.reports.formats").joinpath("templates/report.css").read_text("utf-8")
    )
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(document.title)}</title>",
        '<link rel="icon" href="data:,">',
        f"<style>\n{css.rstrip()}\n</style>",
        "</head>",
        "<body>",
        "<main>",
        f"<h1>{_text(document.title)}</h1>",
    ]
    for section in document.sections:
        lines.append(f"<section>\n<h{section.level}>{_text(section.title)}</h{section.level}>")
        for block in section.blocks:
            lines += _html(block)
        lines.append("</section>")
    return "\n".join([*lines, "</main>", "</body>", "</html>"]) + "\n"


def _html(block: Block) -> Iterator[str]:
    if isinstance(block, str):
        yield f"<p>{_text(block)}</p>"
    elif isinstance(block, Facts):
        yield "<dl>"
        for name, text in block.pairs:
            yield f"<dt>{_text(name)}</dt><dd>{_text(text)}</dd>"
        yield "</dl>"
    elif isinstance(block, Points):
        yield "<ul>"
        yield from (f"<li>{_text(text)}</li>" for text in block.texts)
        yield "</ul>"
    else:
        yield '<div class="scroll" tabindex="0" role="region" '
        yield f'aria-label="{_text(block.caption)}">'
        yield f'<table class="classes">\n<caption class="soft">{_text(block.caption)}</caption>'
        heads = "".join(f'<th scope="col">{_text(head)}</th>' for head in block.heads)
        yield f"<thead><tr>{heads}</tr></thead>\n<tbody>"
        for first, *rest in block.rows:
            cells = "".join(f"<td>{_text(cell)}</td>" for cell in rest)
            yield f'<tr><th scope="row">{_text(first)}</th>{cells}</tr>'
        yield "</tbody>\n</table>\n</div>"


def _text(text: str) -> str:
    return html.escape(one_line(text))
