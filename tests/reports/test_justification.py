"""The justification of the sample size: every fact of the records, escaped, and always the same."""

import copy
import html
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from support import ODD_NAMES, shapes

from pytest_datasize import Study
from pytest_datasize.__main__ import main
from pytest_datasize.curve.counts import beside
from pytest_datasize.reports.formats import html_page, justification
from pytest_datasize.reports.formats.document import as_html, as_markdown
from pytest_datasize.reports.records import result_file
from pytest_datasize.reports.records.record import condition_record, records
from pytest_datasize.reports.records.text import one_line

CHAPTERS = (
    "1 Question",
    "2 Data",
    "3 Method",
    "4 Results",
    "5 Limits and assumptions",
    "6 Reproducibility",
)
VOID = {"meta", "link", "img", "br", "hr", "input", "wbr"}


class Page(HTMLParser):
    """A page as a browser reads it: its tags closed in order, its cells and its text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text, self.links = [], [], "", []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def drawn(run):
    """The justification as a reader sees it: text of the page, and text of the Markdown."""
    document = justification.document(run)
    return Page(as_html(document)).text, html.unescape(as_markdown(document))


@pytest.fixture(scope="module")
def texts(odd_run):
    return drawn(odd_run)


def test_the_chapters_have_the_order_of_the_templates(texts):
    page, markdown = texts
    for text, mark in ((page, ""), (markdown, "## ")):
        places = [text.index(f"{mark}{chapter}") for chapter in CHAPTERS]
        assert places == sorted(places)


def test_every_fact_of_the_records_stands_in_both_forms(odd_run, texts):
    gates = [record for record in odd_run["requirements"] if record["metric"]]
    facts = [odd_run["created"], odd_run["digest"], odd_run["platform"], "no?images <b>"]
    facts += [f"{name} {version}" for name, version in odd_run["versions"].items()]
    for gate in gates:
        facts += [
            gate["verdict"],
            f"{gate['target']:g}",
            f"{gate['file']}:{gate['line']}",
            one_line(gate["nodeid"]),
            f"{beside(gate['score_at_available'], gate['target'])} "
            f"({gate['score_at_available_low']:.3f} to {gate['score_at_available_high']:.3f})",
            f"{gate['ceiling']:.3f} ({gate['ceiling_low']:.3f} to {gate['ceiling_high']:.3f})",
            gate["backbone"],
            gate["weights"]["source"],
            gate["source"],
            gate["test_source"],
            gate["device"],
            ", ".join(f"{size:,}" for size in gate["sizes"]),
            f"{gate['total']:,}, of which {gate['available']:,} to train on",
            *map(one_line, gate["class_counts"]),
            *(f"{row['recall']:.3f} ({row['recall_low']:.3f}" for row in gate["classes"]),
            *map(one_line, gate["notes"]),
        ]
    page, markdown = texts
    for fact in facts:
        assert fact in page
        assert fact in markdown.replace("@\u2060", "@")


def test_a_run_with_subject_says_its_fingerprint_and_how_to_repeat_it(odd_run):
    run = copy.deepcopy(odd_run)
    run["command"] = ["pytest", "-k", "one or two"]
    run["commit"], run["dirty"] = "abc123", True
    for record in run["requirements"]:
        if record["metric"]:
            contents = {"number": 240, "fingerprint": "f1" * 32}
            record["subject"] = {"images": contents, "asked": {}, "options": {}}
            record["settings"] = {"seed": 7, "group": r"p(\d+)", "checks": "sizes=ignore"}
            record["weights"] = {"source": "timm", "sha256": "0123abcd"}
    for text in drawn(run):
        for fact in (
            "f1" * 32,
            "pytest -k 'one or two'",
            "abc123; tracked files differed from it",
            r"p(\d+)",
            "levels changed: sizes=ignore",
            "timm, sha256 beginning with 0123abcd",
            "Setting seed",
        ):
            assert fact in text
        assert "No groups were declared" not in text


def test_names_from_the_data_are_text(odd_run):
    document = justification.document(odd_run)
    page, markdown = Page(as_html(document)), as_markdown(document)
    assert "script" not in page.tags
    assert all(link.startswith("data:") for link in page.links)
    assert "\x1b" not in as_html(document) + markdown
    for name in ODD_NAMES:
        assert one_line(name) in page.text
    assert "<script" not in markdown
    assert "`tick`" not in markdown
    assert not re.search(r"@(?!&#8288;)\w", markdown)
    tables = re.findall(r"(?:^\|.*\|\n)+", markdown, flags=re.MULTILINE)
    assert len(tables) == as_html(document).count("<table")
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_paths_and_settings_of_any_kind_are_text(odd_run):
    bad = "</dd><script>x</script>|\n# `@all` \x1b]8;;"
    run = copy.deepcopy(odd_run)
    for record in run["requirements"]:
        record["nodeid"] = record["file"] = bad
        if record["metric"]:
            record["line"] = 1
            record["source"] = record["backbone"] = record["test_source"] = bad
            record["notes"], record["settings"] = [bad], {"group": bad, bad: bad, "checks": bad}
    run["command"], run["commit"], run["platform"] = [bad], bad, bad
    document = justification.document(run)
    page = Page(as_html(document))
    assert "script" not in page.tags
    assert "<script" not in as_markdown(document)
    assert "\n# " not in as_markdown(document)
    assert "\x1b" not in as_html(document) + as_markdown(document)


def test_it_claims_nothing(texts):
    for text in texts:
        assert "does not claim conformity with any law, standard or guidance" in text
        assert not re.search(r"\b(compliant|complies|conforms|certified|approved)\b", text)


def test_limits_are_those_of_the_run(odd_run):
    run = copy.deepcopy(odd_run)
    page, _ = drawn(run)
    assert "The images were not compared with images of the deployment" in page
    assert "No groups were declared" in page
    assert "What was not judged" in page
    assert "Subgroups that are not classes" in page
    gate = next(one for one in run["requirements"] if one["metric"])
    gate["extrapolated"], gate["derived"]["times_measured"] = True, 7.0
    gate["self_check"] = {**gate["self_check"], "low": 0.98, "high": 0.99, "measured": 0.5}
    page, _ = drawn(run)
    assert "the required number of images is an extrapolation to 7 times what was measured" in page
    assert "OUTSIDE" in page.split("5 Limits")[1]


def test_conditions_are_questions_data_and_results(odd_run):
    check = {
        "kind": "images_per_class",
        "images_per_class": 50,
        "reason": "marker",
        "class_counts": {"a": 40},
        "short": {"a": 10},
        "source": "arrays",
    }
    record = condition_record(met=False, message="class a has 40 images", check=check)
    run = {**odd_run, "requirements": [{**record, "nodeid": "test_c", "failed": True}]}
    for text in drawn(run):
        assert "at least 50 images of each class (marker)" in text
        assert "class a has 40 images" in text
        assert "No requirement was judged in this run" in text
    for text in drawn({**odd_run, "requirements": []}):
        assert "Nothing was judged in this run" in text


def test_the_same_file_gives_the_same_bytes(odd_run, tmp_path, capsys):
    result_file.write(tmp_path / "run.json", odd_run)
    for suffix in (".md", ".html", ".HTML"):
        written = []
        for number in range(2):
            path = tmp_path / f"{number}{suffix}"
            assert main(["report", str(tmp_path / "run.json"), "--justification", str(path)]) == 0
            written.append(path.read_bytes())
        assert written[0] == written[1]
        assert written[0].startswith(b"# Just" if suffix == ".md" else b"<!DOCTYPE html>")
    assert f"written: {path}" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["a.txt", "a", "a.pdf", ".md", "a.md.json"])
def test_the_report_command_refuses_another_suffix(odd_run, tmp_path, capsys, name):
    result_file.write(tmp_path / "run.json", odd_run)
    path = tmp_path / name
    assert main(["report", str(tmp_path / "run.json"), "--justification", str(path)]) == 2
    assert "the name must end with .md or .html" in capsys.readouterr().err
    assert not path.exists()


def test_the_report_command_names_a_path_that_cannot_be_written(odd_run, tmp_path, capsys):
    result_file.write(tmp_path / "run.json", odd_run)
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "a.md"
    assert main(["report", str(tmp_path / "run.json"), "--justification", str(path)]) == 2
    assert f"{path}: cannot be written" in capsys.readouterr().err


PATIENTS = np.arange(240) // 2 + np.arange(240) % 2 * 120  # two images of one class each


@pytest.fixture(scope="module")
def grouped():
    """Evidence that counts patients, with slices of two sites."""
    pixels, labels = shapes(240)
    return Study(
        (pixels, labels),
        group=PATIENTS // 2,
        unit="group",
        slices={"site": np.array(["A", "B"])[PATIENTS // 4 % 2]},
        backbone=torch.nn.Sequential(torch.nn.AvgPool2d((24, 6)), torch.nn.Flatten()),
        image_size=24,
        repeats=4,
        device="cpu",
    ).run()


def run_of(result, **targets):
    place = {
        "nodeid": "test_a.py::test_a",
        "settings": {
            "group": PATIENTS.tolist(),
            "slices": {"site": PATIENTS.tolist(), "day": r"day(\d)"},
        },
    }
    found = records(result.verdict(**targets), result)
    return result_file.content([{**one, **place} for one in found], 1, Path(__file__).parent)


def test_a_target_of_every_slice_is_justified_by_all_slices(grouped):
    run = run_of(grouped, min_slice={"accuracy": 0.97})
    [gate] = run["requirements"]
    tested = sum(row["n_test"] for row in gate["slices"])
    page, _ = drawn(run)
    question, data = page.split("1 Question")[1].split("2 Data")
    assert "accuracy of every slice" in question
    assert gate["slice"]["value"] not in question.split("Required certainty")[1].split("test_a")[0]
    data, results = data.split("4 Results")
    assert f"{tested:,} different ones over all repeats; of the slice that decides, site" in data
    assert "'site', 2 values in 120 groups: does not predict the class" in data
    for row in gate["slices"]:
        assert f"site {row['value']!r}" in results
        assert f"{row['score']:.3f} ({row['score_low']:.3f} to {row['score_high']:.3f})" in results
    assert "(decides)" in results
    limits = page.split("5 Limits")[1]
    assert "Slices by 'site' were judged" in limits
    assert "the records have no" not in limits


def test_test_images_are_those_of_a_gate_on_all_images_if_there_is_one(grouped):
    run = run_of(grouped, accuracy=0.6, min_slice={"accuracy": 0.97})
    whole, worst = run["requirements"]
    assert whole["n_test_distinct"] > worst["n_test_distinct"]
    page, _ = drawn(run)
    data = page.split("2 Data")[1].split("3 Method")[0]
    assert f"each score is of {whole['n_test']:,} images" in data
    assert "of the slice that decides" not in data


def test_groups_are_counted_in_every_chapter(grouped):
    run = run_of(grouped, accuracy=0.99, recall_per_class={"0": 0.6, "1": 0.99})
    whole = run["requirements"][0]
    sizes = ", ".join(f"{size:,}" for size in whole["sizes"])
    for text in drawn(run):
        assert f"240 in 120 groups, of which {whole['available']} groups to train on" in text
        assert f"{sizes} groups" in text
        assert f"with {whole['sizes'][-1]} training groups" in text
        assert "Probability that the groups suffice" in text
        assert "Training images" not in text
        assert "number of training images" not in text
        assert "recall_per_class of every class with a target" in text
        assert "0.6 for '0'; 0.99 for '1'" in text


def test_values_of_single_images_are_not_listed(grouped):
    run = run_of(grouped, accuracy=0.6)
    for text in (*drawn(run), html.unescape(html_page.draw(run))):
        assert "one value per image" in text
        assert "{'site': 'one value per image', 'day': 'day(\\\\d)'}" in text
        assert "0, 120, 1, 121" not in text
