"""Write a run as one self-contained HTML page, readable on a phone, on paper and years later."""

import json
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from pytest_datasize.curve.counts import price
from pytest_datasize.errors import ReportError
from pytest_datasize.reports.records.advice_types import Advice, GroupMember, Suspect
from pytest_datasize.reports.records.files import write_text
from pytest_datasize.reports.records.record_parts import ClassRow
from pytest_datasize.reports.records.record_types import GateRecord, RunContent
from pytest_datasize.reports.records.selection import (
    MOST_DOUBTFUL,
    conditions,
    exceeded_only,
    failed_first,
    failures,
    is_condition,
    judged,
    units,
    unscored,
    weakest,
)
from pytest_datasize.reports.records.text import each_text, one_line
from pytest_datasize.reports.wording import (
    advice_text,
    comparison_text,
    condition_text,
    explain,
    levers_text,
    slices_text,
)
from pytest_datasize.reports.wording.overview import headline
from pytest_datasize.requirement.options import OPTIONS

NEEDED = ("jinja2", "matplotlib")
"""Packages of the extra ``html``; the gate itself does not need them."""

MOST_CLASSES = 60
"""Most classes in a panel, the weakest first; nobody reads thousands of rows."""

PICTURE = r"data:image/jpeg;base64,[A-Za-z0-9+/=]{1,8192}"
"""Accepted form of a picture in a record, since a file may have been edited."""

MOST_CURVES = 24
"""Most requirements drawn on both axes; if there are more, each is drawn once, for a small page."""


_PER_IMAGE = "one value per image"


def check(path: Path) -> None:
    """Check before training that the page can be drawn.

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


def write(path: Path, run: RunContent) -> None:
    """Write a run as one page."""
    write_text(path, draw(run))


def draw(run: RunContent) -> str:
    """Return a run as one page, with curves, tables and the conditions of measurement."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("pytest_datasize.reports.formats"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = each_text(run, one_line)
    records = judged(shown["requirements"])
    first_pictures = _first_pictures(records)
    environment.globals.update(
        explain=explain,
        levers_text=levers_text,
        advice_text=advice_text,
        slices_text=slices_text,
        condition_text=condition_text,
        comparison_text=comparison_text,
        exceeded_only=exceeded_only,
        units=units,
        price=price,
    )
    environment.filters["code"] = _breakable
    environment.tests["picture"] = _is_picture
    environment.tests["pictured_here"] = lambda one: id(one) in first_pictures
    records = failed_first(records)
    measured = evidences(records)
    page = environment.get_template("report.html.j2").render(
        run=shown,
        headline=headline(shown["requirements"]),
        judged=records,
        failed=failures(records),
        others=[one for one in unscored(shown["requirements"]) if not is_condition(one)],
        conditions=conditions(shown["requirements"]),
        evidences=measured,
        evidence_of=[
            next(n for n, one in enumerate(measured, 1) if number in one.gates)
            for number in range(1, len(records) + 1)
        ],
        changed_settings=changed_settings,
        setting_text=setting_text,
        figures=[
            _figures(record, i, both=len(records) <= MOST_CURVES)
            for i, record in enumerate(records, 1)
        ],
        classes=[weakest(record, MOST_CLASSES) for record in records],
        most_classes=MOST_CLASSES,
        most_doubtful=MOST_DOUBTFUL,
        overview_units=" or ".join(sorted({units(record) for record in records}, reverse=True)),
    )
    return page.rstrip() + "\n"


class Evidence(NamedTuple):
    """Images and a model, and the requirements that were judged with them.

    Attributes
    ----------
    record
        One of these requirements, for what they share.
    advice
        Their advice; None if none of them has any.
    gates
        Their numbers on the page.
    classes
        Recalls of the weakest classes.
    """

    record: GateRecord
    advice: Advice | None
    gates: list[int]
    classes: list[ClassRow]


_OF_EVIDENCE = (
    "source",
    "test_source",
    "strategy",
    "backbone",
    "weights",
    "image_size",
    "features",
    "seed",
    "sizes",
    "repeats",
    "notes",
)


def evidences(records: list[GateRecord]) -> list[Evidence]:
    """Group requirements by the images and the model that they were judged with."""
    groups: dict[str, list[tuple[int, GateRecord]]] = {}
    for number, record in enumerate(records, 1):
        recalls = [(row["name"], row["images"], row["recall"]) for row in record["classes"]]
        shared = [*(record.get(field) for field in _OF_EVIDENCE), recalls]
        groups.setdefault(json.dumps(shared), []).append((number, record))
    return [
        Evidence(
            record=(shown := next((one for _, one in members if one.get("advice")), members[0][1])),
            advice=shown.get("advice"),
            gates=[number for number, _ in members],
            classes=weakest(shown, MOST_CLASSES),
        )
        for members in groups.values()
    ]


def changed_settings(record: GateRecord) -> list[str]:
    """Return the names of the settings that are not the defaults."""
    return [
        name
        for name, value in record["settings"].items()
        if value is not None and not (name in OPTIONS and plainly(OPTIONS[name].default) == value)
    ]


def setting_text(record: GateRecord, name: str) -> str:
    """Write a setting; values of single images are not listed.

    Examples
    --------
    >>> setting_text({"settings": {"group": [1, 1, 2]}}, "group")
    'one value per image'
    """
    value = record["settings"][name]
    if name == "group" and isinstance(value, list):
        return _PER_IMAGE
    if name == "slices" and isinstance(value, dict):
        factors = value.items()
        return str({name: _PER_IMAGE if isinstance(of, list) else of for name, of in factors})
    return str(value)


def plainly(value: Any) -> Any:
    """Return a default as a record has it: tuples become lists."""
    return list(value) if isinstance(value, tuple) else value


def _first_pictures(records: list[GateRecord]) -> set[int]:
    """Return the ids of entries that show a picture for the first time: images are shared."""
    seen: set[tuple[str, str | None]] = set()
    first = set()
    for record in records:
        for kind, one in _pictured(record.get("advice")):
            picture = one["picture"]
            if _is_picture(picture) and (kind, picture) not in seen:
                first.add(id(one))
            seen.add((kind, picture))
    return first


def _pictured(advice: Advice | None) -> Iterator[tuple[str, Suspect | GroupMember]]:
    """Yield the advice entries with pictures: doubtful labels, and near-duplicates side by side."""
    if advice:
        yield from (("label", one) for one in advice["labels"]["suspects"])
        copies = advice.get("redundancy")
        for group in copies["groups"] if copies else []:
            yield from (("copy", one) for one in group["shown"])


def _is_picture(text: str | None) -> bool:
    """Whether a text is a picture in the form that this plugin writes."""
    return bool(text) and re.fullmatch(PICTURE, str(text)) is not None


def _figures(record: GateRecord, number: int, *, both: bool) -> list[tuple[str, Any]]:
    """Return the curve as (kind of axis, SVG)."""
    from markupsafe import Markup

    from pytest_datasize.reports.formats.draw import learning_curve

    kinds = ("log", "linear") if both else ("log",)
    return [
        (kind, Markup(learning_curve(record, f"r{number}{kind}", logarithmic=kind == "log")))  # noqa: S704  (matplotlib's own text: nothing in it comes from the data)
        for kind in kinds
    ]


def _breakable(text: str) -> Any:
    """Allow line breaks in a long test id after its separators."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(
        escape(part) for part in text.replace("::", "\0::").replace("/", "/\0").split("\0")
    )
