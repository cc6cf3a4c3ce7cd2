"""Write a judged requirement in words: verdict, score now, images needed, best score, trust."""

from collections.abc import Mapping, Sequence

from pytest_datasize.curve.counts import (
    TELLABLE,
    beside,
    count,
    count_measured,
    models_tried,
    percent,
    plain,
    required_percent,
    two_digits,
)
from pytest_datasize.reports.records.baseline import images_needed
from pytest_datasize.reports.records.derived import smallest_measured
from pytest_datasize.reports.records.record_parts import Converted, DataSet
from pytest_datasize.reports.records.record_types import GateRecord, Projection, Record
from pytest_datasize.reports.records.selection import exceeded_only, is_judged, unit_of, units
from pytest_datasize.reports.records.text import first_line, one_line
from pytest_datasize.reports.wording import bound_text, models_text, slices_text
from pytest_datasize.requirement.targets import subject_text
from pytest_datasize.requirement.units import GROUP, IMAGE, per_group_text

_NAME = 30
"""Longest name of a class in a sentence; reports show the full name elsewhere."""

_MOST_NAMED = 6
"""Most classes that a sentence names."""

sure = percent


def failure(records: Sequence[Record]) -> str:
    """Return the text of a failed gate: a line for each reason, the number first."""
    return "\n".join(one_line(text) for record in records for text in reasons(record))


def reasons(record: Record) -> list[str]:
    """Return why a requirement failed: too few images, too steep a rise since the baseline."""
    if not is_judged(record):
        return [first_line(record["message"])] if record["verdict"] != "error" else [_all(record)]
    change = record["baseline"]
    found = [record["message"]] if record["verdict"] != "sufficient" else []
    if change and change["exceeded"]:
        found.append(f"{subject(record)}: {change['text']}")
    return found


def _all(record: Record) -> str:
    return record["message"]


def subject(record: Projection) -> str:
    """Name what is judged: ``accuracy``, ``recall of 'rust'``, ``accuracy of site 'B'``."""
    return _subject(record)


def _subject(record: Projection, target: float | None = None) -> str:
    name, part = record.get("class"), record.get("slice")
    if part:
        where = f"{one_line(part['factor'], _NAME)} {one_line(part['value'], _NAME)!r}"
        return f"{record['metric']} of {where}" + ("" if target is None else f" {target:g}")
    short = None if name is None else one_line(name, _NAME)
    return subject_text(record["metric"], short, record.get("operating_point"), target)


def at(record: Projection) -> str:
    """Write for a table what is required of the threshold of an operating point; else empty."""
    found = record.get("operating_point") or {}
    return "".join(f" at {name} {value:g}" for name, value in found.items())


def headline(record: GateRecord) -> str:
    """Say the verdict with its certainty, such as ``NOT ENOUGH IMAGES for accuracy 0.9``."""
    target = _subject(record, record["target"])
    probability = record["probability_sufficient"]
    close = ", too close to call" if record["derived"]["close"] else ""
    counted = units(record).upper()
    if exceeded_only(record):
        return f"MORE {counted} NEEDED THAN BEFORE for {target}"
    if record["verdict"] == "sufficient":
        return f"ENOUGH {counted} for {target} ({sure(probability)} sure{close})"
    if record["verdict"] == "unreachable":
        return f"OUT OF REACH: {target} (more than 95 % sure)"
    if record["verdict"] == "undecided" or not_certain(record):
        return (
            f"{'UNDECIDED' if record['verdict'] == 'undecided' else 'NOT CERTAIN ENOUGH'} for "
            f"{target} ({sure(probability, level(record))} sure that the {units(record)} suffice, "
            f"{confidence(record)} is required)"
        )
    return f"NOT ENOUGH {counted} for {target} ({sure(1 - probability)} sure{close})"


def not_certain(record: GateRecord) -> bool:
    """Whether the images probably suffice, but not as surely as they must."""
    return record["verdict"] == "insufficient" and record["probability_sufficient"] >= 0.5


def lines(record: GateRecord) -> list[tuple[str, str]]:
    """Return (label, text) pairs: the score now, what is needed, and the best possible score.

    If the target is out of reach, also the score that nearest neighbours allow.
    """
    found = [("now", now(record)), ("needed", needed(record)), ("best", best(record))]
    if text := in_groups(record):
        found.insert(2, ("groups", text))
    if record["verdict"] == "unreachable" and (opinion := bound_text.opinion(record)):
        found.append(("bound", opinion))
    if record["baseline"] and record["baseline"]["found"]:
        found.insert(2, ("before", record["baseline"]["text"]))
    if text := classes(record):
        found.append(("classes", text))
    if text := slices_text.summary(record):
        found.append(("slices", text))
    return found


def second_opinion(record: GateRecord) -> list[tuple[str, str]]:
    """Return (label, text) pairs: the score that nearest neighbours allow, and the evidence."""
    found = record.get("neighbour_bound")
    if found is None:
        return []
    said = [] if record["verdict"] == "unreachable" else [("bound", bound_text.opinion(record))]
    return [*said, ("evidence", bound_text.evidence(found))]


def classes(record: GateRecord) -> str:
    """List the classes that have targets of their own, and those that are not judged."""
    goals = record.get("class_targets")
    if not goals:
        return ""
    by_goal: dict[float, list[str]] = {}
    for name, goal in goals.items():
        by_goal.setdefault(goal, []).append(name)
    text = "; ".join(f"{goal:g} for {_names(by_goal[goal])}" for goal in sorted(by_goal)[::-1])
    return f"{text}; {left_out}" if (left_out := not_judged(record)) else text


def not_judged(record: GateRecord) -> str:
    """Name the classes without a target where others have one; empty if there are none."""
    goals = record.get("class_targets")
    rest = [name for name in record["class_counts"] if name not in goals] if goals else []
    return f"not judged (no target): {_names(rest)}" if rest else ""


def _names(names: Sequence[str]) -> str:
    text = ", ".join(repr(one_line(name, _NAME)) for name in names[:_MOST_NAMED])
    more = len(names) - _MOST_NAMED
    return f"{text} and {more:,} more" if more > 0 else text


def now(record: GateRecord) -> str:
    """Write the score with all images, beside that of guessing."""
    number = record["derived"]["data_set"]["images"]
    text = f"{interval(record, 'score_at_available')} with your {number:,} {units(record)}"
    if other := _as_images(record):
        text += f" ({other['today']:,} images)"
    guess = record.get("guessing")
    if guess is None:
        return text
    if record["target"] <= guess["majority"]:
        return f"{text}; {proves_nothing(record)}"
    return f"{text}; guessing scores {max(guess['majority'], guess['chance']):.3f}"


def proves_nothing(record: GateRecord) -> str:
    """Say that a target is no higher than what one answer for all images scores."""
    guess = record.get("guessing")
    assert guess is not None
    return (
        f"the target {record['target']:g} proves nothing: always answering "
        f"{one_line(guess['name'], 30)!r} scores {guess['majority']:.3f}"
    )


def certainty(record: GateRecord) -> str:
    """Write for a table how sure the verdict is; of an undecided one, that the images suffice."""
    probability = record["probability_sufficient"]
    if record["verdict"] == "unreachable":
        return ">95 %"
    if record["verdict"] == "insufficient" and not not_certain(record):
        probability = 1 - probability
    if probability < 0.01:
        return "<1 %"
    if probability > 0.99:
        return ">99 %"
    below = not_certain(record) or record["verdict"] == "undecided"
    return percent(probability, level(record) if below else 0.0)


def needed(record: GateRecord) -> str:
    """Write how many images of the data set are needed beyond those of today."""
    verdict, found = record["verdict"], record["derived"]["data_set"]
    if verdict == "unreachable":
        return f"no number of {units(record)} is enough for this model"
    if verdict == "sufficient":
        return enough(record)
    if verdict == "undecided":
        return deciding(record)
    if flat := shape(record):
        return flat
    missing = found["missing"]
    if missing is None or not record["tellable"]:
        return f"more {units(record)} than the curve can tell{_at_least(found)}"
    if not_certain(record):
        sure_of_it = f"about {count(missing)} more {units(record)} to be as sure as is required"
        return sure_of_it + _why_so_sure(record)
    far = "; extrapolated" if record["extrapolated"] else ""
    also = _images_of(record, missing)
    return f"about {count(missing)} more {units(record)}{also} ({_range(found)}{far})"


def _as_images(record: GateRecord) -> Converted | None:
    """Return the numbers in images, where groups are counted."""
    found = record["derived"].get("converted")
    return found if found and found["unit"] == IMAGE else None


def _images_of(record: GateRecord, number: float) -> str:
    """Write how many images a number of groups has, and how many objects; else empty."""
    other = _as_images(record)
    if other is None:
        return _objects(record, number)
    images = two_digits(number) * other["per_group"]
    said = f", about {count(images)} images at {per_group_text(other['per_group'])} each"
    return said + _objects(record, images)


def in_groups(record: GateRecord) -> str:
    """Write roughly how many groups are needed, if images are counted and groups are known."""
    other = record["derived"].get("converted")
    if not other or other["unit"] != GROUP or other["required"] is None or not record["tellable"]:
        return ""
    met = record["verdict"] == "sufficient"
    number = other["required"] if met else other["missing"]
    if not number or record["verdict"] == "unreachable" or shape(record):
        return ""
    if met and record["required"] is not None and record["required"] < record["sizes"][0]:
        return ""  # below the smallest measured size the curve is a guess
    said = f"{count(number)} of {other['today']:,}" if met else f"{count(number)} more"
    return (
        f"roughly {said} groups, if each has {per_group_text(other['per_group'])} images as today; "
        "unit='group' measures it"
    )


def _objects(record: GateRecord, images: float) -> str:
    """Say how many objects so many images show, where objects are counted; else empty."""
    amounts = record.get("amounts")
    if record.get("task") != "detection" or not amounts or not record["total"]:
        return ""
    return f" with about {count(images * sum(amounts.values()) / record['total'])} objects"


def shape(record: GateRecord) -> str:
    """Say that more images do not help this model, if the measured scores say so; else empty."""
    trend = record.get("trend")
    if trend is None or trend["direction"] == "rising" or record["tellable"]:
        return ""
    return (
        f"more {units(record)} do not help this model: its score is {trend['direction']} from "
        f"{trend['first']:,} to {trend['last']:,} training {units(record)}"
    )


def enough(record: GateRecord) -> str:
    """Write how many of the images are enough, and the highest target that they carry."""
    found = record["derived"]["data_set"]
    required, smallest = found["required"] or 0, smallest_measured(record)
    if required < smallest:
        text = f"at most {count(smallest)} {units(record)} are enough, the smallest size measured"
    else:
        text = f"about {count(required)} {units(record)} are enough"
    if found["sure"] is not None and found["sure"] > max(required, smallest):
        text += f" (90 % sure with {count(found['sure'])})"
    carried = record.get("score_sure")
    if carried is None:
        return text
    return f"{text}; these {units(record)} carry a target of {carried:.3f} with 90 %"


def deciding(record: GateRecord) -> str:
    """Say what would decide an undecided verdict."""
    found = record["remedies"]
    ways = []
    if found:
        held = record["derived"]["data_set"]["images"] / max(record["available"], 1)
        if more := found["training_images"]:
            images = max(more - record["available"], 1) * held
            ways.append(f"add about {count(images)} {units(record)}")
        if found["test_images"]:
            others = " of other groups" if unit_of(record) == GROUP else ""
            ways.append(f"test on about {count(found['test_images'])} images{others}")
        if found["repeats"]:
            ways.append(f"run {found['repeats']:,} repeats")
    said = ", or ".join(ways) or "try a model with a better score"
    return f"more certainty; to decide, {said} (rough estimates){_why_so_sure(record)}"


def _why_so_sure(record: GateRecord) -> str:
    """Say why more certainty is required after other models were tried; else empty."""
    tried = models_tried(record.get("level") or 0.5, record["confidence"])
    if tried < 2:
        return ""
    return (
        f"; more certainty is required because the best of {tried} models tends to look better "
        "than it is"
    )


def _range(found: DataSet) -> str:
    least = f"at least {count(found['missing_low'])}" if found["missing_low"] else "perhaps none"
    if found["missing_sure"] is None:
        return f"{least}; no upper limit"
    return f"{least}; 90 % sure with {count(found['missing_sure'])}"


def _at_least(found: DataSet) -> str:
    """Write the lower end, unless it is so high that it says nothing."""
    low = found["missing_low"]
    return f", at least {count(low)}" if low and low <= TELLABLE * found["images"] else ""


def needed_briefly(record: GateRecord) -> str:
    """Write the needed images for a table: one number, or words where no number is known."""
    found = record["derived"]["data_set"]
    counted = " groups" if unit_of(record) == GROUP else ""  # a table counts images
    if record["verdict"] == "unreachable":
        return "out of reach"
    if record["verdict"] == "sufficient":
        close = ", too close to call" if record["derived"]["close"] else ""
        required = count_measured(found["required"] or 0, smallest_measured(record))
        return f"{required} of {found['images']:,}{counted}{close}"
    if found["missing"] is None or not record["tellable"] or shape(record):
        least = _at_least(found).removeprefix(", ")
        return f"{least} more{counted}" if least else "cannot be told"
    if record["verdict"] == "undecided" and not found["missing"]:
        return "more certainty"
    return f"{count(found['missing'])} more{counted}"


def best(record: GateRecord) -> str:
    """Write the score with any number of images, and whether the target lies below it."""
    text = f"{interval(record, 'ceiling')} with unlimited {units(record)}"
    if record["verdict"] == "sufficient":
        return text
    sign = -1 if record["fit"]["sign"] < 0 else 1
    target = sign * record["target"]
    ends = sorted(sign * record[end] for end in ("ceiling_low", "ceiling_high"))
    if ends[0] >= target:
        return f"{text}: within reach"
    if ends[1] < target:
        return f"{text}: out of reach"
    return f"{text}: perhaps out of reach"


def sentence(record: GateRecord) -> str:
    """Say in a sentence or two what was found, for one line of a report."""
    change = record["baseline"]
    if change and exceeded_only(record):
        return f"{subject(record)}: {change['text']}. Look at what changed in images or model."
    return f"{headline(record)}: now {now(record)}; needed: {needed(record)}."


def confidence(record: GateRecord) -> str:
    """Write the required probability; it is higher if other models fell short before."""
    return required_percent(level(record))


def level(record: GateRecord) -> float:
    """Return the required probability, see :func:`confidence`."""
    return max(record["confidence"] or 0.5, record.get("level") or 0.0)


def belief(record: GateRecord) -> str:
    """Say whether the curve without its largest sizes predicts what was measured, briefly."""
    found = record["self_check"]
    if found is None:
        return ""
    held = found["low"] <= found["measured"] <= found["high"]
    return (
        f"predicted {found['predicted']:.3f} ({found['low']:.3f} to {found['high']:.3f}) from "
        f"smaller sizes, measured {found['measured']:.3f}" + ("" if held else ": trust it less")
    )


def details(record: GateRecord) -> list[str]:
    """Return the explanation of one judged requirement, one statement per line."""
    per_size = record["measured"]["mean"]
    known = "estimated" if record.get("slice") else "measured"  # slices are estimated together
    smallest, largest = record["sizes"][0], record["sizes"][-1]
    trained = f"{len(record['sizes'])} sizes, {len(record['scores'][0])} repeats"
    if record["n_trials"] < record["n_trials_planned"]:
        trained += f"; sure after {record['n_trials']} of {record['n_trials_planned']} trials"
    guess = record.get("guessing")
    tried = list(enumerate(models_text.lines(record)))
    found = [
        f"{headline(record)}; ranges in parentheses are 90 % intervals",
        *(f"  {label:<9}  {text}" for label, text in lines(record)),
        f"  {known:<9}  {per_size[0]:.3f} with {smallest:,} training {units(record)}, "
        f"{per_size[-1]:.3f} with {largest:,} ({trained})",
        f"  images     {images(record)}",
        f"  test set   {test_set(record)}",
        *(f"  {label:<9}  {text}" for label, text in second_opinion(record)),
        f"  check      {check(record)}" if record["self_check"] else "",
        f"  guessing   always {one_line(guess['name'], 30)!r}: {guess['majority']:.3f}; by chance: "
        f"{guess['chance']:.3f}"
        if guess
        else "",
        f"  from       {record['source']}; {model(record)}, {record['device']}, "
        f"seed {record['seed']}",
        *(f"  {'models' if not number else '':<9}  {line}" for number, line in tried),
    ]
    return [line for line in found if line] + [f"  note       {note}" for note in record["notes"]]


def images(record: GateRecord) -> str:
    """Say how many images are trained on and held out, and the required training images."""
    held = record.get("held_out")
    share = 100 * held["share"] if held else 0.0
    other, total = _as_images(record), f"{record['total']:,}"
    if other:
        number = record["derived"]["data_set"]["images"]
        total = f"{number:,} groups with {other['today']:,} images"
    text = f"{record['available']:,} to train on of {total}"
    if share:
        text += f"; {share:.0f} % of all are held out to test"
    text += f"; required to train on: {images_needed(record, unit_of(record), record['sizes'][0])}"
    return text + (f"; {extrapolation(record)}" if record["extrapolated"] else "")


def model(record: GateRecord) -> str:
    """Say what was trained, and from which weights."""
    text = f"{record['strategy']} with {record['backbone']}"
    weights = record["weights"]
    if weights["sha256"]:
        text += f" ({weights['source']}, sha256 {weights['sha256']}...)"
    elif record["image_size"]:
        text += f" ({weights['source']})"
    if features := record.get("features"):
        text += f", {features},"
    if record["image_size"]:
        text += f" at {record['image_size']} pixels"
        if precision := record.get("precision"):
            text += f" in {precision}"
    return text


def extrapolation(record: GateRecord) -> str:
    """Say how far the required number lies beyond the measured sizes."""
    times = record["derived"]["times_measured"]
    return "" if times is None else f"an extrapolation to {plain(times)} times what was measured"


def in_points(record: GateRecord) -> bool:
    """Whether differences of a score are written in points: its range is 0 to 1."""
    # bounds of a score for which lower is better are negated: -1 to 0; None: no bound
    return sorted(abs(end or 0.0) for end in record["fit"]["bounds"]) == [0.0, 1.0]


def test_set(record: GateRecord) -> str:
    """Say how far the sampling of test images moves the score, and how many would suffice."""
    others = " of groups that were not trained on" if unit_of(record) == GROUP else ""
    text = (
        f"each score is of {record['n_test']:,} images ({record['n_test_distinct']:,} different "
        f"ones over all repeats){others}, so that chance moves it by "
        + (
            f"±{100 * record['test_margin']:.1f} points"
            if in_points(record)
            else f"±{plain(record['test_margin'], 3)}"
        )
    )
    if wanted := record["test_images_to_tell"]:
        text += f"; about {count(wanted)} test images would separate score and target"
    return text


def check(record: GateRecord) -> str:
    """Say what the curve without its largest sizes predicts, and what was measured."""
    found = record["self_check"]
    assert found is not None
    sizes = "its largest size" if found["left_out"] == 1 else "its two largest sizes"
    held = found["low"] <= found["measured"] <= found["high"]
    return (
        f"fitted without {sizes}, the curve predicts {found['predicted']:.3f} "
        f"({found['low']:.3f} to {found['high']:.3f}) at {found['size']:,} training "
        f"{units(record)}; measured: {found['measured']:.3f}, "
        f"{'inside' if held else 'OUTSIDE: trust it less'}"
    )


def interval(record: Mapping[str, object], name: str) -> str:
    """Write a number with its 90 % interval, and zero without a sign."""
    middle, target = record[name], record.get("target")
    text = f"{middle:z.3f}"
    if name == "score_at_available" and isinstance(middle, float) and isinstance(target, float):
        text = beside(middle, target)
    return f"{text} ({record[f'{name}_low']:z.3f} to {record[f'{name}_high']:z.3f})"
