"""What one requirement asks, what it is judged by, and the verdict: now, before, or committed."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_datasize.errors import DatasetError, DatasizeError, DatasizeWarning, TrainingError
from pytest_datasize.requirement.options import Scope, names_of
from pytest_datasize.requirement.requirement import Requirement
from pytest_datasize.requirement.settings import Settings, YamlConfig
from pytest_datasize.study.stopping import Certainty

if TYPE_CHECKING:
    from pytest_datasize.store import Store
    from pytest_datasize.study.result import StudyResult
    from pytest_datasize.study.study import Study

VERDICT_SCOPES = (Scope.VERDICT, Scope.ADVICE)
"""What a cached verdict depends on beside its evidence and targets."""

Record = dict[str, Any]
_T = TypeVar("_T")


@dataclass
class Asked:
    """One requirement of a test, with the settings of its place and the named data sets there."""

    requirement: Requirement
    settings: Settings
    yaml: YamlConfig
    locked: list[Record] | None = None  # its records in the committed file

    @property
    def confidence(self) -> float | None:
        """How sure the verdict must be."""
        confidence: float | None = self.settings["confidence"]
        return confidence

    @property
    def until(self) -> Certainty | None:
        """When enough repeats are trained; None for all of them."""
        if self.confidence is None:
            return None
        return Certainty(self.requirement.targets, self.confidence)

    def verdict_key(self, evidence: str) -> str:
        """Name a verdict by its evidence and by what was asked of it."""
        from pytest_datasize.reports.records.result_file import SCHEMA
        from pytest_datasize.store import key_of

        asked = {name: self.settings[name] for name in names_of(*VERDICT_SCOPES)}
        return key_of([SCHEMA, evidence, self.requirement.targets, asked])


class Evidence:
    """What one requirement is judged by: measured, or found in the store, when it is needed."""

    def __init__(self, study: "Study", until: Certainty | None, locked: bool) -> None:
        self.study, self._until, self._locked = study, until, locked
        self._result: StudyResult | None = None

    @property
    def measured(self) -> bool:
        """Whether the result is at hand."""
        return self._result is not None

    @property
    def result(self) -> "StudyResult":
        """The result; it is measured here unless the store has it.

        Raises
        ------
        DatasizeError
            It cannot be measured, or must not be (``--datasize=locked``).
        """
        if self._result is None:
            if self._locked:
                raise DatasizeError(
                    "datasize_result: --datasize=locked measures nothing, and the committed record "
                    "holds verdicts, not the evidence."
                )
            self._result = guarded(self.study.run, self._until)
        return self._result


def known_verdict(store: "Store", asked: Asked, evidence: Evidence) -> list[Record] | None:
    """Return the records of a verdict that was given on the same evidence before."""
    key = evidence.study.key()
    found = key and store.get("verdict", asked.verdict_key(key))
    if found:  # for the day when another target is asked for
        store.use("evidence", f"{key}{asked.until.key if asked.until else ''}")
    return found or None


def locked_verdict(
    root: Path, nodeid: str, order: int, asked: Asked, evidence: Evidence
) -> list[Record]:
    """Return the records of the verdict in the committed file.

    Raises
    ------
    DatasizeError
        It has none on the same images, requirement and options.
    """
    about = subject(asked, evidence)
    found = committed(root, nodeid, order, about)
    return [{**record, "subject": about} for record in found]


def committed(
    root: Path, nodeid: str, order: int, about: dict[str, Any], kind: str = ""
) -> list[Record]:
    """Return the records in the committed file; see ``find`` in the module ``lock``."""
    from pytest_datasize.reports.records import lock

    return lock.find(root / lock.NAME, nodeid, order, about, kind)


def subject(asked: Asked, evidence: Evidence) -> dict[str, Any]:
    """Say what a verdict is about: the images, the options, and what is asked of them."""
    return {
        **evidence.study.subject(),
        "asked": {
            **asked.requirement.targets,
            **{name: asked.settings[name] for name in names_of(Scope.VERDICT)},
        },
    }


def judged(store: "Store", asked: Asked, evidence: Evidence) -> list[Record]:
    """Return the records of a requirement, judged now or before."""
    if asked.locked is not None:
        return asked.locked
    if known := known_verdict(store, asked, evidence):
        return with_waits(with_transfer(known, evidence), evidence)
    from pytest_datasize.reports.records.record import records

    verdict = evidence.result.verdict(
        asked.confidence, asked.settings["trusted_range"], **asked.requirement.targets
    )
    about = subject(asked, evidence)
    money = asked.settings["cost_per_image"], asked.settings["image_budget"]
    found = [{**one, "subject": about} for one in records(verdict, evidence.result, *money)]
    if key := evidence.study.key():
        store.put("verdict", asked.verdict_key(key), found)
    return with_waits(with_transfer(found, evidence), evidence)


def with_waits(records: list[Record], evidence: Evidence) -> list[Record]:
    """Note how long this session waited for others, which is no part of a verdict that is kept."""
    waits = [f"{text[0].upper()}{text[1:]}." for text in evidence.study.waits]
    return [{**record, "notes": [*record["notes"], *waits]} for record in records]


def with_transfer(records: list[Record], evidence: Evidence) -> list[Record]:
    """Add what transfer adds: known once another strategy ran on the images, whenever that is."""
    if not any(record["advice"] for record in records):
        return records
    from pytest_datasize.study.transfer_gain import transfer_gain

    gain = transfer_gain(evidence.study.context)
    return [
        {**record, "advice": record["advice"] and {**record["advice"], "transfer": gain}}
        for record in records
    ]


def guarded(function: Callable[..., _T], *arguments: Any) -> _T:
    """Call into a study; what no one foresaw is an error of ours, told without a traceback."""
    try:
        return function(*arguments)
    except DatasizeError:
        raise
    except DatasizeWarning as warning:
        raise DatasetError(f"{warning} (a warning, which pytest's filters make an error)") from None
    except Exception as problem:
        frame = traceback.extract_tb(problem.__traceback__)[-1]
        raise TrainingError(
            f"unexpected {type(problem).__name__}: {problem} "
            f"({Path(frame.filename).name}:{frame.lineno}). "
            "The gate was not judged; please report this."
        ) from problem
