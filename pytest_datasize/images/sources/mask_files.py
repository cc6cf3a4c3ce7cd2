"""Read masks from image files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.decode import decode_values
from pytest_datasize.images.image_set import file_stamp, one_line
from pytest_datasize.images.sources.files import content
from pytest_datasize.images.targets.masks import Masks, Summary, summaries
from pytest_datasize.images.undecodable import UndecodableError
from pytest_datasize.requirement.versions import DECODING, text_of
from pytest_datasize.store import Store, key_of

_KIND: Final = "masks"
_VERSION: Final = 2  # of how masks are decoded


@dataclass(frozen=True, eq=False)
class MaskFiles:
    """Masks in files of their own.

    Attributes
    ----------
    paths
        One file per image.
    """

    paths: Sequence[Path]

    def __call__(self, index: int) -> NDArray[Any]:
        """Return a mask's values, int64 (H, W).

        Raises
        ------
        DatasetError
            The file is no mask.
        """
        path = self.paths[index]
        try:
            return decode_values(content(path))
        except UndecodableError as problem:
            raise DatasetError(f"mask {one_line(str(path))}: {problem}") from None


def read_mask_files(
    paths: Sequence[Path],
    source: str,
    store: Store | None = None,
    names: Mapping[int, str] | None = None,
) -> Masks:
    """Read the masks of files; colours are named by their hexadecimal code.

    Parameters
    ----------
    paths
        The files.
    source
        Description for messages.
    store
        What is known of unchanged files is kept there, and they are not read again.
    names
        Value → name of its class.

    Raises
    ------
    DatasetError
        A file is no mask.
    """
    read = MaskFiles(paths)
    return Masks.of(read, len(paths), names, None, source, _known(read, source, store))


def _known(read: MaskFiles, source: str, store: Store | None) -> list[Summary] | None:
    """Load what is known of the masks, or read and store it; None without a store."""
    stamps = [file_stamp(path) for path in read.paths]
    if store is None or None in stamps:
        return None
    key = key_of([_VERSION, text_of(DECODING), stamps])
    if found := store.get(_KIND, key):
        return [Summary(tuple(values), tuple(pixels), digest) for values, pixels, digest in found]
    known = summaries(read, len(read.paths), source)
    store.put(_KIND, key, known)
    return known
