"""Whatever fails at the end of a session, what was measured is written; failures are reported."""

import json
import warnings

import jsonschema
import pytest
from jinja2 import UndefinedError

from pytest_datasize.__main__ import main
from pytest_datasize.curve.counts import count
from pytest_datasize.plugin import progress
from pytest_datasize.reports.formats import draw, html_page, terminal
from pytest_datasize.reports.publishers import github
from pytest_datasize.reports.records import advice, files, lock, past_runs, result_file

GATE = """
from pathlib import Path
from pytest_datasize import datasize

@datasize.requires(accuracy=0.6)
def test_enough():
    {body}
"""


@pytest.fixture
def gate(repository):
    repository.makepyfile(test_gate=GATE.format(body="pass"))
    return repository


def raising(problem):
    def fail(*arguments, **named):
        raise problem

    return fail


def ended_well(result):
    """The verdict of the gate and the exit status are those of a session where all went well."""
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.OK
    text = result.stdout.str() + result.stderr.str()
    assert "INTERNALERROR" not in text
    assert "Traceback" not in text
    return [line for line in result.outlines if line.startswith("datasize: ")]


@pytest.mark.parametrize(
    "problem",
    [
        OSError(28, "No space left on device"),
        UnicodeEncodeError("utf-8", "\udcef", 0, 1, "surrogates not allowed"),
        UndefinedError("no attribute 'weights'"),
        RuntimeError(),
        SystemExit(3),
    ],
    ids=lambda problem: type(problem).__name__,
)
def test_a_report_that_raises_anything_is_one_line(gate, monkeypatch, problem):
    monkeypatch.setattr(html_page, "write", raising(problem))
    options = ("--datasize-html=a.html", "--datasize-markdown=a.md", "--datasize-json=a.json")
    [line] = ended_well(gate.runpytest(*options))
    assert line.startswith(f"datasize: --datasize-html={gate.path / 'a.html'}: not written: ")
    assert type(problem).__name__ in line
    assert (gate.path / "a.md").exists()
    assert len(json.loads((gate.path / "a.json").read_text())["requirements"]) == 1


def test_the_json_file_is_written_before_all_else(gate, monkeypatch):
    seen = {}

    def look(name, original):
        def write(*arguments):
            seen[name] = (gate.path / "z.json").exists()
            return original(*arguments)

        return write

    for module in (html_page, lock, past_runs):
        name = "remember" if module is past_runs else "write"
        monkeypatch.setattr(module, name, look(module.__name__, getattr(module, name)))
    options = ("--datasize-html=a.html", "--datasize-json=z.json", "--datasize-lock")
    assert ended_well(gate.runpytest(*options)) == []
    assert len(seen) == 3
    assert all(seen.values())


def test_a_json_file_that_cannot_be_written_loses_no_other(repository):
    """Something takes the place of the file while the gate trains."""
    repository.makepyfile(test_gate=GATE.format(body="Path('a.json').mkdir()"))
    options = ("--datasize-json=a.json", "--datasize-markdown=a.md", "--datasize-lock")
    [line] = ended_well(repository.runpytest(*options))
    assert "a.json: not written: " in line
    assert "sufficient" in (repository.path / "a.md").read_text(encoding="utf-8")
    assert lock.read(repository.path / lock.NAME)


@pytest.mark.parametrize(
    ("body", "option", "said"),
    [
        ("Path('datasize.lock.json').write_text('{')", "--datasize-lock", "--datasize-lock: "),
        ("Path('datasize.lock.json').mkdir()", "--datasize-lock", "--datasize-lock: "),
        ("Path('b.json').mkdir()", "--datasize-baseline=b.json", "--datasize-baseline="),
    ],
)
def test_a_lock_or_baseline_that_cannot_be_written_is_one_line(repository, body, option, said):
    repository.makepyfile(test_gate=GATE.format(body=body))
    [line] = ended_well(repository.runpytest(option, "--datasize-json=a.json"))
    assert line.startswith(f"datasize: {said}")
    assert ": not written: " in line
    assert (repository.path / "a.json").exists()


@pytest.mark.parametrize(
    ("module", "name", "said"),
    [
        (past_runs, "remember", "history: this run is not kept: RuntimeError: broken"),
        (result_file, "content", "no report can be written: RuntimeError: broken"),
        (terminal, "write", "the summary cannot be shown: RuntimeError: broken"),
    ],
)
def test_every_other_step_at_the_end_is_guarded(gate, monkeypatch, module, name, said):
    monkeypatch.setattr(module, name, raising(RuntimeError("broken")))
    lines = ended_well(gate.runpytest("--datasize-json=a.json"))
    assert lines == [f"datasize: {said}"]


def test_a_warning_inside_a_report_costs_no_report(gate, monkeypatch):
    """The repository's pytest makes errors of warnings."""
    written = html_page.write

    def write(*arguments):
        warnings.warn("a plotting library says farewell", DeprecationWarning, stacklevel=1)
        written(*arguments)

    monkeypatch.setattr(html_page, "write", write)
    assert ended_well(gate.runpytest("--datasize-html=a.html")) == []
    assert (gate.path / "a.html").exists()


@pytest.mark.parametrize("problem", [KeyError(), SystemExit("no login"), OSError(5, "gone")])
def test_a_publisher_that_raises_anything_is_one_line(gate, monkeypatch, tmp_path, problem):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    monkeypatch.setattr(github, "publish", raising(problem))
    [line] = ended_well(gate.runpytest())
    assert line.startswith(f"datasize: github: not published: {type(problem).__name__}")


def test_a_row_of_pytest_html_that_cannot_be_drawn_is_one_line(gate, monkeypatch):
    monkeypatch.setattr(draw, "standalone", raising(KeyError("curve")))
    [line] = ended_well(gate.runpytest("--html=report.html", "--self-contained-html"))
    assert line == "datasize: the page of pytest-html lacks a curve: KeyError: 'curve'"


def test_a_failure_is_shown_quietly_too_and_in_parallel(gate, monkeypatch):
    repository = gate
    repository.makepyfile(test_gate=GATE.format(body="Path('a.md').mkdir()"))
    result = repository.runpytest_subprocess("-q", "-n1", "--datasize-markdown=a.md")
    assert result.ret == pytest.ExitCode.OK
    assert sum(line.startswith("datasize: --datasize-markdown=") for line in result.outlines) == 1
    assert "written: " not in result.stdout.str().replace("not written: ", "")


@pytest.mark.parametrize(
    "option",
    [
        "--datasize-html=" + "a" * 253,  # the temporary file beside it has too long a name
        "--datasize-json=file/a.json",
        "--datasize-baseline=file/a.json",
        "--datasize-markdown=folder",
        "--datasize-lock",
    ],
)
def test_what_cannot_be_written_is_said_before_training(repository, option):
    repository.makepyfile(test_gate=GATE.format(body="raise SystemError('the test ran')"))
    (repository.path / "file").write_text("")
    (repository.path / "folder").mkdir()
    if option == "--datasize-lock":
        (repository.path / lock.NAME).mkdir()
    result = repository.runpytest(option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*cannot be written: *"])
    assert "the test ran" not in result.stdout.str()


def test_the_probe_leaves_nothing_behind(tmp_path):
    files.check_writable(tmp_path / "new" / "folder" / "a.json")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a.json").write_text("kept")
    files.check_writable(tmp_path / "a.json")
    assert (tmp_path / "a.json").read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    import os
    import threading

    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    files.write_text(tmp_path / "pipe", "one run")
    reader.join(10)
    assert read == ["one run"]
    assert (tmp_path / "pipe").is_fifo()


def test_a_store_that_cannot_be_opened_is_said_and_the_gate_is_judged(gate):
    (gate.path / "file").write_text("")
    options = ("--datasize-store=file", "-W", "default", "--datasize-json=a.json")
    result = gate.runpytest(*options)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*store *file: cannot open it*"])
    assert (gate.path / "a.json").exists()


# -- tracebacks -----------------------------------------------------------------------------------

BROKEN = """
from pytest_datasize.study.study import Study

def deep_inside(self, *arguments):
    raise ZeroDivisionError("nobody foresaw this")

Study.run = deep_inside
"""


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_an_unforeseen_error_brings_its_traceback(gate, workers):
    gate.makeconftest((gate.path / "conftest.py").read_text() + BROKEN)
    result = gate.runpytest_subprocess(workers)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "unexpected ZeroDivisionError: nobody foresaw this (conftest.py:*",
            "*Captured datasize traceback setup*",
            "Traceback (most recent call last):",
            "*conftest.py*in deep_inside",
            "ZeroDivisionError: nobody foresaw this",
        ]
    )


def test_a_trainer_that_raises_brings_its_traceback(repository):
    repository.makepyfile(
        theirs="def lowest():\n    raise LookupError('no GPU left')\n\n"
        "def train(train, test, seed, device):\n    lowest()\n"
    )
    repository.makepyfile(
        "from pytest_datasize import datasize\n"
        "@datasize.requires(accuracy=0.6, trainer='theirs:train')\n"
        "def test_theirs(): ...\n"
    )
    result = repository.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*Captured datasize traceback setup*", "*theirs.py*in lowest"])


@pytest.mark.parametrize("mark", ["", "@pytest.mark.xfail(reason='more images in May')"])
def test_an_unforeseen_error_of_the_verdict_fails_the_test_with_its_traceback(
    repository, monkeypatch, mark
):
    monkeypatch.setattr(advice, "advice", raising(IndexError("list index out of range")))
    repository.makepyfile(
        "import pytest\nfrom pytest_datasize import datasize\n"
        f"{mark}\n@datasize.requires(accuracy=0.6)\ndef test_enough(): ...\n"
    )
    result = repository.runpytest("--datasize-json=a.json")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "unexpected IndexError: list index out of range (test_nothing_is_lost.py:*",
            "*Captured datasize traceback call*",
        ]
    )
    [record] = json.loads((repository.path / "a.json").read_text())["requirements"]
    assert record["verdict"] == "error"


def test_an_error_that_explains_itself_brings_no_traceback(repository):
    repository.makepyfile(
        "from pytest_datasize import datasize\n"
        "@datasize.requires(accuracy=0.6, dataset='missing')\ndef test_broken(): ...\n"
    )
    result = repository.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.no_fnmatch_line("*Captured datasize traceback*")


# -- progress, generators, plans, commands --------------------------------------------------------


@pytest.fixture
def at_once(monkeypatch):
    """Progress is shown from the first step on."""
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0)


@pytest.mark.parametrize("options", [["-p", "no:capture"], ["-s"], []], ids=str)
def test_progress_needs_no_capture_of_pytest(gate, at_once, options):
    result = gate.runpytest(*options)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*datasize: *images* of 120*"])


def test_progress_that_cannot_be_shown_ends_no_training(gate, at_once, monkeypatch):
    def closed(self):
        raise BrokenPipeError("the terminal was closed")

    monkeypatch.setattr(progress.Progress, "_uncaptured", closed)
    gate.runpytest().assert_outcomes(passed=1)


OWN = """
import torch
from pytest_datasize import datasize

def train(train, test, seed, device):
    labels = torch.tensor([float(x.mean()) for x, _ in test])
    return (labels > torch.rand(1)).long()

@datasize.requires(accuracy=0.3, trainer=train, device="cpu")
def test_theirs(): ...
"""


def test_a_trainer_on_the_cpu_leaves_every_gpu_alone(repository, monkeypatch):
    """As on a machine with two of them: none is asked for its state, none is seeded."""
    import torch

    touched = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda *a: touched.append("read"))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda *a: touched.append("written"))
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda *a: touched.append("seeded"))
    repository.makepyfile(OWN)
    result = repository.runpytest()
    assert result.parseoutcomes().get("errors", 0) == 0
    assert touched == []


@pytest.mark.parametrize("asked", ["strategy='from_scratch'", "augment=True", "augment=turned"])
def test_no_strategy_on_the_cpu_seeds_a_gpu(repository, monkeypatch, asked):
    import torch

    touched = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda *a: touched.append("seeded"))
    repository.makeconftest(
        (repository.path / "conftest.py")
        .read_text()
        .replace(
            "torch.nn.AvgPool2d((24, 6))",
            ("torch.nn.Conv2d(3, 2, 5), torch.nn.AdaptiveAvgPool2d((1, 2))"),
        )
    )
    repository.makepyfile(
        "from pytest_datasize import datasize\nimport torch\n"
        "def turned(picture):\n    return picture.rotate(10 * float(torch.rand(1)))\n"
        f"@datasize.requires(accuracy=0.01, device='cpu', repeats=2, sizes=[8, 16, 32], {asked})\n"
        "def test_it(): ...\n"
    )
    repository.runpytest().assert_outcomes(passed=1)
    assert touched == []


def test_the_plan_of_a_trainer_keeps_the_published_schema(repository):
    """How long someone else's training takes is not known: null, which the schema must allow."""
    repository.makepyfile(OWN)
    repository.runpytest("--datasize=plan", "--datasize-json=a.json")
    run = json.loads((repository.path / "a.json").read_text())
    assert run["requirements"][0]["estimated_seconds"] is None
    jsonschema.validate(run, result_file.schema())


def test_ask_takes_prices_by_class(repository, capsys):
    repository.makepyfile(
        "from pytest_datasize import datasize\n"
        "@datasize.requires(accuracy=0.6, cost_per_image={'left': 2, '*': 1})\n"
        "def test_enough(): ...\n"
    )
    repository.runpytest("--datasize-json=a.json")
    path = str(repository.path / "a.json")
    [record] = json.loads((repository.path / "a.json").read_text())["requirements"]
    more = 500 - record["total"]
    capsys.readouterr()
    assert main(["ask", path, "--images", "500"]) == 0
    assert f"{count(more)} more than" in (out := capsys.readouterr().out)
    assert f" for {1.5 * more:,.0f}" in out
    assert main(["ask", path, "--images", "500", "--cost-per-image", "left=3,right=4"]) == 0
    assert f" for {3.5 * more:,.0f}" in capsys.readouterr().out
    assert main(["ask", path, "--images", "500", "--cost-per-image", "left=3"]) == 2
    assert "no price of 'right'" in capsys.readouterr().err
    assert main(["ask", path, "--images", "500", "--cost-per-image", "up=3,*=1"]) == 2
    assert "'up', which is no class" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["ask", path, "--images", "500", "--cost-per-image", "left=-1"])
    assert "a price for each class" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["weights", "advice", "baseline", "timings"])
def test_a_report_of_an_edited_file_is_no_traceback(odd_run, tmp_path, capsys, part):
    edited = json.loads(json.dumps(odd_run))
    edited["requirements"][0][part] = {"rule": 1} if part != "timings" else []
    result_file.write(tmp_path / "run.json", edited)
    assert main(["report", str(tmp_path / "run.json"), "--html", str(tmp_path / "a.html")]) == 2
    assert f"damaged: requirement 1: {part}" in capsys.readouterr().err
