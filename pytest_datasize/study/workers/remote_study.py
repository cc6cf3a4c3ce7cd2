"""Rebuild a study inside a worker process, local or remote."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.image_set import ImageSet, Loaded, Raw
from pytest_datasize.requirement.registries import LOCAL
from pytest_datasize.store import Store, key_of
from pytest_datasize.study.context import StudyContext

if TYPE_CHECKING:
    from pytest_datasize.embedding.backbone import Backbone


@dataclass(frozen=True, eq=False)
class RemoteStudy:
    """Description from which a worker rebuilds a study context.

    Attributes
    ----------
    make
        The class of the context.
    given
        Its arguments.
    store
        Folder of the store in the parent process.
    mark
        Name of a marker file in it; a worker that finds it sees the same folder.
    sample
        The first images as bytes, if images are sent; None if workers read the data set.
    listing
        Result of :func:`listing` for the parent's images.
    token
        As in the parent's context.
    depth
        Bits of the pixels of 16-bit images.
    runtime, gpu
        What runs the frozen backbone, and whether there is enough work for a GPU, as the parent
        chose.
    refresh, verify
        As in the parent's store, for embedding; later tasks rely on the embeddings stored then.
    """

    given: Mapping[str, Any]
    store: Path
    mark: str
    sample: tuple[Raw, ...] | None
    listing: str
    token: str
    depth: int
    runtime: str
    gpu: bool
    refresh: bool = False
    verify: bool = False

    @property
    def shared(self) -> bool:
        """Whether this process sees the store."""
        return (self.store / self.mark).exists()

    def context(self, state: dict[Any, Any]) -> StudyContext:
        """Return the study of this worker, built once."""
        name = (self.mark, self.refresh, self.verify)
        if state.get("name") != name:
            folder = self.store if self.shared else None
            store = Store(folder, refresh=self.refresh, verify=self.verify)
            state.clear()
            given = {**self.given, "engine": LOCAL}  # a worker has no workers of its own
            state.update(name=name, context=StudyContext(given, store=store, token=self.token))
            state["context"].chosen_runtime = self.runtime
            state["context"].chosen_gpu = self.gpu
        context: StudyContext = state["context"]
        return context

    def parts(self, state: dict[Any, Any]) -> list[ImageSet]:
        """Return the images as this worker reads them, part by part.

        Raises
        ------
        DatasetError
            They differ from those of the parent.
        """
        if "parts" not in state:
            raw = self.context(state).pool.raw
            if listing(raw) != self.listing:
                raise DatasetError(
                    f"{raw.images.source}: a worker finds other images there. Did they change "
                    "while the gate ran, or is this another folder on its machine?"
                )
            state["parts"] = [part for part in raw if part]
        parts: list[ImageSet] = state["parts"]
        return parts

    def first(self, state: dict[Any, Any]) -> ImageSet:
        """Return the first images, on which half precision is tested."""
        if self.sample is not None:
            return sent(self.sample, self.context(state), self.depth)
        from pytest_datasize.embedding.embedder import first_of

        return first_of(self.parts(state))


def sent(raws: tuple[Raw, ...], context: StudyContext, depth: int) -> ImageSet:
    """Return images that were sent with the task; a worker needs no labels."""
    return ImageSet(
        source="images that were sent",
        classes=("",),
        labels=np.zeros(len(raws), dtype=np.int64),
        read=lambda row: raws[row],
        name=lambda row: f"image {row}",
        max_pixels=context.options["max_pixels"],
        depth=depth,
    )


def listing(loaded: Loaded) -> str:
    """Hash number and labels of the images: equal in parent and worker if rows match."""
    return key_of([[images.classes, images.labels.tolist()] for images in loaded if images])


def kept_views(context: StudyContext) -> "Sequence[Backbone]":
    """Return the backbones of augmented views whose embeddings are stored.

    Views of a user's transform are not stored: the next session cannot identify the transform.
    """
    if context.options["augment"] is not True or not context.backbone.loaded.named:
        return ()
    from pytest_datasize.embedding.views import views

    return views(context.backbone.loaded, True)[1:]
