"""Summarise a run as a whole, in the same words in every report."""

from collections.abc import Sequence

from pytest_datasize.curve.counts import count
from pytest_datasize.reports.records.record_types import Record
from pytest_datasize.reports.records.selection import (
    conditions,
    exceeded_only,
    judged,
    units,
    unscored,
    warned,
)


def headline(records: Sequence[Record]) -> str:
    """Return the outcome of a run in one line.

    Gates that fell short as expected (``xfail``) or only warn are counted apart.

    Examples
    --------
    >>> headline([])
    'No gate was judged'
    """
    warning = [one for one in records if warned(one)]
    binding = [one for one in records if not warned(one)]
    gates = judged(binding)
    unmet = [one for one in gates if one["verdict"] != "sufficient" or exceeded_only(one)]
    short = [one for one in unmet if one["verdict"] == "insufficient"]
    said = []
    if short:
        said.append(f"{_gates(len(short))} short{_more(short)}")
    for verdict, words in (("unreachable", "out of reach"), ("undecided", "undecided")):
        if number := sum(one["verdict"] == verdict for one in unmet):
            said.append(f"{number} {words}")
    if number := sum(map(exceeded_only, unmet)):
        said.append(f"{number} risen too far since the baseline")
    failed = [one for one in conditions(binding) if one["verdict"] == "unmet"]
    for kind, words in (
        ("images_per_class", "with too few images of a class"),
        ("represents", "unlike the deployment"),
    ):
        if number := sum(one["check"]["kind"] == kind for one in failed):
            said.append(f"{number} {words}")
    others = unscored(records)
    errors = sum(one["verdict"] == "error" for one in others)
    skipped = sum(one["verdict"] == "skipped" for one in others)
    met = len(gates) - len(unmet) + len(conditions(binding)) - len(failed)
    said += [f"{errors} could not be judged"] * bool(errors)
    said += [f"{skipped} skipped"] * bool(skipped)
    wrong = [one for one in records if one["failed"]]
    if not said and not warning:
        return f"Enough {_counted(gates)}: {_gates(met)} met" if met else "No gate was judged"
    said += [f"{met} met"] * bool(met)
    said += [f"{_gates(len(warning))} would fail (level=warning)"] * bool(warning)
    if not wrong:
        title = "No gate failed"
    elif short or failed:
        title = f"Not enough {_counted(short)}"
    else:
        title = "Target out of reach" if len(unmet) == 1 and not errors else "Not met"
        title = "Not judged" if errors and not unmet else title
    return f"{title}: {', '.join(said)}"


def _gates(number: int) -> str:
    return f"{number} gate" if number == 1 else f"{number} gates"


def _more(short: Sequence[Record]) -> str:
    """Write the largest number of missing images per data set, summed; empty if untellable.

    Groups are counted apart.
    """
    most: dict[tuple[str, str], int] = {}
    for record in judged(short):
        missing = record["derived"]["data_set"]["missing"]
        if missing is None or not record["tellable"]:
            return ""
        key = units(record), record["source"]
        most[key] = max(most.get(key, 0), missing)
    sums = {unit: sum(n for (one, _), n in most.items() if one == unit) for unit, _ in most}
    said = " and ".join(f"{count(number)} more {unit}" for unit, number in sums.items())
    return f" (about {said})"


def _counted(records: Sequence[Record]) -> str:
    """Return the unit of several requirements, in the plural; images if they differ."""
    found = {units(record) for record in judged(records)}
    return found.pop() if len(found) == 1 else "images"
