"""Command line ``python -m pytest_datasize COMMAND``: work with the results of earlier runs."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from pytest_datasize import __version__
from pytest_datasize.errors import DatasizeError

COMMANDS = {
    "init": ("pytest_datasize.reports.commands.init", "look at images and write a first gate"),
    "backbones": (
        "pytest_datasize.reports.commands.backbones",
        "which backbone needs the fewest images, and what it costs",
    ),
    "report": ("pytest_datasize.reports.commands.report", "draw reports from a result file"),
    "diff": ("pytest_datasize.reports.commands.diff", "compare two result files"),
    "history": ("pytest_datasize.reports.commands.history", "what earlier sessions found"),
    "ask": (
        "pytest_datasize.reports.commands.ask",
        "what if there were more images, or another target?",
    ),
    "suggest": ("pytest_datasize.study.suggest_command", "which unlabelled images to label next"),
    "store": (
        "pytest_datasize.store.maintenance.command",
        "describe, merge, prune and verify stores",
    ),
}
"""Name → module with ``add_arguments(parser)`` and ``run(options, say)``, and its meaning."""


def say(line: str) -> None:
    """Print one line, sanitised: names in it cannot send commands to a terminal or a CI log."""
    from pytest_datasize.reports.records.text import one_line

    print(one_line(line))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status, 2 for wrong input."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a character that the console lacks must not raise
            stream.reconfigure(errors="backslashreplace")
    parser = argparse.ArgumentParser(
        prog="python -m pytest_datasize",
        description="Work with the results of pytest-datasize.",
        epilog="Results are written by: pytest --datasize-json=RESULT.json",
    )
    parser.add_argument("--version", action="version", version=f"pytest-datasize {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    words = sys.argv[1:] if arguments is None else list(arguments)
    chosen = next((word for word in words if not word.startswith("-")), None)
    for name, (module, meaning) in COMMANDS.items():
        command = commands.add_parser(name, help=meaning, description=meaning)
        if name == chosen:
            import_module(module).add_arguments(command)
    options = parser.parse_args(words)
    try:
        status: int = import_module(COMMANDS[options.command][0]).run(options, say)
    except BrokenPipeError:  # the reader of the output has closed it, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except DatasizeError as problem:
        wrong = str(problem)
    except (LookupError, TypeError, ValueError) as problem:  # an edited file
        wrong = f"the result does not hold what it should ({type(problem).__name__}: {problem})."
    else:
        return status
    print(f"{parser.prog} {options.command}: {wrong}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
