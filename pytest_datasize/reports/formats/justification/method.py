"""Chapter 3 of the justification: the models, the learning curve and their sources."""

from collections.abc import Iterator, Sequence
from typing import Final

from pytest_datasize.reports.formats.document import Facts, Points, Section
from pytest_datasize.reports.formats.html_page import Evidence
from pytest_datasize.reports.formats.justification.words import requirements, weights
from pytest_datasize.reports.records.record_types import GateRecord
from pytest_datasize.reports.records.selection import units
from pytest_datasize.reports.wording import explain, models_text

SOURCES: Final = {
    "power": "Learning curve: power law c - a n^-b (Hestness et al. 2017, arXiv:1712.00409; "
    "Viering & Loog 2022, “The Shape of Learning Curves: a Review”)",
    "stopping": "Early stopping: group-sequential levels (O'Brien & Fleming 1979)",
    "models": "Several models tried: levels adjusted for the number of attempts (Dunn 1961)",
    "labels": "Doubtful labels: confident learning (Northcutt et al. 2021)",
    "bound": "Second opinion: nearest-neighbour bounds of the Bayes error (Cover & Hart 1967; "
    "Renggli et al. 2023)",
}
"""Method → its source in the literature."""


def sections(measured: Sequence[Evidence]) -> Iterator[Section]:
    """Return the chapter on the method: one section for each model."""
    text = (
        "Models are trained on random subsamples of the images and scored on images held out. A "
        "learning curve is fitted to all scores, and projects the score with all images of today, "
        "with more, and with unlimited ones."
    )
    yield Section(2, "3 Method", [text])
    for number, one in enumerate(measured, 1):
        title = f"3.{number} Model of {requirements(one.gates)}"
        yield Section(3, title, [Facts(list(_model(one.record))), Points(_sources(one.record))])


def _model(record: GateRecord) -> Iterator[tuple[str, str]]:
    yield "Strategy", record["strategy"]
    yield "Model", record["backbone"]
    yield "Weights", weights(record)
    if record["image_size"]:
        yield "Input", f"{record['image_size']} pixels, {record.get('precision') or 'float32'}"
    if features := record.get("features"):
        yield "Features", features
    for line in models_text.lines(record):
        yield "Models tried", line
    yield "Sizes of the subsamples", _sizes(record)
    trained = f"{record['n_trials']:,} models"
    if record["n_trials"] < record["n_trials_planned"]:
        trained += f" of {record['n_trials_planned']:,} planned; the verdict was certain earlier"
    yield "Repeats of each size", f"{record['repeats']}, {record['sampling']} sampling; {trained}"
    yield "Law of the curve", f"{record['law']}; the posterior over all its curves is used"
    yield (
        "Intervals",
        "90 % credible intervals; they include the variance between repeats, the sampling error of "
        "the test images and of the pool, and the deviation of real curves from the law",
    )
    yield (
        "Verdict",
        "sufficient if the projected score with all images meets the target"
        + (
            f" with a probability of {explain.confidence(record)}"
            if record["confidence"]
            else " (by the median of the projection)"
        )
        + "; unreachable if the whole interval of the ceiling lies below the target",
    )


def _sizes(record: GateRecord) -> str:
    return f"{', '.join(f'{size:,}' for size in record['sizes'])} {units(record)}"


def _sources(record: GateRecord) -> list[str]:
    found = [SOURCES["power"]] if record["law"] == "power" else []
    if record["confidence"]:
        found.append(SOURCES["stopping"])
    if len(record.get("models", [])) > 1:
        found.append(SOURCES["models"])
    if record.get("advice"):
        found.append(SOURCES["labels"])
    if record.get("neighbour_bound"):
        found.append(SOURCES["bound"])
    return found
