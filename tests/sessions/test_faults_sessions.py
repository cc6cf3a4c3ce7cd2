"""Sessions that used to lose work, stop, or blame the plugin: one row per fault and sibling."""

import json
import os
import stat

import pytest
import torch

from pytest_datasize.__main__ import main

GATE = """
import json
import os
import stat

import pytest
import torch

from pytest_datasize.__main__ import main
from pytest_datasize import datasize
{before}

@datasize.requires({arguments})
def test_gate(): ...

def test_other(): ...
"""

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)

YAML = {
    "an alias bomb": f"defaults:\n  repeats: 4\n{BOMB}",
    "an alias that contains itself": "defaults: &d {checks: *d}\n",
    "a date that does not exist": "defaults: {seed: 2020-99-99}\n",
    "an impossible integer": "defaults: {seed: !!int abc}\n",
    "an impossible float": "defaults: {budget: !!float x}\n",
    "a tag of another language": "defaults: !!python/object/apply:os.system ['true']\n",
    "a merge of a number": "defaults: {<<: 3}\n",
    "binary": "defaults: {seed: !!binary '###'}\n",
    "a list as a key": "defaults: {? [a, b] : 1}\n",
    "depth": "defaults: " + "[" * 3000 + "]" * 3000 + "\n",
    "a null byte": "defaults: {backbone: 'a\0b'}\n",
    "too long": "# " + "x" * 1_100_000 + "\n",
}


@pytest.mark.parametrize("fault", YAML)
def test_any_settings_file_is_read_or_refused_by_name(repository, fault):
    (repository.path / "datasize.yaml").write_text(YAML[fault])
    repository.makepyfile(GATE.format(before="", arguments="images_per_class=3"))
    result = repository.runpytest()
    text = result.stdout.str() + result.stderr.str()
    assert "INTERNALERROR" not in text
    assert "Traceback" not in text
    assert "please report" not in text
    assert "datasize.yaml" in text
    assert result.ret != 0


ARGUMENTS = {
    "a huge number": ("images_per_class=10**400", "images_per_class=", ""),
    "a huge target": ("accuracy=10**400", "accuracy=", ""),
    "an object whose repr fails": (
        "accuracy=0.5, seed=Odd()",
        "seed=<Odd>",
        "class Odd:\n    def __repr__(self): raise RuntimeError('no')",
    ),
    "an object that fails in every comparison": (
        "accuracy=Odd()",
        "accuracy=",
        "class Odd:\n    def __float__(self): raise KeyError('x')\n"
        "    def __lt__(self, other): raise KeyError('x')\n    __gt__ = __le__ = __ge__ = __lt__",
    ),
    "a null byte in a path": ("accuracy=0.5, dataset='a\\0b'", "is not a path", ""),
    "a path that is too long": ("accuracy=0.5, dataset='x' * 5000", "dataset", ""),
    "a long text": ("accuracy=0.5, sampling='x' * 10**6", "sampling=", ""),
}


@pytest.mark.parametrize("fault", ARGUMENTS)
def test_any_argument_is_taken_or_refused_by_name(repository, fault):
    arguments, said, before = ARGUMENTS[fault]
    repository.makepyfile(GATE.format(before=before, arguments=arguments))
    result = repository.runpytest()
    text = result.stdout.str()
    assert "INTERNALERROR" not in text
    assert "please report" not in text
    assert "site-packages/pytest_datasize" not in text
    assert said in text
    assert len(text) < 30_000
    assert result.ret != 0


@pytest.mark.parametrize("value", ["9" * 500, "1e999", "nan", "-0", "\u0661", "0x10"])
@pytest.mark.parametrize("option", ["repeats", "budget", "confidence", "sizes"])
def test_any_option_on_the_command_line_is_taken_or_refused(repository, option, value):
    repository.makepyfile(GATE.format(before="", arguments="images_per_class=3"))
    result = repository.runpytest(f"--datasize-{option}={value}")
    text = result.stdout.str() + result.stderr.str()
    assert "INTERNALERROR" not in text
    assert "Traceback" not in text


AGAIN = """
import json
import os
import stat

import pytest
import torch

from pytest_datasize.__main__ import main

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    # what the plugins for reruns do: the same item is set up, called and torn down again
    from _pytest.runner import runtestprotocol
    for last in (False, True):
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        item._initrequest()
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    return True
"""


def test_a_gate_that_is_set_up_again_is_judged_again(repository):
    conftest = repository.path / "conftest.py"
    conftest.write_text(conftest.read_text() + AGAIN)
    repository.makepyfile(GATE.format(before="", arguments="accuracy=0.6"))
    result = repository.runpytest()
    result.assert_outcomes(passed=2)
    assert "too late" not in result.stdout.str()


@pytest.mark.parametrize("argument", ["", "datasize_dataset"])
def test_a_fixture_with_params_is_named_by_the_test(repository, shape_folder, argument):
    repository.makepyfile(
        f"""
        import pytest
        from pytest_datasize import datasize

        @pytest.fixture(params=[{str(shape_folder)!r}, "nowhere"])
        def datasize_dataset(request):
            return request.param

        @datasize.requires(images_per_class=5)
        def test_gate({argument}): ...
        """
    )
    result = repository.runpytest()
    if argument:
        result.assert_outcomes(passed=1, errors=1)
        result.stdout.fnmatch_lines(["*nowhere does not exist*"])
    else:
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(["fixture datasize_dataset has params. Name it in *"])


def test_doctests_of_a_marked_module_are_no_gates(repository):
    repository.makepyfile(
        '"""\n>>> 1 + 1\n2\n"""\n'
        "from pytest_datasize import datasize\n"
        "pytestmark = datasize.requires(images_per_class=3)\n"
        "def test_gate(): ...\n"
    )
    repository.runpytest("--doctest-modules").assert_outcomes(passed=2)


LEAVES = {
    "skip in a trainer": ("skip('later')", "trainer"),
    "xfail in a trainer": ("xfail('later')", "trainer"),
    "skip in a data set": ("skip('later')", "dataset"),
}


@pytest.mark.parametrize("fault", LEAVES)
def test_a_gate_cannot_be_left_from_inside(repository, fault):
    call, where = LEAVES[fault]
    before = f"""
import numpy as np, torch
def train(train, test, *, seed, device): pytest.{call}
class Data(torch.utils.data.Dataset):
    def __len__(self): return 60
    def __getitem__(self, index): pytest.{call}
"""
    given = "trainer=train" if where == "trainer" else "dataset=Data()"
    repository.makepyfile(GATE.format(before=before, arguments=f"accuracy=0.6, {given}"))
    result = repository.runpytest()
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(["*A gate that is skipped says nothing about the images*"])


BLOCKED = """
import socket

class SocketBlockedError(RuntimeError):
    pass

def blocked(*arguments, **options):
    raise SocketBlockedError("A test tried to use socket.socket.")

def pytest_runtest_setup(item):
    socket.socket.connect = blocked
    socket.create_connection = blocked
    socket.getaddrinfo = blocked
"""


def test_a_tool_that_forbids_connections_is_like_no_network(repository, monkeypatch):
    conftest = repository.path / "conftest.py"
    conftest.write_text(conftest.read_text() + BLOCKED)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    repository.makepyfile(
        GATE.format(before="", arguments="accuracy=0.3, backbone='tf_efficientnet_lite0'")
    )
    result = repository.runpytest_subprocess("-k", "gate")
    assert "please report" not in result.stdout.str()
    result.assert_outcomes(passed=1)  # the weights of the installed package are used


EDITS = {
    "the verdict": (
        lambda record: {**record, "verdict": "sufficient"},
        "the verdict is sufficient",
    ),
    "a number that is a text": (lambda record: {**record, "required": "many"}, "required is a str"),
    "a list that is a number": (lambda record: {**record, "sizes": 3}, "sizes is a int"),
    "an unknown verdict": (lambda record: {**record, "verdict": "fine"}, "verdict is 'fine'"),
    "a missing part": (
        lambda record: {k: v for k, v in record.items() if k != "fit"},
        "'fit' is missing",
    ),
    "NaN": (lambda record: {**record, "target": float("nan")}, "not JSON"),
    "a boolean for a number": (lambda record: {**record, "target": True}, "target is a bool"),
    "no record at all": (lambda record: 7, "it is a int"),
}


@pytest.fixture(scope="module")
def short_run(tmp_path_factory, shape_folder):
    """A result of a gate that is far too short of images."""
    from pytest_datasize import Study
    from pytest_datasize.reports.records import result_file
    from pytest_datasize.reports.records.record import records

    backbone = torch.nn.Sequential(torch.nn.AvgPool2d((12, 8)), torch.nn.Flatten())
    study = Study(str(shape_folder), backbone=backbone, image_size=24, repeats=3, device="cpu")
    result = study.run()
    found = records(result.verdict(accuracy=0.999), result)
    return result_file.content(
        [{**one, "nodeid": "test_gate.py::test_gate", "settings": {}} for one in found],
        1,
        tmp_path_factory.mktemp("run"),
    )


@pytest.mark.parametrize("fault", EDITS)
@pytest.mark.parametrize("command", ["report", "ask", "diff", "baseline"])
def test_an_edited_result_is_refused_with_the_place(repository, short_run, fault, command, capsys):
    edit, said = EDITS[fault]
    edited = {**short_run, "requirements": [edit(one) for one in short_run["requirements"]]}
    path = repository.path / "old.json"
    path.write_text(json.dumps(edited))
    if command == "baseline":
        repository.makepyfile(GATE.format(before="", arguments="images_per_class=3"))
        result = repository.runpytest("--datasize-baseline=old.json")
        text = result.stdout.str() + result.stderr.str()
        assert result.ret != 0
    else:
        more = {"ask": ["--target", "0.9"], "diff": [str(path)]}.get(command, [])
        assert main([command, str(path), *more]) == 2
        text = capsys.readouterr().err
    assert said in text
    assert "Traceback" not in text
    assert "INTERNALERROR" not in text


def test_an_edited_lock_is_refused(repository):
    repository.makepyfile(GATE.format(before="", arguments="accuracy=0.999, second_look='off'"))
    repository.runpytest("--datasize-lock").assert_outcomes(failed=1, passed=1)
    lock = repository.path / "datasize.lock.json"
    repository.runpytest("--datasize=locked").assert_outcomes(failed=1, passed=1)
    for old, new in (
        ('"insufficient"', '"sufficient"'),
        ('"unreachable"', '"sufficient"'),
        ('"target": 0.999', '"target": 0.5'),
    ):
        text = lock.read_text()
        if old not in text:
            continue
        lock.write_text(text.replace(old, new))
        result = repository.runpytest("--datasize=locked")
        result.assert_outcomes(errors=1, passed=1)
        result.stdout.fnmatch_lines(["*an entry was edited*"])
        lock.write_text(text)


def test_a_report_keeps_links_and_devices(repository, tmp_path):
    repository.makepyfile(GATE.format(before="", arguments="images_per_class=3"))
    real = tmp_path / "real.json"
    real.write_text("old")
    (repository.path / "out.json").symlink_to(real)
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (repository.path / "out.json.tmp").symlink_to(victim)
    repository.runpytest("--datasize-json=out.json").assert_outcomes(passed=2)
    assert (repository.path / "out.json").is_symlink()
    assert json.loads(real.read_text())["schema"] == 3
    assert victim.read_text() == "untouched"
    repository.runpytest("--datasize-json=/dev/null").assert_outcomes(passed=2)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_value_that_moves_the_root_directory_is_refused(pytester, tmp_path):
    project = pytester.mkdir("project")
    (project / "test_it.py").write_text("def test_it(): ...\n")
    (pytester.path / "report.html").write_text("old")
    os.chdir(project)
    result = pytester.runpytest_subprocess("--datasize-html", "../report.html")
    result.stderr.fnmatch_lines(["*Write --datasize-html=../report.html*"])
    assert result.ret != 0
    pytester.runpytest_subprocess("--datasize-html=../report.html").assert_outcomes(passed=1)
