"""Image data sufficiency as a test.

Public names load on first use, so that importing the package (which pytest does at every
start) costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_datasize.curve.learning_curve import LearningCurve
    from pytest_datasize.curve.verdict import Judgement, Status, Verdict
    from pytest_datasize.errors import (
        BackboneError,
        DatasetError,
        DatasizeError,
        DatasizeWarning,
        ReportError,
        RequirementError,
        TrainingError,
    )
    from pytest_datasize.plugin import marker as datasize
    from pytest_datasize.store import Store
    from pytest_datasize.study.result import StudyResult
    from pytest_datasize.study.study import Study

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
    "Store",
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
    "Judgement": "curve.verdict",
    "LearningCurve": "curve.learning_curve",
    "ReportError": "errors",
    "RequirementError": "errors",
    "Status": "curve.verdict",
    "Store": "store",
    "Study": "study.study",
    "StudyResult": "study.result",
    "TrainingError": "errors",
    "Verdict": "curve.verdict",
}


def __getattr__(name: str) -> Any:
    if name == "datasize":
        return import_module("pytest_datasize.plugin.marker")
    if name in _HOME:
        return getattr(import_module(f"pytest_datasize.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
