"""Source: YOLO data sets (``data.yaml``, or images/ beside labels/): boxes and outlines."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.findings import refuse
from pytest_datasize.images.image_set import Finding, ImageSet, Loaded, Reading, one_line
from pytest_datasize.images.sources.files import (
    Boundary,
    Files,
    Found,
    content,
    of_files,
    others_finding,
    sizes_of,
)
from pytest_datasize.images.sources.folder import read_classes
from pytest_datasize.images.sources.manifest import empty_targets, left_out, several_labels
from pytest_datasize.images.sources.parts import kind, split
from pytest_datasize.images.targets.boxes import Boxes
from pytest_datasize.images.targets.masks import Masks
from pytest_datasize.images.targets.outlines import BACKGROUND, Outline, Outlined
from pytest_datasize.images.targets.read import Described, described, of_targets
from pytest_datasize.requirement.tasks import AUTO, CLASSIFICATION

Object: TypeAlias = tuple[str, list[float]]
"""Class of an object, and the numbers behind it in its line."""

_PARTS = ("train", "val", "test")
_CONFIGS = ("data.yaml", "data.yml", "dataset.yaml")
_LARGEST_SHARE = 2.0  # some tools write a little more than 1 for what is cut by the border


def accepts(value: Any) -> bool:
    """Whether a path is a YAML file, or a folder that holds one or images/ beside labels/."""
    if not isinstance(value, Path):
        return False
    if value.suffix.lower() in (".yaml", ".yml"):
        return value.is_file()
    return any((value / name).is_file() for name in _CONFIGS) or (
        (value / "images").is_dir() and (value / "labels").is_dir()
    )


def load(value: Path, reading: Reading) -> Loaded:
    """Read parts that are class folders, or images with one label file each.

    A label file has ``class x y width height`` on each line, or a class and the corners of an
    outline, in shares of the image's sides; for a class per image all lines must name one class.

    Raises
    ------
    DatasetError
        The YAML or a label file cannot be understood, or a path leaves the folder.
    """
    path = Path(value)
    if path.is_dir():
        found = [path / name for name in _CONFIGS if (path / name).is_file()]
        if not found:
            return _without_config(path, reading)
        path = found[0]
    source = f"YOLO data set {path}"
    config = _config(path, source)
    boundary = Boundary(path.parent, reading.allow_outside)
    root = path.parent
    if isinstance(config.get("path"), str) and (root / config["path"]).is_dir():
        root = boundary.check(root / config["path"])
    names = _names(config.get("names"), source)
    points = config.get("kpt_shape") is not None
    parts = {
        part: _part(
            _listed(config[part], root, boundary, source), names, boundary, source, reading, points
        )
        for part in _PARTS
        if config.get(part)
    }
    if not parts:
        raise DatasetError(f"{source}: it names no `train:`; expected train, and val or test.")
    return split(parts, source)


def _without_config(root: Path, reading: Reading) -> Loaded:
    source = f"YOLO data set {root}"
    boundary = Boundary(root, reading.allow_outside)
    if not (root / "images").is_dir():
        raise DatasetError(f"{source}: expected data.yaml, or images/ beside labels/.")
    names: list[str] = []
    for file in (root / "classes.txt", root / "labels" / "classes.txt"):
        if not names and file.is_file():
            names = _listed_names(content(file).decode("utf-8-sig", "replace"), file)
    parts = [path for path in sorted((root / "images").iterdir()) if kind(path.name)]
    if not parts:
        return Loaded(_part([root / "images"], names, boundary, source, reading))
    return split({p.name: _part([p], names, boundary, source, reading) for p in parts}, source)


def _listed_names(text: str, file: Path) -> list[str]:
    """Return the names of a file, one per line; a line's number is that of the class."""
    names = [name.strip() for name in text.strip().splitlines()]
    if not all(names):
        raise DatasetError(
            f"{one_line(str(file))}: line {names.index('') + 1} is empty, so the numbers of the "
            "classes after it are uncertain. Remove the line, or name the class."
        )
    _refuse_same(names, one_line(str(file)))
    return names


def _refuse_same(names: Sequence[str], source: str) -> None:
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise DatasetError(
            f"{source}: two classes have the name {one_line(twice[0])!r}. Are they one class? Give "
            "its objects one number, or the classes different names."
        )


def _config(path: Path, source: str) -> dict[str, Any]:
    import yaml

    try:
        data = yaml.safe_load(content(path))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as problem:
        raise DatasetError(f"{source}: not valid YAML: {problem}") from None
    if not isinstance(data, dict):
        raise DatasetError(f"{source}: expected `train:`, `val:` and `names:`.")
    return data


def _names(given: Any, source: str) -> list[str]:
    if given is None:
        return []
    if isinstance(given, dict):
        if sorted(map(str, given)) != sorted(map(str, range(len(given)))):
            raise DatasetError(f"{source}: names are numbered {sorted(map(str, given))[:5]}.")
        given = [value for _, value in sorted(given.items(), key=lambda pair: int(pair[0]))]
    if not isinstance(given, list):
        raise DatasetError(f"{source}: `names:` is a {type(given).__name__}; expected a list.")
    names = [str(name) for name in given]
    _refuse_same(names, source)
    return names


def _listed(given: Any, root: Path, boundary: Boundary, source: str) -> list[Path]:
    """Folders or list files of one part."""
    places = given if isinstance(given, list) else [given]
    found = []
    for place in places:
        if not isinstance(place, str) or "\0" in place:
            raise DatasetError(f"{source}: {str(place)[:60]!r} is not a path.")
        path = root / place
        if not path.exists() and place.startswith("../"):  # as some exporters write it
            path = root / place.removeprefix("../")
        if not path.exists():
            raise DatasetError(f"{source}: {one_line(str(path))} does not exist.")
        found.append(boundary.check(path))
    return found


def _part(
    places: list[Path],
    names: list[str],
    boundary: Boundary,
    source: str,
    reading: Reading,
    points: bool = False,
) -> ImageSet:
    """Read a part of a data set; ``points``: key points stand behind the boxes."""
    images: list[Path] = []
    others: list[Finding] = []
    for place in places:
        if place.is_file():
            lines = content(place).decode("utf-8-sig", "replace").splitlines()
            listed = [line.strip() for line in lines if line.strip()]
            images += [boundary.check(place.parent / line) for line in listed]
        else:
            found = Found(place, boundary)
            images += found.images
            others += others_finding(found.others)
    labels_of = [_label_file(path) for path in images]
    if not any(path.is_file() for path in labels_of):
        if all(place.is_dir() for place in places) and any(p.parent not in places for p in images):
            return read_classes(places, source, boundary)
        raise DatasetError(
            f"{source}: no label file for any of {len(images)} images; expected one like "
            f"{one_line(str(labels_of[0])) if labels_of else 'labels/1.txt'}."
        )
    there = [path.is_file() for path in images]
    absent = [str(path) for path, here in zip(images, there, strict=True) if not here]
    labelled = [
        (path, _objects(file, names, boundary, points) if file.is_file() else None)
        for path, file, here in zip(images, labels_of, there, strict=True)
        if here
    ]
    missing = (
        *left_out(absent, source, "files that are not there", "missing_files"),
        *left_out(
            _alone(places, labels_of), source, "label files without an image", "missing_files"
        ),
    )
    if reading.task in (AUTO, CLASSIFICATION):
        return _classes(labelled, (*others, *missing), source)
    empty = [path.name for path, objects in labelled if not objects]
    findings = (*others, *missing, *empty_targets(empty, source))
    files = Files([path for path, _ in labelled], [path.name for path, _ in labelled])
    shown = [_checked(objects or [], str(path)) for path, objects in labelled]

    def describe() -> Described:
        if reading.task == "multilabel":
            labels = [[name for name, _ in objects] for objects in shown]
            return described(labels, source, reading.task)
        if reading.task == "detection":
            boxes = [[(name, _box(corners)) for name, corners in objects] for objects in shown]
            return of_targets(Boxes.of(boxes, shares=True), reading.task)
        if reading.task == "segmentation":
            return of_targets(_masks(shown, sizes_of(files), source), reading.task)
        raise DatasetError(f"{source}: it has no labels for task={reading.task!r}.")

    return of_files(source, files, describe, findings)


def _classes(
    found: list[tuple[Path, list[Object] | None]], findings: tuple[Finding, ...], source: str
) -> ImageSet:
    """Read images whose objects are all of one class."""
    paths, values = [], []
    unlabelled, several = [], []
    for path, objects in found:
        mine = {name for name, _ in objects or ()}
        if len(mine) > 1:
            several.append(str(path))
        elif not mine:
            unlabelled.append(str(path))
        else:
            paths.append(path)
            values.append(next(iter(mine)))
    findings = (
        *findings,
        *several_labels(several, source, "classes"),
        *left_out(unlabelled, source, "images without a label", "missing_labels"),
    )
    if not paths:
        refuse(findings, {})
    files = Files(paths, [path.name for path in paths])
    plain = [int(name) if name.isdigit() else name for name in values]
    numbers = all(isinstance(value, int) for value in plain)
    return of_files(
        source,
        files,
        lambda: described(plain if numbers else values, source, CLASSIFICATION),
        findings,
    )


def _masks(shown: list[list[Object]], sizes: list[tuple[int, int]], source: str) -> Masks:
    names = sorted({name for objects in shown for name, _ in objects} - {BACKGROUND})
    number = {name: place for place, name in enumerate(names, 1)} | {BACKGROUND: 0}
    outlines = []
    for objects in shown:
        if any(len(corners) == 4 for _, corners in objects):
            raise DatasetError(
                f"{source}: label files have boxes, not outlines; set task='detection'."
            )
        polygons = [(name, np.array(corners).reshape(-1, 2)) for name, corners in objects]
        polygons.sort(key=lambda pair: -float(np.prod(np.ptp(pair[1], axis=0))))
        outlines.append([Outline(number[name], (polygon,)) for name, polygon in polygons])
    named = {place: name for name, place in number.items()}
    return Masks.of(Outlined(outlines, sizes, shares=True), len(shown), named, source=source)


def _box(corners: list[float]) -> list[float]:
    """Return x0, y0, x1, y1 of a box as YOLO writes it (its centre and sides), or of an outline."""
    if len(corners) == 4:
        x, y, width, height = corners
        return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    xs, ys = corners[::2], corners[1::2]
    return [min(xs), min(ys), max(xs), max(ys)]


def _label_file(image: Path) -> Path:
    """``…/images/train/1.jpg`` → ``…/labels/train/1.txt``; else the text beside the image."""
    names = list(image.parts)
    for number in range(len(names) - 2, -1, -1):
        if names[number] == "images":
            names[number] = "labels"
            return Path(*names).with_suffix(".txt")
    return image.with_suffix(".txt")


def _alone(places: list[Path], known: list[Path]) -> list[str]:
    """Return the label files below the folders of images that belong to none of them."""
    found = set(known)
    folders = {_label_file(place / "1.jpg").parent for place in places if place.is_dir()}
    folders -= set(places)  # text beside images may be anything
    return [
        str(path)
        for folder in sorted(folders)
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() == ".txt"
        and path not in found
        and path.name not in ("classes.txt", "README.txt")
    ]


def _objects(file: Path, names: list[str], boundary: Boundary, points: bool) -> list[Object]:
    """Read the lines of a label file: a class, and a box or the corners of an outline."""
    found: list[Object] = []
    where = one_line(str(file))
    text = content(boundary.check(file)).decode("utf-8-sig", "replace")
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if not re.fullmatch(r"[0-9]{1,9}", words[0]):
            raise DatasetError(
                f"{where}: line {number} does not begin with the number of a class, a whole number "
                f"from 0 before a space; it begins with {one_line(words[0])[:40]!r}."
            )
        label = int(words[0])
        if names and not 0 <= label < len(names):
            raise DatasetError(f"{file}: class {label}, but there are {len(names)} names.")
        try:
            corners = [float(word) for word in words[1:]]
        except ValueError:
            corners = [math.nan]
        if not all(map(math.isfinite, corners)):
            raise DatasetError(f"{where}: line {number} has coordinates that are no numbers.")
        if len(corners) == 5 or points:  # with a confidence, or key points
            corners = corners[:4]
        found.append((names[label] if names else str(label), corners))
    return found


def _checked(found: list[Object], where: str) -> list[Object]:
    """Return objects with a box or an outline; raise DatasetError for others."""
    for name, corners in found:
        if len(corners) != 4 and (len(corners) < 6 or len(corners) % 2):
            raise DatasetError(
                f"{where}: {one_line(name)} has {len(corners)} coordinates; expected x y width "
                "height, or at least three corners."
            )
        if max(map(abs, corners)) > _LARGEST_SHARE:
            raise DatasetError(
                f"{where}: {one_line(name)} has the coordinate {max(corners, key=abs):g}; expected "
                "shares of the image's width and height, from 0 to 1, not pixels."
            )
    return found
