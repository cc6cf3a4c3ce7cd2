"""Write a justification of the sample size for auditors, from the records alone.

The chapters follow the order of two texts: the draft guidance of the FDA of January 2025
("Artificial Intelligence-Enabled Device Software Functions") on the data for development and test,
and article 10 of Regulation (EU) 2024/1689 on data governance. The document states facts and
claims no conformity with either.
"""

from pathlib import Path
from typing import Final

from pytest_datasize.errors import ReportError
from pytest_datasize.reports.formats.document import Document, Section, as_html, as_markdown
from pytest_datasize.reports.formats.html_page import evidences
from pytest_datasize.reports.formats.justification import (
    data,
    limits,
    method,
    question,
    reproducibility,
    results,
)
from pytest_datasize.reports.records.files import write_text
from pytest_datasize.reports.records.record_types import RunContent
from pytest_datasize.reports.records.selection import judged
from pytest_datasize.reports.wording.overview import headline

_DRAWN: Final = {".md": as_markdown, ".html": as_html}

TITLE: Final = "Justification of the sample size"

NO_CLAIM: Final = (
    "This document states what was required, measured and found. It does not claim conformity with "
    "any law, standard or guidance, and it is no assessment by a notified body or an authority. "
    "Its chapters follow the order in which the FDA draft guidance “Artificial "
    "Intelligence-Enabled Device Software Functions” (January 2025) and article 10 of "
    "Regulation (EU) 2024/1689 (AI Act) ask about the data of a model. Ranges in parentheses are "
    "90 % credible intervals."
)


def check(path: Path) -> None:
    """Check before training that the name says which of the two formats is wanted.

    Raises
    ------
    ReportError
        The name ends neither with ``.md`` nor with ``.html``.
    """
    if path.suffix.lower() not in _DRAWN:
        raise ReportError(
            f"{path}: a justification is written as Markdown or HTML: "
            f"the name must end with {' or '.join(_DRAWN)}."
        )


def write(path: Path, run: RunContent) -> None:
    """Write the justification of a run, as Markdown or HTML by the suffix of the path."""
    check(path)
    write_text(path, _DRAWN[path.suffix.lower()](document(run)))


def document(run: RunContent) -> Document:
    """Return the justification of a run, from its records alone."""
    gates = judged(run["requirements"])
    measured = evidences(gates)
    sections = [
        Section(2, "Summary", [NO_CLAIM, f"{headline(run['requirements'])}."]),
        *question.sections(run, gates),
        *data.sections(run, gates, measured),
        *method.sections(measured),
        *results.sections(run, gates, measured),
        *limits.sections(run, gates, measured),
        *reproducibility.sections(run, measured),
    ]
    return Document(TITLE, sections)
