"""Past runs as a table and as a drawing."""

import copy

import pytest
from support import ODD_NAMES

from pytest_datasize.plugin.source_lines import decorator_lines
from pytest_datasize.reports.formats.history import svg, table
from pytest_datasize.reports.records.past_runs import Past, series


@pytest.fixture
def past(odd_run):
    """Three runs, the latest first; in one the required number does not exist."""
    found = []
    for day, available in ((3, 192), (1, 100), (2, 150)):
        for record in copy.deepcopy(odd_run["requirements"]):
            if record["metric"]:
                record["available"] = available
            found.append(Past(f"2026-01-0{day}T10:00:00+00:00", f"{day}abcdef0123", None, record))
    return found


def test_runs_stand_by_requirement_and_in_time(past):
    text = table(past)
    blocks = text.split("\n\n")
    assert len(blocks) == 4
    for block in blocks:
        days = [line.split()[0] for line in block.splitlines()[2:]]
        assert days == ["2026-01-01", "2026-01-02", "2026-01-03"]
    assert "1abcdef0 " in text
    assert "  100        sufficient" in text
    assert "test_broken" not in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_a_drawing_shows_every_requirement(past):
    for runs in series(past):
        text = svg(runs)
        assert text.count("2026-01-0") >= 3
        assert ODD_NAMES[0] not in text


def test_decorators_are_found_in_reading_order(tmp_path):
    file = tmp_path / "test_a.py"
    file.write_text(
        "from pytest_datasize import datasize\n"
        "pytestmark = [pytest.mark.slow, pytest.mark.datasize(auc=0.5)]\n"
        "@datasize.requires(auc=0.9, stack=True)\n"
        "class TestA:\n"
        "    @staticmethod\n"
        "    @pytest.mark.parametrize('n', [1])\n"
        "    @datasize.requires(\n"
        "        accuracy=0.9)\n"
        "    def test_it(n): ...\n"
        "@datasize.requires(accuracy=0.1)\n"
        "def test_it(): ...\n"
    )
    assert decorator_lines(file, ["TestA", "test_it"]) == [(2, False), (3, True), (7, False)]
    assert decorator_lines(file, ["test_it"]) == [(2, False), (10, False)]
    assert decorator_lines(file, ["nowhere"]) == [(2, False)]
    file.write_text("def broken(")
    assert decorator_lines(file, ["test_it"]) == []
