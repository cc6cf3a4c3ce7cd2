"""What becomes of findings: the levels of their checks, as settings have them."""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace

from pytest_datasize.errors import DatasetError, DatasizeWarning
from pytest_datasize.images.image_set import Finding, ImageSet, Loaded, few
from pytest_datasize.requirement.checks import level_of

FEW_PER_CLASS = 20
"""Below so many images of a class its recall moves by over 5 points with every image."""


def refuse(findings: Iterable[Finding], levels: Mapping[str, str]) -> None:
    """Raise DatasetError that names every finding of the level ``error``.

    Parameters
    ----------
    findings
        What was found.
    levels
        Check → level, where settings say one.
    """
    wrong = [finding for finding in findings if level_of(finding.check, levels) == "error"]
    if wrong:
        names = dict.fromkeys(finding.check for finding in wrong)
        setting = ", ".join(f"{name}: note" for name in names)
        lines = [line for finding in wrong for line in in_full(finding)]
        raise DatasetError(
            "\n".join([*lines, f"(`checks: {{{setting}}}` in datasize.yaml goes on all the same)"])
        )


def settle(loaded: Loaded, levels: Mapping[str, str]) -> Loaded:
    """Refuse errors, warn of warnings, and drop what is to be ignored.

    Raises
    ------
    DatasetError
        A finding has the level ``error``.
    """
    findings = loaded.images.findings
    refuse(findings, levels)
    for finding in findings:
        if level_of(finding.check, levels) == "warning":
            warnings.warn(DatasizeWarning(finding.text), stacklevel=2)
    told = tuple(f for f in findings if level_of(f.check, levels) != "ignore")
    return loaded._replace(images=replace(loaded.images, findings=told))


def in_full(finding: Finding) -> list[str]:
    """Tell of a finding in one line, and name what it is about in one line each."""
    lines = [finding.text]
    if len(finding.names) > 1:
        lines += [f"  {name}" for name in finding.names]
        if finding.count > len(finding.names):
            lines.append(f"  and {finding.count - len(finding.names)} more")
    return lines


def small_classes(images: ImageSet) -> tuple[Finding, ...]:
    """Tell of classes with few images."""
    small = {name: n for name, n in images.class_counts.items() if n < FEW_PER_CLASS}
    if not small:
        return ()
    shown = few([f"{name!r} has {n}" for name, n in small.items()])
    text = f"{len(small)} classes have fewer than {FEW_PER_CLASS} images: {shown}"
    return (Finding("few_per_class", text, len(small), tuple(map(repr, small))),)
