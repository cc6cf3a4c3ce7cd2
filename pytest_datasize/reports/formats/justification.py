"""Write a justification of the sample size for auditors, from the records alone.

The chapters follow the order of two texts: the draft guidance of the FDA of January 2025
("Artificial Intelligence-Enabled Device Software Functions") on the data for development and test,
and article 10 of Regulation (EU) 2024/1689 on data governance. The document states facts and
claims no conformity with either.
"""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from pytest_datasize.errors import ReportError
from pytest_datasize.reports.formats.document import (
    Block,
    Document,
    Facts,
    Points,
    Section,
    Table,
    as_html,
    as_markdown,
)
from pytest_datasize.reports.formats.html_page import (
    Evidence,
    changed_settings,
    evidences,
    setting_text,
)
from pytest_datasize.reports.records.files import write_text
from pytest_datasize.reports.records.record_types import ConditionRecord, GateRecord, RunContent
from pytest_datasize.reports.records.selection import (
    conditions,
    is_condition,
    judged,
    unit_of,
    units,
    unscored,
)
from pytest_datasize.reports.records.text import one_line
from pytest_datasize.reports.wording import (
    advice_text,
    condition_text,
    explain,
    models_text,
    slices_text,
)
from pytest_datasize.reports.wording.overview import headline
from pytest_datasize.requirement.units import GROUP

_DRAWN: Final = {".md": as_markdown, ".html": as_html}

TITLE: Final = "Justification of the sample size"

NO_CLAIM: Final = (
    "This document states what was required, measured and found. It does not claim conformity with "
    "any law, standard or guidance, and it is no assessment by a notified body or an authority. "
    "Its chapters follow the order in which the FDA draft guidance “Artificial "
    "Intelligence-Enabled Device Software Functions” (January 2025) and article 10 of "
    "Regulation (EU) 2024/1689 (AI Act) ask about the data of a model. Ranges in parentheses are "
    "90 % credible intervals."
)

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


def check(path: Path) -> None:
    """Check before training that the name says which of the two formats is wanted.

    Raises
    ------
    ReportError
        The name ends neither with ``.md`` nor with ``.html``.
    """
    if path.suffix.lower() not in _DRAWN:
        raise ReportError(
            f"{path}: a justification is written as Markdown or HTML: "
            f"the name must end with {' or '.join(_DRAWN)}."
        )


def write(path: Path, run: RunContent) -> None:
    """Write the justification of a run, as Markdown or HTML by the suffix of the path."""
    check(path)
    write_text(path, _DRAWN[path.suffix.lower()](document(run)))


def document(run: RunContent) -> Document:
    """Return the justification of a run, from its records alone."""
    gates = judged(run["requirements"])
    measured = evidences(gates)
    sections = [
        Section(2, "Summary", [NO_CLAIM, f"{headline(run['requirements'])}."]),
        *_question(run, gates),
        *_data(run, gates, measured),
        *_method(measured),
        *_results(run, gates, measured),
        *_limits(run, gates, measured),
        *_repeating(run, measured),
    ]
    return Document(TITLE, sections)


# -- 1 the question -------------------------------------------------------------------------------


def _question(run: RunContent, gates: Sequence[GateRecord]) -> Iterator[Section]:
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


# -- 2 the data --------------------------------------------------------------------------------


def _data(
    run: RunContent, gates: Sequence[GateRecord], measured: Sequence[Evidence]
) -> Iterator[Section]:
    yield Section(2, "2 Data", [] if measured else ["No images were judged in this run."])
    for number, one in enumerate(measured, 1):
        record = one.record
        title = f"2.{number} Images of requirement{_s(one.gates)} {_listed(one.gates)}"
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


# -- 3 the method --------------------------------------------------------------------------------


def _method(measured: Sequence[Evidence]) -> Iterator[Section]:
    text = (
        "Models are trained on random subsamples of the images and scored on images held out. A "
        "learning curve is fitted to all scores, and projects the score with all images of today, "
        "with more, and with unlimited ones."
    )
    yield Section(2, "3 Method", [text])
    for number, one in enumerate(measured, 1):
        title = f"3.{number} Model of requirement{_s(one.gates)} {_listed(one.gates)}"
        yield Section(3, title, [Facts(list(_model(one.record))), Points(_sources(one.record))])


def _model(record: GateRecord) -> Iterator[tuple[str, str]]:
    weights = record["weights"]
    yield "Strategy", record["strategy"]
    yield "Model", record["backbone"]
    yield "Weights", f"{weights['source'] or 'none'}{_digest(record)}"
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


def _digest(record: GateRecord) -> str:
    found = record["weights"]["sha256"]
    return f", sha256 beginning with {found}" if found else ""


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


# -- 4 the results --------------------------------------------------------------------------------


def _results(
    run: RunContent, gates: Sequence[GateRecord], measured: Sequence[Evidence]
) -> Iterator[Section]:
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
            "Images needed",
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
            title = f"Classes, requirement{_s(one.gates)} {_listed(one.gates)}"
            yield Section(3, title, [_recalls(one.record)])


def _result(gate: GateRecord) -> Iterator[Block]:
    facts = [("Finding", explain.headline(gate))]
    facts += [(label.capitalize(), text) for label, text in explain.lines(gate)]
    facts += [(label.capitalize(), text) for label, text in explain.second_opinion(gate)]
    facts.append((f"Training {units(gate)}", explain.images(gate)))
    facts.append(
        (
            f"Probability that the {units(gate)} suffice",
            explain.sure(gate["probability_sufficient"]),
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


# -- 5 the limits --------------------------------------------------------------------------------


def _limits(
    run: RunContent, gates: Sequence[GateRecord], measured: Sequence[Evidence]
) -> Iterator[Section]:
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
        name = f"Requirement{_s(one.gates)} {_listed(one.gates)}"
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
            f"What was judged: {_listed(names)}. If classes were scored, the recall of each is "
            f"given. {_subgroups(gates)}"
        )
    yield "Origin, consent, collection and annotation of the images are not part of the records."


def _subgroups(gates: Sequence[GateRecord]) -> str:
    factors = {row["factor"] for gate in gates for row in slices_text.judged(gate)}
    if factors:
        named = _listed([repr(one_line(name)) for name in sorted(factors)])
        return (
            f"Slices by {named} were judged, see the results; other subgroups that are not "
            "classes were not examined."
        )
    return (
        "Subgroups that are not classes, such as sex, age, device or site, were not examined, "
        "since the records have no "
        + ("score of a slice." if any(gate.get("slices") for gate in gates) else "such attributes.")
    )


# -- 6 repeating it -------------------------------------------------------------------------------


def _repeating(run: RunContent, measured: Sequence[Evidence]) -> Iterator[Section]:
    command = run.get("command") or []
    changed = run.get("dirty")
    facts = [
        ("Run", run["created"]),
        (
            "Commit",
            (run["commit"] or "none is known")
            + ("; tracked files differed from it" if changed else ""),
        ),
        ("Command", shlex.join(command) if command else "not recorded"),
        ("Versions", ", ".join(f"{name} {found}" for name, found in run["versions"].items())),
        ("Platform", run["platform"]),
    ]
    if digest := run.get("digest"):
        facts.append(("SHA-256 of the records", digest))
    yield Section(
        2,
        "6 Reproducibility",
        [
            Facts(facts),
            "The same images, seed, settings and versions give the same numbers. This document is "
            "drawn from the JSON file of the run alone, and the same file gives the same document: "
            "python -m pytest_datasize report RESULT.json --justification PATH",
        ],
    )
    for number, one in enumerate(measured, 1):
        record = one.record
        facts = [("Seed", str(record["seed"])), ("Device", record["device"])]
        if subject := record.get("subject"):
            facts.append(("Fingerprint of the images", subject["images"]["fingerprint"]))
        facts.append(("Weights", f"{record['weights']['source'] or 'none'}{_digest(record)}"))
        facts += [
            (f"Setting {name}", setting_text(record, name)) for name in changed_settings(record)
        ]
        yield Section(
            3, f"6.{number} Requirement{_s(one.gates)} {_listed(one.gates)}", [Facts(facts)]
        )


def _s(several: Sequence[object]) -> str:
    return "s" if len(several) > 1 else ""


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))
