"""Chapter 4 of the justification: verdicts, measured scores, and scores of slices and classes."""

from collections.abc import Iterator, Sequence

from pytest_datasize.reports.formats.document import Block, Facts, Section, Table
from pytest_datasize.reports.formats.html_page import Evidence
from pytest_datasize.reports.formats.justification.words import requirements
from pytest_datasize.reports.records.record_types import GateRecord, RunContent
from pytest_datasize.reports.records.selection import conditions, units
from pytest_datasize.reports.wording import explain, slices_text


def sections(
    run: RunContent, gates: Sequence[GateRecord], measured: Sequence[Evidence]
) -> Iterator[Section]:
    """Return the chapter on the results: one section for each requirement."""
    blocks: list[Block] = []
    if gates:
        rows = [
            (
                str(number),
                f"{explain.subject(gate)} {gate['target']:g}",
                gate["verdict"],
                explain.certainty(gate),
                explain.interval(gate, "score_at_available"),
                explain.needed_briefly(gate),
                explain.interval(gate, "ceiling"),
            )
            for number, gate in enumerate(gates, 1)
        ]
        heads = (
            "No.",
            "Target",
            "Verdict",
            "Certainty",
            "Score with all images",
            "Needed",
            "Score with unlimited images",
        )
        blocks.append(Table("Verdicts", heads, rows))
    if found := conditions(run["requirements"]):
        findings = [(one["nodeid"], one["verdict"], one["message"]) for one in found]
        blocks.append(Table("Conditions", ("Test", "Verdict", "Finding"), findings))
    yield Section(2, "4 Results", blocks or ["Nothing was judged in this run."])
    for number, gate in enumerate(gates, 1):
        title = f"4.{number} {explain.subject(gate)}, target {gate['target']:g}"
        yield Section(3, title, list(_result(gate)))
    for one in measured:
        if one.record["classes"]:
            title = f"Classes, {requirements(one.gates)}"
            yield Section(3, title, [_recalls(one.record)])


def _result(gate: GateRecord) -> Iterator[Block]:
    facts = [("Finding", explain.headline(gate))]
    facts += [(label.capitalize(), text) for label, text in explain.lines(gate)]
    facts += [(label.capitalize(), text) for label, text in explain.second_opinion(gate)]
    facts.append((f"Training {units(gate)}", explain.images(gate)))
    facts.append(
        (
            f"Probability that the {units(gate)} suffice",
            explain.sure(gate["probability_sufficient"], explain.level(gate)),
        )
    )
    if gate["self_check"]:
        facts.append(("Self-check", explain.check(gate)))
    if guess := gate.get("guessing"):
        facts.append(
            (
                "Guessing",
                f"always {guess['name']!r}: {guess['majority']:.3f}; by chance: "
                f"{guess['chance']:.3f}",
            )
        )
    yield Facts(facts)
    measured = gate["measured"]
    ends = zip(measured["mean"], measured["low"], measured["high"], strict=True)
    rows = [
        (f"{size:,}", f"{mean:z.3f} ({low:z.3f} to {high:z.3f})")
        for size, (mean, low, high) in zip(gate["sizes"], ends, strict=True)
    ]
    heads = (f"Training {units(gate)}", "Score")
    yield Table(f"Mean score by number of training {units(gate)}", heads, rows)
    if found := gate.get("slices"):
        cells = [slices_text.cells(row, gate) for row in found]
        decides = (" (decides)" if row["decides"] else "" for row in found)
        yield Table(
            "Slices; those of a factor are estimated together",
            [head.capitalize() for head in slices_text.header(gate)],
            [
                (f"{first}{said}", *rest)
                for (first, *rest), said in zip(cells, decides, strict=True)
            ],
        )


def _recalls(record: GateRecord) -> Table:
    rows = [
        (
            row["name"],
            f"{row['images']:,}",
            f"{row['recall']:.3f} ({row['recall_low']:.3f} to {row['recall_high']:.3f})",
        )
        for row in record["classes"]
    ]
    caption = f"Recall of each class with {record['sizes'][-1]:,} training {units(record)}"
    return Table(caption, ("Class", "Images", "Recall"), rows)
