"""Find files beside the images that are not images of their own: masks, previews, depth maps.

A mask or a preview usually has the name of its image, with another suffix or a fixed ending. If
most images of a data set have such a companion, either half of the files must not be trained on, or
the names mean something else: the user has to say.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from pytest_datasize.images.image_set import Finding, one_line

LEAST = 5
"""Fewer pairs than this are taken for chance."""

MOST = 0.5
"""Share of the images with a companion above which the user is asked."""

_SEPARATORS = "_-. "


def companions(paths: Sequence[Path]) -> Iterator[Finding]:
    """Report that most images have a companion of the same name.

    Parameters
    ----------
    paths
        All image files of a data set.
    """
    names: dict[tuple[Path, str], list[Path]] = {}
    for path in paths:
        names.setdefault((path.parent, path.stem), []).append(path)
    pairs = [(found[0], found[1]) for found in names.values() if len(found) > 1]
    ends: dict[str, list[tuple[Path, Path]]] = {}
    for (folder, stem), found in names.items():
        for place in range(1, len(stem)):
            image = names.get((folder, stem[:place]))
            if image and stem[place] in _SEPARATORS:
                ends.setdefault(stem[place:], []).append((image[0], found[0]))
    by_ending = max(ends.values(), key=len, default=[])
    for kind, of_kind in (("another suffix", pairs), ("a fixed ending", by_ending)):
        alone = len(paths) - len(of_kind)
        if len(of_kind) >= LEAST and len(of_kind) > MOST * alone:
            first, other = of_kind[0]
            suffixes = Counter(second.suffix for _, second in of_kind)
            text = (
                f"{len(of_kind)} images have a companion of the same name with {kind}, such as "
                f"{one_line(str(first))} and {one_line(other.name)}. If these are masks, previews "
                f"or copies ({one_line(', '.join(suffixes))}), move them out of the data set; if "
                "all are images to train on, set checks={'companions': 'note'}"
            )
            shown = tuple(one_line(str(second)) for _, second in of_kind[:200])
            yield Finding("companions", text, len(of_kind), shown)
            return
