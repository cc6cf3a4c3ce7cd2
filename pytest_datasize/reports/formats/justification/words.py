"""Wording that several chapters of the justification share."""

from collections.abc import Sequence

from pytest_datasize.reports.records.record_types import GateRecord


def requirements(numbers: Sequence[int]) -> str:
    """Name requirements by their numbers, such as "requirements 1, 3"."""
    return f"requirement{'s' if len(numbers) > 1 else ''} {listed(numbers)}"


def listed(values: Sequence[object]) -> str:
    """Join values with commas."""
    return ", ".join(map(str, values))


def weights(record: GateRecord) -> str:
    """Name the source of the weights, and the beginning of their hash."""
    source, digest = record["weights"]["source"] or "none", record["weights"]["sha256"]
    return f"{source}, sha256 beginning with {digest}" if digest else source
