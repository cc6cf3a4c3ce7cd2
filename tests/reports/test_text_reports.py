"""Markdown, annotations, OpenMetrics, JUnit properties and the terminal, with odd names."""

import copy
import json
import math
import re

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from support import ODD_NAMES, Terminal

from pytest_datasize.plugin import junit
from pytest_datasize.reports.formats import code_quality, markdown, openmetrics, terminal
from pytest_datasize.reports.formats.text_plot import ASCII, UNICODE, plot
from pytest_datasize.reports.publishers import github
from pytest_datasize.reports.wording import titles
from pytest_datasize.reports.wording.explain import failure, headline


@pytest.fixture
def judged(odd_run):
    return [record for record in odd_run["requirements"] if record["metric"] is not None]


def of_class(judged, name):
    """The records with another class in them, as if it had been the one that decides."""
    changed = copy.deepcopy(judged)
    for record in changed:
        if record["class"] is not None:
            record["class"] = name
    return changed


# -- Markdown -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ODD_NAMES)
def test_markdown_keeps_its_tables_and_runs_nothing(odd_run, judged, name):
    text = markdown.draw({**odd_run, "requirements": of_class(judged, name)})
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + len(judged)
    assert {line.count("|") for line in rows} == {8}
    assert "<script" not in text
    assert "\x1b" not in text
    assert "\n::error" not in text
    assert "`tick`" not in re.sub(r"<pre>.*?</pre>", "", text, flags=re.DOTALL)
    assert not re.search(r"@(?!&#8288;)\w", re.sub(r"<pre>.*?</pre>", "", text, flags=re.DOTALL))


def test_markdown_begins_with_what_failed_and_ends_with_where_it_comes_from(odd_run):
    text = markdown.draw(odd_run)
    assert text.startswith("## Not enough images: 2 gates short, 1 undecided, 1 could not be")
    assert text.index("❌") < text.index("| --- ") < text.index("<details>")
    assert "test_broken</code>: no" in text
    assert text.rstrip().endswith("</sub>")


def test_markdown_is_cut_by_whole_blocks(odd_run):
    whole = markdown.draw(odd_run)
    for most in (300, 1500, len(whole.encode()) - 1):
        cut = markdown.draw(odd_run, most)
        assert len(cut.encode()) <= most
        assert cut.rstrip().endswith("have it all.*")
        assert cut.count("<details>") == cut.count("</details>")
    assert markdown.draw(odd_run, len(whole.encode()) + 200) == whole


# -- GitHub ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ODD_NAMES)
def test_annotations_are_one_command_each(judged, tmp_path, monkeypatch, name):
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    found = list(github.annotations(of_class(judged, name), tmp_path / "sub"))
    assert len(found) == 2  # two metrics of one gate make one annotation
    for line in found:
        assert "\n" not in line
        assert "\r" not in line
        assert line.startswith("::error file=sub/tests/test_a.py,line=7,title=")
    assert ["title=Not enough images::" in line for line in found] == [True, False]
    assert ["Undecided%3A" in line for line in found] == [False, True]


def test_titles_of_annotations_have_the_unit(judged):
    [short, *_] = [record for record in judged if record["verdict"] == "insufficient"]
    assert titles.title(short) == "Not enough images"
    assert titles.title({**short, "unit": "group"}) == "Not enough groups"
    risen = {**short, "verdict": "sufficient", "unit": "group"}
    assert titles.title(risen) == "More groups needed than before"


def test_annotations_escape_what_commands_use(judged, tmp_path):
    [record, *_] = of_class([r for r in judged if r["failed"]], "x")
    record["file"] = "a,b:c%.py"
    [line] = github.annotations([record], tmp_path)
    assert "a%2Cb%3Ac%25.py,line=" in line
    assert "90 %25" in github._data("90 %")


def test_more_annotations_than_github_shows_are_counted(judged, tmp_path):
    failed = next(record for record in judged if record["failed"])
    many = [{**failed, "nodeid": f"test_{i}"} for i in range(25)]
    found = list(github.annotations(many, tmp_path))
    assert len(found) == 10
    assert "15 more gates" in found[-1]


# -- OpenMetrics and JUnit ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ODD_NAMES)
def test_metrics_are_read_by_prometheus(odd_run, judged, name):
    run = {**odd_run, "requirements": of_class(judged, name)}
    families = {f.name: f for f in text_string_to_metric_families(openmetrics.draw(run))}
    for family in families.values():
        assert len(family.samples) == len(judged)
    for field, family in (("score_at_available", "score"), ("required", "required_images")):
        values = [sample.value for sample in families[f"datasize_{family}"].samples]
        assert values == [float("inf") if r[field] is None else r[field] for r in judged]
    classes = {sample.labels.get("class") for sample in families["datasize_failed"].samples}
    assert classes == {None, terminal.one_line(name)}


def test_gitlab_gets_what_failed_with_its_place(odd_run, judged):
    failed = [one for one in odd_run["requirements"] if one["failed"]]
    found = json.loads(code_quality.draw(odd_run))
    assert len(found) == len(failed) > 2
    for issue, record in zip(found, failed, strict=True):
        assert set(issue) == {"description", "check_name", "fingerprint", "severity", "location"}
        assert issue["severity"] == "major"
        assert issue["location"]["path"] == (record["file"] or record["nodeid"].split("::")[0])
        assert "\n" not in issue["description"]
    assert len({issue["fingerprint"] for issue in found}) == len(found)
    met = [one for one in judged if not one["failed"]]
    assert json.loads(code_quality.draw({**odd_run, "requirements": met})) == []


def test_a_gate_that_only_warns_is_minor_for_gitlab(odd_run, judged):
    failed = next(one for one in judged if one["failed"])
    warns = {**failed, "failed": False, "settings": {"level": "warning"}}
    [issue] = json.loads(code_quality.draw({**odd_run, "requirements": [warns]}))
    assert issue["severity"] == "minor"
    changed = {**warns, "score_at_available": 0.123}
    [again] = json.loads(code_quality.draw({**odd_run, "requirements": [changed]}))
    assert again["fingerprint"] == issue["fingerprint"]


def test_properties_name_requirement_metric_and_field(judged):
    second = [{**record, "order": 1} for record in judged[:1]]
    found = dict(junit.properties([*judged[:1], *second]))
    assert found["datasize.accuracy.verdict"] == "sufficient"
    assert found["datasize.2.accuracy.available"] == 192
    assert all(isinstance(value, (str, int, float)) for value in found.values())


# -- terminal -------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 120])
def test_a_failure_is_told_in_fourteen_lines(judged, width):
    for record in (r for r in judged if r["failed"]):
        lines = Terminal(width).shown([record]).splitlines()
        first = lines.index(terminal.one_line(record["nodeid"])) + 1
        first = lines.index(terminal.one_line(record["nodeid"]), first) + 1  # below the table
        assert " ".join(lines[first : first + 2]).startswith(headline(record))
        first += len(headline(record)) > width
        labels = [line[2:9].strip() for line in lines[first + 1 :] if line[2:9].strip()]
        assert labels[:3] == ["now", "needed", "best"]
        assert len(lines) - first <= 14
        assert max(map(len, lines[first:])) <= width


def test_every_gate_lists_all_that_can_be_done_whatever_others_said(judged):
    failed = next(record for record in judged if record["failed"])
    one = {"kind": "image_size", "value": 320, "gain": 0.03, "gain_low": 0.01, "gain_high": 0.06}
    shared = {**one, "images": 400, "reaches": True, "effort": 4.0}
    own = [{**shared, "value": value} for value in (384, 448)]
    gates = [
        {**failed, "nodeid": f"test_{name}", "levers": [shared, *more]}
        for name, more in (("first", own[:1]), ("second", own[1:]))
    ]
    second = Terminal().shown(gates).rpartition("test_second")[2]
    assert re.findall(r"(\d)\. Set image_size=(\d+)", second) == [("1", "320"), ("2", "448")]


@pytest.mark.parametrize("verdict", ["insufficient", "undecided"])
def test_a_further_model_is_told_why_it_must_be_surer(judged, verdict):
    failed = next(record for record in judged if record["failed"])
    asked = {"verdict": verdict, "probability_sufficient": 0.6, "confidence": None}
    trend = {**failed["trend"], "direction": "rising"}
    second = {**failed, **asked, "level": 0.75, "tellable": True, "trend": trend}
    second["derived"] = {**failed["derived"], "data_set": {**failed["derived"]["data_set"]}}
    second["derived"]["data_set"]["missing"] = 40
    said = " ".join(Terminal(80).shown([second]).split())
    assert "because the best of 2 models tends to look better than it is" in said
    assert "the best of" not in Terminal(80).shown([{**second, "level": 0.5}])


def test_a_pass_that_is_too_close_to_call_says_so_in_its_line(judged):
    met = next(record for record in judged if record["verdict"] == "sufficient")
    close = {**met, "derived": {**met["derived"], "close": True}}
    assert re.search(r"sufficient .* of \d+, too close to call\n", Terminal().shown([close]))
    assert "too close" not in Terminal().shown([met])


def test_the_last_line_of_a_run_says_what_is_short(odd_run):
    out = Terminal()
    terminal.write_headline(out, odd_run["requirements"])
    assert out.bytes.getvalue().decode().startswith("Not enough images: 2 gates short, 1 undecided")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_names_cannot_drive_the_terminal_or_begin_a_line(judged, name):
    text = Terminal(verbosity=1).shown(of_class(judged, name))
    assert "\x1b" not in text
    assert not re.search(r"^::", text, re.MULTILINE)
    assert "long" * 20 not in text
    said = failure([r for r in of_class(judged, name) if r["class"]])
    assert "\x1b" not in said
    assert not re.search(r"^::", said, re.MULTILINE)


def test_colour_and_letters_only_where_the_terminal_has_them(judged):
    assert "\x1b" in Terminal(markup=True).shown(judged)
    assert "●" in Terminal().shown(judged)
    plain = Terminal(encoding="ascii").shown(judged)
    assert "●" not in plain
    assert "\\u" not in plain
    assert "o" in plain


def test_a_curve_only_where_there_is_room_and_three_at_most(judged):
    assert "●" not in Terminal(width=50).shown(judged)
    failed = next(record for record in judged if record["failed"])
    many = [{**failed, "nodeid": f"test_{i}"} for i in range(5)]
    text = Terminal().shown(many)
    assert text.count("available") == 3
    assert Terminal(verbosity=1).shown(many).count("available") >= 5


@pytest.mark.parametrize("letters", [ASCII, UNICODE])
@pytest.mark.parametrize("width", [40, 60, 90])
def test_a_plot_fits_and_shows_means_where_they_are(judged, letters, width):
    for record in judged:
        lines = plot(record, width, letters)
        assert max(map(len, lines[:-1])) <= width
        means, curve = record["measured"]["mean"], record["curve"]["n"]
        best = record["sizes"][means.index(max(means))]
        share = math.log(best / curve[0]) / math.log(curve[-1] / curve[0])
        top = next(line for line in lines if letters.mean in line)
        assert top[9 + round(share * (width - 11))] == letters.mean
