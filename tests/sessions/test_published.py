"""What a session tells CI servers, other plugins and experiment trackers."""

import json
import xml.etree.ElementTree as ElementTree
from importlib.util import find_spec

import jsonschema
import pytest

from pytest_datasize.reports.records.result_file import schema

GATES = """
import pytest
from pytest_datasize import datasize

pytestmark = pytest.mark.filterwarnings("default")

@datasize.requires(accuracy=0.6)
def test_met(): ...

@pytest.mark.parametrize("n", [1])
@datasize.requires(
    accuracy=0.999,
    seed=0,
)
@datasize.requires(recall_per_class=0.998, stack=True)
def test_short(n): ...

@datasize.requires(accuracy=0.6, dataset="a%b,c")
class TestBroken:
    def test_it(self): ...
"""


@pytest.fixture
def gates(repository):
    repository.makepyfile(test_gates=GATES)
    return repository


@pytest.fixture
def on_github(gates, monkeypatch, tmp_path):
    """The environment of a job of GitHub Actions whose checkout holds the tests in a folder."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(gates.path.parent))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    return tmp_path / "summary.md"


def test_on_github_by_itself(gates, on_github):
    on_github.write_text("from an earlier command\n")
    result = gates.runpytest()
    result.assert_outcomes(passed=1, failed=1, errors=1)
    lines = [line for line in result.outlines if line.startswith("::")]
    start = f"::error file={gates.path.name}/test_gates.py,line="
    assert [line.partition(",title=")[0] for line in lines] == [
        f"{start}{number}" for number in (17, 10, 14)
    ]
    assert "a%25b,c" in lines[0]
    summary = on_github.read_text(encoding="utf-8")
    assert summary.startswith("from an earlier command\n## Not met: 2 out of reach, 1 could")


def test_an_expected_failure_is_nothing_to_act_on(repository, on_github):
    mark = (
        "@pytest.mark.xfail(reason='the rest arrives in May')\n@datasize.requires(accuracy=0.999)"
    )
    repository.makepyfile(test_gates=GATES.split("@")[0] + mark + "\ndef test_later(): ...\n")
    result = repository.runpytest("--datasize-json=a.json")
    result.assert_outcomes(xfailed=1)
    assert not [line for line in result.outlines if line.startswith("::")]
    [record] = json.loads((repository.path / "a.json").read_text())["requirements"]
    assert (record["verdict"], record["failed"]) == ("unreachable", False)
    assert "the rest arrives in May" in record["notes"][-1]
    assert "## No gate failed: 1 out of reach" in on_github.read_text(encoding="utf-8")


@pytest.mark.parametrize("how", ["option", "ini"])
def test_github_can_be_left_out(gates, on_github, how):
    option = ["--datasize-publish=none"] if how == "option" else []
    if how == "ini":
        with (gates.path / "tox.ini").open("a") as file:
            file.write("\ndatasize_publish = mlflow, wandb\n")
    result = gates.runpytest("-k", "test_met", *option)
    result.assert_outcomes(passed=1, deselected=2)
    assert not on_github.exists()


def test_an_unknown_place_is_refused(gates):
    result = gates.runpytest("--datasize-publish=gitlab")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*'gitlab' is unknown. Allowed: auto, none, github, mlflow*"])


def test_every_report_of_one_run(gates):
    asked = {"json": "a.json", "html": "a.html", "markdown": "a.md", "metrics": "a.txt"}
    options = [f"--datasize-{name}=out/{path}" for name, path in asked.items()]
    result = gates.runpytest(*options)
    for path in asked.values():
        result.stdout.fnmatch_lines([f"written: *{path}"])
        assert "test_short" in (gates.path / "out" / path).read_text(encoding="utf-8")
    run = json.loads((gates.path / "out" / "a.json").read_text())
    jsonschema.validate(run, schema())
    assert {record["line"] for record in run["requirements"]} == {6, 10, 14, 17}
    assert sorted(path.name for path in (gates.path / "out").iterdir()) == sorted(asked.values())


@pytest.mark.parametrize("mode", ["plan", "skip"])
def test_runs_that_train_nothing_keep_the_schema(gates, mode):
    gates.runpytest(f"--datasize={mode}", "--datasize-json=a.json", "--datasize-html=h")
    run = json.loads((gates.path / "a.json").read_text())
    jsonschema.validate(run, schema())
    assert (gates.path / "h").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def properties(path):
    cases = ElementTree.parse(path).getroot().iter("testcase")
    return {
        case.get("name"): [(p.get("name"), p.get("value")) for p in case.iter("property")]
        for case in cases
    }


def test_junit_properties_also_in_parallel(gates):
    gates.runpytest("--junitxml=one.xml")
    gates.runpytest("--junitxml=two.xml", "-n2")
    one, two = (properties(gates.path / name) for name in ("one.xml", "two.xml"))
    assert one == two
    met, short = dict(one["test_met"]), dict(one["test_short[1]"])
    assert met["datasize.accuracy.verdict"] == "sufficient"
    assert 0.6 < float(met["datasize.accuracy.score_at_available"]) <= 1
    assert "datasize.recall_per_class.class" in {
        name.replace("2.", "") for name in short if name.endswith("class")
    }
    assert len(one["test_short[1]"]) == len(short), "no property stands twice"
    assert dict(one["test_it"])["datasize.verdict"] == "error"


@pytest.mark.skipif(find_spec("pytest_html") is None, reason="pytest-html is not installed")
def test_pytest_html_shows_the_curve(gates):
    gates.runpytest("--html=report.html", "--self-contained-html")
    page = (gates.path / "report.html").read_text(encoding="utf-8")
    assert page.count("training images&lt;/text") + page.count("training images</text") == 3
