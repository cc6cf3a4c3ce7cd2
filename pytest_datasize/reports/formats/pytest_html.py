"""Add the learning curve to a gate's row in the report of the plugin pytest-html."""

from collections.abc import Sequence
from importlib.util import find_spec

import pytest

from pytest_datasize.reports.formats.text_plot import UNICODE, plot
from pytest_datasize.reports.records.record_types import GateRecord, Record
from pytest_datasize.reports.records.selection import judged


def add_extras(report: pytest.TestReport, records: Sequence[Record]) -> None:
    """Add one drawing for each judged requirement to a test's row."""
    from pytest_html import extras

    drawn = [_drawing(record) for record in judged(records)]
    report.extras = [  # type: ignore[attr-defined]
        *getattr(report, "extras", []),
        *(extras.html(text) for text in drawn),
    ]


def _drawing(record: GateRecord) -> str:
    """Draw with matplotlib if it is installed, else as text; on white in both themes."""
    if find_spec("matplotlib") is None:
        return f"<pre>{chr(10).join(plot(record, 80, UNICODE))}</pre>"
    from pytest_datasize.reports.formats.draw import standalone

    svg = standalone(record)
    return f'<div style="background:#fff;max-width:40rem">{svg[svg.index("<svg") :]}</div>'
