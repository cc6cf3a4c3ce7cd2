"""Compute the content hash of every image; unchanged files are not read again."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.images.undecodable import UndecodableError, describe
from pytest_datasize.store import Store

MOST_NAMED = 200

BATCH = 256
"""Number of content hashes that are written to the store at a time."""

_POINTER = "run `git lfs pull`"


def known_contents(images: ImageSet, store: Store) -> list[str | None]:
    """Return the cached content hash of every image; None if its file has changed since."""
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
    """Return the content hash of every image; decode those whose hash is not cached.

    Parameters
    ----------
    images
        N images.
    store
        Cache of content hashes by file; new hashes are added.
    threads
        Threads that read and decode.
    on_done
        Called with the number of images done.

    Raises
    ------
    DatasetError
        Images cannot be decoded; the message lists them.
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
            picture = decode(images.read(row), images.max_pixels, images.depth)
        except UndecodableError as problem:
            unreadable.append(describe(images.name(row), problem))
            return ""
        content = content_of(picture)
        squares[content] = perceptual_hash.squares_of(picture)
        return content

    learnt: dict[str, str] = {}

    def keep() -> None:
        # perceptual hashes first: a file with a cached content hash is not decoded again
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
            keep()  # after an interruption, these files are not read again
    if unreadable:
        raise DatasetError(unreadable_text(sorted(unreadable), len(images)))
    return tuple(content or "" for content in contents)


def unreadable_text(unreadable: list[str], total: int) -> str:
    """Return a message that lists the images that cannot be used."""
    shown = [f"  {line}" for line in unreadable[:MOST_NAMED]]
    if len(unreadable) > MOST_NAMED:
        shown.append(f"  and {len(unreadable) - MOST_NAMED} more")
    what = "cannot be read; mend or remove them, since available must mean usable"
    if all(line.endswith(_POINTER) for line in unreadable):
        what = "are git-LFS pointers to images that are not here; run `git lfs pull`"
    return "\n".join([f"{len(unreadable)} of {total} images {what}:", *shown])
