"""From the evidence of a gate to its records, and to which of them fail the test."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

from pytest_datasize.errors import DatasizeWarning
from pytest_datasize.reports.baseline import Baseline
from pytest_datasize.reports.place import places
from pytest_datasize.reports.record import Asked, records

if TYPE_CHECKING:
    from pytest_datasize import gates
    from pytest_datasize.result import StudyResult

Record = dict[str, Any]


def judged(
    item: pytest.Item,
    gate: "Sequence[tuple[gates.Asked, StudyResult]]",
    baseline: Baseline | None,
) -> list[Record]:
    """Judge every requirement of a test; ``failed`` in a record says whether it fails the test.

    Parameters
    ----------
    item
        The test.
    gate
        What was asked, with the evidence for it.
    baseline
        An earlier run to compare with.
    """
    found = []
    where = places(item, len(gate))
    for order, ((asked, result), (file, line)) in enumerate(zip(gate, where, strict=True)):
        settings = asked.settings
        verdict = result.verdict(
            settings["confidence"], settings["trusted_range"], **asked.requirement.targets
        )
        about = Asked(order, file, line, settings.values)
        for record in records(item.nodeid, about, verdict, result):
            if record["verdict"] == "undecided" and settings["undecided"] == "warn":
                warnings.warn(DatasizeWarning(record["message"]), stacklevel=1)
                record["failed"] = False
            if baseline is not None:
                record["baseline"] = baseline.change(
                    record, settings["max_increase"], settings["confidence"]
                )
                record["failed"] |= record["baseline"]["exceeded"]
            elif settings["max_increase"] is not None:
                record["notes"].append(
                    "max_increase was not judged: give --datasize-baseline=PATH to compare with"
                )
            found.append(record)
    return found
