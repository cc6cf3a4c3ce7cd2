"""Command ``diff OLD.json NEW.json``: compare two runs; a change within noise is marked."""

import argparse
from collections.abc import Callable
from pathlib import Path

from pytest_datasize.reports.records import result_file
from pytest_datasize.reports.records.baseline import by_key, change
from pytest_datasize.reports.wording.explain import subject
from pytest_datasize.requirement.arguments import increase


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("old", type=Path, metavar="OLD.json")
    parser.add_argument("new", type=Path, metavar="NEW.json")
    parser.add_argument(
        "--max-increase",
        type=increase,
        metavar="SHARE",
        help="exit with status 1 if a required number rose by more, such as 0.2 for 20 %%",
    )


def run(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Print the comparison; status 1 if something rose by more than allowed."""
    old = by_key(result_file.read(options.old)["requirements"])
    new = by_key(result_file.read(options.new)["requirements"])
    exceeded = False
    for key, record in new.items():
        say(f"{record['nodeid']}: {subject(record)}, target {record['target']:g}")
        if key not in old:
            say("  new: it was not in the old file")
            continue
        found = change(old[key], record, options.max_increase, record["confidence"])
        exceeded |= found["exceeded"]
        for line in found["lines"]:
            say(f"  {line}")
    for key in old.keys() - new.keys():
        record = old[key]
        say(f"{record['nodeid']}: {subject(record)}: gone, it is not in the new file")
    if not old and not new:
        say("no judged requirement in either file")
    return int(exceeded)
