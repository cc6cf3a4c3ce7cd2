"""Say in which order to try what could raise a score."""

from pytest_datasize.reports.records.record_types import GateRecord, Lever

_MOST = 4


def ranking(record: GateRecord) -> str:
    """Return what to try first, second, ...; empty if there is no choice.

    Examples
    --------
    >>> one = {"kind": "image_size", "value": 320, "gain": 0.032, "gain_low": 0.008,
    ...     "gain_high": 0.056, "images": 400, "reaches": True, "effort": 4.0}
    >>> more = {**one, "kind": "collect", "value": 1600, "gain": 0.019, "gain_low": 0.0,
    ...     "gain_high": 0.03, "images": None}
    >>> ranking({"metric": "accuracy", "levers": [one, more]})
    '1. image_size=320: +3.2 points (0.8 to 5.6), measured on 400 images; 2. collect 1,600 more \
training images: +1.9 points (0.0 to 3.0)'
    """
    levers = record.get("levers", [])[:_MOST]
    if len(levers) < 2:
        return ""
    metric = record["metric"]
    return "; ".join(f"{number}. {_said(lever, metric)}" for number, lever in enumerate(levers, 1))


def _said(lever: Lever, metric: str) -> str:
    what = _what(lever)
    if lever["gain"] is None or lever["gain_low"] is None or lever["gain_high"] is None:
        return f"{what}: not tried yet"
    low, high = 100 * lever["gain_low"], 100 * lever["gain_high"]
    if lever["kind"] == "labels":
        return f"{what}: 0 to {high:.1f} points, as only a look tells how many are wrong"
    measured = f", measured on {lever['images']:,} images" if lever["images"] else ""
    of = "" if not lever["images"] or metric in ("accuracy", "f1_micro") else " of accuracy"
    return f"{what}: +{100 * lever['gain']:.1f} points{of} ({low:.1f} to {high:.1f}){measured}"


def _what(lever: Lever) -> str:
    kind, value = lever["kind"], lever["value"]
    if kind == "train":
        return "fine-tune the backbone"
    if kind == "labels":
        return f"check {value:,} doubtful labels"
    if kind == "collect":
        return f"collect {value:,} more training images"
    return f"{kind}={value!r}"
