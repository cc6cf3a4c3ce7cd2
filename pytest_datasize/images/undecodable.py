"""Images that cannot be used, and how that is told; free of Pillow, which only reading needs."""

from pytest_datasize.errors import DatasetError


class UndecodableError(ValueError):
    """An image that cannot be shown to the model; the text is the reason."""


class UnreadableError(DatasetError, UndecodableError):
    """An image that cannot even be read; the text names it, and is complete by itself."""


def told(name: str, problem: UndecodableError) -> str:
    """Say what is wrong with an image, naming it once."""
    return str(problem) if isinstance(problem, UnreadableError) else f"{name}: {problem}"
