"""Chapter 5 of the justification: what was assumed, and what was not judged."""

from collections.abc import Iterator, Sequence

from pytest_datasize.reports.formats.document import Block, Points, Section, Table
from pytest_datasize.reports.formats.html_page import Evidence
from pytest_datasize.reports.formats.justification.words import listed, requirements
from pytest_datasize.reports.records.record_types import GateRecord, RunContent
from pytest_datasize.reports.records.selection import conditions, is_condition, units, unscored
from pytest_datasize.reports.records.text import one_line
from pytest_datasize.reports.wording import explain, slices_text


def sections(
    run: RunContent, gates: Sequence[GateRecord], measured: Sequence[Evidence]
) -> Iterator[Section]:
    """Return the chapter on limits and assumptions."""
    found = [*_of_projection(gates), *_of_model(measured), *_of_data(run, gates, measured)]
    blocks: list[Block] = [Points(found)]
    left = [one for one in unscored(run["requirements"]) if not is_condition(one)]
    if left:
        rows = [(one["nodeid"], one["verdict"], one["message"]) for one in left]
        blocks.append(Table("What was not judged", ("Test", "Outcome", "Reason"), rows))
    yield Section(2, "5 Limits and assumptions", blocks)


def _of_projection(gates: Sequence[GateRecord]) -> Iterator[str]:
    for number, gate in enumerate(gates, 1):
        if gate["extrapolated"] and (said := explain.extrapolation(gate)):
            yield f"Requirement {number}: the required number of {units(gate)} is {said}."
        if not gate["tellable"] and gate["verdict"] not in ("sufficient", "unreachable"):
            yield f"Requirement {number}: the required number of {units(gate)} cannot be told."
        check = gate["self_check"]
        if check and not check["low"] <= check["measured"] <= check["high"]:
            yield f"Requirement {number}: {explain.check(gate)}."
        if gate["verdict"] == "sufficient" and gate["confidence"] is None:
            yield (
                f"Requirement {number}: no certainty was required; the median decided, with a "
                f"probability of {explain.sure(gate['probability_sufficient'])} that the "
                f"{units(gate)} suffice."
            )
        guess = gate.get("guessing")
        if guess and gate["target"] <= guess["majority"]:
            yield f"Requirement {number}: {explain.proves_nothing(gate)}."
    yield "Numbers beyond the measured sizes assume that the learning curve follows its law there."


def _of_model(measured: Sequence[Evidence]) -> Iterator[str]:
    for one in measured:
        name = f"{requirements(one.gates).capitalize()}"
        if one.record["strategy"] == "own_training":
            yield f"{name}: the training that was judged is the user's own."
        else:
            yield (
                f"{name}: judged with {one.record['strategy']} of {one.record['backbone']}; "
                "another model may need fewer or more images."
            )
    if any(one.record.get("neighbour_bound") for one in measured):
        yield (
            "The score that nearest neighbours allow is an estimate for the embeddings that were "
            "tried; it is too low if these lose information, or if there are few images."
        )


def _of_data(
    run: RunContent, gates: Sequence[GateRecord], measured: Sequence[Evidence]
) -> Iterator[str]:
    kinds = {one["check"]["kind"] for one in conditions(run["requirements"])}
    if "represents" not in kinds:
        yield (
            "The images were not compared with images of the deployment; all numbers are valid for "
            "images like those that were judged."
        )
    yield (
        "Collected images are assumed to be like those that were judged: same sources, same "
        "proportions of classes, and independent of each other as far as no group is declared."
    )
    yield "Labels are assumed to be right, except for the doubtful ones above."
    if measured and all(one.record["settings"].get("group") is None for one in measured):
        yield (
            "No groups were declared: images of one patient, device or site may be on both sides "
            "of a split, unless they are near-copies."
        )
    yield (
        "Near-copies are found by their pixels; if none was found, this does not prove that there "
        "is none."
    )
    names = sorted({gate["metric"] for gate in gates})
    if names:
        yield (
            f"What was judged: {listed(names)}. If classes were scored, the recall of each is "
            f"given. {_subgroups(gates)}"
        )
    yield "Origin, consent, collection and annotation of the images are not part of the records."


def _subgroups(gates: Sequence[GateRecord]) -> str:
    factors = {row["factor"] for gate in gates for row in slices_text.judged(gate)}
    if factors:
        named = listed([repr(one_line(name)) for name in sorted(factors)])
        return (
            f"Slices by {named} were judged, see the results; other subgroups that are not "
            "classes were not examined."
        )
    return (
        "Subgroups that are not classes, such as sex, age, device or site, were not examined, "
        "since the records have no "
        + ("score of a slice." if any(gate.get("slices") for gate in gates) else "such attributes.")
    )
