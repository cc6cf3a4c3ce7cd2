"""Say what to do about a requirement that is not met: the most promising first."""

from pytest_datasize.curve.counts import count, plain
from pytest_datasize.reports.records.advice_types import Collection
from pytest_datasize.reports.records.record_parts import Lever
from pytest_datasize.reports.records.record_types import GateRecord
from pytest_datasize.reports.records.selection import exceeded_only, largest, units
from pytest_datasize.reports.records.text import one_line
from pytest_datasize.reports.wording.explain import in_points
from pytest_datasize.reports.wording.models_text import second_look

_MOST = 3
_NAME = 40
_MOST_NAMED = 4


def todo(record: GateRecord) -> list[str]:
    r"""Return what to do, at most three things, each with its expected gain.

    Examples
    --------
    >>> one = {"kind": "image_size", "value": 320, "gain": 0.032, "gain_low": 0.008,
    ...     "gain_high": 0.056, "images": 400, "reaches": True, "effort": 4.0}
    >>> more = {**one, "kind": "collect", "value": 1634, "gain": 0.019, "gain_low": 0.0,
    ...     "gain_high": 0.03, "images": None}
    >>> print(*todo({"metric": "accuracy", "verdict": "insufficient", "baseline": None,
    ...     "levers": [one, more]}), sep="\n")
    Set image_size=320: +3.2 points (0.8 to 5.6), measured on 400 images
    Collect about 1,700 more images: +1.9 points (0.0 to 3.0)
    """
    if exceeded_only(record):
        return ["Look at what changed in the images, the labels or the model"]
    return [_said(lever, record) for lever in record.get("levers", [])[:_MOST]]


def _said(lever: Lever, record: GateRecord) -> str:
    if lever["kind"] == "train" and lever["value"] == "trainer":
        return (
            "Train a model of your own (trainer=): the built-in one is a linear head on frozen "
            "features"
        )
    if lever["kind"] == "train":
        return second_look(record) or "Fine-tune the backbone: not tried yet"
    if lever["kind"] == "collect" and (plan := _plan(record)):
        return (
            f"Collect about {count(plan['total'])} more {units(record)} and run again"
            f"{shares(record)}: {plan['score']:.3f} is expected"
        )
    what = _what(lever, record)
    if lever["gain"] is None or lever["gain_low"] is None or lever["gain_high"] is None:
        return f"{what}: not tried yet"
    if "fit" in record and not in_points(record):
        way = "falls" if record["fit"]["sign"] < 0 else "rises"
        return (
            f"{what}: {record['metric']} {way} by {plain(lever['gain'], 3)} "
            f"({plain(lever['gain_low'], 3)} to {plain(lever['gain_high'], 3)})"
        )
    low, high = 100 * lever["gain_low"], 100 * lever["gain_high"]
    if lever["kind"] == "labels":
        return f"{what}: 0 to {high:.1f} points"
    measured = f", measured on {lever['images']:,} images" if lever["images"] else ""
    of = "" if not lever["images"] or record["metric"] in ("accuracy", "f1_micro") else " accuracy"
    return f"{what}: +{100 * lever['gain']:.1f} points{of} ({low:.1f} to {high:.1f}){measured}"


def _what(lever: Lever, record: GateRecord) -> str:
    kind, value = lever["kind"], lever["value"]
    if kind == "labels":
        return f"Check {value:,} doubtful labels (listed with -v)"
    if kind == "collect":
        alike = ", in today's shares of slices" if record.get("slice") else ""
        return f"Collect about {count(int(value or 0))} more {units(record)}{alike}"
    return f"Set {kind}={value!r}"


def _plan(record: GateRecord) -> Collection | None:
    advice = record.get("advice")
    return advice["collection"] if advice else None


def shares(record: GateRecord) -> str:
    """Say how to spread the images over the classes, if that was found to help; else empty."""
    plan = _plan(record)
    if plan is None:
        return ""
    wanted = largest(plan["images"], _MOST_NAMED)
    named = [
        f"{100 * n / plan['total']:.0f} % {one_line(name, _NAME)!r}" for name, n in wanted.named
    ]
    if wanted.other_classes:
        rest = 100 * wanted.other_images / plan["total"]
        named.append(f"{rest:.0f} % of {wanted.other_classes} other classes")
    return f" ({', '.join(named)})"
