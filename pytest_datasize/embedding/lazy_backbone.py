"""Identify the backbone of a study by its files, and load it on first use."""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_datasize.embedding import weights as weight_files
from pytest_datasize.errors import BackboneError
from pytest_datasize.images.image_set import file_stamp
from pytest_datasize.requirement.versions import EMBEDDING, versions
from pytest_datasize.store import Store, key_of

if TYPE_CHECKING:
    from pytest_datasize.embedding.backbone import Backbone

_BY_TRAINER = "made by the trainer"


class LazyBackbone:
    """Identifies and loads the backbone of a study; only loading imports torch.

    Parameters
    ----------
    options
        Options of the study: backbone, weights, strategy, trainer, image size.
    store
        Cache of the weights file used before.
    token
        Names a module that has no other name; None for a new one. Processes that work on one study
        share it.
    """

    def __init__(self, options: Mapping[str, Any], store: Store, token: str | None = None) -> None:
        self._options, self._store = options, store
        self.token = secrets.token_hex(8) if token is None else token
        self._loaded: Backbone | None = None

    @property
    def loaded(self) -> "Backbone":
        """The backbone itself, loaded on first use.

        Raises
        ------
        BackboneError
            The backbone or its weights cannot be found.
        """
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    @property
    def name(self) -> str | None:
        """Name of backbone and weights, the same in every session and folder.

        None if another session could not tell what it is, or while it is not known: files of the
        backbone have changed since they were last loaded.

        Raises
        ------
        BackboneError
            The backbone is an object of the user's own, and cannot be used.
        """
        asked = self._options["backbone"]
        if self._options["strategy"] == "own_training":
            return _BY_TRAINER
        if not isinstance(asked, str):
            return self.loaded.key if self.loaded.named else None
        scratch = self._options["strategy"] == "from_scratch"
        name = f"{weight_files.portable_name(asked)}{'|random' if scratch else ''}"
        if scratch and not asked.startswith((weight_files.LOCAL_DIR, weight_files.HF_HUB)):
            return name
        key = key_of([asked, self._options["weights"], scratch, versions(EMBEDDING)])
        known = self._store.get("weights", key)
        if self._loaded is not None:
            stamps = [[str(file), file_stamp(file)] for file in self._loaded.files]
            found = {"files": stamps, "is": self._loaded.content}
            if found != known:
                self._store.put("weights", key, found)
            return f"{name}|{self._loaded.content}"
        files = known.get("files") if known else None
        if files and all(file_stamp(file) == stamp for file, stamp in files):
            return f"{name}|{known['is']}"
        return None

    @property
    def asked(self) -> str | None:
        """Name of the requested backbone, for records compared across folders; without torch.

        A folder is named by the hashes of its files, a module by its key, whatever the strategy
        makes of it; None for a module that another session could not tell from others.

        Raises
        ------
        BackboneError
            The folder or the module cannot be used.
        """
        asked = self._options["backbone"]
        if self._options["strategy"] == "own_training":
            return _BY_TRAINER
        if not isinstance(asked, str):
            return self.loaded.key if self.loaded.named else None
        if not asked.startswith(weight_files.LOCAL_DIR):
            return asked
        folder = Path(asked.removeprefix(weight_files.LOCAL_DIR))
        try:
            files = weight_files.in_folder(folder).read
        except BackboneError:
            if self._options["strategy"] != "from_scratch":
                raise
            files = (folder / weight_files.CONFIG,)  # weights are not needed
        return f"{weight_files.portable_name(asked)}|{'+'.join(map(self.hash_of, files))}"

    def hash_of(self, file: Path) -> str:
        """Return the hash of a file's content, cached while the file does not change.

        Raises
        ------
        BackboneError
            It cannot be read.
        """
        stamp = file_stamp(file)
        found: str | None = self._store.get("weights", stamp) if stamp else None
        if found is None:
            found = weight_files.hash_of(file)
            if stamp:
                self._store.put("weights", stamp, found)
        return found

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
        loaded = load(name, weights, side, self.token)
        if self._options["features"] == "stages":
            from pytest_datasize.embedding.stages import with_stages

            return with_stages(loaded)
        return loaded
