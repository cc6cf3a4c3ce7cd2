"""``diff OLD.json NEW.json``: what changed between two runs, and whether beyond noise."""

import argparse
from pathlib import Path

from pytest_datasize.reports import json
from pytest_datasize.reports.baseline import by_key, change
from pytest_datasize.reports.explain import subject
from pytest_datasize.reports.text import one_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Offer the two files."""
    parser.add_argument("old", type=Path, metavar="OLD.json")
    parser.add_argument("new", type=Path, metavar="NEW.json")
    parser.add_argument(
        "--max-increase",
        type=float,
        metavar="SHARE",
        help="exit with status 1 if a required number rose by more, such as 0.2 for 20 %%",
    )


def run(options: argparse.Namespace) -> int:
    """Print the comparison; status 1 if something rose by more than allowed."""
    old = by_key(json.read(options.old)["requirements"])
    new = by_key(json.read(options.new)["requirements"])
    exceeded = False
    for key, record in new.items():
        print(f"{one_line(record['nodeid'])}: {subject(record)}, target {record['target']:g}")
        if key not in old:
            print("  new: it was not in the old file")
            continue
        found = change(old[key], record, options.max_increase, record["confidence"])
        exceeded |= found["exceeded"]
        for line in found["lines"]:
            print(f"  {one_line(line)}")
    for key in old.keys() - new.keys():
        record = old[key]
        print(f"{one_line(record['nodeid'])}: {subject(record)}: gone, it is not in the new file")
    if not old and not new:
        print("no judged requirement in either file")
    return int(exceeded)
