"""Command ``history``: print and draw score and required images of earlier sessions."""

import argparse
from collections.abc import Callable
from pathlib import Path

from pytest_datasize.errors import ReportError
from pytest_datasize.reports.formats.history import svg, table
from pytest_datasize.reports.records.files import write_text
from pytest_datasize.store import DEFAULT_FOLDER


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--store",
        type=Path,
        default=DEFAULT_FOLDER,
        metavar="PATH",
        help=f"the store of the sessions (default: {DEFAULT_FOLDER})",
    )
    parser.add_argument(
        "--test", metavar="TEXT", default="", help="only tests whose id contains this text"
    )
    parser.add_argument(
        "--svg", type=Path, metavar="FOLDER", help="draw every requirement into this folder"
    )


def run(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Print the table, and draw."""
    from pytest_datasize.reports.records.past_runs import past, series
    from pytest_datasize.reports.records.selection import target_name
    from pytest_datasize.store import Store

    if not options.store.is_dir():
        raise ReportError(
            f"{options.store}: no such folder. Sessions are kept where --datasize-store says; "
            "run this where pytest runs, or name the folder: --store PATH."
        )
    with Store(options.store) as store:
        found = [one for one in past(store) if options.test in one.record["nodeid"]]
    print(table(found), end="")
    if options.svg:
        for number, runs in enumerate(series(found), 1):
            path = options.svg / f"history-{number}-{target_name(runs[-1].record)}.svg"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, svg(runs))
            say(f"written: {path}")
    return 0
