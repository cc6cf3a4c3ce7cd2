"""Match the names of several sets of targets."""

from collections.abc import Sequence

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.targets.protocol import Targets


def matched(parts: Sequence[Targets]) -> tuple[tuple[str, ...], list[list[int]]]:
    """Return all names, sorted, and for each part the numbers of its own among them."""
    names = tuple(sorted({name for part in parts for name in part.names}))
    number = {name: index for index, name in enumerate(names)}
    return names, [[number[name] for name in part.names] for part in parts]


def refuse_unknown(own: Sequence[str], known: Sequence[str], source: str, what: str) -> None:
    """Raise DatasetError if test images have a name that the pool lacks, or lack one."""
    if unknown := sorted(set(own) - set(known)):
        raise DatasetError(
            f"{source}: {what} {', '.join(map(repr, unknown))} is not among those that can be "
            f"trained on ({', '.join(known)})."
        )
    if missing := [name for name in known if name not in set(own)]:
        raise DatasetError(
            f"{source}: no test image with {what} {', '.join(map(repr, missing))}; each needs "
            "some to have a score."
        )
