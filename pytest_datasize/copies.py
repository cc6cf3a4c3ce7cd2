"""A study as a worker makes it again, in its own process and perhaps on another machine."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.image_set import ImageSet, Loaded, Raw
from pytest_datasize.store import Store, key_of
from pytest_datasize.vocabulary import LOCAL

if TYPE_CHECKING:
    from pytest_datasize.study import Study
    from pytest_datasize.transfer.backbone import Backbone


@dataclass(frozen=True, eq=False)
class Copy:
    """A study, as a worker makes it again.

    Attributes
    ----------
    make
        The class of the study.
    given
        Its arguments.
    store
        Folder of the store here.
    mark
        Name of a file in it, by which a worker knows that it sees the same folder.
    sample
        The first images as bytes, where images are sent; None where workers read them themselves.
    listing
        What :func:`listing` says of the images here.
    refresh, verify
        As in the store here, for the embedding; later jobs count on what it has left.
    """

    make: Callable[..., "Study"]
    given: Mapping[str, Any]
    store: Path
    mark: str
    sample: tuple[Raw, ...] | None
    listing: str
    refresh: bool = False
    verify: bool = False

    @property
    def shared(self) -> bool:
        """Whether this process sees the store."""
        return (self.store / self.mark).exists()

    def study(self, desk: dict[Any, Any]) -> "Study":
        """Return the study of this worker."""
        name = (self.mark, self.refresh, self.verify)
        if desk.get("copy") != name:
            folder = self.store if self.shared else None
            store = Store(folder, refresh=self.refresh, verify=self.verify)
            desk.clear()
            given = {**self.given, "engine": LOCAL}  # a worker hands out nothing
            desk.update(copy=name, study=self.make(**given, store=store))
        study: Study = desk["study"]
        return study

    def parts(self, desk: dict[Any, Any]) -> list[ImageSet]:
        """Return the images as this worker reads them, part by part.

        Raises
        ------
        DatasetError
            They are others than those here.
        """
        if "parts" not in desk:
            raw = self.study(desk).collection.raw
            if listing(raw) != self.listing:
                raise DatasetError(
                    f"{raw.images.source}: a worker finds other images there. Did they change "
                    "while the gate ran, or is this another folder on its machine?"
                )
            desk["parts"] = [part for part in raw if part]
        parts: list[ImageSet] = desk["parts"]
        return parts

    def first(self, desk: dict[Any, Any]) -> ImageSet:
        """Return the first images, which half precision is tried on."""
        if self.sample is not None:
            return sent(self.sample, self.study(desk))
        from pytest_datasize.transfer.embedder import first_of

        return first_of(self.parts(desk))


def sent(raws: tuple[Raw, ...], study: "Study") -> ImageSet:
    """Return images that came with the work; a worker needs no labels."""
    return ImageSet(
        source="images that were sent",
        classes=("",),
        labels=np.zeros(len(raws), dtype=np.int64),
        read=lambda row: raws[row],
        name=lambda row: f"image {row}",
        max_pixels=study.options["max_pixels"],
    )


def listing(loaded: Loaded) -> str:
    """Name images by number and labels: what a worker must find as well, to mean the same rows."""
    return key_of([[images.classes, images.labels.tolist()] for images in loaded if images])


def kept_views(study: "Study") -> "Sequence[Backbone]":
    """Return the backbones of augmented views whose embeddings the store keeps.

    Those of a transform of the user's own cannot be told from another's in the next session.
    """
    if study.options["augment"] is not True:
        return ()
    from pytest_datasize.transfer.views import views

    return views(study.model.backbone, True)[1:]
