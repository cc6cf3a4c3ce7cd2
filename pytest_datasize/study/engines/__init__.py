"""Engines: run the tasks of a study in this process or on workers.

An engine knows nothing of images or models. It sends tasks to its workers and returns their
answers; every item is answered exactly once, even if workers die. An answer is the same as a
result computed in this process, so an engine never changes a verdict.
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
"""Workers that may die on one item before the engine gives up."""


class Task(Protocol):
    """Work for workers: a callable that can be pickled."""

    def __call__(self, item: Any, state: dict[Any, Any], /) -> Any:
        """Answer an item; ``state`` belongs to the worker and is kept for its next items."""


class Engine(Protocol):
    """Workers, started on first use and kept until the session ends."""

    def workers(self) -> int:
        """Return how many items are processed at a time."""

    def map(self, task: Task, items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        """Yield (item, answer) as answers arrive, each item once.

        An item is taken from ``items`` when a worker is free, and released when that worker is
        done with it: items may be read from a disk.

        Raises
        ------
        DatasizeError
            A task raised it; or workers keep dying, or cannot be started.
        """

    def close(self) -> None:
        """End the workers."""


class Engines:
    """The engine of a session; gates with the same engine options share its workers.

    For other options the old workers end first: idle, they would keep the GPUs and cluster places
    that the new ones need.
    """

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._key: tuple[Any, ...] = ()
        self._folder: Path | None = None

    @property
    def folder(self) -> Path:
        """Temporary folder shared by workers if there is no store; deleted with this object."""
        if self._folder is None:
            self._folder = Path(mkdtemp(prefix="datasize-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder

    def get(self, options: Mapping[str, Any]) -> Engine | None:
        """Return the engine that the options set; None if all runs in this process.

        Raises
        ------
        EngineError
            It cannot be started.
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
