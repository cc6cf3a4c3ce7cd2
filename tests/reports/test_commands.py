"""``python -m pytest_datasize``: what every command does, and report, diff and ask."""

import copy
import subprocess
import sys

import pytest

from pytest_datasize.__main__ import COMMANDS, main
from pytest_datasize.curve.counts import count
from pytest_datasize.reports.commands.ask import fitted
from pytest_datasize.reports.formats import html_page, markdown, openmetrics
from pytest_datasize.reports.records import baseline, result_file


@pytest.fixture
def file(odd_run, tmp_path):
    result_file.write(tmp_path / "run.json", odd_run)
    return str(tmp_path / "run.json")


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "suggest"])
def test_every_command_helps_and_names_a_missing_file(name, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert any(word in shown for word in ("RESULT.json", "OLD.json", "--store", "merge", "DATA"))
    missing = str(tmp_path / "missing.json")
    special = {
        "diff": [missing, missing],
        "history": ["--store", missing],
        "store": ["info", missing],
    }
    arguments = special.get(name, [missing])
    assert main([name, *arguments, *(["--target", "0.9"] if name == "ask" else [])]) == 2
    assert "no such f" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["ask", "x.json", "--images", "1e3"], "1e3: expected a whole number from 1"),
        (["ask", "x.json", "--target", "90%"], "90%: expected a number above 0 and below 1"),
        (["init", "data", "--target", "high"], "high: expected a number above 0 and below 1"),
        (["diff", "x.json", "x.json", "--max-increase", "nan"], "nan: expected a number from 0"),
        (["diff", "x.json", "x.json", "--max-increase", "-1"], "-1: expected a number from 0"),
    ],
)
def test_a_wrong_argument_is_named_with_what_is_expected(arguments, says, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert says in capsys.readouterr().err


def test_reports_are_drawn_from_the_file(file, odd_run, tmp_path, capsys):

    paths = {name: tmp_path / f"out.{name}" for name in ("html", "markdown", "metrics")}
    asked = [word for name, path in paths.items() for word in (f"--{name}", str(path))]
    assert main(["report", file, *asked]) == 0
    for name, module in (("html", html_page), ("markdown", markdown), ("metrics", openmetrics)):
        assert paths[name].read_text(encoding="utf-8") == module.draw(odd_run)
    capsys.readouterr()
    assert main(["report", file]) == 0
    assert capsys.readouterr().out == markdown.draw(odd_run)


def test_the_curve_of_one_gate_is_drawn_for_a_slide(file, tmp_path, capsys):
    path = tmp_path / "curve.svg"
    assert main(["report", file, "--svg", str(path), "--test", "test_met"]) == 0
    assert path.read_text().lstrip().startswith("<?xml")
    assert "target 0.5" in path.read_text()
    assert main(["report", file, "--svg", str(path), "--test", "test_high"]) == 2
    assert "several gates match; name one with --test and --metric" in capsys.readouterr().err
    assert main(["report", file, "--svg", str(path), "--metric", "nothing"]) == 2
    assert "no gate matches" in capsys.readouterr().err


def test_a_damaged_file_is_no_traceback(file, odd_run, capsys):
    damaged = copy.deepcopy(odd_run)
    damaged["requirements"][0]["curve"] = {}
    from pathlib import Path

    result_file.write(Path(file), damaged)
    assert main(["report", file, "--html", file + ".html"]) == 2
    assert "damaged: requirement 1: curve: 'level' is missing" in capsys.readouterr().err


def test_the_curve_of_the_file_is_the_curve_of_the_run(odd_run, odd_result):
    record = next(r for r in odd_run["requirements"] if r["metric"] == "accuracy")
    curve, again = odd_result.curves["accuracy"], fitted(record)
    for n in (10, 192, 5000):
        assert again.predict(n) == curve.predict(n)
        assert again.interval(n) == curve.interval(n)
    assert again.required(0.8) == curve.required(0.8)


def test_ask_answers_with_intervals_and_cost(file, odd_result, capsys):
    curve = odd_result.curves["accuracy"]
    target = round(curve.predict(500), 3)
    whole = odd_result.held_out.data_set
    required, low = (
        count(whole(n)) for n in (curve.required(target), curve.required_interval(target).low)
    )
    asked = ["--test", "test_met", "--target", str(target), "--images", "400"]
    assert main(["ask", file, *asked, "--cost-per-image", "2"]) == 0
    out = capsys.readouterr().out
    assert f"with 400 images: {curve.predict(320):.3f} (" in out  # a fifth is held out
    assert "160 more than today's 240 for 320" in out
    assert f"for {target:g}: about {required} images ({low} " in out
    assert "test_high" not in out


def test_ask_says_what_no_number_of_images_reaches(file, capsys):
    assert main(["ask", file, "--metric", "accuracy", "--target", "0.9999"]) == 0
    out = capsys.readouterr().out
    assert "for 0.9999: out of reach" in out or "cannot be told" in out
    assert "the ceiling is 0." in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing is asked"),
        (["--target", "0.9", "--test", "nowhere"], "no judged requirement matches"),
    ],
)
def test_ask_says_what_it_needs(file, capsys, arguments, said):
    assert main(["ask", file, *arguments]) == 2
    assert said in capsys.readouterr().err


def test_ask_goes_on_after_a_requirement_that_it_cannot_answer(odd_run, tmp_path, capsys):
    changed = copy.deepcopy(odd_run)
    lower, grouped, *others = [one for one in changed["requirements"] if one["metric"]]
    lower["fit"]["sign"], grouped["unit"] = -1.0, "group"
    path = str(tmp_path / "mixed.json")
    result_file.write(tmp_path / "mixed.json", changed)
    assert main(["ask", path, "--images", "400"]) == 0
    out = capsys.readouterr().out
    assert f"{lower['metric']} is better when lower" in out
    assert "this gate counts groups; ask with --groups" in out
    assert out.count("with 400 images") == len(others) > 0
    assert main(["ask", path, "--images", "400", "--test", "test_met"]) == 2
    assert "is better when lower" in capsys.readouterr().err


def test_ask_refuses_a_curve_that_this_version_draws_otherwise(file, odd_run, capsys):
    from pathlib import Path

    changed = copy.deepcopy(odd_run)
    for record in changed["requirements"]:
        if record["metric"]:
            record["score_at_available"] -= 0.05
    result_file.write(Path(file), changed)
    assert main(["ask", file, "--target", "0.9"]) == 2
    assert "Use the version that wrote it" in capsys.readouterr().err


def record(required, low, high, **others):
    return {
        "nodeid": "t",
        "order": 0,
        "metric": "accuracy",
        "class": None,
        "target": 0.9,
        "confidence": None,
        "verdict": "insufficient",
        "required": required,
        "required_low": low,
        "required_high": high,
        "available": 1000,
        "sizes": [2, 1000],
        "score_at_available": 0.8,
        "score_at_available_low": 0.78,
        "score_at_available_high": 0.82,
        "ceiling": 0.95,
        "ceiling_low": 0.9,
        "ceiling_high": 0.99,
        "backbone": "a",
        "weights": {"sha256": "1"},
        **others,
    }


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (
            (1200, 1100, 1300),
            (1900, 1700, 2100),
            "required: was 1,200 images (1,100 to 1,300), is 1,900 images (1,700 to 2,100); "
            "a clear change",
        ),
        (
            (1200, 700, None),
            (1900, 1000, None),
            "required: was 1,200 images (700 or more), is 1,900 images (1,000 or more); "
            "no clear change",
        ),
        (
            (1900, 1700, 2100),
            (1200, 1100, 1300),
            "required: was 1,900 images (1,700 to 2,100), is 1,200 images (1,100 to 1,300); "
            "a clear change",
        ),
        (
            (1200, 1100, 1300),
            (None, 5000, None),
            "required: was 1,200 images (1,100 to 1,300), is 5,000 images or more; a clear change",
        ),
        (
            (None, None, None),
            (1200, 1100, 1300),
            "required: was out of reach, is 1,200 images (1,100 to 1,300); a clear change",
        ),
        ((None, None, None), (None, None, None), "still out of reach"),
        ((5, 4, 6), (5, 4, 7), "required: unchanged, 5 images (4 to 7)"),
    ],
)
def test_a_change_is_told_with_its_noise(old, new, text):
    found = baseline.change(record(*old), record(*new))
    assert found["text"] == text
    assert found["beyond_noise"] == ("a clear" in text)
    assert not found["exceeded"]


@pytest.mark.parametrize(
    ("old", "new", "most", "confidence", "exceeded"),
    [
        ((1200, 1100, 1300), (1900, 1700, 2100), 0.5, None, True),
        ((1200, 1100, 1300), (1900, 1700, 2100), 0.6, None, False),
        ((1200, 700, None), (1900, 1000, None), 0.5, None, True),
        ((1200, 700, None), (1900, 1000, None), 0.5, 0.9, False),
        ((1200, 1100, 1300), (1900, 1700, 2100), 0.2, 0.9, True),
        ((1200, 1100, 1300), (None, 5000, None), 1.0, None, True),
        ((None, None, None), (None, None, None), 0.0, None, False),
        ((1200, 1100, 1300), (1200, 1100, 1300), 0.0, None, False),
    ],
)
def test_a_rise_is_judged_by_the_median_or_with_the_confidence_asked(
    old, new, most, confidence, exceeded
):
    found = baseline.change(record(*old), record(*new), most, confidence)
    assert found["exceeded"] is exceeded


def test_other_conditions_are_named():
    new = record(1, 1, 1, backbone="b", weights={"sha256": "2"}, available=2000)
    lines = baseline.change(record(1, 1, 1), new)["lines"]
    assert "not the same conditions: backbone a → b, weights" in lines
    assert "available images rose from 1,000 to 2,000" in lines


def test_diff_compares_two_files(file, odd_run, tmp_path, capsys):
    changed = copy.deepcopy(odd_run)
    met = changed["requirements"][0]
    for name in ("required", "required_low", "required_high"):
        met[name] = 10 * met[name] if met[name] else None
    del changed["requirements"][1]
    new = tmp_path / "new.json"
    result_file.write(new, changed)
    assert main(["diff", file, str(new)]) == 0
    out = capsys.readouterr().out
    assert "required: was " in out
    assert "gone, it is not in the new file" in out
    assert main(["diff", file, str(new), "--max-increase", "0.2"]) == 1
    assert main(["diff", file, file, "--max-increase", "0"]) == 0


def test_nothing_heavy_is_imported_for_help():
    probe = (
        "import sys; from pytest_datasize.__main__ import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = [n for n in ('numpy', 'scipy', 'torch', 'matplotlib', 'jinja2', 'pytest') "
        "if n in sys.modules]\nprint('heavy:', heavy)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("heavy: []\n")
