"""Apply the configured check levels to findings: raise, warn, report or drop."""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace

from pytest_datasize.errors import DatasetError, DatasizeWarning
from pytest_datasize.images.image_set import Finding, ImageSet, Loaded, few
from pytest_datasize.requirement.checks import level_of

FEW_PER_CLASS = 20
"""With fewer images of a class, each image changes its recall by more than 5 points."""


def refuse(findings: Iterable[Finding], levels: Mapping[str, str]) -> None:
    """Raise DatasetError that lists every finding of the level ``error``.

    Parameters
    ----------
    findings
        Findings to check.
    levels
        Check → level, where it is configured.
    """
    wrong = [finding for finding in findings if level_of(finding.check, levels) == "error"]
    if wrong:
        names = dict.fromkeys(finding.check for finding in wrong)
        setting = ", ".join(f"{name}: note" for name in names)
        lines = [line for finding in wrong for line in in_full(finding)]
        lines.append(
            f"(to continue with them, set `checks: {{{setting}}}` in datasize.yaml, or in checks= "
            "of the marker if it sets the level)"
        )
        raise DatasetError("\n".join(lines))


def settle(loaded: Loaded, levels: Mapping[str, str]) -> Loaded:
    """Raise on errors, issue warnings, and drop ignored findings.

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
    """Return a finding as lines: its text, then one line for each name."""
    lines = [finding.text]
    if len(finding.names) > 1:
        lines += [f"  {name}" for name in finding.names]
        if finding.count > len(finding.names):
            lines.append(f"  and {finding.count - len(finding.names)} more")
    return lines


def small_classes(images: ImageSet) -> tuple[Finding, ...]:
    """Report classes with few images."""
    small = {name: n for name, n in images.class_counts.items() if n < FEW_PER_CLASS}
    if not small:
        return ()
    shown = few([f"{name!r} has {n}" for name, n in small.items()])
    text = f"{len(small)} classes have fewer than {FEW_PER_CLASS} images: {shown}"
    return (Finding("few_per_class", text, len(small), tuple(map(repr, small))),)
