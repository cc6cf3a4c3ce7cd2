"""Check that a user's objects can be pickled and sent to spawned processes."""

from multiprocessing.reduction import ForkingPickler
from typing import Any

from pytest_datasize.errors import DatasetError


class _Nowhere:
    """A file that discards all data."""

    def write(self, data: Any) -> int:
        return len(data)


def refuse_unpicklable(value: Any, what: str) -> None:
    """Raise unless an object can be sent to another process.

    Parameters
    ----------
    value
        The object.
    what
        What it is, for the message.

    Raises
    ------
    DatasetError
        It cannot; the text says what to do.

    Examples
    --------
    >>> refuse_unpicklable(len, "the transform")
    """
    try:
        ForkingPickler(_Nowhere()).dump(value)
    except Exception as problem:  # its parts can raise errors of any type
        raise DatasetError(
            f"{what} cannot be sent to another process, such as a worker of a DataLoader: "
            f"{type(problem).__name__}: {problem}. Replace lambdas and functions that are defined "
            "inside others by functions or classes at the top of a module, and open files, locks "
            "and connections where they are used; or use num_workers=0."
        ) from None
