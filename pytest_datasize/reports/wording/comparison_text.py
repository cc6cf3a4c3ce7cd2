"""Write a comparison of strategies in words."""

from collections.abc import Iterator

from pytest_datasize.curve.counts import plain
from pytest_datasize.reports.records.baseline import images_needed
from pytest_datasize.reports.records.record_types import ComparisonRecord
from pytest_datasize.reports.records.selection import unit_of, units
from pytest_datasize.reports.wording.explain import interval


def cells(record: ComparisonRecord) -> Iterator[tuple[str, ...]]:
    """Yield a row per strategy: its name, score now, required images, best score, seconds."""
    for one in record["strategies"]:
        yield (
            one["name"],
            interval(one, "score"),
            images_needed(one, unit_of(record)),
            interval(one, "best"),
            f"{one['seconds']:.0f}",
        )


def worth(record: ComparisonRecord) -> list[str]:
    """Return what each strategy is worth against another, and which needs the fewest images."""
    found = []
    for one in record["worth"]:
        if one["times"] is None or one["low"] is None:
            found.append(f"{one['name']}: {one['against']} never reaches its score")
            continue
        end = "or more" if one["high"] is None else f"to {plain(one['high'])}"
        found.append(
            f"{one['name']} scores what {one['against']} reaches with {plain(one['times'])} times "
            f"the {units(record)} ({plain(one['low'])} {end})"
        )
    fewest = record["fewest"]
    said = "cannot be told: the intervals overlap" if fewest is None else fewest
    return [*found, f"fewest {units(record)} for {record['target']:g}: {said}"]
