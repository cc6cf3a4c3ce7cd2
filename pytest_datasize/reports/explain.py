"""A failed requirement in words: what was measured and projected, how sure, what is missing."""

from typing import Any

Record = dict[str, Any]


def failure(records: list[Record]) -> str:
    """Return the text of a failed gate; its first line is complete by itself."""
    first = records[0]["message"]
    others = [f"also: {record['message']}" for record in records[1:]]
    return "\n".join([first, *others, *(line for record in records for line in details(record))])


def details(record: Record) -> list[str]:
    """Return the explanation of one judged requirement, a statement per line."""
    per_size = _means(record)
    smallest, largest = record["sizes"][0], record["sizes"][-1]
    name = record["metric"] if record["class"] is None else f"recall of {record['class']!r}"
    trained = f"{len(record['sizes'])} sizes, {len(record['scores'][0])} repeats"
    if record["n_trials"] < record["n_trials_planned"]:
        trained += f"; sure after {record['n_trials']} of {record['n_trials_planned']} trials"
    lines = [
        "",
        f"{name}, target {record['target']:g}, verdict {record['verdict']}",
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
    ]
    return lines + [f"  note       {note}" for note in record["notes"]]


def model(record: Record) -> str:
    """Say what was trained, and from which weights."""
    text = f"{record['strategy']} with {record['backbone']}"
    weights = record["weights"]
    if weights["sha256"]:
        text += f" ({weights['source']}, sha256 {weights['sha256']}...)"
    elif record["image_size"]:
        text += f" ({weights['source']})"
    return text + (f" at {record['image_size']} pixels" if record["image_size"] else "")


def missing(record: Record) -> str:
    """Say how many images are short, or why no number helps."""
    required, available = record["required"], record["available"]
    if record["verdict"] == "unreachable":
        return (
            "more images alone will not do: try another backbone, image_size or strategy, "
            "or mend labels"
        )
    if record["verdict"] == "undecided":
        return f"certainty; any of these would give it: {record['remedies']['text']}"
    if required is None or not record["tellable"]:
        return "more than the curve can tell; it flattens below the target within its interval"
    if required <= available:
        return "nothing"
    beyond = required / record["sizes"][-1]
    warning = f"; an extrapolation to {beyond:.1f} times what was measured"
    return f"{required - available:,} images on top of {available:,}" + (
        warning if record["extrapolated"] else ""
    )


def test_set(record: Record) -> str:
    """Say how far the luck of the test images moves the score, and how many would do."""
    text = (
        f"{record['n_test']:,} images behind each score, {record['n_test_distinct']:,} different "
        f"ones in all: ±{100 * record['test_margin']:.1f} points"
    )
    if needed := record["test_images_to_tell"]:
        text += f"; about {needed:,} needed to tell score and target apart at 90 %"
    return text


def check(found: dict[str, Any]) -> str:
    """Say what the curve without its largest sizes would have projected."""
    sizes = "its largest size" if found["left_out"] == 1 else "its two largest sizes"
    return (
        f"the curve without {sizes} projects {found['predicted']:.3f} ({found['low']:.3f} to "
        f"{found['high']:.3f}) at {found['size']:,}; measured {found['measured']:.3f}"
    )


def interval(record: Record, name: str) -> str:
    """Write a number with its 90 % interval."""
    return f"{record[name]:.3f} ({record[f'{name}_low']:.3f} to {record[f'{name}_high']:.3f})"


def sure(probability: float) -> str:
    """Write a probability without claiming certainty."""
    if probability < 0.01:
        return "less than 1 %"
    return "more than 99 %" if probability > 0.99 else f"{probability * 100:.0f} %"


def _means(record: Record) -> list[float]:
    return [sum(repeats) / len(repeats) for repeats in record["scores"]]
