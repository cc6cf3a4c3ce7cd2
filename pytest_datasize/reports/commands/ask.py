"""Command ``ask RESULT.json --target 0.95 --images 5000``: what-if answers, without training."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_datasize.curve.counts import count, percent, price
from pytest_datasize.errors import ReportError, RequirementError
from pytest_datasize.reports.records import result_file
from pytest_datasize.reports.records.derived import held_out_of
from pytest_datasize.reports.records.prices import Prices, mean_price, price_of_group
from pytest_datasize.reports.records.record_types import GateRecord
from pytest_datasize.reports.records.selection import judged, unit_of, units
from pytest_datasize.reports.wording.explain import subject
from pytest_datasize.requirement.arguments import share, whole_number
from pytest_datasize.requirement.options import OPTIONS
from pytest_datasize.requirement.units import GROUP

if TYPE_CHECKING:
    from pytest_datasize.curve.learning_curve import LearningCurve

PRICE = "cost_per_image"


class _UnansweredError(ReportError):
    """The question does not apply to this requirement; it may to others."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("result", type=Path, metavar="RESULT.json")
    parser.add_argument("--target", type=share, metavar="SCORE", help="images for this score?")
    parser.add_argument(
        "--images", type=whole_number, metavar="N", help="score with N images in all?"
    )
    parser.add_argument(
        "--groups", type=whole_number, metavar="N", help="score with N groups in all? (unit=group)"
    )
    parser.add_argument(
        "--test", metavar="TEXT", default="", help="only tests whose id contains this text"
    )
    parser.add_argument("--metric", metavar="NAME", help="only this metric")
    parser.add_argument(
        "--cost-per-image",
        type=_prices,
        metavar="COST",
        help="price of one more image, in all or by class: rust=2,*=0.5 "
        "(default: what the run was given)",
    )
    parser.add_argument(
        "--level",
        type=share,
        default=0.9,
        metavar="SHARE",
        help="probability of an interval (default: 0.9)",
    )


def run(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Print the answers for every matching requirement."""
    if options.target is None and options.images is None and options.groups is None:
        raise ReportError("nothing is asked; give --target 0.95, --images 5000, or both.")
    known = judged(result_file.read(options.result)["requirements"])
    meant = [
        record
        for record in known
        if options.test in record["nodeid"] and options.metric in (None, record["metric"])
    ]
    if not meant:
        names = ", ".join(sorted({f"{r['nodeid']} ({r['metric']})" for r in known}))
        raise ReportError(
            f"{options.result}: no judged requirement matches. Judged: {names or 'none'}."
        )
    problems = []
    for record in meant:
        try:
            lines = answers(record, options)
        except _UnansweredError as problem:
            problems.append(problem)
            if len(problems) == len(meant):
                raise
            say(str(problem))
            continue
        say(f"{record['nodeid']}: {subject(record)}")
        for line in lines:
            say(f"  {line}")
    return 0


def answers(record: GateRecord, options: argparse.Namespace) -> list[str]:
    """Return the answers for one requirement, one line each."""
    curve = fitted(record)
    cost = _cost(record, options.cost_per_image)
    lines = []
    number = _number(record, options)
    if number is not None:
        training = max(held_out_of(record).training(number), 1)
        low, high = curve.interval(training, options.level)
        lines.append(
            f"with {number:,} {units(record)}: {curve.predict(training):.3f} "
            f"({low:.3f} to {high:.3f}){_cost_of(number, record, cost)}"
        )
        if options.target is not None:
            probability = curve.probability(training, options.target)
            lines.append(f"  chance of reaching {options.target:g}: {percent(probability)}")
        if far := _far(training, record):
            lines.append(far)
    if options.target is not None:
        lines += _for_target(curve, record, options, cost)
    return lines


def _number(record: GateRecord, options: argparse.Namespace) -> int | None:
    """Return the number of images or groups that is asked about, whichever the record counts.

    Raises
    ------
    ReportError
        The number counts the other unit.
    """
    grouped = unit_of(record) == GROUP
    asked, other = (options.groups, options.images)[:: 1 if grouped else -1]
    if other is not None and asked is None:
        raise _UnansweredError(
            f"{record['nodeid']}: this gate counts {units(record)}; ask with --{units(record)}."
        )
    found: int | None = asked
    return found


def fitted(record: GateRecord) -> "LearningCurve":
    """Refit the curve of a record: the same scores, noise and law give the same curve.

    Raises
    ------
    ReportError
        This version of the plugin computes another projection from the same scores.
    """
    from pytest_datasize.curve.learning_curve import LearningCurve

    fit = record["fit"]
    if fit["sign"] < 0:
        raise _UnansweredError(
            f"{record['nodeid']}: {record['metric']} is better when lower; ask answers for scores "
            "that are better when higher."
        )
    low, high = fit["bounds"]
    try:
        curve = LearningCurve.fit(
            record["sizes"],
            record["scores"],
            fit["n_test"],
            law=record["law"],
            pool=fit["pool"],
            replacement=record["sampling"] == "replacement",
            bounds=(-math.inf if low is None else low, math.inf if high is None else high),
            test_covariance=fit["test_covariance"],
            split_variance=fit["split_variance"],
        )
    except (ValueError, TypeError) as problem:
        raise ReportError(f"{record['nodeid']}: its scores cannot be fitted: {problem}.") from None
    again, known = curve.predict(record["available"]), record["score_at_available"]
    if abs(again - known) > 0.002:
        raise ReportError(
            f"{record['nodeid']}: this version projects {again:.3f} with {record['available']:,} "
            f"{units(record)}, the file says {known:.3f}. Use the version that wrote it, or run "
            "the gate again."
        )
    return curve


def _for_target(
    curve: "LearningCurve", record: GateRecord, options: argparse.Namespace, cost: float | None
) -> list[str]:
    target = options.target
    required = curve.required(target)
    low, high = curve.required_interval(target, options.level)
    if math.isinf(required):
        ceiling = curve.ceiling
        held = f"the ceiling is {ceiling.mean:.3f} ({ceiling.low:.3f} to {ceiling.high:.3f})"
        if math.isinf(low):
            return [f"for {target:g}: out of reach; {held}"]
        least = count(held_out_of(record).data_set(low))
        return [f"for {target:g}: cannot be told, at least {least} {units(record)}; {held}"]
    found = held_out_of(record)
    wanted, low, high = (found.data_set(n) for n in (required, low, high))
    if required < curve.sizes[0]:
        least = count(found.data_set(curve.sizes[0]))
        return [f"for {target:g}: at most {least} {units(record)}, the smallest size measured"]
    end = "or more" if math.isinf(high) else f"to {count(high)}"
    lines = [
        f"for {target:g}: about {count(wanted)} {units(record)} ({count(low)} {end})"
        f"{_cost_of(wanted, record, cost)}"
    ]
    if far := _far(required, record):
        lines.append(far)
    return lines


def _cost_of(images: float, record: GateRecord, cost: float | None) -> str:
    """Return the number of additional images and their cost, in words."""
    today = record["derived"]["data_set"]["images"]
    more = max(0, math.ceil(images) - today)
    if more == 0:
        return f" (of today's {today:,})"
    priced = "" if cost is None else f" for {price(more * cost)}"
    return f"; {count(more)} more than today's {today:,}{priced}"


def _cost(record: GateRecord, asked: Prices) -> float | None:
    """Return the price of one image in the current class proportions, or of one group.

    Raises
    ------
    ReportError
        A class has no price, or a price has no class.
    """
    advice = record.get("advice")
    if asked is None and advice and advice["money"]:
        return advice["money"]["price"]
    given = record["settings"].get(PRICE)
    prices = _checked(given) if asked is None and given is not None else asked
    groups, of_group = record.get("groups"), record["settings"].get("cost_per_group")
    try:
        image = None if prices is None else mean_price(prices, record["class_counts"])
        if unit_of(record) != GROUP or not groups:
            return image
        known = float(of_group) if isinstance(of_group, (int, float)) else None
        if image is None and known is None:
            return None
        return price_of_group(image, known, groups["images"] / groups["number"])
    except ValueError as problem:
        raise ReportError(f"{record['nodeid']}: {problem}.") from None


def _checked(prices: object) -> Prices:
    """Check the prices in a file, which may have been edited."""
    try:
        checked: Prices = OPTIONS[PRICE].parse(PRICE, prices, "settings in the file")
    except RequirementError as problem:
        raise ReportError(str(problem)) from None
    return checked


def _far(images: float, record: GateRecord) -> str:
    """Return a warning if the answer is far beyond the measured sizes."""
    times = images / record["sizes"][-1]
    trusted = record["settings"].get("trusted_range")
    if times <= (trusted if isinstance(trusted, (int, float)) and trusted else 4.0):
        return ""
    return f"  an extrapolation to {times:.1f} times what was measured"


def _prices(text: str) -> Prices:
    try:
        prices: Prices = OPTIONS[PRICE].parse_text(PRICE, text, "")
    except RequirementError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None
    return prices
