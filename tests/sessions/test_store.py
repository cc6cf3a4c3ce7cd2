"""Sessions that share a store: unchanged, refreshed, locked, several at once."""

import json
import subprocess
import sys

import pytest
from support import shapes, write_folder

from pytest_datasize.__main__ import main

GATES = """
from pytest_datasize import datasize

@datasize.requires(accuracy=0.6)
def test_enough(): ...

@datasize.requires(accuracy=0.999)
def test_short(): ...
"""


@pytest.fixture
def kept(repository):
    """The small repository, with a store."""
    repository.makepyfile(GATES)
    return repository


def run(repository, *arguments, store="kept"):
    result = repository.runpytest(f"--datasize-store={store}", "--datasize-json=r.json", *arguments)
    found = json.loads((repository.path / "r.json").read_text())["requirements"]
    return result, found


def test_an_unchanged_session_gives_the_same_records(kept):
    first, records = run(kept)
    first.assert_outcomes(passed=1, failed=1)
    again, same = run(kept)
    again.assert_outcomes(passed=1, failed=1)
    assert same == records  # the times of the measurement too
    assert records[0]["subject"]["images"]["number"] == 120
    refreshed, other = run(kept, "--datasize-refresh")
    refreshed.assert_outcomes(passed=1, failed=1)
    assert other[0]["timings"] != records[0]["timings"]
    assert other[0]["scores"] == records[0]["scores"]


def test_another_target_needs_no_training(kept):
    _, records = run(kept)
    kept.makepyfile(GATES.replace("0.6", "0.65"))
    _, other = run(kept)
    assert other[0]["timings"] == records[0]["timings"]
    assert other[0]["target"] == 0.65


def test_without_a_store_nothing_is_kept(kept):
    run(kept, store="off")
    assert not (kept.path / "kept").exists()
    assert not (kept.path / "off").exists()


def test_the_store_lies_in_the_cache_of_pytest(kept):
    kept.makeini("[pytest]\nfilterwarnings = error\ndatasize_image_size = 24\ndatasize_repeats = 4")
    kept.runpytest().assert_outcomes(passed=1, failed=1)
    assert (kept.path / ".pytest_cache" / "d" / "datasize" / "store-1.sqlite").is_file()


def test_two_gates_and_two_workers_measure_once(kept):
    result, records = run(kept, "-n2", "--dist=each")
    assert result.ret == 1
    assert len(list((kept.path / "kept" / "embeddings").iterdir())) == 2  # and hashes
    assert len({json.dumps(record["timings"]) for record in records}) == 1


def test_two_sessions_at_once_agree(kept):
    command = [sys.executable, "-m", "pytest", "-q", "--datasize-store=kept", "--datasize-json"]
    running = [
        subprocess.Popen([*command, f"{n}.json"], cwd=kept.path, stdout=subprocess.PIPE)
        for n in (1, 2)
    ]
    said = [process.communicate()[0].decode() for process in running]
    one, two = (json.loads((kept.path / f"{n}.json").read_text()) for n in (1, 2))
    assert one["requirements"] == two["requirements"], said
    assert len(list((kept.path / "kept" / "embeddings").iterdir())) == 2  # and hashes


def test_an_unchanged_gate_imports_neither_torch_nor_scipy(pytester):
    folder = write_folder(pytester.path / "data", *shapes(40))
    pytester.makepyfile(
        f"""
        from pytest_datasize import datasize

        @datasize.requires(accuracy=0.55, dataset={str(folder)!r}, confidence=0.8)
        def test_enough(): ...
        """
    )
    pytester.makeconftest(
        """
        import sys

        def pytest_unconfigure():
            heavy = {"torch", "timm", "scipy", "torchvision", "matplotlib"} & set(sys.modules)
            print("heavy:", sorted(heavy))
        """
    )
    options = ("--datasize-image-size=32", "--datasize-json=r.json", "--datasize-repeats=4")
    options += ("--datasize-second-look=off",)
    cold = pytester.runpytest_subprocess(*options, timeout=120)
    cold.stdout.fnmatch_lines(["heavy: *'torch'*"])
    records = json.loads((pytester.path / "r.json").read_text())["requirements"]
    warm = pytester.runpytest_subprocess(*options, timeout=120)
    warm.stdout.fnmatch_lines(["heavy: []"])
    assert json.loads((pytester.path / "r.json").read_text())["requirements"] == records
    for path in folder.rglob("*.png"):  # a fresh checkout: other dates, same images
        path.touch()
    pytester.runpytest_subprocess(*options, timeout=120).stdout.fnmatch_lines(["heavy: []"])


def test_every_session_is_kept_and_shown(kept, capsys):
    run(kept)
    write_folder(kept.path / "more", *shapes(160))
    run(kept, f"--datasize-dataset={kept.path / 'more'}", "-n1")
    capsys.readouterr()
    assert main(["history", "--store", str(kept.path / "kept"), "--test", "enough"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].endswith("::test_enough: accuracy")
    assert [line.split()[-2:] for line in shown[2:]] == [
        ["96", "sufficient"],
        ["128", "sufficient"],
    ]
    assert main(["history", "--store", str(kept.path / "nowhere")]) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err


# -- the committed record --------------------------------------------------------------------------


def test_the_record_judges_without_measuring(kept):
    first, records = run(kept, "--datasize-lock")
    first.assert_outcomes(passed=1, failed=1)
    content = (kept.path / "datasize.lock.json").read_text()
    assert str(kept.path) not in content
    assert max(map(len, content.splitlines())) < 2000
    locked, found = run(kept, "--datasize=locked", store="off")
    locked.assert_outcomes(passed=1, failed=1)
    locked.stdout.fnmatch_lines(["*accuracy 0.999 is out of reach*"])
    assert [r["verdict"] for r in found] == [r["verdict"] for r in records]
    assert found[0]["required"] == records[0]["required"]
    assert found[0]["score_at_available"] == pytest.approx(records[0]["score_at_available"], 1e-5)
    run(kept, "--datasize-lock")
    assert (kept.path / "datasize.lock.json").read_text() == content


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("image", "data changed (120 then, 121 now images)"),
        ("target", "the requirement changed (accuracy was 0.6, is 0.7)"),
        ("option", "the requirement changed (repeats was 4, is 5)"),
        ("name", "has no entry"),
        ("file", "there is no"),
        ("damage", "cannot be read"),
    ],
)
def test_what_changed_is_an_error_that_says_so(kept, tmp_path, change, says):
    folder = write_folder(tmp_path / "data", *shapes(120))
    kept.makepyfile(GATES.replace("accuracy=0.6", f"accuracy=0.6, dataset={str(folder)!r}"))
    run(kept, "--datasize-lock", "-k", "enough")
    record = kept.path / "datasize.lock.json"
    arguments = []
    if change == "image":
        write_folder(folder, *shapes(121))
    elif change == "option":
        arguments = ["--datasize-repeats=5"]
    elif change in ("target", "name"):
        old, new = ("accuracy=0.6", "accuracy=0.7") if change == "target" else ("_enough", "_all")
        path = kept.path / f"{kept.path.name[:-1]}.py"
        path.write_text(path.read_text().replace(old, new))
    elif change == "file":
        record.unlink()
    else:
        record.write_text(record.read_text()[:-30])
    result = kept.runpytest("--datasize=locked", "-k", "enough or all", *arguments)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*{says.replace('[', '[[]')}*"])
    result.stdout.fnmatch_lines(["*pytest --datasize-lock*"])


def test_a_damaged_record_is_not_overwritten(kept):
    (kept.path / "datasize.lock.json").write_text("{")
    result = kept.runpytest("--datasize-lock")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*datasize.lock.json: cannot be read*Restore it*"])
    assert (kept.path / "datasize.lock.json").read_text() == "{"


def test_the_evidence_itself_is_not_in_the_record(kept):
    kept.makepyfile(GATES.replace("test_enough()", "test_enough(datasize_result)"))
    run(kept, "--datasize-lock")
    result = kept.runpytest("--datasize=locked")
    result.assert_outcomes(errors=1, failed=1)
    result.stdout.fnmatch_lines(["*datasize_result: --datasize=locked measures nothing*"])
