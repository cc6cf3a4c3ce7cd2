"""Explain a failed requirement in words: measured, projected, how sure, what is missing."""

from collections.abc import Mapping, Sequence

from pytest_datasize.reports.records.record_types import (
    GateRecord,
    Missing,
    Projection,
    Record,
    RequiredImages,
    SelfCheck,
)
from pytest_datasize.reports.records.selection import exceeded_only, is_condition, is_judged
from pytest_datasize.reports.records.text import one_line
from pytest_datasize.reports.wording import condition_text, models_text
from pytest_datasize.reports.wording.advice_text import headlines

_NAME = 60
"""Longest name of a class in a sentence; reports show the full name elsewhere."""

_ROUGH = "(rough, without an interval: the spread behind it is an estimate itself)"


def failure(records: Sequence[Record]) -> str:
    """Return the text of a failed gate; its first line is complete by itself."""
    first, *others = (text for record in records for text in reasons(record))
    also = [f"also: {text}" for text in others]
    explained = [line for record in records for line in _below(record)]
    return "\n".join(one_line(line) for line in [first, *also, *explained])


def _below(record: Record) -> list[str]:
    if is_condition(record):
        return ["", *condition_text.details(record)]
    return details(record) if is_judged(record) else []


def reasons(record: Record) -> list[str]:
    """Return why a requirement failed: too few images, too steep a rise since the baseline."""
    if not is_judged(record):
        return [record["message"]]
    change = record["baseline"]
    found = [record["message"]] if record["verdict"] != "sufficient" else []
    if change and change["exceeded"]:
        found.append(f"{subject(record)}: {change['text']}")
    return found


def subject(record: Projection) -> str:
    """Name what is judged, such as ``accuracy`` or ``recall of 'rust'``."""
    name = record.get("class")
    return record["metric"] if name is None else f"recall of {one_line(name, _NAME)!r}"


def required(record: RequiredImages) -> str:
    """Write the required number of images with its interval."""
    low, high = record["required_low"], record["required_high"]
    if record["required"] is None:
        return "none" if low is None else f"over {low:,}"
    return f"{record['required']:,} ({low:,} to {f'{high:,}' if high else 'any'})"


def sentence(record: GateRecord) -> str:
    """Say in a sentence or two what failed, how sure that is and what to do."""
    name, target = subject(record), f"{record['target']:g}"
    score = f"{name} is {interval(record, 'score_at_available')} with all {_available(record)}"
    verdict = record["verdict"]
    change = record["baseline"]
    if change and exceeded_only(record):
        return f"{name}: {change['text']}. Look at what changed in the images, labels or model."
    if verdict == "sufficient":
        return f"{score}, {target} is asked: enough, {sure(record['probability_sufficient'])} sure."
    if verdict == "unreachable":
        return (
            f"{name} levels off at {interval(record, 'ceiling')}, {target} is asked: out of reach, "
            "more than 95 % sure. More images will not help; try another backbone, image_size or "
            "strategy, or mend labels."
        )
    if verdict == "undecided":
        return (
            f"{score}, {target} is asked: {sure(record['probability_sufficient'])} sure that this "
            f"is enough, {confidence(record)} asked. Any of these would decide: "
            f"{_deciding(record)} {_ROUGH}."
        )
    derived = record["derived"]
    doubt = sure(derived["probability_insufficient"])
    short = f"{score}, {target} is asked: too few images, {doubt} sure. "
    absent = derived["missing"]
    if absent is None or not record["tellable"]:
        return short + (
            "How many would do is beyond what the curve can tell; try another backbone, "
            "image_size or strategy before collecting."
        )
    if not absent["images"]:
        return short + f"More than {record['available']:,} are needed to be as sure as asked."
    return short + f"Collect {_more(absent)}."


def confidence(record: GateRecord) -> str:
    """Write the required confidence; higher than asked if other models fell short before."""
    asked = record["confidence"]
    if asked is None:
        return "none"
    levels = [model["level"] for model in record.get("models", []) if model["judged"]]
    return f"{round(100 * max([asked, *(level or 0.0 for level in levels)]), 1):g} %"


def _deciding(record: GateRecord) -> str:
    found = record["remedies"]
    return found["text"] if found else "nothing that is known"


def _available(record: GateRecord) -> str:
    return f"{record['available']:,} training images"


def _more(absent: Missing) -> str:
    """Write how many images are missing, with the interval."""
    from pytest_datasize.curve.counts import count

    low, high = absent["low"], absent["high"]
    least = count(low) if low else "perhaps none"
    span = f"{least}, perhaps far more" if high is None else f"{least} to {count(high)}"
    return f"about {count(absent['images'])} more training images ({span})"


def details(record: GateRecord) -> list[str]:
    """Return the explanation of one judged requirement, one statement per line."""
    tried = list(enumerate(models_text.lines(record)))
    per_size = record["measured"]["mean"]
    smallest, largest = record["sizes"][0], record["sizes"][-1]
    trained = f"{len(record['sizes'])} sizes, {len(record['scores'][0])} repeats"
    if record["n_trials"] < record["n_trials_planned"]:
        trained += f"; sure after {record['n_trials']} of {record['n_trials_planned']} trials"
    lines = [
        "",
        f"{subject(record)}, target {record['target']:g}, verdict {record['verdict']}",
        f"  measured   {per_size[0]:.3f} with {smallest:,} training images, "
        f"{per_size[-1]:.3f} with {largest:,} ({trained})",
        f"  projected  {interval(record, 'score_at_available')} with all "
        f"{record['available']:,} available; ceiling {interval(record, 'ceiling')}",
        f"  certainty  {sure(record['probability_sufficient'])} that the available images suffice; "
        "intervals hold the truth with 90 %",
        f"  missing    {missing(record)}",
        f"  test set   {test_set(record)}",
        *([f"  check      {check(record['self_check'])}"] if record["self_check"] else []),
        f"  from       {record['source']}; {model(record)}, {record['device']}, "
        f"seed {record['seed']}",
        *(f"  {'models' if not number else '':<9}  {line}" for number, line in tried),
    ]
    if record["baseline"]:
        lines.append(f"  baseline   {record['baseline']['text']}")
    lines += [f"  {topic:<9}  {said}" for topic, said in headlines(record)]
    return lines + [f"  note       {note}" for note in record["notes"]]


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


def missing(record: GateRecord) -> str:
    """Say how many images are missing, or why no number suffices."""
    if record["verdict"] == "unreachable":
        return (
            "more images alone will not do: try another backbone, image_size or strategy, "
            "or mend labels"
        )
    if record["verdict"] == "undecided":
        return f"certainty; any of these would give it: {_deciding(record)} {_ROUGH}"
    absent = record["derived"]["missing"]
    if absent is None or not record["tellable"]:
        return "more than the curve can tell; it flattens below the target within its interval"
    if not absent["images"]:
        return "nothing"
    high = absent["high"]
    span = f"({absent['low']:,} to {'any' if high is None else f'{high:,}'})"
    return f"{absent['images']:,} {span} images on top of {record['available']:,}" + (
        f"; {extrapolation(record)}" if record["extrapolated"] else ""
    )


def extrapolation(record: GateRecord) -> str:
    """Say how far the required number lies beyond the measured sizes."""
    times = record["derived"]["times_measured"]
    return "" if times is None else f"an extrapolation to {times:.1f} times what was measured"


def test_set(record: GateRecord) -> str:
    """Say how far the sampling of test images moves the score, and how many would suffice."""
    text = (
        f"{record['n_test']:,} images behind each score, {record['n_test_distinct']:,} different "
        f"ones in all: ±{100 * record['test_margin']:.1f} points"
    )
    if needed := record["test_images_to_tell"]:
        text += f"; about {needed:,} needed to tell score and target apart at 90 %"
    return text


def check(found: SelfCheck) -> str:
    """Say what the curve without its largest sizes would have projected."""
    sizes = "its largest size" if found["left_out"] == 1 else "its two largest sizes"
    return (
        f"the curve without {sizes} projects {found['predicted']:.3f} ({found['low']:.3f} to "
        f"{found['high']:.3f}) at {found['size']:,}; measured {found['measured']:.3f}"
    )


def interval(record: Mapping[str, object], name: str) -> str:
    """Write a number with its 90 % interval."""
    return f"{record[name]:.3f} ({record[f'{name}_low']:.3f} to {record[f'{name}_high']:.3f})"


def sure(probability: float) -> str:
    """Write a probability without claiming certainty."""
    if probability < 0.01:
        return "less than 1 %"
    return "more than 99 %" if probability > 0.99 else f"{probability * 100:.0f} %"
