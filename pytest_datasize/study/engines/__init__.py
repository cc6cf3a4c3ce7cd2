"""Where the work of a study runs: in this process, or handed out to others.

An engine knows nothing of images or models. It carries tasks to its workers and answers back, and
sees to it that every item is answered once, whatever dies meanwhile. What was answered counts
as if it had been found here, so that an engine can never change a verdict.
"""

import shutil
import weakref
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Protocol

from pytest_datasize.requirement.registries import ENGINES

MOST_TRIES = 3
"""Workers that may die on one item before it is given up."""


class Task(Protocol):
    """What workers are asked to do: something that can be pickled, and called."""

    def __call__(self, item: Any, state: dict[Any, Any], /) -> Any:
        """Answer an item; ``state`` is the worker's own, and keeps what the next one needs too."""


class Engine(Protocol):
    """Workers, started when they are first needed and kept until the session ends."""

    def workers(self) -> int:
        """Return how many items are at work at a time."""

    def map(self, task: Task, items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        """Yield (item, answer) as they come, each item once.

        An item is taken from ``items`` when a worker is free for it, and not held for longer
        than that worker is at it: it may be read from a disk.

        Raises
        ------
        DatasizeError
            What a task raised; or workers keep dying, or cannot be had.
        """

    def close(self) -> None:
        """End the workers."""


class Engines:
    """The engine of a session: gates that ask for the same share its workers.

    Others end first: idle workers would keep the GPUs and the places that new ones need.
    """

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._key: tuple[Any, ...] = ()
        self._folder: Path | None = None

    @property
    def folder(self) -> Path:
        """Where workers meet if nothing is to be kept; it goes when this object does."""
        if self._folder is None:
            self._folder = Path(mkdtemp(prefix="datasize-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder

    def get(self, options: Mapping[str, Any]) -> Engine | None:
        """Return the engine that options ask for; None where all runs in this process.

        Raises
        ------
        EngineError
            It cannot be had.
        """
        place = ENGINES[options["engine"]]
        if not place:
            return None
        names = ("engine", "workers", "device", "ray_address", "ray_gpus")
        key = tuple(options[name] for name in names)
        if self._engine is None or self._key != key:
            self.close()
            module, _, name = place.partition(":")
            self._engine, self._key = getattr(import_module(module), name)(options), key
        return self._engine

    def close(self) -> None:
        """End all workers."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None
