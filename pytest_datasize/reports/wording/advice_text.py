"""Write the advice in words: one line each for the terminal, more with ``-v``."""

from collections.abc import Iterator

from pytest_datasize.reports.records.record_types import (
    Advice,
    Collection,
    GateRecord,
    Money,
    Neighbours,
    Parameters,
    Redundancy,
    Route,
    RuleOfThumb,
    TransferGain,
)
from pytest_datasize.reports.records.selection import largest
from pytest_datasize.reports.records.text import one_line
from pytest_datasize.reports.wording.levers_text import ranking
from pytest_datasize.reports.wording.models_text import second_look

_NAME = 40
_MOST_NAMED = 6


def headlines(record: GateRecord) -> list[tuple[str, str]]:
    """Return (topic, sentence) pairs of what to do, one line each."""
    advice = record.get("advice")
    found = list(_headlines(record, advice)) if advice else []
    first = [("train", second_look(record)), ("next", ranking(record))]
    return [*((topic, text) for topic, text in first if text), *found]


def _headlines(record: GateRecord, advice: Advice) -> Iterator[tuple[str, str]]:
    if advice["collection"]:
        yield "collect", collection(advice["collection"])
    elif advice["collection_reason"] and record["verdict"] != "unreachable":
        yield "collect", f"no allocation over classes: {advice['collection_reason']}"
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
        yield from _domain(advice)


def _domain(advice: Advice) -> Iterator[tuple[str, str]]:
    if gain := advice.get("transfer"):
        yield "domain", transfer(gain)
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
        yield from _domain(advice)
    if number := advice.get("parameters"):
        yield "weights", parameters(record, number)
    if reasons := advice.get("without_interval"):
        said = "; ".join(f"{name} ({one_line(why)})" for name, why in reasons.items())
        yield "numbers", f"without an interval: {said}"


def collection(plan: Collection) -> str:
    """Say which images to collect, and what they save.

    Examples
    --------
    >>> route = {"images": {"rust": 120, "dent": 40, "good": 0}, "total": 160, "low": 60,
    ...     "high": 400, "cost": None, "cost_low": None, "cost_high": None}
    >>> collection({"by_class": route, "proportional": {**route, "total": 700, "high": None}})
    "120 more of 'rust' and 40 more of 'dent': 160 images (60 to 400) instead of 700 (60 to any) \
in today's proportions"
    """
    best, usual = plan["by_class"], plan["proportional"]
    if best["total"] is None:
        sure = f"less than {best['low']:,} surely do not" if best["low"] else "how many is open"
        return (
            "no number of images up to 16 times today's is more likely than not to bring the "
            f"target ({sure}), however they are spread over the classes"
        )
    if best["total"] == 0:
        return (
            "nothing: fitted together, the classes' recalls meet the target already; "
            "more repeats or test images would settle it"
        )
    wanted = largest(best["images"], _MOST_NAMED)
    named = [f"{n:,} more of {one_line(name, _NAME)!r}" for name, n in wanted.named]
    if wanted.other_classes:
        named.append(f"{wanted.other_images:,} more of {wanted.other_classes} other classes")
    listed = named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
    usual_total = (
        f"{usual['total']:,} {_span(usual)}" if usual["total"] is not None else "no number"
    )
    return (
        f"{listed}: {best['total']:,} images {_span(best)}{_priced(best)} instead of "
        f"{usual_total}{_priced(usual)} in today's proportions"
    )


def _span(route: Route) -> str:
    high = "any" if route["high"] is None else f"{route['high']:,}"
    return f"({route['low']:,} to {high})" if route["low"] is not None else f"(up to {high})"


def _priced(route: Route) -> str:
    if route["cost"] is None:
        return ""
    return f" for {_span_of_money(route['cost'], route['cost_low'], route['cost_high'])}"


def _span_of_money(middle: float, low: float | None, high: float | None) -> str:
    end = "any sum" if high is None else f"{high:,.2f}"
    return f"{middle:,.2f} ({low or 0.0:,.2f} to {end})"


def money(record: GateRecord, found: Money) -> str:
    """Say what the missing images cost, and what a budget buys."""
    parts = []
    absent = record["derived"]["missing"]
    if absent is not None and absent["images"] and found["shortfall"] is not None:
        cost = _span_of_money(found["shortfall"], found["shortfall_low"], found["shortfall_high"])
        parts.append(f"the missing images cost {cost} in today's proportions")
    elif absent is None:
        parts.append("no sum is known to buy the target")
    else:
        parts.append("nothing more need be bought")
    if buys := found["buys"]:
        parts.append(
            f"a budget of {found['budget']:,.2f} buys {buys['images']:,} images and a score of "
            f"{buys['score']:.3f} ({buys['score_low']:.3f} to {buys['score_high']:.3f})"
        )
    if spent := found["bought_by_class"]:
        parts.append(
            f"spent class by class {spent['score']:.3f} ({spent['score_low']:.3f} to "
            f"{spent['score_high']:.3f})"
        )
    return "; ".join(parts)


def labels(record: GateRecord, advice: Advice) -> str:
    """Say how many labels are doubtful, and what correcting them could add."""
    found = advice["labels"]
    number, judged = found["number"], found["judged"]
    first, gain = found["suspects"][0], record["derived"]["label_gain"] or 0.0
    return (
        f"look at {number:,} of {judged:,} labels that held-out predictions contradict, first "
        f"{one_line(first['image'], 60)} ({one_line(first['label'], _NAME)!r}, looks like "
        f"{one_line(first['likely'], _NAME)!r}); correcting them adds 0 to "
        f"{100 * gain:.1f} points to the held-out accuracy, as only a look tells how "
        "many are wrong"
    )


def rule(record: GateRecord, found: RuleOfThumb) -> str:
    """Say where the rule of thumb and the learning curve disagree."""
    said = "enough" if found["met"] else "too few"
    verdict = "they do not" if found["met"] else "they do suffice"
    return (
        f"{found['images_per_class']:,} images per class, the {found['reason']}, would call these "
        f"{said} ({found['fewest']:,} in the smallest class); by the learning curve {verdict} for "
        f"{record['target']:g}"
    )


def domain(found: Neighbours) -> str:
    """Say how far transfer helps, from the neighbours in the embedding."""
    words = {
        "near": "a near domain: the backbone separates these classes already",
        "middling": "a middling domain: the backbone separates these classes in part",
        "far": "a far domain: the backbone hardly separates these classes; another backbone or "
        "fine-tuning may do more than images",
    }
    return (
        f"{words[found['domain']]} ({100 * found['share']:.0f} % ({100 * found['low']:.0f} to "
        f"{100 * found['high']:.0f}) of images have a nearest neighbour of their class, "
        f"{100 * found['chance']:.0f} % by chance)"
    )


def transfer(found: TransferGain) -> str:
    """Say what transfer adds, measured on these images.

    Examples
    --------
    >>> transfer({"images": 400, "frozen": 0.81, "scratch": 0.6, "gain": 0.21, "low": 0.17,
    ...     "high": 0.25, "repeats": 10})
    'transfer helps on these images: with 400 of them, frozen features reach an accuracy of 0.810, \
the same network from scratch 0.600, 21.0 points (17.0 to 25.0) less'
    """
    gain, low, high = found["gain"], found["low"], found["high"]
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
        f"{said}: with {found['images']:,} of them, frozen features reach an accuracy of "
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
    '2,000 images, of which 1,874 are not near-copies of another; they are worth 1,880 (1,876 to \
1,902) independent ones; 2 of 110 groups of copies stand under several labels'
    >>> copies({**found, "different": 2000, "number": 0, "contested": 0})
    '2,000 images, none of which was found to be a near-copy of another'
    """
    if not found["number"]:
        return f"{found['images']:,} images, none of which was found to be a near-copy of another"
    worth = (
        f"{found['effective']:,.0f} ({found['low']:,.0f} to {found['high']:,.0f}) independent ones"
        if found["measured"]
        else f"{found['low']:,.0f} to {found['high']:,.0f} independent ones (too few groups of "
        "copies, or none held out, to measure what copies add)"
    )
    contested = (
        f"; {found['contested']} of {found['number']:,} groups of copies stand under several labels"
        if found["contested"]
        else ""
    )
    return (
        f"{found['images']:,} images, of which {found['different']:,} are not near-copies of "
        f"another; they are worth {worth}{contested}"
    )


def parameters(record: GateRecord, found: Parameters) -> str:
    """Say how many parameters there are to an image, and why that does not decide."""
    frozen = record["derived"]["frozen_parameters"]
    still = f" ({frozen:,} more are frozen)" if frozen else ""
    return (
        f"{found['trained']:,} parameters are trained{still}, {found['per_image']:.3g} for each "
        f"available image; {one_line(found['reason'])}"
    )


def more(record: GateRecord) -> Iterator[str]:
    """Yield what ``-v`` adds: facts, every class's recall, doubtful labels, groups of copies."""
    advice = record.get("advice")
    if not advice:
        return
    found = advice.get("redundancy")
    if found and found["number"] and not record["failed"]:  # a failed one shows it anyway
        yield f"  copies   {copies(found)}"
    for topic, sentence in facts(record):
        yield f"  {topic:<8} {one_line(sentence)}"
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
