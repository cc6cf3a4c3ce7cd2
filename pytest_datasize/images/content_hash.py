"""What every image is called by its content; files that did not change are not read again."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.images.undecodable import UndecodableError, told
from pytest_datasize.store import Store

MOST_NAMED = 200

BATCH = 256
"""Images whose contents are written to the store at a time."""

_POINTER = "run `git lfs pull`"


def known_contents(images: ImageSet, store: Store) -> list[str | None]:
    """Return the content of every image whose file is as it was when it was last read."""
    if images.digests:
        return list(images.digests)
    found = store.contents([stamp for stamp in images.stamps if stamp])
    return [found.get(stamp) if stamp else None for stamp in images.stamps]


def read_contents(
    images: ImageSet,
    store: Store,
    threads: int = 1,
    on_done: Callable[[int], None] = lambda done: None,
) -> tuple[str, ...]:
    """Decode the images whose content is not known, and name all by their content.

    Parameters
    ----------
    images
        N images.
    store
        Knows files that were read before, and learns the others.
    threads
        Threads that read and decode.
    on_done
        Called with the number of images done.

    Raises
    ------
    DatasetError
        Images cannot be decoded; all of them are named.
    """
    if images.digests:
        return images.digests
    contents = known_contents(images, store)
    missing = [row for row, content in enumerate(contents) if content is None]
    if not missing:
        return tuple(content or "" for content in contents)
    from pytest_datasize.images import perceptual_hash
    from pytest_datasize.images.decode import content_of, decode

    unreadable: list[str] = []
    squares: dict[str, bytes] = {}

    def read(row: int) -> str:
        try:
            picture = decode(images.read(row), images.max_pixels)
        except UndecodableError as problem:
            unreadable.append(told(images.name(row), problem))
            return ""
        content = content_of(picture)
        squares[content] = perceptual_hash.squares_of(picture)
        return content

    learnt: dict[str, str] = {}

    def keep() -> None:
        # the hashes first: of a file whose content is known they need not be made again
        made = {content: squares.pop(content) for content in set(new) if content in squares}
        perceptual_hash.remember(store, made)
        store.remember(learnt)
        new.clear()
        learnt.clear()

    new: list[str] = []
    with ThreadPoolExecutor(threads) as pool:
        try:
            for row, content in zip(missing, pool.map(read, missing), strict=True):
                contents[row] = content
                if content:
                    new.append(content)
                    if stamp := images.stamps[row]:
                        learnt[stamp] = content
                on_done(row + 1)
                if len(new) >= BATCH:
                    keep()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        finally:
            keep()  # what was read before an interruption is not read again
    if unreadable:
        raise DatasetError(unreadable_text(sorted(unreadable), len(images)))
    return tuple(content or "" for content in contents)


def unreadable_text(unreadable: list[str], total: int) -> str:
    """Name the images that cannot be used."""
    shown = [f"  {line}" for line in unreadable[:MOST_NAMED]]
    if len(unreadable) > MOST_NAMED:
        shown.append(f"  and {len(unreadable) - MOST_NAMED} more")
    what = "cannot be read; mend or remove them, since available must mean usable"
    if all(line.endswith(_POINTER) for line in unreadable):
        what = "are git-LFS pointers to images that are not here; run `git lfs pull`"
    return "\n".join([f"{len(unreadable)} of {total} images {what}:", *shown])
