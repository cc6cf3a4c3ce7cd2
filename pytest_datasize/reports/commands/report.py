"""Command ``report RESULT.json --html PATH --markdown PATH``: draw reports from a result file."""

import argparse
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from pytest_datasize.errors import DatasizeError, ReportError
from pytest_datasize.reports.records import result_file
from pytest_datasize.reports.records.text import problem_text
from pytest_datasize.reports.registry import REPORTS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one option for each kind of report."""
    parser.add_argument("result", type=Path, metavar="RESULT.json")
    for name, (_, meaning) in REPORTS.items():
        if name != "json":
            parser.add_argument(f"--{name}", type=Path, metavar="PATH", help=meaning)


def run(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Draw the requested reports; without any, print Markdown to the standard output."""
    content = result_file.read(options.result)
    asked = {name: path for name in REPORTS if (path := getattr(options, name, None))}
    if not asked:
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
