"""``--datasize=check`` and what checks do to a gate, in real sessions."""

import json
import re
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image
from support import CONFTEST, shapes, write_folder

from pytest_datasize.reports.records import result_file as json_report

SCHEMA = Path(json_report.__file__).parent / "result.schema.json"
GATE = """
from pytest_datasize import datasize
@datasize.requires(accuracy=0.6)
def test_gate(): ...
"""


@pytest.fixture
def odd(pytester):
    """40 images in data/, and beside them what a careless person leaves."""
    images, labels = shapes(40, noise=0.1)
    root = write_folder(pytester.path / "data", images, labels)
    Image.fromarray(images[0]).save(root / "left" / "copy.bmp")  # other bytes, same pixels
    Image.fromarray(np.full((24, 24), 9, np.uint8)).save(root / "left" / "blank.png")
    Image.fromarray(images[3]).resize((240, 240)).save(root / "right" / "large.png")
    (root / ".dvc").mkdir()
    (root / "right" / "notes.txt").write_text("x")
    pytester.makeconftest(
        CONFTEST
        + "\n@pytest.fixture(scope='session')\ndef datasize_dataset():\n    return 'data'\n"
    )
    pytester.makeini(
        "[pytest]\ndatasize_image_size = 24\ndatasize_repeats = 3\nfilterwarnings = default\n"
    )
    pytester.makepyfile(GATE)
    return pytester


def test_a_look_at_every_image_trains_nothing_and_names_what_is_odd(odd):
    result = odd.runpytest("--datasize=check", "--datasize-json=out.json", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        [
            "*images   42 from folder *data",
            "*classes  left 21, right 21",
            "*warning  1 images *one colour*blank.png*constant*",
            "*note *1 files that are not images were left out (.txt)*",
            "*note *1 hidden or service folders*",
            "*note *long sides range from 24 pixels*to 240*large.png*",
            "*note *1 exact copies in*counted once*",
            "*copy.bmp = *0000.png",
            "*--datasize=check: nothing is trained*",
        ]
    )
    run = json.loads((odd.path / "out.json").read_text())
    jsonschema.validate(run, json.loads(SCHEMA.read_text(encoding="utf-8")))
    record = run["requirements"][0]
    assert (record["verdict"], record["total"], record["available"]) == ("checked", 42, 34)
    assert {check["check"]: check["level"] for check in record["checks"]} == {
        "other_files": "note",
        "hidden_folders": "note",
        "constant": "warning",
        "sizes": "note",
        "duplicates": "note",
    }


def test_errors_are_all_named_and_fail_the_set_up(odd):
    (odd.path / "data" / "left" / "a.png").write_bytes(b"")
    (odd.path / "data" / "left" / "b.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    (odd.path / "data" / "left" / "c.png").write_text("version https://git-lfs.github.com/spec/v1")
    result = odd.runpytest("--datasize=check")
    result.assert_outcomes(errors=1)
    text = result.stdout.str()
    assert all(name in text for name in ("a.png: empty file", "b.jpg: ", "c.png: git-LFS pointer"))
    assert "constant" in text
    assert "Traceback" not in text


def test_settings_raise_and_lower_levels(odd):
    (odd.path / "datasize.yaml").write_text("checks: {constant: error, sizes: ignore}\n")
    result = odd.runpytest("--datasize=check")
    result.assert_outcomes(errors=1)
    assert "long sides" not in result.stdout.str()
    result = odd.runpytest()  # a gate that settings tell to look does so before it trains
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*1 images *one colour all over*blank.png*", "*constant: note*"])
    result = odd.runpytest("--datasize-checks=constant=note")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["*test_gate", "  sufficient * of 42"]
    )  # the copy in another format counts once


def test_what_cannot_be_decoded_can_be_left_out(odd):
    (odd.path / "data" / "left" / "b.png").write_bytes(b"\x89PNG and no more")
    odd.runpytest().assert_outcomes(errors=1)
    result = odd.runpytest("--datasize-checks=unreadable=warning")
    result.assert_outcomes(passed=1, warnings=2)
    result.stdout.fnmatch_lines(["*DatasizeWarning: 1 of 44 images cannot be read*b.png*"])


def test_a_warning_is_told_and_is_an_error_where_warnings_are(odd):
    shutil.copy(odd.path / "data/left/0000.png", odd.path / "data/right/again.png")
    result = odd.runpytest()
    result.assert_outcomes(passed=1, warnings=1)
    told = "*.py:2: DatasizeWarning: 1 images stand under two labels*"
    result.stdout.fnmatch_lines([told, "*@datasize.requires(*"])
    result = odd.runpytest("-W", "error")
    result.assert_outcomes(errors=1)
    assert "please report" not in result.stdout.str()
    assert "Traceback" not in result.stdout.str()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("checks: {duplicate: error}", "no check 'duplicate'"),
        ("checks: {duplicates: loud}", "error, warning, note, ignore"),
        ("checks: {one_class: note}", "stays an error"),
        ("checks: [duplicates]", "expected `key: value`"),
    ],
)
def test_wrong_checks_are_told_before_anything_is_read(odd, text, says):
    (odd.path / "datasize.yaml").write_text(text)
    result = odd.runpytest()
    assert result.ret != 0
    assert says in result.stdout.str()
    assert "Traceback" not in result.stdout.str()


def test_gates_on_one_data_set_share_one_look(odd):
    odd.makepyfile(GATE + GATE.replace("test_gate", "test_other"))
    result = odd.runpytest("--datasize=check")
    result.assert_outcomes(skipped=2)
    assert result.stdout.str().count("from folder") == 1
    result.stdout.fnmatch_lines(["*test_gate and 1 more"])


def test_names_from_data_stay_on_their_line(pytester):
    images, labels = shapes(40, noise=0.1)
    names = ("a\n::error::b\x1b[31m", "<script> ##[error]")
    write_folder(pytester.path / "data", images, labels, names)
    pytester.makeconftest(CONFTEST)
    pytester.makeini("[pytest]\ndatasize_image_size = 24\ndatasize_repeats = 3\n")
    pytester.makepyfile(GATE.replace("0.6", "0.999, recall_per_class=0.999, dataset='data'"))
    for mode in ("check", "plan", "run"):
        text = pytester.runpytest(f"--datasize={mode}", "--color=no").stdout.str()
        assert "\x1b" not in text
        assert "##[" not in text
        assert not any(line.lstrip().startswith("::") for line in text.splitlines())


def test_a_group_from_the_command_line(odd):
    result = odd.runpytest(r"--datasize-group=(\d)\.png", "--datasize=plan")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*group=*does not match*left/blank.png*every image needs a group*"]
    )
    for name in ("left/blank.png", "left/copy.bmp", "right/large.png"):
        (odd.path / "data" / name).unlink()
    result = odd.runpytest(r"--datasize-group=(\d)\.png", "--datasize=plan")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*split    32 to train on*"])


def test_near_copies_are_kept_apart_and_told(pytester, textiles):
    """Ten textiles saved again: left out of a test set, on one side of a split of the pool."""
    paths = [p for kind in sorted(textiles.iterdir()) for p in sorted(kind.glob("*.jpg"))[:20]]
    pool, test = pytester.path / "pool", pytester.path / "test"
    for number, path in enumerate(paths):
        target = (pool if number % 2 else test) / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    for path in sorted(pool.rglob("*.jpg"))[::3]:
        Image.open(path).save(test / path.parent.name / f"again-{path.name}", quality=95)
    gate = """
        from pytest_datasize import datasize

        @datasize.requires(accuracy=0.2, {more})
        def test_{name}(datasize_result):
            print("told:", *datasize_result.notes, sep="\\n", end="\\n--\\n")
            print("images:", datasize_result.total)
        """
    pytester.makepyfile(
        test_given=gate.format(name="given", more="dataset='pool', test_dataset='test'"),
        test_split=gate.format(name="split", more="dataset='test'"),
    )
    options = ("-s", "--datasize-image-size=96", "--datasize-repeats=2", "--datasize-store=kept")
    result = pytester.runpytest(*options, "test_given.py", "-W", "ignore")
    result.assert_outcomes(passed=1)
    result.stdout.re_match_lines(
        [r"([89]|10) test images are nearly the same as one of the pool.*"]
    )
    assert int(re.search(r"images: (\d+)", result.stdout.str())[1]) in (60, 61, 62)
    strict = pytester.runpytest(
        *options, "test_given.py", "--datasize-checks=near_duplicates=error"
    )
    strict.assert_outcomes(errors=1)  # whatever the store remembers of a laxer run
    strict.stdout.fnmatch_lines(["*test images are nearly the same as one of the pool*"])
    lax = pytester.runpytest(*options, "test_given.py", "--datasize-checks=near_duplicates=ignore")
    lax.assert_outcomes(passed=1)
    assert int(re.search(r"images: (\d+)", lax.stdout.str())[1]) == 70
    for path in test.rglob("again-*"):
        path.rename(path.parent / path.name.replace("again", "copy"))
    for path in sorted(pool.rglob("*.jpg"))[::3]:
        (test / path.parent.name / path.name).write_bytes(path.read_bytes())
    result = pytester.runpytest(*options, "test_split.py")
    result.assert_outcomes(passed=1)
    result.stdout.re_match_lines(
        [r"\d+ images in .* in \d+ groups that are kept on one side of every split.*"]
    )
