"""Compare a run with an earlier one: what changed, and whether that is more than noise."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from pytest_datasize.curve.counts import count
from pytest_datasize.reports.records.derived import in_all, smallest_measured
from pytest_datasize.reports.records.record_numbers import number
from pytest_datasize.reports.records.record_parts import BaselineChange, RequiredImages
from pytest_datasize.reports.records.record_types import GateRecord, Record
from pytest_datasize.reports.records.selection import judged, target_name, unit_of, units
from pytest_datasize.reports.records.text import one_line
from pytest_datasize.requirement.units import IMAGE, plural

Key = tuple[str, int, str]

_CONDITIONS = (
    "target",
    "class",
    "class_targets",
    "operating_point",
    "slice",
    "backbone",
    "strategy",
    "image_size",
    "law",
    "sampling",
    "test_source",
    "seed",
)
_HALF = 1.6449  # half of a 90 % interval, in standard deviations


class Baseline(NamedTuple):
    """An earlier run to compare with; empty if there is none yet.

    Attributes
    ----------
    path
        Its file.
    records
        Requirement → its record.
    exists
        Whether the file exists.
    """

    path: Path
    records: dict[Key, GateRecord]
    exists: bool = True

    @classmethod
    def read(cls, path: Path) -> "Baseline":
        """Read a result of ``--datasize-json``; a missing file is an empty baseline.

        Raises
        ------
        ReportError
            The file exists but is not such a result.
        """
        from pytest_datasize.reports.records import result_file

        if not path.exists():
            return cls(path, {}, exists=False)
        return cls(path, by_key(result_file.read(path)["requirements"]))

    def change(
        self, record: GateRecord, max_increase: float | None = None, confidence: float | None = None
    ) -> BaselineChange:
        """Compare a record with the one of the same requirement, see :func:`change`."""
        old = self.records.get(key(record))
        if old is None or unit_of(old) != unit_of(record):
            text = (
                f"nothing to compare with: the baseline counts {units(old)}, this run "
                f"{units(record)}"
                if old
                else "new: the baseline has no such requirement"
                if self.exists
                else f"nothing to compare with yet: {self.path.name} was not there"
            )
            return {
                "found": False,
                "exceeded": False,
                "beyond_noise": False,
                "text": text,
                "lines": [text],
            }
        return change(old, record, max_increase, confidence)


def key(record: GateRecord) -> Key:
    """Return the key that identifies a requirement across runs."""
    return record["nodeid"], record.get("order", 0), target_name(record)


def by_key(records: Iterable[Record]) -> dict[Key, GateRecord]:
    """Index the judged records."""
    return {key(record): record for record in judged(records)}


def change(
    old: GateRecord,
    new: GateRecord,
    max_increase: float | None = None,
    confidence: float | None = None,
) -> BaselineChange:
    """Return what changed between two runs of a requirement.

    Parameters
    ----------
    old, new
        Records of the same requirement.
    max_increase
        Share by which the required number may rise, such as 0.2.
    confidence
        Required probability that it rose by more; None lets the medians decide.

    Returns
    -------
    dict
        ``found``; ``lines``: what changed, in words; ``text``: the most important line;
        ``beyond_noise``: whether a 90 % interval shows a change of the required number;
        ``exceeded``: whether it rose by more than `max_increase`.

    Notes
    -----
    Both runs are treated as independent, and the logarithm of a required number as normal on the
    side that faces the other run. Runs on mostly the same images share their sampling variance, so
    "beyond noise" is reported too seldom rather than too often.
    """
    lines = [_required(old, new)]
    noise = _distance_of_required(_images(old), _images(new))
    for name, title in (
        ("score_at_available", f"score with all {units(new)}"),
        ("ceiling", "ceiling"),
    ):
        lines += _score(old, new, name, title)
    if old["available"] != new["available"]:
        lines.append(f"available {units(new)} {_moved(old['available'], new['available'])}")
    if old["verdict"] != new["verdict"]:
        lines.append(f"verdict changed from {old['verdict']} to {new['verdict']}")
    then: Mapping[str, object] = old
    now: Mapping[str, object] = new
    changed = [
        f"{name} {_shown(then.get(name))} → {_shown(now.get(name))}"
        for name in _CONDITIONS
        if then.get(name) != now.get(name)
    ]
    if old["weights"]["sha256"] != new["weights"]["sha256"]:
        changed.append("weights")
    if changed:
        lines.append(f"not the same conditions: {', '.join(changed)}")
    exceeded = max_increase is not None and _exceeded(old, new, max_increase, confidence)
    text = lines[0]
    if exceeded:
        text += f"; at most {max_increase:.0%} more are allowed".replace("%", " %")
        lines[0] = text
    return {
        "found": True,
        "required": [old["required"], new["required"]],
        "available": [old["available"], new["available"]],
        "score_at_available": [old["score_at_available"], new["score_at_available"]],
        "ceiling": [old["ceiling"], new["ceiling"]],
        "beyond_noise": abs(noise) > _HALF,
        "exceeded": exceeded,
        "text": text,
        "lines": lines,
    }


def _required(old: GateRecord, new: GateRecord) -> str:
    unit = unit_of(new)
    then, now = images_needed(in_all(old), unit), images_needed(in_all(new), unit)
    if new["required"] is not None and new["required"] < new["sizes"][0]:
        # both are compared as numbers, or a rise that is told would look like none
        now += f", which is below the smallest size measured, {count(smallest_measured(new))}"
    if old["required"] == new["required"]:
        return f"still {now}" if new["required"] is None else f"required: unchanged, {now}"
    beyond = abs(_distance_of_required(_images(old), _images(new))) > _HALF
    return f"required: was {then}, is {now}; {_change(beyond)}"


def _change(beyond: bool) -> str:
    return "a clear change" if beyond else "no clear change"


def images_needed(record: RequiredImages, unit: str = IMAGE, smallest: int = 0) -> str:
    """Write a required number of images or groups with its interval, in digits that are known.

    Parameters
    ----------
    record
        The number and its interval.
    unit
        What is counted.
    smallest
        The smallest measured size, counted alike: a smaller number is not known.

    Examples
    --------
    >>> images_needed({"required": 1334, "required_low": 612, "required_high": None})
    '1,400 images (620 or more)'
    >>> images_needed({"required": 2, "required_low": 1, "required_high": 9}, smallest=50)
    'at most 50 images, the smallest size measured'
    """
    low, high = record["required_low"], record["required_high"]
    if record["required"] is None:
        return "out of reach" if low is None else f"{count(low)} {plural(unit)} or more"
    if record["required"] < smallest:
        return f"at most {count(smallest)} {plural(unit)}, the smallest size measured"
    end = "or more" if high is None else f"to {count(high)}"
    return f"{count(record['required'])} {plural(unit)} ({count(low or 0)} {end})"


class _Images(NamedTuple):
    required: float | None
    low: float | None
    high: float | None


def _images(record: RequiredImages) -> _Images:
    return _Images(record["required"], record["required_low"], record["required_high"])


def _score(old: GateRecord, new: GateRecord, name: str, title: str) -> list[str]:
    then, now = _triple(old, name), _triple(new, name)
    before, after = then[0], now[0]
    if round(before, 3) == round(after, 3):
        return []
    beyond = abs(_distance(then, now)) > _HALF
    return [
        f"{title}: was {before:.3f} ({then[1]:.3f} to {then[2]:.3f}), is {after:.3f} "
        f"({now[1]:.3f} to {now[2]:.3f}); {_change(beyond)}"
    ]


def _exceeded(
    old: RequiredImages, new: RequiredImages, most: float, confidence: float | None
) -> bool:
    if old["required"] is None:  # it could not be met before, so no increase is defined
        return False
    if confidence is None:
        return new["required"] is None or new["required"] > old["required"] * (1 + most)
    limit = _Images(*(n and n * (1 + most) for n in _images(old)))
    distance = _distance_of_required(limit, _images(new))
    return 0.5 * math.erfc(-distance / math.sqrt(2)) >= confidence


def _distance_of_required(old: _Images, new: _Images) -> float:
    """Return how many standard deviations the new number lies above the old, on a log scale."""
    if old.required is None and new.required is None:
        return 0.0
    if old.required is None or new.required is None:
        lower, upper = (old, new) if new.required is None else (new, old)
        sign = math.inf if upper is new else -math.inf
        most, least = lower.high, upper.low
        disjoint = most is not None and (least is None or least > most)
        return sign if disjoint else 0.0
    return _distance(_logarithms(old), _logarithms(new))


def _distance(old: tuple[float, float, float], new: tuple[float, float, float]) -> float:
    """Return the same for (middle, low, high), from the sides that face each other."""
    (before, old_low, old_high), (after, new_low, new_high) = old, new
    if before == after:
        return 0.0
    errors = (
        (old_high - before, after - new_low)
        if after > before
        else (before - old_low, new_high - after)
    )
    spread = math.hypot(*errors) / _HALF
    return (after - before) / spread if spread > 0 else math.copysign(math.inf, after - before)


def _triple(record: Mapping[str, object], name: str) -> tuple[float, float, float]:
    middle, low, high = (number(record, f"{name}{end}") for end in ("", "_low", "_high"))
    if middle is None or low is None or high is None:
        raise TypeError(f"{name} is no number")
    return middle, low, high


def _logarithms(images: _Images) -> tuple[float, float, float]:
    middle, low, high = (math.inf if n is None else math.log(max(n, 1)) for n in images)
    return middle, low, high


def _moved(before: int, after: int) -> str:
    return f"{'rose' if after > before else 'fell'} from {before:,} to {after:,}"


def _shown(value: object) -> str:
    if isinstance(value, dict) and set(value) == {"factor", "value"}:  # a slice
        return f"{value['factor']} {value['value']}"
    if isinstance(value, dict):
        return ", ".join(f"{one_line(name)!r} {of:g}" for name, of in value.items())
    return "none" if value is None else str(value)
