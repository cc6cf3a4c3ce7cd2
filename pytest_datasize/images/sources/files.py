"""Find the files of a data set in a fixed order, never outside the given folder."""

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.image_set import (
    MAX_PIXELS,
    Finding,
    ImageSet,
    few,
    file_stamp,
    one_line,
)
from pytest_datasize.images.sources.suffixes import SUFFIXES
from pytest_datasize.images.targets.read import Described
from pytest_datasize.images.undecodable import UndecodableError, UnreadableError
from pytest_datasize.images.undecodable import describe as explained

MOST_BYTES = 1 << 30
"""Largest image file that is read."""

_SERVICE = ("lost+found", "@eaDir", "$RECYCLE.BIN", "System Volume Information")


def content(path: Path) -> bytes:
    """Read a whole file; raise :class:`UnreadableError` that names it.

    Only regular files are read, since a pipe would wait and a device would never end, and none of
    more than :data:`MOST_BYTES`.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableError(f"{one_line(str(path))}: not a regular file.")
        if status.st_size > MOST_BYTES:
            raise UnreadableError(
                f"{one_line(str(path))}: {status.st_size:,} bytes, more than an image may have "
                f"({MOST_BYTES:,})."
            )
        return path.read_bytes()
    except MemoryError:
        raise UnreadableError(f"{one_line(str(path))}: not enough memory to read it.") from None
    except OSError as problem:
        raise UnreadableError(
            f"{one_line(str(path))}: cannot be read: {problem.strerror}. Is it a link to data that "
            "were not fetched, or did the folder change during the run?"
        ) from None


@dataclass(frozen=True, eq=False)
class Files:
    """Image files, by number.

    Attributes
    ----------
    paths
        Where they are.
    keys
        Text that ``group`` is applied to, for each file.
    base
        In place of keys: the folder below which a file's path is its key.
    """

    paths: Sequence[Path]
    keys: Sequence[str] = ()
    base: Path | None = None

    def read(self, index: int) -> bytes:
        """Return the content of a file."""
        return content(self.paths[index])

    def name(self, index: int) -> str:
        """Return its path."""
        return str(self.paths[index])

    def stamp(self, index: int) -> str | None:
        """Return its :func:`file_stamp`."""
        return file_stamp(self.paths[index])

    def key(self, index: int) -> str:
        """Return the text that ``group`` is applied to."""
        if self.base is None:
            return self.keys[index]
        return self.paths[index].relative_to(self.base).as_posix()


def of_files(
    source: str,
    files: Files,
    describe: Callable[[], Described],
    findings: tuple[Finding, ...],
) -> ImageSet:
    """Return the image set of files whose labels are given separately.

    Parameters
    ----------
    source
        Description for messages.
    files
        The files.
    describe
        Returns their labels; called only if there are files.
    findings
        What was found about them and about those left out.

    Raises
    ------
    DatasetError
        There are none, or labels are not those of a task.
    """
    if not len(files.paths):
        raise DatasetError(f"{source}: there are no images. {'; '.join(f.text for f in findings)}")
    labels = describe()
    return ImageSet(
        source=source,
        **labels.fields,
        read=files.read,
        name=files.name,
        findings=(*findings, *labels.findings),
        stamp=files.stamp,
        key=files.key,
    )


def sizes_of(
    files: Files, known: Sequence[tuple[int, int] | None] | None = None
) -> list[tuple[int, int]]:
    """Return (width, height) of images, on which masks are drawn.

    Parameters
    ----------
    files
        The images.
    known
        Sizes that annotations say; None where they do not.

    Raises
    ------
    DatasetError
        A file is not an image, or an image is larger than any that is decoded.
    """
    from pytest_datasize.images.decode import size_of

    found = []
    for row, size in enumerate(known or [None] * len(files.paths)):
        try:
            width, height = size or size_of(files.read(row))
        except UndecodableError as problem:
            raise DatasetError(explained(one_line(files.name(row)), problem)) from None
        if width * height > MAX_PIXELS:
            raise DatasetError(
                f"{one_line(files.name(row))}: a mask of {width:,} x {height:,} pixels is too "
                "large."
            )
        found.append((width, height))
    return found


class Boundary:
    """Check that no link or manifest path of a data set leads outside its folder.

    Parameters
    ----------
    root
        The folder of the data set.
    allow_outside
        Whether paths outside it are allowed.
    """

    def __init__(self, root: Path, allow_outside: bool) -> None:
        self.root = root
        self.allow_outside = allow_outside
        self._real = Path(os.path.realpath(root))
        self._known: dict[str, bool] = {}

    def check(self, path: Path) -> Path:
        """Return the path; raise DatasetError when it, or a link on its way, leads outside."""
        if self.allow_outside or path == self.root:
            return path
        parent = str(path.parent)
        if parent not in self._known:
            self._known[parent] = self._holds(Path(parent))
        if not self._known[parent] or (path.is_symlink() and not self._holds(path)):
            way = "a link that leads" if path.is_symlink() or ".." not in path.parts else "a path"
            raise DatasetError(
                f"{one_line(str(path))} is {way} outside {self.root}, to "
                f"{one_line(os.path.realpath(path))}. A data set may not leave its folder unless "
                "allow_outside=True (--datasize-allow-outside=true, or `allow_outside: true` in "
                "datasize.yaml) says so."
            )
        return path

    def _holds(self, path: Path) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(self._real)


def is_service(name: str) -> bool:
    """Return whether a folder is hidden or belongs to a tool, and so is not a class."""
    return name.startswith((".", "__")) or name in _SERVICE


def folders(root: Path, boundary: Boundary) -> list[Path]:
    """Visible folders directly in a folder, sorted.

    Raises
    ------
    DatasetError
        A link leads nowhere or outside, or the folder cannot be listed.
    """
    found = []
    for path in listed(root):
        if is_service(path.name):
            continue
        _refuse_broken(path, root)
        if path.is_dir():
            found.append(boundary.check(path))
    return found


def hidden(root: Path) -> list[str]:
    """Names of the folders that :func:`folders` leaves out."""
    return [path.name for path in listed(root) if is_service(path.name) and path.is_dir()]


def listed(folder: Path) -> list[Path]:
    """Everything directly in a folder, sorted."""
    try:
        return sorted(folder.iterdir())
    except OSError as problem:
        raise DatasetError(f"folder {folder}: cannot be listed: {problem.strerror}.") from None


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Like :func:`listed`, with cached file types, so no further system calls are needed."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as problem:
        raise DatasetError(f"folder {folder}: cannot be listed: {problem.strerror}.") from None


class Found:
    """Image files under a folder, and counts of other files.

    Attributes
    ----------
    images
        Paths in a fixed order: a folder's own files by name, then its sub-folders'.
    others
        Suffix, or ``hidden``, → number of files that are not images.
    skipped
        Hidden and service folders on the way.
    """

    def __init__(self, folder: Path, boundary: Boundary) -> None:
        self.images: list[Path] = []
        self.others: Counter[str] = Counter()
        self.skipped: list[Path] = []
        if folder.is_dir():
            self._walk(folder, boundary, frozenset())

    def _walk(self, folder: Path, boundary: Boundary, above: frozenset[str]) -> None:
        real = os.path.realpath(folder)
        if real in above:  # a link to a folder that it lies in
            return
        inner: list[Path] = []
        for entry in _entries(folder):
            name, path = entry.name, Path(entry.path)
            if entry.is_symlink():
                _refuse_broken(path, folder)
                boundary.check(path)
            if entry.is_dir():
                (self.skipped if is_service(name) else inner).append(path)
            elif name.startswith("."):
                self.others["hidden"] += 1
            elif path.suffix.lower() not in SUFFIXES or not entry.is_file():
                self.others[path.suffix.lower() or "no suffix"] += 1
            else:
                self.images.append(path)
        for path in inner:
            self._walk(path, boundary, above | {real})


def others_finding(others: Counter[str]) -> Iterator[Finding]:
    """Report files that are not images, by suffix."""
    total = sum(others.values())
    if total:
        kinds = few([one_line(kind) for kind, _ in others.most_common()])
        text = f"{total} files that are not images were left out ({kinds})"
        yield Finding("other_files", text, total)


def hidden_finding(left_out: Sequence[Path]) -> Iterator[Finding]:
    """Report hidden folders, first those that hold images."""
    if left_out:
        of_images = [path for path in left_out if holds_an_image(path)]
        others = [path for path in left_out if path not in set(of_images)]
        names = [one_line(path.name) for path in (*of_images, *others)]
        with_images = f", {len(of_images)} of them with images" if of_images else ""
        text = f"{len(names)} hidden or service folders were left out{with_images}: {few(names)}"
        yield Finding("hidden_folders", text, len(names), tuple(names))


def holds_an_image(folder: Path) -> bool:
    """Return whether there is an image in a folder or below it."""
    return any(path.suffix.lower() in SUFFIXES for path in folder.rglob("*"))


def _refuse_broken(path: Path, folder: Path) -> None:
    if path.is_symlink() and not path.exists():
        raise DatasetError(
            f"dataset {folder}: {one_line(path.name)} is a link to "
            f"{one_line(os.readlink(path))}, which is not there. Fetch the data (`dvc pull`, "
            "`git annex get`) or remove the link."
        )
