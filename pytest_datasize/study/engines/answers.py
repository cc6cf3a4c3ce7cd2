"""Pickle tasks for workers, and turn failures of workers into readable errors."""

import pickle
import traceback
from pathlib import Path
from typing import Any, NamedTuple

from pytest_datasize.errors import DatasizeError, EngineError


class Failure(NamedTuple):
    """A task that raised.

    Attributes
    ----------
    problem
        The error, if it is a DatasizeError, whose message is made for people.
    text
        Message and place of an unexpected error.
    """

    problem: DatasizeError | None
    text: str

    @classmethod
    def of(cls, problem: BaseException) -> "Failure":
        """Describe an exception."""
        if isinstance(problem, DatasizeError):
            return cls(problem, "")
        frames = traceback.extract_tb(problem.__traceback__)
        where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
        return cls(None, f"{type(problem).__name__}: {problem}{where}")


def answered(answer: Any) -> Any:
    """Return an answer; raise its error if it is a failure.

    Raises
    ------
    DatasizeError
        The task raised it; an EngineError for an unexpected error.
    """
    if not isinstance(answer, Failure):
        return answer
    raise answer.problem or EngineError(
        f"a worker failed: {answer.text}. With engine=local the same work runs in this process."
    )


def pickled(task: Any, engine: str) -> bytes:
    """Pickle a task.

    Raises
    ------
    EngineError
        It holds an object of the user that cannot be imported from a module.
    """
    try:
        return pickle.dumps(task)
    except Exception as problem:  # pickle raises whatever an object's own code raises
        raise EngineError(
            f"engine={engine}: the data set, the model or a function of this gate cannot be sent "
            f"to another process ({problem}). Give a path or arrays, define classes and functions "
            "in a module, or set engine=local."
        ) from None
