"""Image data sufficiency as a test.

Public names load on first use, so that importing the package (which pytest does at every
start) costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_datasize import datasize
    from pytest_datasize.curve import LearningCurve
    from pytest_datasize.errors import (
        BackboneError,
        DatasetError,
        DatasizeError,
        DatasizeWarning,
        ReportError,
        RequirementError,
        TrainingError,
    )
    from pytest_datasize.result import StudyResult
    from pytest_datasize.study import Study
    from pytest_datasize.verdict import Judgement, Status, Verdict

__all__ = [
    "BackboneError",
    "DatasetError",
    "DatasizeError",
    "DatasizeWarning",
    "Judgement",
    "LearningCurve",
    "ReportError",
    "RequirementError",
    "Status",
    "Study",
    "StudyResult",
    "TrainingError",
    "Verdict",
    "datasize",
]

__version__ = "0.1.0"

_HOME = {
    "BackboneError": "errors",
    "DatasetError": "errors",
    "DatasizeError": "errors",
    "DatasizeWarning": "errors",
    "Judgement": "verdict",
    "LearningCurve": "curve",
    "ReportError": "errors",
    "RequirementError": "errors",
    "Status": "verdict",
    "Study": "study",
    "StudyResult": "result",
    "TrainingError": "errors",
    "Verdict": "verdict",
}


def __getattr__(name: str) -> Any:
    if name == "datasize":
        return import_module("pytest_datasize.datasize")
    if name in _HOME:
        return getattr(import_module(f"pytest_datasize.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
