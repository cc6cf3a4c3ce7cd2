"""Chapter 1 of the justification: what was required, and where that is set."""

from collections.abc import Iterator, Sequence

from pytest_datasize.reports.formats.document import Block, Section, Table
from pytest_datasize.reports.records.record_types import ConditionRecord, GateRecord, RunContent
from pytest_datasize.reports.records.selection import conditions
from pytest_datasize.reports.records.text import one_line
from pytest_datasize.reports.wording import explain


def sections(run: RunContent, gates: Sequence[GateRecord]) -> Iterator[Section]:
    """Return the chapter on what was required."""
    blocks: list[Block] = [
        "Do today's labelled images suffice to train a model that reaches the required score on "
        "new images?"
    ]
    if gates:
        rows = [
            (
                str(number),
                _asked(gate),
                _targets(gate),
                _required(gate),
                _place(gate),
                gate["nodeid"],
            )
            for number, gate in enumerate(gates, 1)
        ]
        heads = ("No.", "Score", "Target", "Required certainty", "Set in", "Test")
        blocks.append(Table("Requirements", heads, rows))
    else:
        blocks.append("No requirement was judged in this run.")
    if found := conditions(run["requirements"]):
        asked = [(one["nodeid"], _condition(one), _place(one)) for one in found]
        blocks.append(Table("Conditions", ("Test", "Condition", "Set in"), asked))
    blocks.append(
        "The requirements are in the files named above"
        + (f", at commit {run['commit']}" if run["commit"] else "")
        + ". Who chose the targets, and why, is not part of the records of this run."
    )
    yield Section(2, "1 Question", blocks)


def _asked(gate: GateRecord) -> str:
    """Name what was required: of every class or slice, not only of the one that decides."""
    if gate.get("slice"):
        return f"{gate['metric']} of every slice"
    if gate["class"] is not None and not gate.get("operating_point"):
        which = "every class with a target" if gate.get("class_targets") else "every class"
        return f"{gate['metric']} of {which}"
    return explain.subject(gate)


def _targets(gate: GateRecord) -> str:
    goals = gate.get("class_targets")
    if not goals:
        return f"{gate['target']:g}"
    return "; ".join(f"{goal:g} for {one_line(name)!r}" for name, goal in goals.items())


def _required(gate: GateRecord) -> str:
    if gate["confidence"] is None and (gate.get("level") or 0.0) <= 0.5:
        return "none: the median decides"
    return explain.confidence(gate)


def _place(record: GateRecord | ConditionRecord) -> str:
    return f"{record['file']}:{record['line']}" if record["file"] else "not recorded"


def _condition(record: ConditionRecord) -> str:
    check = record["check"]
    if check["kind"] == "images_per_class":
        return f"at least {check['images_per_class']:,} images of each class ({check['reason']})"
    return f"images resemble those of the deployment ({check['deployment']})"
