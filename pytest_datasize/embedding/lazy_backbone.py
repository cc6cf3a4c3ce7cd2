"""The backbone of one study: known by the file it came from last time, loaded when it is needed."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pytest_datasize.images.image_set import file_stamp
from pytest_datasize.store import Store, key_of

if TYPE_CHECKING:
    from pytest_datasize.embedding.backbone import Backbone


class LazyBackbone:
    """Names and loads the backbone of a study; torch is imported by loading alone.

    Parameters
    ----------
    options
        What the study was asked: backbone, weights, strategy, trainer, image size.
    store
        Knows which file weights came from before.
    """

    def __init__(self, options: Mapping[str, Any], store: Store) -> None:
        self._options, self._store = options, store
        self._loaded: Backbone | None = None

    @property
    def loaded(self) -> "Backbone":
        """The backbone itself, loaded on first use.

        Raises
        ------
        BackboneError
            It or its weights cannot be had.
        """
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    @property
    def name(self) -> str | None:
        """Cached name of backbone and weights; None if the weights file has changed since.

        Raises
        ------
        BackboneError
            The backbone is an object of the user's own, and cannot be used.
        """
        asked = self._options["backbone"]
        if self._options["strategy"] == "own_training":
            return "made by the trainer"
        if not isinstance(asked, str):
            return self.loaded.key
        if self._options["strategy"] == "from_scratch":
            return f"{asked}|random"
        key = key_of([asked, self._options["weights"], version("timm")])
        known = self._store.get("weights", key)
        if self._loaded is not None:
            stamps = [[str(file), file_stamp(file)] for file in self._loaded.files]
            found = {"files": stamps, "is": self._loaded.content}
            if found != known:
                self._store.put("weights", key, found)
            return f"{self._loaded.name}|{self._loaded.content}"
        files = known.get("files") if known else None
        if files and all(file_stamp(file) == stamp for file, stamp in files):
            return f"{asked}|{known['is']}"
        return None

    def _load(self) -> "Backbone":
        from pytest_datasize.embedding.backbone import RANDOM, load

        name, weights, side = (self._options[n] for n in ("backbone", "weights", "image_size"))
        if self._options["strategy"] == "own_training":
            from pytest_datasize.embedding.backbone import backbone_of

            return backbone_of(self._options["trainer"], side)
        if self._options["strategy"] == "from_scratch" and isinstance(name, str):
            from torch.random import fork_rng

            with fork_rng(devices=[]):
                return load(name, RANDOM, side)
        loaded = load(name, weights, side)
        if self._options["features"] == "stages":
            from pytest_datasize.embedding.stages import with_stages

            return with_stages(loaded)
        return loaded
