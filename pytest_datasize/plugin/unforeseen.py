"""Report unexpected exceptions as errors of the gate, with their traceback in a section."""

import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from pytest_datasize.errors import (
    BackboneError,
    DatasetError,
    DatasizeError,
    DatasizeWarning,
    TrainingError,
)
from pytest_datasize.reports.records.text import printable, sendable
from pytest_datasize.requirement.process_settings import own_settings

SECTION = "datasize traceback"
"""Name of the report section; pytest writes "Captured datasize traceback setup" above it."""

_FOR_TRAINING = ("torch", "torchvision", "timm")
"""Packages that a light installation may lack: gates that train nothing do not need them."""

_T = TypeVar("_T")


def guarded(function: Callable[..., _T], *arguments: Any) -> _T:
    """Call a function of a study; turn an unexpected exception into an error that names its place.

    Raises
    ------
    DatasizeError
        The function raised an exception, which is the cause of this error.
    """
    try:
        with own_settings():
            return function(*arguments)
    except DatasizeError:
        raise
    except DatasizeWarning as warning:
        raise DatasetError(f"{warning} (a warning, which pytest's filters make an error)") from None
    except (pytest.skip.Exception, pytest.xfail.Exception, pytest.fail.Exception) as outcome:
        called = type(outcome).__name__
        raise TrainingError(
            f"the data set, backbone or trainer of this gate ended it by pytest ({called}: "
            f"{outcome}). A gate that is skipped says nothing about the images: skip the test "
            "itself, by a mark or in a fixture, or raise another exception."
        ) from None
    except ModuleNotFoundError as problem:
        if (problem.name or "").partition(".")[0] not in _FOR_TRAINING:
            raise _unforeseen(problem) from problem
        raise BackboneError(
            f"training needs {problem.name}, which is not installed here. Install it with: pip "
            "install pytest-datasize. Without it, --datasize=check, --datasize=locked and "
            "images_per_class work."
        ) from None
    except Exception as problem:
        if _is_full_memory(problem):
            raise TrainingError(
                "the device's memory is full, although batches were halved. Use a smaller "
                "image_size or backbone, device='cpu', or end what else uses the device."
            ) from problem
        raise _unforeseen(problem) from problem


def _is_full_memory(problem: Exception) -> bool:
    if "torch" not in sys.modules:
        return isinstance(problem, MemoryError)
    from pytest_datasize.embedding.device import out_of_memory

    return isinstance(problem, MemoryError) or out_of_memory(problem)


def _unforeseen(problem: Exception) -> TrainingError:
    frame = traceback.extract_tb(problem.__traceback__)[-1]
    return TrainingError(
        f"unexpected {type(problem).__name__}: {problem} "
        f"({Path(frame.filename).name}:{frame.lineno}). The gate was not judged; please report "
        f"this with the traceback in the section {SECTION!r}."
    )


def add_traceback(item: pytest.Item, when: str, problem: BaseException) -> None:
    """Add the traceback of an error's cause to the test's report, which xdist sends on too.

    Parameters
    ----------
    item
        The test.
    when
        The phase that ends with this error: ``setup`` or ``call``.
    problem
        The DatasizeError. If it has no cause, its message suffices and nothing is added.
    """
    if problem.__cause__ is not None:
        text = "".join(traceback.format_exception(problem.__cause__))
        item.add_report_section(when, SECTION, printable(sendable(text)))
