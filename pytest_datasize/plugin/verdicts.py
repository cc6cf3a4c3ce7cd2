"""Return the verdict on a requirement: computed, cached or committed; then add session data.

Records of the same evidence are equal in every session. The baseline, the source line and the
effect of an undecided verdict on the test belong to the session.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from pytest_datasize.errors import DatasizeError, DatasizeWarning
from pytest_datasize.plugin.source_lines import places
from pytest_datasize.plugin.unforeseen import guarded
from pytest_datasize.plugin.warning_places import warn_at
from pytest_datasize.reports.records.advice_types import TransferGain
from pytest_datasize.reports.records.derived import with_derived
from pytest_datasize.reports.records.record_types import (
    ConditionRecord,
    GateRecord,
    Json,
    Record,
    Subject,
)
from pytest_datasize.reports.records.text import each_text, sendable
from pytest_datasize.requirement.options import Scope, keyed, names_of
from pytest_datasize.requirement.requirement import Requirement
from pytest_datasize.requirement.settings import Settings, YamlConfig
from pytest_datasize.study.stopping import Certainty

if TYPE_CHECKING:
    from pytest_datasize.reports.records.baseline import Baseline
    from pytest_datasize.store import Store
    from pytest_datasize.study.ladder import Climb, Ladder
    from pytest_datasize.study.result import StudyResult

VERDICT_SCOPES = (Scope.VERDICT, Scope.ADVICE)
"""Scopes that a cached verdict depends on, beside its evidence and targets."""


MONEY = ("cost_per_image", "image_budget", "cost_per_group")
"""Options of the advice on money."""


@dataclass
class ConfiguredRequirement:
    """One requirement of a test, with its settings and the named data sets of its YAML file."""

    requirement: Requirement
    settings: Settings
    yaml: YamlConfig
    locked: list[GateRecord] | None = None  # its records in the committed file

    @property
    def targets(self) -> dict[str, Any]:
        """Metric → score to reach, and ``min_slice`` → the scores that every slice must reach."""
        further = {name: self.settings[name] for name in names_of(Scope.TARGET)}
        return {**self.requirement.targets, **{name: of for name, of in further.items() if of}}

    @property
    def confidence(self) -> float | None:
        """Required probability of the verdict."""
        confidence: float | None = self.settings["confidence"]
        return confidence

    @property
    def until(self) -> Certainty | None:
        """The stopping rule; None to train all repeats."""
        if self.confidence is None:
            return None
        return Certainty(self.targets, self.confidence)

    def verdict_key(self, evidence: str) -> str:
        """Return the cache key of a verdict: its evidence, targets and options."""
        from pytest_datasize.reports.records.result_file import SCHEMA
        from pytest_datasize.store import key_of

        options = keyed(self.settings.values, *VERDICT_SCOPES)
        return key_of([SCHEMA, evidence, self.targets, options])


class Evidence:
    """The evidence of one requirement, loaded from the store or measured on first use.

    Parameters
    ----------
    ladder
        The models that may be trained; requirements with the same options share them.
    configured
        The requirement.
    locked
        Whether nothing may be measured.
    """

    def __init__(self, ladder: "Ladder", configured: ConfiguredRequirement, locked: bool) -> None:
        self.ladder, self._configured, self._locked = ladder, configured, locked
        self._climb: Climb | None = None

    @property
    def climb(self) -> "Climb":
        """The models that were tried, loaded from the store or measured.

        Raises
        ------
        DatasizeError
            They cannot be measured, or ``--datasize=locked`` forbids it.
        """
        if self._climb is None:
            if self._locked:
                raise DatasizeError(
                    "datasize_result: --datasize=locked measures nothing, and the committed record "
                    "holds verdicts, not the evidence."
                )
            asked = self._configured
            self._climb = guarded(
                self.ladder.climb,
                asked.targets,
                asked.confidence,
                asked.settings["trusted_range"],
                asked.settings["second_look"],
            )
        return self._climb

    @property
    def result(self) -> "StudyResult":
        """The evidence of the model that is judged; raises as :attr:`climb`."""
        return self.climb.result


def known_verdict(
    store: "Store", configured: ConfiguredRequirement, evidence: Evidence
) -> list[GateRecord] | None:
    """Return the cached records of a verdict on the same evidence."""
    key = evidence.ladder.key()
    found = key and store.get("verdict", configured.verdict_key(key))
    if found:
        evidence.ladder.use()
    return found or None


def locked_verdict(
    root: Path, nodeid: str, order: int, configured: ConfiguredRequirement, evidence: Evidence
) -> list[GateRecord]:
    """Return the records of the verdict in the committed file.

    Raises
    ------
    DatasizeError
        It has no verdict for the same images, requirement and options.
    """
    about = subject(configured, evidence)
    from pytest_datasize.reports.records import lock

    found = cast(list[GateRecord], lock.find(root / lock.NAME, nodeid, order, about))
    return [{**record, "subject": about} for record in found]


def committed_condition(
    root: Path, nodeid: str, order: int, about: Subject, kind: str
) -> list[ConditionRecord]:
    """Return a condition's record in the committed file; see ``find`` in the module ``lock``."""
    from pytest_datasize.reports.records import lock

    found = lock.find(root / lock.NAME, nodeid, order, about, kind)
    return cast(list[ConditionRecord], found)


def subject(configured: ConfiguredRequirement, evidence: Evidence) -> Subject:
    """Return what a verdict depends on: the images, the options and the targets."""
    found = evidence.ladder.subject()
    return {
        "images": found["images"],
        "options": found["options"],
        "asked": {
            **configured.targets,
            **keyed(configured.settings.values, Scope.VERDICT),
        },
    }


def verdict_of(
    store: "Store", configured: ConfiguredRequirement, evidence: Evidence
) -> list[GateRecord]:
    """Return the records of a requirement: committed, cached, or computed now."""
    if configured.locked is not None:
        return configured.locked
    if known := known_verdict(store, configured, evidence):
        return with_waits(with_transfer(known, evidence), evidence)
    from pytest_datasize.reports.records.levers import levers
    from pytest_datasize.reports.records.models import models
    from pytest_datasize.reports.records.neighbour_bound import neighbour_bound
    from pytest_datasize.reports.records.record import records
    from pytest_datasize.reports.wording.models_text import how_to_reach_it

    climb = evidence.climb
    about = subject(configured, evidence)
    money = [configured.settings[name] for name in MONEY]
    found: list[GateRecord] = []
    for index, one in enumerate(records(climb.verdict, climb.result, *money)):
        one["models"], one["levers"] = models(climb, index), levers(climb, index)
        tried = [attempt.result for attempt in climb.attempts if attempt.result]
        one["neighbour_bound"] = neighbour_bound(climb.verdict.judgements[index], tried)
        if note := how_to_reach_it(one):
            one["notes"].append(note)
        found.append({**one, "subject": about})
    if key := evidence.ladder.key():
        store.put("verdict", configured.verdict_key(key), found)
    return with_waits(with_transfer(found, evidence), evidence)


def with_waits(records: list[GateRecord], evidence: Evidence) -> list[GateRecord]:
    """Add how long this session waited for other processes; this is not cached with a verdict."""
    waits = [f"{text[0].upper()}{text[1:]}." for text in evidence.ladder.waits]
    return [{**record, "notes": [*record["notes"], *waits]} for record in records]


def with_transfer(records: list[GateRecord], evidence: Evidence) -> list[GateRecord]:
    """Add the gain of transfer, known once another strategy has run on the same images."""
    if not any(record.get("advice") for record in records):
        return records
    from pytest_datasize.study.transfer_gain import transfer_gain

    gain = cast(TransferGain | None, transfer_gain(evidence.ladder.study.context))
    return [
        {**record, "advice": {**advice, "transfer": gain}}
        if (advice := record.get("advice"))
        else record
        for record in records
    ]


def final_records(
    item: pytest.Item,
    settings: Sequence[Settings],
    found: Sequence[Iterable[GateRecord]],
    baseline: "Baseline | None",
    conditions: Sequence[ConditionRecord] = (),
    level: str | None = None,
) -> list[Record]:
    """Return the records of a test; ``failed`` in each says whether it fails the test.

    Parameters
    ----------
    item
        The test.
    settings
        Settings of each requirement, in reading order.
    found
        Records of each requirement; they are not modified.
    baseline
        An earlier run to compare with.
    conditions
        Records of conditions without training; each says whether it failed.
    level
        Level of all gates, from the command line; None for that of each requirement.
    """
    where = places(item, len(settings))
    nodeid = sendable(item.nodeid)
    final: list[Record] = []
    for condition in conditions:
        order = condition["order"]
        file, line = where[order]
        checked: ConditionRecord = {**condition, "nodeid": nodeid, "file": file, "line": line}
        mine = level or (settings[order]["level"] if order < len(settings) else "error")
        checked["settings"] = {"level": mine}
        checked["failed"] = fails(item, checked, mine)
        final.append(checked)
    for order, (mine, records) in enumerate(zip(settings, found, strict=True)):
        placed: list[GateRecord] = [
            {**record, "file": where[order][0], "line": where[order][1], "order": order}
            for record in records
        ]
        final += _of_session(item, mine, placed, baseline, level)
    return final


def _of_session(
    item: pytest.Item,
    settings: Settings,
    found: Iterable[GateRecord],
    baseline: "Baseline | None",
    level: str | None,
) -> Iterator[GateRecord]:
    """Add the session data to the records of one requirement."""
    values = {name: _plain(value) for name, value in settings.values.items()}
    values["level"] = level = level or settings["level"]
    for known in found:
        record = with_derived(known)
        record["nodeid"] = sendable(item.nodeid)
        record["failed"] = record["verdict"] != "sufficient"
        record["notes"] = list(record["notes"])
        record["settings"] = each_text(values, sendable)
        record["baseline"] = None
        if record["verdict"] == "undecided" and settings["undecided"] == "warn":
            warn_at(item, record)
            record["failed"] = False
        if baseline is not None:
            change = baseline.change(record, settings["max_increase"], settings["confidence"])
            record["baseline"] = change
            record["failed"] |= change["exceeded"]
        elif settings["max_increase"] is not None:
            record["notes"].append(
                "max_increase was not judged: give --datasize-baseline=PATH to compare with"
            )
        record["failed"] = fails(item, record, level)
        yield record


def fails(item: pytest.Item, record: "GateRecord | ConditionRecord", level: str) -> bool:
    """Return whether a record fails its test; one that is not met only warns at its level."""
    if record["failed"] and level == "warning":
        with suppress(DatasizeWarning):  # filterwarnings=error may not make it red, either
            warn_at(item, record)
        return False
    return record["failed"]


def _plain(value: Any) -> Json:
    """Return an option's value as JSON: plain data as is, an open end as null, else its type."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        return [_plain(entry) for entry in value]
    if isinstance(value, dict):
        return {str(name): _plain(entry) for name, entry in value.items()}
    return f"<{type(value).__name__}>"
