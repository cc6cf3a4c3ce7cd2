"""Source: YOLO data sets (``data.yaml`` or images/ beside labels/) whose images show one class."""

from pathlib import Path
from typing import Any

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.image_set import Finding, ImageSet, Loaded, Reading, one_line
from pytest_datasize.images.sources.files import (
    Boundary,
    Files,
    Found,
    content,
    of_files,
    others_finding,
)
from pytest_datasize.images.sources.folder import read_classes
from pytest_datasize.images.sources.manifest import left_out
from pytest_datasize.images.sources.parts import kind, split

_PARTS = ("train", "val", "test")
_CONFIGS = ("data.yaml", "data.yml", "dataset.yaml")


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

    A label file has ``class x y width height`` on each line; all its lines must name one class.

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
    parts = {
        part: _part(_listed(config[part], root, boundary, source), names, boundary, source)
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
    if (root / "classes.txt").is_file():
        names = content(root / "classes.txt").decode("utf-8-sig", "replace").split("\n")
    names = [name.strip() for name in names if name.strip()]
    parts = [path for path in sorted((root / "images").iterdir()) if kind(path.name)]
    if not parts:
        return Loaded(_part([root / "images"], names, boundary, source))
    return split({p.name: _part([p], names, boundary, source) for p in parts}, source)


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
    return [str(name) for name in given]


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


def _part(places: list[Path], names: list[str], boundary: Boundary, source: str) -> ImageSet:
    images: list[Path] = []
    others: list[Finding] = []
    for place in places:
        if place.is_file():
            lines = content(place).decode("utf-8-sig", "replace").splitlines()
            images += [boundary.check(place.parent / line.strip()) for line in lines if line]
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
    paths, values = [], []
    unlabelled, several, absent = [], [], []
    for path, file in zip(images, labels_of, strict=True):
        mine = _classes_in(file, boundary) if file.is_file() else set()
        if not path.is_file():
            absent.append(str(path))
        elif len(mine) > 1:
            several.append(str(path))
        elif not mine:
            unlabelled.append(str(path))
        else:
            number = next(iter(mine))
            if names and not 0 <= number < len(names):
                raise DatasetError(f"{file}: class {number}, but there are {len(names)} names.")
            paths.append(path)
            values.append(names[number] if names else number)
    findings = (
        *others,
        *left_out(several, source, "images of several classes", "several_labels"),
        *left_out(unlabelled, source, "images without a label", "missing_labels"),
        *left_out(absent, source, "files that are not there", "missing_files"),
    )
    return of_files(source, Files(paths, [path.name for path in paths]), values, findings)


def _label_file(image: Path) -> Path:
    """``…/images/train/1.jpg`` → ``…/labels/train/1.txt``; else the text beside the image."""
    names = list(image.parts)
    for number in range(len(names) - 2, -1, -1):
        if names[number] == "images":
            names[number] = "labels"
            return Path(*names).with_suffix(".txt")
    return image.with_suffix(".txt")


def _classes_in(file: Path, boundary: Boundary) -> set[int]:
    found = set()
    for number, line in enumerate(content(boundary.check(file)).splitlines(), 1):
        words = line.split()
        if words:
            if not words[0].isdigit() or len(words[0]) > 9:
                raise DatasetError(
                    f"{one_line(str(file))}: line {number} does not begin with the number of a "
                    "class."
                )
            found.add(int(words[0]))
    return found
