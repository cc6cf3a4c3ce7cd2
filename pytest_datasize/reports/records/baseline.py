"""What changed since an earlier run, and whether that is more than noise."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

Record = dict[str, Any]
Key = tuple[str, int, str]

_CONDITIONS = (
    "target",
    "class",
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
    """An earlier run to compare with; without records where there is none yet.

    Attributes
    ----------
    path
        The file it stands in.
    records
        Requirement → its record.
    exists
        Whether the file was there.
    """

    path: Path
    records: dict[Key, Record]
    exists: bool = True

    @classmethod
    def read(cls, path: Path) -> "Baseline":
        """Read a result of ``--datasize-json``; a missing file is an empty baseline.

        Raises
        ------
        ReportError
            The file is there and is no such result.
        """
        from pytest_datasize.reports.records import result_file

        if not path.exists():
            return cls(path, {}, exists=False)
        return cls(path, by_key(result_file.read(path)["requirements"]))

    def change(
        self, record: Record, max_increase: float | None = None, confidence: float | None = None
    ) -> dict[str, Any]:
        """Compare a record with the one of the same requirement, see :func:`change`."""
        old = self.records.get(key(record))
        if old is None:
            text = (
                "new: the baseline has no such requirement"
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


def key(record: Record) -> Key:
    """Return what names a requirement from run to run."""
    return record["nodeid"], record.get("order", 0), str(record["metric"])


def by_key(records: Iterable[Record]) -> dict[Key, Record]:
    """Index the judged records."""
    return {key(record): record for record in records if record["metric"] is not None}


def change(
    old: Record, new: Record, max_increase: float | None = None, confidence: float | None = None
) -> dict[str, Any]:
    """Say what changed from one run of a requirement to another.

    Parameters
    ----------
    old, new
        Records of the same requirement.
    max_increase
        Share by which the required number may rise, such as 0.2.
    confidence
        How sure it must be that it rose by more; None lets the medians decide.

    Returns
    -------
    dict
        ``found``; ``lines``: what changed, in words; ``text``: the line that matters most;
        ``beyond_noise``: whether a 90 % interval speaks for a change of the required number;
        ``exceeded``: whether it rose by more than `max_increase`.

    Notes
    -----
    Both runs are taken as independent and the logarithm of a required number as normal on the side
    that faces the other run. Runs on mostly the same images share their luck, so that "beyond
    noise" is said too seldom rather than too often.
    """
    lines = [_required(old, new)]
    noise = _distance_of_required(old, new)
    for name, title in (("score_at_available", "score with all images"), ("ceiling", "ceiling")):
        lines += _score(old, new, name, title)
    if old["available"] != new["available"]:
        lines.append(f"available images {_moved(old['available'], new['available'])}")
    if old["verdict"] != new["verdict"]:
        lines.append(f"verdict was {old['verdict']}, is {new['verdict']}")
    changed = [
        f"{name} {_shown(old.get(name))} → {_shown(new[name])}"
        for name in _CONDITIONS
        if old.get(name) != new.get(name)
    ]
    if (old.get("weights") or {}).get("sha256") != (new.get("weights") or {}).get("sha256"):
        changed.append("weights")
    if changed:
        lines.append(f"not the same conditions: {', '.join(changed)}")
    exceeded = max_increase is not None and _exceeded(old, new, max_increase, confidence)
    text = lines[0]
    if exceeded:
        text += f"; at most {max_increase:.0%} more allowed".replace("%", " %")
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


def _required(old: Record, new: Record) -> str:
    before, after = old["required"], new["required"]
    spans = f"from {_span(old)} to {_span(new)}"
    if before == after:
        return f"required images unchanged: {_span(new)}"
    rose = after is None or (before is not None and after > before)
    share = ""
    if before and after:
        share = f" by {abs(after / before - 1):.0%}".replace("%", " %")
    beyond = abs(_distance_of_required(old, new)) > _HALF
    verb = "rose" if rose else "fell"
    return f"required {verb}{share} {spans}, {'beyond' if beyond else 'within'} noise"


def _span(record: Record) -> str:
    low, high = record["required_low"], record["required_high"]
    if record["required"] is None:
        return "no number" + ("" if low is None else f" ({low:,} or more)")
    return f"{record['required']:,} ({low:,} to {f'{high:,}' if high else 'any'})"


def _score(old: Record, new: Record, name: str, title: str) -> list[str]:
    before, after = old[name], new[name]
    if round(before, 3) == round(after, 3):
        return []
    beyond = abs(_distance(_triple(old, name), _triple(new, name))) > _HALF
    verb = "rose" if after > before else "fell"
    return [
        f"{title} {verb} from {before:.3f} ({old[f'{name}_low']:.3f} to {old[f'{name}_high']:.3f}) "
        f"to {after:.3f} ({new[f'{name}_low']:.3f} to {new[f'{name}_high']:.3f}), "
        f"{'beyond' if beyond else 'within'} noise"
    ]


def _exceeded(old: Record, new: Record, most: float, confidence: float | None) -> bool:
    if old["required"] is None:  # it could not be met before: nothing to rise from
        return False
    limit = {
        name: old[name] and old[name] * (1 + most)
        for name in ("required", "required_low", "required_high")
    }
    if confidence is None:
        return new["required"] is None or new["required"] > limit["required"]
    distance = _distance_of_required(limit, new)
    return 0.5 * math.erfc(-distance / math.sqrt(2)) >= confidence


def _distance_of_required(old: Record, new: Record) -> float:
    """Return how many standard deviations the new number lies above the old, on a log scale."""
    if old["required"] is None and new["required"] is None:
        return 0.0
    if old["required"] is None or new["required"] is None:
        lower, upper = (old, new) if new["required"] is None else (new, old)
        sign = math.inf if upper is new else -math.inf
        most, least = lower["required_high"], upper["required_low"]
        apart = most is not None and (least is None or least > most)
        return sign if apart else 0.0
    return _distance(*(_triple(record, "required", _logarithm) for record in (old, new)))


def _distance(old: tuple[float, float, float], new: tuple[float, float, float]) -> float:
    """The same for (middle, low, high); the sides count that face each other."""
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


def _triple(record: Record, name: str, scale: Any = float) -> tuple[float, float, float]:
    middle, low, high = (scale(record[f"{name}{end}"]) for end in ("", "_low", "_high"))
    return middle, low, high


def _logarithm(images: float | None) -> float:
    return math.inf if images is None else math.log(max(images, 1))


def _moved(before: int, after: int) -> str:
    return f"{'rose' if after > before else 'fell'} from {before:,} to {after:,}"


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)
