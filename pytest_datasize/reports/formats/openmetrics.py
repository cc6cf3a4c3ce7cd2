"""Write the numbers as OpenMetrics text, for GitLab's metrics reports, Prometheus and others."""

from collections.abc import Iterator
from pathlib import Path

from pytest_datasize.reports.records.files import write_text
from pytest_datasize.reports.records.record_numbers import number
from pytest_datasize.reports.records.record_types import GateRecord, RunContent
from pytest_datasize.reports.records.selection import judged, units
from pytest_datasize.reports.records.text import one_line

_GAUGES = {
    "score": ("score_at_available", "Projected score with all available images."),
    "score_low": ("score_at_available_low", "Lower end of its 90 % interval."),
    "score_high": ("score_at_available_high", "Upper end of its 90 % interval."),
    "target": ("target", "Score to reach."),
    "ceiling": ("ceiling", "Score with unlimited images."),
    "ceiling_low": ("ceiling_low", "Lower end of its 90 % interval."),
    "ceiling_high": ("ceiling_high", "Upper end of its 90 % interval."),
    "available_images": ("available", "Images that can be trained on."),
    "required_images": (
        "required",
        "Training images that the target needs; +Inf where none do.",
    ),
    "required_images_low": ("required_low", "Lower end of its 90 % interval."),
    "required_images_high": ("required_high", "Upper end of its 90 % interval."),
    "missing_images": (
        "missing",
        "Images to add to the data set, those held out included; +Inf where no number is enough.",
    ),
    "sufficient_probability_ratio": (
        "probability_sufficient",
        "Probability that the available images suffice.",
    ),
    "failed": ("failed", "1 where the requirement failed its test."),
}


def write(path: Path, run: RunContent) -> None:
    """Write a run."""
    write_text(path, draw(run))


def draw(run: RunContent) -> str:
    """Return the numbers of all judged requirements in the OpenMetrics text format."""
    return "\n".join([*_lines(judged(run["requirements"])), "# EOF"]) + "\n"


def _lines(records: list[GateRecord]) -> Iterator[str]:
    for name, (field, meaning) in _GAUGES.items():
        counts = "images" in name
        yield from _gauge(
            name, field, meaning, [one for one in records if not counts or units(one) == "images"]
        )
        if counts and (others := [one for one in records if units(one) != "images"]):
            in_groups = meaning.replace("images", "groups").replace("Images", "Groups")
            yield from _gauge(name.replace("images", "groups"), field, in_groups, others)


def _gauge(name: str, field: str, meaning: str, records: list[GateRecord]) -> Iterator[str]:
    yield f"# TYPE datasize_{name} gauge"
    yield f"# HELP datasize_{name} {meaning}"
    for record in records:
        yield f"datasize_{name}{{{_labels(record)}}} {_number(_value(record, field))}"


def _value(record: GateRecord, field: str) -> float | None:
    if field == "missing":
        missing = record["derived"]["data_set"]["missing"]
        return None if missing is None else float(missing)
    return number(record, field)


def _labels(record: GateRecord) -> str:
    labels = {
        "test": record["nodeid"],
        "metric": record["metric"],
        "requirement": str(record["order"] + 1),
    }
    if record["class"] is not None:
        labels["class"] = record["class"]
    if part := record.get("slice"):
        labels["slice"] = f"{part['factor']}={part['value']}"
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(text: str) -> str:
    return one_line(text).replace("\\", "\\\\").replace('"', '\\"')


def _number(value: float | None) -> str:
    if value is None:
        return "+Inf"
    return repr(int(value)) if value.is_integer() else repr(value)
