"""The justification of a real run, and every wrong use of its option."""

import html
import json
import re
from pathlib import Path

import pytest

from pytest_datasize.__main__ import main

DOCS = Path(__file__).parents[2] / "docs" / "justification.md"

GATE = """
from pytest_datasize import datasize

@datasize.requires(accuracy=0.6, recall_per_class=0.999, confidence=0.8)
def test_enough(): ...

@datasize.requires(images_per_class=10)
def test_classes(): ...

@datasize.requires(accuracy=0.6, dataset="missing")
def test_broken(): ...
"""


def blocks(language):
    """Return the code blocks of the page of the docs."""
    return re.findall(rf"```{language}\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)


def test_a_real_run_is_justified_in_both_forms_with_the_same_facts(repository):
    repository.makepyfile(test_gate=GATE)
    repository.runpytest("--datasize-justification=out/why.html", "--datasize-json=run.json")
    run = json.loads((repository.path / "run.json").read_text())
    again = repository.path / "why.md"
    assert main(["report", str(repository.path / "run.json"), "--justification", str(again)]) == 0
    page = html.unescape(re.sub(r"<[^>]+>", " ", (repository.path / "out/why.html").read_text()))
    markdown = html.unescape(again.read_text("utf-8"))
    gates = [record for record in run["requirements"] if record["metric"]]
    assert len(gates) == 2
    for text in (page, markdown):
        for gate in gates:
            assert gate["subject"]["images"]["fingerprint"] in text
            assert f"test_gate.py:{gate['line']}" in text
            assert f"{gate['metric'].split('_')[0]}" in text
            assert gate["verdict"] in text
            assert "80 %" in text
        assert "at least 10 images of each class" in text
        assert "does not exist" in text  # what was not judged, and why
        assert "--datasize-justification=out/why.html" in text
        assert run["digest"] in text
        assert "Cover & Hart 1967" in text


def test_the_example_of_the_docs_runs_as_it_stands(repository):
    [gate] = blocks("python")
    [command, later] = [block.split() for block in blocks("bash")]
    repository.makepyfile(test_data=gate)
    assert command[0] == "pytest"
    repository.runpytest(*command[1:]).assert_outcomes(passed=1)
    assert later[:4] == ["python", "-m", "pytest_datasize", "report"]
    places = [str(repository.path / word) if "." in word else word for word in later[4:]]
    assert main(["report", *places]) == 0
    written = {path.suffix: path.read_text("utf-8") for path in repository.path.glob("justif*")}
    assert set(written) == {".md", ".html"}
    for chapter in re.findall(r"^\| (\d \w[\w ]+) \|", DOCS.read_text("utf-8"), re.MULTILINE):
        assert f"## {chapter}" in written[".md"]
        assert f"<h2>{chapter}</h2>" in written[".html"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("why.pdf", "the name must end with .md or .html"),
        ("why", "the name must end with .md or .html"),
        ("file/why.md", "cannot be written"),
        ("folder.md", "cannot be written"),
    ],
)
def test_a_wrong_path_is_a_usage_error_before_training(repository, path, said):
    repository.makepyfile(GATE)
    (repository.path / "file").write_text("")
    (repository.path / "folder.md").mkdir()
    result = repository.runpytest(f"--datasize-justification={path}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{path}*{said}*"])


def test_a_check_and_a_plan_are_justified_as_not_judged(repository):
    repository.makepyfile(
        "from pytest_datasize import datasize\n@datasize.requires(accuracy=0.6)\n"
        "def test_it(): ...\n"
    )
    for mode in ("check", "plan", "skip"):
        repository.runpytest(f"--datasize={mode}", f"--datasize-justification={mode}.md")
        text = (repository.path / f"{mode}.md").read_text("utf-8")
        assert "Nothing was judged in this run" in text
        assert "What was not judged" in text
