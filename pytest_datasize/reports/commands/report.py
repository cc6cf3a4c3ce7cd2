"""Command ``report RESULT.json --html PATH --markdown PATH``: draw reports from a result file."""

import argparse
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from pytest_datasize.errors import DatasizeError, ReportError
from pytest_datasize.reports.records import result_file
from pytest_datasize.reports.records.files import write_text
from pytest_datasize.reports.records.record_types import RunContent
from pytest_datasize.reports.records.selection import judged
from pytest_datasize.reports.records.text import problem_text
from pytest_datasize.reports.registry import REPORTS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one option for each kind of report."""
    parser.add_argument("result", type=Path, metavar="RESULT.json")
    for name, (_, meaning) in REPORTS.items():
        if name != "json":
            parser.add_argument(f"--{name}", type=Path, metavar="PATH", help=meaning)
    parser.add_argument("--svg", type=Path, metavar="PATH", help="the curve of one gate")
    parser.add_argument(
        "--test", metavar="TEXT", default="", help="with --svg: the test whose id has this text"
    )
    parser.add_argument("--metric", metavar="NAME", help="with --svg: this metric")


def _drawn(content: RunContent, options: argparse.Namespace) -> str:
    """Draw the curve of the gate that was named.

    Raises
    ------
    ReportError
        No gate or several match, or matplotlib is not installed.
    """
    known = judged(content["requirements"])
    meant = [
        record
        for record in known
        if options.test in record["nodeid"] and options.metric in (None, record["metric"])
    ]
    if len(meant) != 1:
        names = ", ".join(f"{one['nodeid']} ({one['metric']})" for one in meant or known)
        what = "no gate matches" if not meant else "several gates match"
        raise ReportError(
            f"--svg: {what}; name one with --test and --metric. Judged: {names or 'none'}."
        )
    if find_spec("matplotlib") is None:
        raise ReportError(
            "--svg needs matplotlib. Install with: pip install 'pytest-datasize[html]'"
        )
    from pytest_datasize.reports.formats.draw import standalone

    return standalone(meant[0])


def run(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Draw the requested reports; without any, print Markdown to the standard output."""
    content = result_file.read(options.result)
    asked = {name: path for name in REPORTS if (path := getattr(options, name, None))}
    if options.svg:
        write_text(options.svg, _drawn(content, options))
        say(f"written: {options.svg}")
    elif not asked:
        from pytest_datasize.reports.formats import markdown

        print(markdown.draw(content), end="")
    for name, path in asked.items():
        module = import_module(REPORTS[name][0])
        if hasattr(module, "check"):
            module.check(path)
        try:
            module.write(path, content)
        except OSError as problem:
            raise ReportError(f"{path}: cannot be written: {problem.strerror}.") from None
        except DatasizeError:
            raise
        except Exception as problem:  # an edited file may cause any error in a report
            raise ReportError(
                f"{path}: not written: {options.result} does not hold what it should "
                f"({problem_text(problem)})."
            ) from problem
        say(f"written: {path}")
    return 0
