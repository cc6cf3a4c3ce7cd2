"""Find files beside the images that are not images of their own: masks, previews, depth maps.

A mask or a preview usually has the name of its image, with another suffix or a fixed beginning or
ending, or it lies in a folder such as ``masks``. If most images of a class have such a companion,
either half of the files must not be trained on, or the names mean something else: the user has to
say.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from pytest_datasize.images.image_set import Finding, one_line

LEAST = 5
"""Fewer pairs than this are taken for chance."""

MOST = 0.5
"""Share of the images of a class with a companion above which the user is asked."""

WORDS = frozenset(
    {"mask", "masks", "seg", "segm", "segmentation", "segmentations", "gt", "groundtruth"}
    | {"ground", "truth", "label", "labels", "labelled", "annotated", "annotation", "annotations"}
    | {"depth", "depths", "disparity", "thumb", "thumbs", "thumbnail", "thumbnails", "preview"}
    | {"previews", "overlay", "overlays", "heatmap", "heatmaps"}
    | {"aug", "augmented", "augmentation", "augmentations"}
)
"""Words for what is not an image of its own."""

_ENDINGS = WORDS | {"small", "lowres", "edges"}  # of a folder or a pair they can mean images, too
_BESIDE = {"image", "images", "png", "jpg", "map", "maps", ""}

Pairs = list[tuple[Path, Path]]
ByName = dict[tuple[str, str], list[Path]]
"""(Folder, stem) → images."""


def companions(paths: Sequence[Path], classes: Sequence[str]) -> Iterator[Finding]:
    """Report that most images of a class have a companion of the same name.

    Parameters
    ----------
    paths
        All image files of a data set.
    classes
        The class of each.
    """
    of_class: dict[str, list[Path]] = defaultdict(list)
    for path, name in zip(paths, classes, strict=True):
        of_class[name].append(path)
    found: dict[str, Pairs] = defaultdict(list)
    for members in of_class.values():
        for kind, pairs in _of_one_class(members):
            found[kind] += pairs
    if not found:
        return
    kind, pairs = max(found.items(), key=lambda item: len(item[1]))
    first, other = pairs[0]
    text = (
        f"{len(pairs)} images have a companion of the same name {kind}, such as "
        f"{one_line(str(first))} and {one_line(str(other.relative_to(_above(first, other))))}. If "
        "these are masks, previews or copies, move them out of the data set; if all are images to "
        "train on, set checks={'companions': 'note'}"
    )
    shown = tuple(one_line(str(second)) for _, second in pairs[:200])
    yield Finding("companions", text, len(pairs), shown)


def _of_one_class(paths: Sequence[Path]) -> Iterator[tuple[str, Pairs]]:
    by_name: ByName = defaultdict(list)
    for path in paths:
        folder, name = os.path.split(path)
        by_name[folder, name.rpartition(".")[0]].append(path)
    suffixes = [(found[0], found[1]) for found in by_name.values() if len(found) > 1]
    if _most(suffixes, paths):
        yield "with another suffix", suffixes
    for kind, pairs_of in (
        ("with a fixed ending", _endings(by_name)),
        ("with a fixed beginning", _beginnings(by_name)),
    ):
        for added, pairs in pairs_of.items():
            if _most(pairs, paths) or (len(pairs) >= LEAST and _words(added) & _ENDINGS):
                yield kind, pairs
    beside = _in_folders(by_name)
    if len(beside) >= LEAST:
        yield "in a folder beside it", beside


def _most(pairs: Pairs, paths: Sequence[Path]) -> bool:
    return len(pairs) >= LEAST and len(pairs) > MOST * (len(paths) - len(pairs))


def _words(added: str) -> set[str]:
    return set(re.split(r"[^a-z]+", added.lower()))


def _means_companions(name: str) -> bool:
    """Whether the name of a folder, or an ending, says that no images of their own are meant."""
    words = _words(name)
    return bool(words & WORDS) and words <= WORDS | _BESIDE


def _endings(by_name: ByName) -> dict[str, Pairs]:
    """Ending → images that have a companion with it, and these.

    The ending of a number is none: ``img1`` and ``img10`` are two images. Of ``X_rgb`` and
    ``X_depth``, which have no ``X`` beside them, the one whose ending is a word for companions is
    the companion.
    """
    pairs: dict[str, Pairs] = defaultdict(list)
    by_start: ByName = defaultdict(list)
    for (folder, stem), found in by_name.items():
        for place in range(1, len(stem)):
            if not stem[place].isdigit() and (folder, stem[:place]) in by_name:
                pairs[stem[place:]].append((by_name[folder, stem[:place]][0], found[0]))
        if cut := re.fullmatch(r"(.+)[_. -][^_. -]+", stem):
            by_start[folder, cut[1]].append(found[0])
    for (_, start), found in by_start.items():
        masks = [path for path in found if _means_companions(path.stem[len(start) :])]
        images = [path for path in found if path not in masks]
        if masks and len(images) == 1:
            pairs[masks[0].stem[len(start) :]].append((images[0], masks[0]))
    return pairs


def _beginnings(by_name: ByName) -> dict[str, Pairs]:
    """Beginning → images that have a companion with it, and these."""
    pairs: dict[str, Pairs] = defaultdict(list)
    for (folder, stem), found in by_name.items():
        for place in range(1, len(stem)):
            if not stem[place - 1].isdigit() and (folder, stem[place:]) in by_name:
                pairs[stem[:place]].append((by_name[folder, stem[place:]][0], found[0]))
    return pairs


def _in_folders(by_name: ByName) -> Pairs:
    """Files in a folder such as ``masks``, each with an image outside of it."""
    folders = {folder for folder, _ in by_name}
    root = os.path.commonpath(folders)
    apart = {
        folder
        for folder in folders
        if any(map(_means_companions, Path(folder).relative_to(root).parts))
    }
    images = {stem: found[0] for (folder, stem), found in by_name.items() if folder not in apart}
    if not images:
        return []
    some = next(iter(images.values()))
    return [
        (images.get(stem, some), path)
        for (folder, stem), found in by_name.items()
        if folder in apart
        for path in found
    ]


def _above(first: Path, other: Path) -> Path:
    return Path(os.path.commonpath([first.parent, other.parent]))
