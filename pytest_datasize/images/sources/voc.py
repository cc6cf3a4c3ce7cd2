"""Source: Pascal VOC annotations, one XML file per image, with boxes."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple
from xml.etree import ElementTree

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.findings import refuse
from pytest_datasize.images.image_set import Finding, ImageSet, Loaded, Reading, few, one_line
from pytest_datasize.images.sources.files import Boundary, Files, Found, content, of_files
from pytest_datasize.images.sources.manifest import empty_targets, left_out, several_labels
from pytest_datasize.images.sources.parts import kind, split
from pytest_datasize.images.sources.suffixes import SUFFIXES
from pytest_datasize.images.targets.boxes import Boxes
from pytest_datasize.images.targets.read import Described, described, of_targets
from pytest_datasize.requirement.tasks import AUTO, CLASSIFICATION

_ANNOTATIONS: Final = ("annotations", "annotation", "xml", "labels")
_IMAGES: Final = ("jpegimages", "images", "image", "imgs", "img")


class _Annotated(NamedTuple):
    """An image and its objects: class, and x0, y0, x1, y1 in pixels."""

    image: Path
    objects: list[tuple[str, list[float]]]
    annotated: bool = True
    size: tuple[int, int] | None = None


def accepts(value: Any) -> bool:
    """Whether a folder holds XML files, in a folder of annotations or beside its images."""
    return isinstance(value, Path) and value.is_dir() and bool(_parts(value))


def load(value: Path, reading: Reading) -> Loaded:
    """Read the boxes, or the classes, of the images that XML files name.

    Images are in ``JPEGImages/`` or ``images/`` beside ``Annotations/``, or beside the XML files.
    With lists in ``ImageSets/Main/`` named train, val and test the data set is divided.

    Raises
    ------
    DatasetError
        An XML file cannot be understood, or no image is there.
    """
    root = Path(value)
    boundary = Boundary(root, reading.allow_outside)
    parts = _parts(root)
    if not parts:
        raise DatasetError(f"dataset {root}: no XML annotations of Pascal VOC in it.")
    source = f"VOC annotations in {root}"
    read = {name: _read(folder, boundary, source) for name, folder in parts.items()}
    lists = _lists(root) if set(read) == {""} else {}
    unlisted: tuple[Finding, ...] = ()
    if lists:
        by_stem = {one.image.stem: one for one in read[""]}
        named = {
            stem: by_stem.get(stem)
            or (by_stem.get(Path(stem).stem) if _names_image(stem) else None)
            for stem in chain(*lists.values())
        }
        kept = {one.image for one in named.values() if one}
        unlisted = _unlisted([one for one in read[""] if one.image not in kept], root)
        read = {
            name: [named[stem] or _Annotated(root / stem, []) for stem in stems]
            for name, stems in lists.items()
        }
    found = {name: _images(part, boundary, source, reading) for name, part in read.items()}
    if len(found) == 1:
        return Loaded(next(iter(found.values())))
    loaded = split(found, source)
    images = replace(loaded.images, findings=(*loaded.images.findings, *unlisted))
    return Loaded(images, loaded.test)


def _unlisted(left: Sequence[_Annotated], root: Path) -> tuple[Finding, ...]:
    """Report images that are in none of the lists of train, val and test."""
    if not left:
        return ()
    names = [one_line(one.image.name) for one in left]
    text = (
        f"{len(names)} images are in none of the lists in {root / 'ImageSets' / 'Main'} and were "
        f"left out: {few(names)}"
    )
    return (Finding("layout", text, len(names), tuple(names[:200])),)


def _parts(root: Path) -> dict[str, Path]:
    """Return part → folder that holds its XML files and images, itself or below."""
    if _xml_folder(root) is not None:
        return {"": root}
    if not root.is_dir():
        return {}
    found = {path.name: path for path in sorted(root.iterdir()) if path.is_dir()}
    return {
        name: path
        for name, path in found.items()
        if kind(name) is not None and _xml_folder(path) is not None
    }


def _xml_folder(folder: Path) -> Path | None:
    """Return the folder of XML files: one of annotations, else the folder itself."""
    inner = {path.name.lower(): path for path in folder.iterdir() if path.is_dir()}
    places = [inner[name] for name in _ANNOTATIONS if name in inner]
    for place in places:
        if next(place.glob("*.xml"), None) is not None:
            return place
    # any folder may hold some XML file; here it must lie beside an image of its name
    named = {path.stem for path in folder.glob("*.xml")}
    pictures = next((inner[name] for name in _IMAGES if name in inner), folder)
    if named and any(
        path.stem in named for path in pictures.iterdir() if path.suffix.lower() in SUFFIXES
    ):
        return folder
    return None


def _lists(root: Path) -> dict[str, list[str]]:
    found = {}
    for path in sorted((root / "ImageSets" / "Main").glob("*.txt")):
        if kind(path.stem):
            lines = content(path).decode("utf-8-sig", "replace").splitlines()
            found[path.stem] = [line.split()[0] for line in lines if line.split()]
    return found if any(kind(name) == "train" for name in found) and len(found) > 1 else {}


def _read(folder: Path, boundary: Boundary, source: str) -> list[_Annotated]:
    place = _xml_folder(folder)
    assert place is not None
    inner = {path.name.lower(): path for path in folder.iterdir() if path.is_dir()}
    images = next((inner[name] for name in _IMAGES if name in inner), place)
    by_stem: dict[str, Path] = {}
    for path in Found(images, boundary).images:
        other = by_stem.setdefault(path.stem, path)
        if other != path:
            raise DatasetError(
                f"{source}: {one_line(str(other))} and {one_line(str(path))} have one name, so an "
                "XML file of that name may belong to either. Rename one of them and its XML file."
            )
    found = []
    of_image: dict[Path, Path] = {}
    for path in sorted(place.glob("*.xml")):
        tree = _parsed(boundary.check(path))
        named = (tree.findtext("filename") or "").strip().replace("\\", "/").rpartition("/")[2]
        image = by_stem.get(path.stem) or by_stem.get(Path(named).stem) or images / (named or "?")
        other = of_image.setdefault(image, path)
        if other != path:
            raise DatasetError(
                f"{source}: {one_line(str(other))} and {one_line(str(path))} are annotations of "
                f"one image, {one_line(str(image))}. Put its objects into one file."
            )
        objects = [_object(one, path) for one in tree.iter("object")]
        found.append(_Annotated(image, objects, size=_size(tree)))
    used = {one.image for one in found}
    bare = sorted(path for path in by_stem.values() if path not in used)
    return found + [_Annotated(path, [], annotated=False) for path in bare]


def _parsed(path: Path) -> ElementTree.Element:
    raw = content(path)
    if b"<!DOCTYPE" in raw or b"<!ENTITY" in raw:  # entities may expand without end
        raise DatasetError(f"{one_line(str(path))}: XML with a document type is not read.")
    try:
        return ElementTree.fromstring(raw)  # noqa: S314  (no entities, see above)
    except (ElementTree.ParseError, ValueError, RecursionError) as problem:
        raise DatasetError(f"{one_line(str(path))}: not valid XML: {problem}.") from None


def _object(one: ElementTree.Element, path: Path) -> tuple[str, list[float]]:
    name = (one.findtext("name") or "").strip()
    box = one.find("bndbox")
    try:
        texts = [box.findtext(key) if box is not None else None for key in _CORNERS]
        x0, y0, x1, y1 = (float(text or "nan") for text in texts)
    except ValueError:
        x0 = float("nan")
        y0 = x1 = y1 = x0
    if not name or not all(map(math.isfinite, (x0, y0, x1, y1))):
        raise DatasetError(
            f"{one_line(str(path))}: an object has no name, or no box of four finite numbers "
            f"({', '.join(_CORNERS)})."
        )
    return name, [x0, y0, x1, y1]


def _size(tree: ElementTree.Element) -> tuple[int, int] | None:
    """Return width and height as an XML file says them; None where it does not."""
    texts = [(tree.findtext(f"size/{side}") or "").strip() for side in ("width", "height")]
    width, height = (int(t) if t.isascii() and t.isdigit() and len(t) < 10 else 0 for t in texts)
    return (width, height) if width and height else None


_CORNERS: Final = ("xmin", "ymin", "xmax", "ymax")


def _images(
    part: Sequence[_Annotated], boundary: Boundary, source: str, reading: Reading
) -> ImageSet:
    there = [one for one in part if one.annotated and one.image.is_file()]
    absent = [str(one.image) for one in part if not one.image.is_file()]
    bare = [str(one.image) for one in part if not one.annotated]
    missing = (
        *left_out(absent, source, "files that are not there", "missing_files"),
        *left_out(bare, source, "images without an XML file", "missing_labels"),
    )
    if reading.task in (AUTO, CLASSIFICATION):
        names = [sorted({name for name, _ in one.objects}) for one in there]
        several = [str(o.image) for o, own in zip(there, names, strict=True) if len(own) > 1]
        empty = [str(o.image) for o, own in zip(there, names, strict=True) if not own]
        chosen = [(o.image, own[0]) for o, own in zip(there, names, strict=True) if len(own) == 1]
        findings = (
            *missing,
            *several_labels(several, source, "classes"),
            *left_out(empty, source, "images without a label", "missing_labels"),
        )
        if not chosen:
            refuse(findings, {})
        values = [name for _, name in chosen]
        files = Files([path for path, _ in chosen], base=boundary.root)
        return of_files(source, files, lambda: described(values, source, CLASSIFICATION), findings)
    empty = [one.image.name for one in there if not one.objects]
    findings = (*missing, *empty_targets(empty, source))

    def describe() -> Described:
        if reading.task == "multilabel":
            sets = [[name for name, _ in one.objects] for one in there]
            return described(sets, source, reading.task)
        if reading.task == "detection":
            boxes = Boxes.of([one.objects for one in there], sizes=[one.size for one in there])
            return of_targets(boxes, reading.task)
        raise DatasetError(f"{source}: it has no labels for task={reading.task!r}.")

    return of_files(source, Files([o.image for o in there], base=boundary.root), describe, findings)


def _names_image(name: str) -> bool:
    """Whether an entry of a list ends as an image file does: most lists leave that out."""
    return Path(name).suffix.lower() in SUFFIXES
