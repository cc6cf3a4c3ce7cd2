"""Source: COCO annotations (one JSON per part) whose images each show one category."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.image_set import ImageSet, Loaded, Reading
from pytest_datasize.images.sources.files import Boundary, Files, content, of_files
from pytest_datasize.images.sources.manifest import left_out
from pytest_datasize.images.sources.parts import kind, split

_SECTIONS = ("images", "annotations", "categories")


def accepts(value: Any) -> bool:
    """Whether a path is a JSON file, or a folder that holds annotations."""
    if not isinstance(value, Path):
        return False
    return (value.suffix.lower() == ".json" and value.is_file()) or bool(_in_folder(value))


def load(value: Path, reading: Reading) -> Loaded:
    """Read annotations; an image's label is the category of its annotations.

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
    labels: dict[Any, set[str]] = {}
    for entry in annotations:
        image, category = _needed(entry, "image_id", source), _needed(entry, "category_id", source)
        if category not in categories:
            raise DatasetError(f"{source}: category_id {category!r} is not among the categories.")
        labels.setdefault(image, set()).add(categories[category])
    folder = _folder_of_images(path, root, [str(name) for name in images.values()], source)
    boundary = Boundary(root, reading.allow_outside)
    paths, values = [], []
    absent, unlabelled, several = [], [], []
    for number, name in images.items():
        file = boundary.check(folder / str(name))
        mine = labels.get(number, set())
        if not mine:
            unlabelled.append(str(name))
        elif len(mine) > 1:
            several.append(f"{name} ({', '.join(sorted(mine)[:3])})")
        elif not file.is_file():
            absent.append(str(name))
        else:
            paths.append(file)
            values.append(next(iter(mine)))
    findings = (
        *left_out(several, source, "images of several categories", "several_labels"),
        *left_out(unlabelled, source, "images without a label", "missing_labels"),
        *left_out(absent, source, "files that are not there", "missing_files"),
    )
    return of_files(source, Files(paths, base=folder), values, findings)


def _sections(path: Path, source: str) -> tuple[dict[Any, Any], list[Any], dict[Any, str]]:
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
        images[number] = name.replace("\\", "/")
    categories = {
        _needed(entry, "id", source): str(_needed(entry, "name", source))
        for entry in data["categories"]
    }
    return images, data["annotations"], categories


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
