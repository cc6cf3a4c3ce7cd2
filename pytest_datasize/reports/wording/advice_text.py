"""Write the advice in words: what to know about the images, for ``-v``, Markdown and HTML."""

from collections.abc import Iterator

from pytest_datasize.curve.counts import count, percent, plain, price
from pytest_datasize.reports.records.advice_types import (
    Advice,
    Collection,
    Money,
    Neighbours,
    Parameters,
    Redundancy,
    RuleOfThumb,
    TransferGain,
)
from pytest_datasize.reports.records.record_types import GateRecord
from pytest_datasize.reports.records.selection import MOST_DOUBTFUL, units
from pytest_datasize.reports.records.text import one_line
from pytest_datasize.reports.wording.levers_text import shares
from pytest_datasize.reports.wording.models_text import how_to_reach_it

_NAME = 40


def topics(record: GateRecord) -> list[tuple[str, str]]:
    """Return (topic, sentence) pairs of the advice on a requirement that needs action."""
    advice = record.get("advice")
    found = list(_topics(record, advice)) if advice else []
    return [("train", text), *found] if (text := how_to_reach_it(record)) else found


def _topics(record: GateRecord, advice: Advice) -> Iterator[tuple[str, str]]:
    if advice["collection"]:
        yield "collect", collection(record, advice["collection"])
    elif advice["collection_reason"] and record["verdict"] != "unreachable":
        yield "collect", one_line(advice["collection_reason"])
    if advice["money"]:
        yield "money", money(record, advice["money"])
    elif advice["money_reason"]:
        yield "money", f"not computed: {one_line(advice['money_reason'])}"
    if advice["labels"]["number"]:
        yield "labels", labels(record, advice)
    if advice["rule"]["agrees"] is False:
        yield "rule", rule(record, advice["rule"])
    found = advice.get("redundancy")
    if found and found["number"]:
        yield "copies", copies(found)
    if record["verdict"] != "sufficient":
        yield from _domain(record, advice)


def _domain(record: GateRecord, advice: Advice) -> Iterator[tuple[str, str]]:
    if gain := advice.get("transfer"):
        yield "domain", transfer(gain, units(record))
    elif advice["neighbours"]:
        yield "domain", domain(advice["neighbours"])


def facts(record: GateRecord) -> list[tuple[str, str]]:
    """Return (topic, sentence) pairs that need no action; shown with ``-v``."""
    advice = record.get("advice")
    return [] if not advice else list(_facts(record, advice))


def _facts(record: GateRecord, advice: Advice) -> Iterator[tuple[str, str]]:
    found = advice.get("redundancy")
    if found is None:
        yield (
            "copies",
            "near-copies were not looked for: the check is ignored",
        )
    elif not found["number"]:
        yield "copies", copies(found)
    if record["verdict"] == "sufficient":
        yield from _domain(record, advice)
    if number := advice.get("parameters"):
        yield "weights", parameters(record, number)
    if reasons := advice.get("without_interval"):
        said = "; ".join(f"{name} ({one_line(why)})" for name, why in reasons.items())
        yield "numbers", f"without an interval: {said}"


def collection(record: GateRecord, plan: Collection) -> str:
    """Say how to spread the images to collect over the classes, and what that gains."""
    return (
        f"of the next {count(plan['total'])} images{shares(record)}: {plan['score']:.3f} "
        f"({plan['score_low']:.3f} to {plan['score_high']:.3f}), instead of "
        f"{plan['proportional']:.3f} in today's proportions"
    )


def money(record: GateRecord, found: Money) -> str:
    """Say what the missing images cost, and what a budget buys."""
    parts, counted = [], units(record)
    images = record["derived"]["data_set"]
    if images["missing"] is None or not record["tellable"]:
        parts.append("no sum can be named that reaches the target")
    elif not images["missing"] or found["shortfall"] is None:
        parts.append(f"no more {counted} are needed")
    else:
        least = f"at least {price(found['shortfall_low'])}" if found["shortfall_low"] else ""
        most = f"at most {price(found['shortfall_high'])}" if found["shortfall_high"] else ""
        span = ", ".join(end for end in (least, most) if end) or "no limits can be told"
        parts.append(f"the missing {counted} cost about {price(found['shortfall'])} ({span})")
    if (buys := found["buys"]) and found["budget"] is not None:
        parts.append(
            f"a budget of {price(found['budget'])} buys {buys['images']:,} {counted} and a score "
            f"of {buys['score']:.3f} ({buys['score_low']:.3f} to {buys['score_high']:.3f})"
        )
    if spent := found["bought_by_class"]:
        parts.append(
            f"spread by class {spent['score']:.3f} ({spent['score_low']:.3f} to "
            f"{spent['score_high']:.3f})"
        )
    return "; ".join(parts)


def labels(record: GateRecord, advice: Advice) -> str:
    """Say how many labels are doubtful, and what correcting them could add."""
    found = advice["labels"]
    number, judged = found["number"], found["judged"]
    if number > MOST_DOUBTFUL * judged:
        return (
            f"the model contradicts {number:,} of {judged:,} labels: it is too weak to tell which "
            "of them are wrong"
        )
    first, gain = found["suspects"][0], record["derived"]["label_gain"] or 0.0
    return (
        f"check {number:,} of {judged:,} labels that the model contradicts, starting with "
        f"{one_line(first['image'], 60)} (labelled {one_line(first['label'], _NAME)!r}, looks "
        f"like {one_line(first['likely'], _NAME)!r}); depending on how many are wrong, correcting "
        f"them adds 0 to {100 * gain:.1f} points of accuracy"
    )


def rule(record: GateRecord, found: RuleOfThumb) -> str:
    """Say where the rule of thumb and the learning curve disagree."""
    said = "enough" if found["met"] else "too few"
    verdict = "not" if found["met"] else "enough"
    return (
        f"{found['images_per_class']:,} images per class, the {found['reason']}, says this is "
        f"{said} (smallest class: {found['fewest']:,}); the learning curve says it is {verdict} "
        f"for {record['target']:g}"
    )


def domain(found: Neighbours) -> str:
    """Say how far transfer helps, from the neighbours in the embedding."""
    words = {
        "near": "the backbone separates these classes well",
        "middling": "the backbone separates these classes partly",
        "far": "the backbone hardly separates these classes; another backbone or fine-tuning may "
        "do more than images",
    }
    return (
        f"{words[found['domain']]}: for {100 * found['share']:.0f} % of images "
        f"({100 * found['low']:.0f} to {100 * found['high']:.0f}) the nearest neighbour has the "
        f"same class; chance is {100 * found['chance']:.0f} %"
    )


def transfer(found: TransferGain, counted: str = "images") -> str:
    """Say what transfer adds, measured on these images.

    Examples
    --------
    >>> transfer({"images": 400, "frozen": 0.81, "scratch": 0.6, "gain": 0.21, "low": 0.17,
    ...     "high": 0.25, "repeats": 10})
    'transfer helps on these images: with 400 of them, frozen features reach an accuracy of 0.810, \
the same network from scratch 0.600, 21.0 points (17.0 to 25.0) less'
    """
    gain, low, high = found["gain"], found["low"], found["high"]
    of = " of them" if counted == "images" else f" {counted}"
    if low is None or high is None:
        said, span = "transfer against training from scratch", " (no interval: one repeat)"
    else:
        if gain < 0:
            low, high = -high, -low
        span = f" ({100 * low:.1f} to {100 * high:.1f})"
        said = "what transfer adds on these images cannot be told from nothing"
        if low > 0:
            said = f"transfer {'helps' if gain >= 0 else 'does harm'} on these images"
    return (
        f"{said}: with {found['images']:,}{of}, frozen features reach an accuracy of "
        f"{found['frozen']:.3f}, the same network from scratch {found['scratch']:.3f}, "
        f"{100 * abs(gain):.1f} points{span} {'less' if gain >= 0 else 'more'}"
    )


def copies(found: Redundancy) -> str:
    """Say how many images are near-copies of others, and what the images are worth.

    Examples
    --------
    >>> found = {"images": 2000, "different": 1874, "effective": 1880.2, "low": 1876.0,
    ...     "high": 1902.4, "measured": True, "number": 110, "contested": 2}
    >>> copies(found)
    '126 of 2,000 images are near-copies; counted as independent images the set is worth 1,876 to \
1,902; 2 of 110 groups of copies have several labels'
    >>> copies({**found, "different": 2000, "number": 0, "contested": 0})
    'no near-copies were found among 2,000 images'
    """
    if not found["number"]:
        return f"no near-copies were found among {found['images']:,} images"
    contested = (
        f"; {found['contested']} of {found['number']:,} groups of copies have several labels"
        if found["contested"]
        else ""
    )
    return (
        f"{found['images'] - found['different']:,} of {found['images']:,} images are near-copies; "
        f"counted as independent images the set is worth {found['low']:,.0f} to "
        f"{found['high']:,.0f}{contested}"
    )


def parameters(record: GateRecord, found: Parameters) -> str:
    """Say how many parameters there are to an image, and why that does not decide."""
    frozen = record["derived"]["frozen_parameters"]
    still = f" ({frozen:,} more are frozen)" if frozen else ""
    return (
        f"{found['trained']:,} parameters are trained{still}, {plain(found['per_image'], 3)} for "
        f"each available image; {one_line(found['reason'])}"
    )


def steps(record: GateRecord) -> list[str]:
    """Return a line for each number of more images: cost, score, chance of the target."""
    advice = record.get("advice")
    found = advice.get("steps", []) if advice else []
    return [
        f"{one['more']:>9,} more {units(record)}"
        + ("" if one["cost"] is None else f" for {price(one['cost'])}")
        + f": {one['score']:.3f} ({one['score_low']:.3f} to {one['score_high']:.3f}), "
        f"chance of the target {percent(one['probability'])}"
        for one in found
    ]


def more(record: GateRecord) -> Iterator[str]:
    """Yield what ``-v`` adds: all advice, every class's recall, doubtful labels, copies."""
    advice = record.get("advice")
    if not advice:
        return
    found = advice.get("redundancy")
    for topic, sentence in (*topics(record), *facts(record)):
        yield f"  {topic:<9}  {one_line(sentence)}"
    yield from (f"  {line}" for line in steps(record))
    yield "  recall by class today, and with twice its images (all classes fitted together)"
    for row in advice["classes"]:
        yield (
            f"    {one_line(row['name'], _NAME)}: {row['images']:,} images, "
            f"{row['recall']:.3f} ({row['recall_low']:.3f} to {row['recall_high']:.3f}), "
            f"{row['doubled']:.3f} ({row['doubled_low']:.3f} to {row['doubled_high']:.3f})"
        )
    for one in advice["labels"]["suspects"]:
        yield (
            f"    label {one_line(one['label'], _NAME)!r}, looks like "
            f"{one_line(one['likely'], _NAME)!r} ({100 * one['probability']:.0f} %): "
            f"{one_line(one['image'], 80)}"
        )
    for group in found["groups"] if found else []:
        names = ", ".join(one_line(one["image"], 80) for one in group["shown"])
        rest = group["images"] - len(group["shown"])
        yield f"    near-copies: {names}{f' and {rest:,} more' if rest else ''}"
