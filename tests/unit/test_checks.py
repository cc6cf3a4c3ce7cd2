"""The table of checks, and the table in the docs that says the same."""

from pathlib import Path

import pytest

from pytest_datasize.images.sources.load import SOURCES
from pytest_datasize.requirement.checks import CHECKS, LEVELS, level_of, must_decode, parse_levels

DOCS = Path(__file__).parents[2] / "docs"


def rows(name: str, header: str) -> list[list[str]]:
    lines = (DOCS / name).read_text(encoding="utf-8").split(header)[1].splitlines()[2:]
    table = lines[: next(n for n, line in enumerate(lines) if not line.startswith("|"))]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_the_docs_hold_the_same_table():
    documented = rows("checks.md", "| check | level | found when | then |")
    assert documented == [
        [
            f"`{name}`",
            f"`{check.level}`" + ("" if check.settable else ", fixed"),
            check.meaning + (" (decodes)" if check.decodes else ""),
            check.consequence,
        ]
        for name, check in CHECKS.items()
    ]


def test_the_docs_name_every_source():
    documented = [row[0].strip("`") for row in rows("datasets.md", "| name | path or object |")]
    assert [name for name in documented if name] == list(SOURCES)[:-2]


def test_levels_are_known_and_settings_change_them():
    assert all(check.level in LEVELS for check in CHECKS.values())
    assert level_of("constant", {}) == "warning"
    assert level_of("constant", parse_levels("constant=error")) == "error"
    assert must_decode({"constant": "error"})
    assert not must_decode({"duplicates": "error"})


@pytest.mark.parametrize("text", ["x=error", "sizes=3", "sizes", "one_class=ignore", "=error"])
def test_wrong_levels_are_refused(text):
    with pytest.raises(ValueError, match=r"\w"):
        parse_levels(text)
