"""Chapter 6 of the justification: commit, command, versions, seeds and changed settings."""

import shlex
from collections.abc import Iterator, Sequence

from pytest_datasize.reports.formats.document import Facts, Section
from pytest_datasize.reports.formats.html_page import Evidence, changed_settings, setting_text
from pytest_datasize.reports.formats.justification.words import requirements, weights
from pytest_datasize.reports.records.record_types import RunContent


def sections(run: RunContent, measured: Sequence[Evidence]) -> Iterator[Section]:
    """Return the chapter on how to repeat the run."""
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
        facts.append(("Weights", weights(record)))
        facts += [
            (f"Setting {name}", setting_text(record, name)) for name in changed_settings(record)
        ]
        yield Section(3, f"6.{number} {requirements(one.gates).capitalize()}", [Facts(facts)])
