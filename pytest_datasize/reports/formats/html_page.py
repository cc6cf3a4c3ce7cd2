"""One self-contained page: opened years later, on a phone or on paper, it still says it all."""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pytest_datasize.errors import ReportError
from pytest_datasize.reports.formats.terminal import required
from pytest_datasize.reports.records.files import write_text
from pytest_datasize.reports.records.text import each_text, one_line
from pytest_datasize.reports.wording import advice_text, condition_text, explain
from pytest_datasize.reports.wording.overview import failures, headline

Record = dict[str, Any]

NEEDED = ("jinja2", "matplotlib")
"""Packages of the extra ``html``: the gate itself does without them."""

MOST_CLASSES = 60
"""Classes in a panel, the weakest first; a page with thousands of rows helps no one."""

PICTURE = r"data:image/jpeg;base64,[A-Za-z0-9+/=]{1,8192}"
"""What a picture in a record may be: a file may have been edited."""

MOST_CURVES = 24
"""Requirements drawn on both axes; of more, each is drawn once, to keep the page light."""


def check(path: Path) -> None:
    """Find out before anything is trained whether the page can be drawn.

    Raises
    ------
    ReportError
        A package is missing.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise ReportError(
            f"{path}: drawing the HTML report needs {' and '.join(missing)}. "
            "Install with: pip install 'pytest-datasize[html]'"
        )


def write(path: Path, run: dict[str, Any]) -> None:
    """Write a run as one page."""
    write_text(path, draw(run))


def draw(run: dict[str, Any]) -> str:
    """Return a run as one page, with curves, tables and how everything was obtained."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("pytest_datasize.reports.formats"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        explain=explain, required=required, counsel=advice_text, conditioned=condition_text
    )
    environment.filters["code"] = _breakable
    environment.tests["picture"] = _is_picture
    shown = each_text(run, one_line)
    judged = [record for record in shown["requirements"] if record["metric"] is not None]
    _pictures_once(judged)
    judged.sort(key=lambda record: not record["failed"])  # what needs an answer comes first
    page = environment.get_template("report.html.j2").render(
        run=shown,
        headline=headline(shown["requirements"]),
        judged=judged,
        failed=failures(judged),
        others=[r for r in shown["requirements"] if r["metric"] is None and "check" not in r],
        conditions=[record for record in shown["requirements"] if "check" in record],
        figures=[
            _figures(record, i, both=len(judged) <= MOST_CURVES)
            for i, record in enumerate(judged, 1)
        ],
        classes=[_classes(record) for record in judged],
        most_classes=MOST_CLASSES,
    )
    return page.rstrip() + "\n"


def _pictures_once(judged: list[Record]) -> None:
    """Leave an image's picture where it comes first: requirements share their images."""
    seen: set[tuple[str, str]] = set()
    for record in judged:
        for kind, one in _pictured(record.get("advice")):
            picture = one["picture"]
            fresh = _is_picture(picture) and (kind, picture) not in seen
            one["shown"] = picture if fresh else None
            seen.add((kind, picture))


def _pictured(advice: Record | None) -> Iterator[tuple[str, Record]]:
    """Yield what the advice shows pictures of: doubtful labels, and near-copies side by side."""
    if advice:
        yield from (("label", one) for one in advice["labels"]["suspects"])
        for group in (advice.get("redundancy") or {"groups": []})["groups"]:
            yield from (("copy", one) for one in group["shown"])


def _is_picture(text: str | None) -> bool:
    """Whether a text is a picture as this plugin writes it."""
    return bool(text) and re.fullmatch(PICTURE, str(text)) is not None


def _figures(record: Record, number: int, *, both: bool) -> list[tuple[str, Any]]:
    """Return the curve as (kind of axis, SVG)."""
    from markupsafe import Markup

    from pytest_datasize.reports.formats.draw import learning_curve

    kinds = ("log", "linear") if both else ("log",)
    return [
        (kind, Markup(learning_curve(record, f"r{number}{kind}", logarithmic=kind == "log")))  # noqa: S704  (matplotlib's own text: nothing in it comes from the data)
        for kind in kinds
    ]


def _classes(record: Record) -> list[dict[str, Any]]:
    """Return the weakest classes first."""
    return sorted(record["classes"], key=lambda row: (row["recall"], row["images"]))[:MOST_CLASSES]


def _breakable(text: str) -> Any:
    """Let a long test id break after its separators."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(
        escape(part) for part in text.replace("::", "\0::").replace("/", "/\0").split("\0")
    )
