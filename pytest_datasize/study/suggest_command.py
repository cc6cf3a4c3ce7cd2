"""Command ``suggest --dataset DIR --unlabelled DIR --images N``: suggest images to label next."""

import argparse
import csv
import sys
from collections.abc import Callable
from pathlib import Path

from pytest_datasize.errors import ReportError
from pytest_datasize.requirement.arguments import whole_number
from pytest_datasize.store import DEFAULT_FOLDER

_STUDY = ("backbone", "weights", "image_size", "device", "precision", "runtime", "seed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a study, and the images to choose from."""
    from pytest_datasize.requirement.options import OPTIONS

    parser.add_argument("--dataset", required=True, metavar="DIR", help="labelled images")
    parser.add_argument("--unlabelled", required=True, metavar="DIR", help="images to choose from")
    parser.add_argument("--images", type=whole_number, default=100, metavar="N", help="how many")
    parser.add_argument("--output", type=Path, metavar="CSV", help="write them to a file")
    parser.add_argument(
        "--store",
        type=Path,
        default=DEFAULT_FOLDER,
        metavar="DIR",
        help="folder with the embeddings of earlier runs (default: that of pytest here)",
    )
    for name in _STUDY:
        option = OPTIONS[name]
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=option.from_text, metavar="VALUE", help=option.help
        )


def run(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Print the images to label, the least certain first."""
    from pytest_datasize.store import Store
    from pytest_datasize.study.study import Study
    from pytest_datasize.study.suggestion import suggest

    asked = {name: getattr(options, name) for name in _STUDY}
    with Store(options.store) as store:
        found = suggest(
            Study(options.dataset, **asked, store=store), options.unlabelled, options.images
        )
    rows = [(one.image, one.likely, f"{one.margin:.4f}") for one in found]
    if options.output is None:
        for image, likely, margin in rows:
            say(f"{margin}  {likely}  {image}")
    else:
        try:
            with options.output.open(
                "w", newline="", encoding="utf-8", errors="backslashreplace"
            ) as file:
                writer = csv.writer(file)
                writer.writerow(("image", "likely", "margin"))
                writer.writerows(rows)
        except OSError as problem:
            raise ReportError(f"{options.output}: cannot be written: {problem.strerror}.") from None
    print(
        f"{len(found):,} images to label, the model least sure of the first; they are no random "
        "sample: train on them, but never test on them",
        file=sys.stderr,
    )
    return 0
