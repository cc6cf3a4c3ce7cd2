"""Chapter 2 of the justification: the images, their classes, and what the checks found."""

from collections.abc import Iterator, Sequence

from pytest_datasize.reports.formats.document import Block, Facts, Points, Section, Table
from pytest_datasize.reports.formats.html_page import Evidence, setting_text
from pytest_datasize.reports.formats.justification.words import requirements
from pytest_datasize.reports.records.record_types import GateRecord, RunContent
from pytest_datasize.reports.records.selection import conditions, unit_of
from pytest_datasize.reports.wording import advice_text, condition_text, explain, slices_text
from pytest_datasize.requirement.units import GROUP


def sections(
    run: RunContent, gates: Sequence[GateRecord], measured: Sequence[Evidence]
) -> Iterator[Section]:
    """Return the chapter on the images: one section for each data set, and for each comparison."""
    yield Section(2, "2 Data", [] if measured else ["No images were judged in this run."])
    for number, one in enumerate(measured, 1):
        record = one.record
        title = f"2.{number} Images of {requirements(one.gates)}"
        blocks: list[Block] = [
            Facts(list(_images(record, one, [gates[number - 1] for number in one.gates]))),
            Table(
                "Images of each class, exact copies counted once",
                ("Class", "Images", "Share"),
                list(_classes(record)),
            ),
        ]
        said = record["notes"] or ["No image was left out, and no check found anything."]
        blocks += ["Exclusions, findings of the checks and remarks:", Points(said)]
        of_factors = {
            row["name"]: slices_text.factor(row)
            for number in one.gates
            for row in gates[number - 1].get("factors", [])
        }
        if of_factors:
            blocks += ["Factors and classes:", Points(list(of_factors.values()))]
        yield Section(3, title, blocks)
    for condition in conditions(run["requirements"]):
        if condition["check"]["kind"] == "represents":
            said = [" ".join(line.split()) for line in condition_text.details(condition)]
            title = f"Comparison with the deployment: {condition['verdict']}"
            yield Section(3, title, [condition["message"], Points(said)])


def _images(
    record: GateRecord, one: Evidence, gates: Sequence[GateRecord]
) -> Iterator[tuple[str, str]]:
    yield "Source", record["source"]
    yield "Task", record.get("task", "classification")
    if subject := record.get("subject"):
        contents = subject["images"]
        yield (
            "Fingerprint of images, labels and groups",
            f"{contents['fingerprint']} ({contents['number']:,} images, exact copies counted once)",
        )
    counted, groups = "", ""
    if unit_of(record) == GROUP:
        counted, groups = f" in {record['derived']['data_set']['images']:,} groups", " groups"
    yield (
        "Images judged",
        f"{record['total']:,}{counted}, of which {record['available']:,}{groups} to train on",
    )
    yield "Test images", f"{record['test_source']}; {_tested(gates)}"
    yield "Separation of test images", _separation(record)
    group = record["settings"].get("group")
    yield (
        "Groups, such as patients",
        "none were declared" if group is None else setting_text(record, "group"),
    )
    if amounts := record.get("amounts"):
        yield "Objects or pixels", ", ".join(f"{name} {n:,}" for name, n in amounts.items())
    fewest = record["derived"]["class_images"]
    yield (
        "Balance of classes",
        f"{fewest['least']:,} to {fewest['most']:,} images in "
        f"{len(record['class_counts'])} classes",
    )
    checks = record["settings"].get("checks")
    yield (
        "Checks of the data",
        "every image that was used could be read; the checks cover exact copies, contradictory "
        "labels, test images in the pool, missing files and missing labels; "
        + (f"levels changed: {checks}" if checks else "levels as by default"),
    )
    advice = one.advice
    if advice is None:
        return
    copies = advice.get("redundancy")
    yield "Near-copies", advice_text.copies(copies) if copies else "not looked for"
    labels = advice["labels"]
    yield (
        "Doubtful labels",
        f"{labels['number']:,} of {labels['judged']:,} labels are contradicted by held-out "
        "predictions; how many are wrong was not determined",
    )


def _tested(gates: Sequence[GateRecord]) -> str:
    """Describe the test images of the data set; a target of slices has those of one slice."""
    whole = next((gate for gate in gates if not gate.get("slice")), None)
    if whole is not None:
        return explain.test_set(whole)
    gate = gates[0]
    deciding = next(row for row in gate["slices"] if row["decides"])
    tested = sum(row["n_test"] for row in gate["slices"] if row["factor"] == deciding["factor"])
    return (
        f"{tested:,} different ones over all repeats; of the slice that decides, "
        f"{slices_text.name(deciding)}: {explain.test_set(gate)}"
    )


def _separation(record: GateRecord) -> str:
    held = record.get("held_out")
    if held and not held["share"] and not held["images"]:
        return "a data set of its own; images that are also in the pool were left out"
    return (
        f"drawn anew in each of {record['repeats']} repeats; in a repeat, no image is both trained "
        "on and tested; images of one group, and near-copies that were found, stay on one side"
    )


def _classes(record: GateRecord) -> Iterator[tuple[str, str, str]]:
    total = sum(record["class_counts"].values()) or 1
    for name, number in record["class_counts"].items():
        yield name, f"{number:,}", f"{100 * number / total:.1f} %"
