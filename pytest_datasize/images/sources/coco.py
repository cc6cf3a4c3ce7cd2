"""Source: COCO annotations (one JSON per part): categories, boxes, polygons and run lengths."""

import json
from collections.abc import Mapping, Sequence, Set
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.findings import refuse
from pytest_datasize.images.image_set import Finding, ImageSet, Loaded, Reading, one_line
from pytest_datasize.images.sources.files import Boundary, Files, content, of_files, sizes_of
from pytest_datasize.images.sources.manifest import empty_targets, left_out, several_labels
from pytest_datasize.images.sources.parts import kind, split
from pytest_datasize.images.targets.boxes import Boxes
from pytest_datasize.images.targets.masks import Masks
from pytest_datasize.images.targets.outlines import BACKGROUND, Outlined, outline_of
from pytest_datasize.images.targets.read import Described, described, of_targets
from pytest_datasize.requirement.tasks import AUTO, CLASSIFICATION

_SECTIONS = ("images", "annotations", "categories")


def accepts(value: Any) -> bool:
    """Whether a path is a JSON file, or a folder that holds annotations."""
    if not isinstance(value, Path):
        return False
    return (value.suffix.lower() == ".json" and value.is_file()) or bool(_in_folder(value))


def load(value: Path, reading: Reading) -> Loaded:
    """Read annotations, as the task asks: one category, all categories, boxes or masks.

    Images are searched beside the JSON file, in ``images/``, and in folders named as its last
    word says (``instances_train2017.json``: ``train2017/``).

    Raises
    ------
    DatasetError
        The JSON is not of COCO's form, names no image that is there, or leaves its folder.
    """
    path = Path(value)
    if not path.is_dir():
        root = path.parent.parent if path.parent.name == "annotations" else path.parent
        return Loaded(_read(path, root, reading))
    found = _in_folder(path)
    if not found:
        raise DatasetError(f"dataset {path}: no COCO annotations in it, such as annotations/*.json")
    if len(found) == 1:
        return Loaded(_read(found[0], path, reading))
    parts = {}
    for file in found:
        name = _part(file)
        if name in parts:
            raise DatasetError(
                f"dataset {path} holds several COCO files for {name!r} "
                f"({', '.join(f.name for f in found)}). Name the one you mean."
            )
        parts[name] = _read(file, path, reading)
    return split(parts, f"COCO annotations in {path}")


def _in_folder(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    patterns = ("annotations/*.json", "*/_annotations.coco.json", "_annotations.coco.json")
    found = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    found += [path for path in (folder / "annotations.json",) if path.is_file()]
    return [path for path in found if not path.name.startswith(("captions", "person_keypoints"))]


def _part(file: Path) -> str:
    """Return the name of a file's part: from its folder, else by the last word of its name."""
    if file.name == "_annotations.coco.json":
        return file.parent.name
    words = file.stem.replace("-", "_").split("_")
    return next((word for word in reversed(words) if kind(word)), file.stem)


def _read(path: Path, root: Path, reading: Reading) -> ImageSet:
    source = f"COCO annotations {path}"
    images, annotations, categories = _sections(path, source)
    objects: dict[Any, list[Any]] = {}
    for entry in annotations:
        image, category = _needed(entry, "image_id", source), _needed(entry, "category_id", source)
        if category not in categories:
            raise DatasetError(f"{source}: category_id {category!r} is not among the categories.")
        objects.setdefault(image, []).append(entry)
    used = {entry["category_id"] for entries in objects.values() for entry in entries}
    _refuse_same_names(categories, used, source)
    strangers = sorted({str(image) for image in objects if image not in images})
    what = "images with annotations that are not in its list of images (by id)"
    unlisted = left_out(strangers, source, what, "missing_files")
    names = [str(entry.name) for entry in images.values()]
    folder = _folder_of_images(path, root, names, source)
    boundary = Boundary(root, reading.allow_outside)
    if reading.task in (AUTO, CLASSIFICATION):
        return _classes(images, objects, categories, folder, boundary, source, unlisted)
    found, absent, empty = [], [], []
    for number, entry in images.items():
        if boundary.check(folder / entry.name).is_file():
            found.append(number)
            if not objects.get(number):
                empty.append(entry.name)
        else:
            absent.append(entry.name)
    findings = (
        *unlisted,
        *left_out(absent, source, "files that are not there", "missing_files"),
        *empty_targets(empty, source),
    )
    files = Files([folder / images[number].name for number in found], base=folder)
    shown = [objects.get(number, []) for number in found]

    def describe() -> Described:
        if reading.task == "multilabel":
            names = [[categories[entry["category_id"]] for entry in entries] for entries in shown]
            return described(names, source, reading.task)
        if reading.task == "detection":
            said = [images[number].size for number in found]
            return of_targets(_boxes(shown, categories, said, source), reading.task)
        if reading.task == "segmentation":
            sizes = sizes_of(files, [images[number].size for number in found])
            return of_targets(_masks(shown, categories, sizes, source), reading.task)
        raise DatasetError(f"{source}: it has no labels for task={reading.task!r}.")

    return of_files(source, files, describe, findings)


def _classes(
    images: "dict[Any, _Entry]",
    objects: dict[Any, list[Any]],
    categories: dict[Any, str],
    folder: Path,
    boundary: Boundary,
    source: str,
    unlisted: tuple[Finding, ...],
) -> ImageSet:
    """Read images whose annotations all name one category."""
    paths, values = [], []
    absent, unlabelled, several = [], [], []
    for number, entry in images.items():
        file = boundary.check(folder / entry.name)
        mine = {categories[found["category_id"]] for found in objects.get(number, [])}
        if not mine:
            unlabelled.append(entry.name)
        elif len(mine) > 1:
            several.append(f"{entry.name} ({', '.join(sorted(mine)[:3])})")
        elif not file.is_file():
            absent.append(entry.name)
        else:
            paths.append(file)
            values.append(next(iter(mine)))
    findings = (
        *unlisted,
        *several_labels(several, source, "categories"),
        *left_out(unlabelled, source, "images without a label", "missing_labels"),
        *left_out(absent, source, "files that are not there", "missing_files"),
    )
    if not paths:
        refuse(findings, {})
    files = Files(paths, base=folder)
    return of_files(source, files, lambda: described(values, source, CLASSIFICATION), findings)


def _boxes(
    shown: list[list[Any]],
    categories: dict[Any, str],
    sizes: Sequence[tuple[int, int] | None],
    source: str,
) -> Boxes:
    """Return the boxes of images; those of crowds, of several objects, are left out."""
    found: list[list[tuple[str, list[float]]]] = []
    for entries in shown:
        image: list[tuple[str, list[float]]] = []
        for entry in entries:
            if entry.get("iscrowd"):
                continue
            box = entry.get("bbox")
            four = isinstance(box, list) and len(box) == 4
            if not four or not all(isinstance(v, (int, float)) and isfinite(v) for v in box or ()):
                raise DatasetError(
                    f"{source}: an annotation of image {entry['image_id']!r} has no `bbox` of four "
                    f"numbers, all finite (found {str(box)[:60]}). Of images without boxes set "
                    "task='multilabel'."
                )
            x, y, width, height = map(float, box or ())
            image.append((categories[entry["category_id"]], [x, y, x + width, y + height]))
        found.append(image)
    return Boxes.of(found, sizes=sizes)


def _masks(
    shown: list[list[Any]],
    categories: dict[Any, str],
    sizes: list[tuple[int, int]],
    source: str,
) -> Masks:
    """Draw masks from polygons and run lengths, large objects first."""
    names = sorted(set(categories.values()) - {BACKGROUND})
    number = {name: place for place, name in enumerate(names, 1)} | {BACKGROUND: 0}
    outlines = []
    for entries, size in zip(shown, sizes, strict=True):
        image = []
        for entry in sorted(entries, key=_area, reverse=True):
            where = f"{source}: an annotation of image {entry['image_id']!r}"
            if not entry.get("segmentation"):
                raise DatasetError(f"{where} has no `segmentation`; set task='detection'.")
            category = number[categories[entry["category_id"]]]
            if outline := outline_of(category, entry["segmentation"], where, size):
                image.append(outline)
        outlines.append(image)
    named = {0: BACKGROUND} | {place: name for name, place in number.items() if place}
    return Masks.of(Outlined(outlines, sizes), len(shown), named, source=source)


def _area(entry: Mapping[str, Any]) -> float:
    area = entry.get("area")
    return float(area) if isinstance(area, (int, float)) and isfinite(area) else 0.0


class _Entry(NamedTuple):
    """An image: its file, and (width, height) where the annotations say it."""

    name: str
    size: tuple[int, int] | None


def _sections(path: Path, source: str) -> tuple[dict[Any, _Entry], list[Any], dict[Any, str]]:
    raw = content(path)
    try:
        data = json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as problem:
        raise DatasetError(f"{source}: not valid JSON: {problem}.") from None
    if not isinstance(data, dict) or not all(isinstance(data.get(s), list) for s in _SECTIONS):
        raise DatasetError(
            f"{source}: not of COCO's form. Expected the lists {', '.join(_SECTIONS)}; for rows of "
            "paths and labels use JSON lines (.jsonl)."
        )
    images = {}
    for entry in data["images"]:
        number = _needed(entry, "id", source)
        if number in images:
            raise DatasetError(f"{source}: two images have the id {number!r}.")
        name = _needed(entry, "file_name", source)
        if not isinstance(name, str) or not name or "\0" in name or len(name) > 4096:
            raise DatasetError(f"{source}: file_name {str(name)[:60]!r} is not a path.")
        # written under Windows; elsewhere a backslash in a name is so rare that "/" is meant
        sides = entry.get("width"), entry.get("height")
        known = all(isinstance(side, int) and side > 0 for side in sides)
        size = (int(sides[0] or 0), int(sides[1] or 0)) if known else None
        images[number] = _Entry(name.replace("\\", "/"), size)
    categories: dict[Any, str] = {}
    for entry in data["categories"]:
        number, name = _needed(entry, "id", source), str(_needed(entry, "name", source))
        if categories.setdefault(number, name) != name:
            raise DatasetError(
                f"{source}: the id {number!r} is that of two categories, "
                f"{one_line(categories[number])!r} and {one_line(name)!r}."
            )
    return images, data["annotations"], categories


def _refuse_same_names(categories: Mapping[Any, str], used: Set[Any], source: str) -> None:
    """Refuse two categories of one name that both have annotations."""
    known: dict[str, Any] = {}
    for number in (number for number in categories if number in used):
        other = known.setdefault(categories[number], number)
        if other != number:
            raise DatasetError(
                f"{source}: the categories {other!r} and {number!r} have the name "
                f"{one_line(categories[number])!r}. Are they one class? Give both annotations one "
                "id, or the categories different names."
            )


def _needed(entry: Any, key: str, source: str) -> Any:
    value = entry.get(key) if isinstance(entry, Mapping) else None
    if not isinstance(value, (str, int)):
        raise DatasetError(f"{source}: an entry has no {key!r}: {str(entry)[:80]!r}.")
    return value


def _folder_of_images(path: Path, root: Path, names: list[str], source: str) -> Path:
    word = path.stem.replace("-", "_").split("_")[-1]
    places = [
        path.parent,
        path.parent / "images",
        root / word,
        root / "images" / word,
        root / "images",
        root,
    ]
    hits = [sum((place / name).is_file() for name in names[:20]) for place in places]
    if any(hits):
        return places[hits.index(max(hits))]
    tried = ", ".join(str(place) for place in dict.fromkeys(places))
    raise DatasetError(f"{source}: none of its images is there. Looked in: {tried}.")
