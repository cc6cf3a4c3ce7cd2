"""Errors for images that cannot be used; does not import Pillow, which only reading needs."""

from pytest_datasize.errors import DatasetError


class UndecodableError(ValueError):
    """An image that cannot be decoded; the text is the reason."""


class UnreadableError(DatasetError, UndecodableError):
    """An image that cannot even be read; the text names it, and is complete by itself."""


def describe(name: str, problem: UndecodableError) -> str:
    """Describe the problem of an image; its name occurs once."""
    return str(problem) if isinstance(problem, UnreadableError) else f"{name}: {problem}"
