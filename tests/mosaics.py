"""Real digits on small canvases, with boxes, masks, labels and numbers that are known."""

import csv
import json
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

NAMES = ("zero", "one", "two", "three")
CELL = 16  # a quarter of a canvas; digits are 8 x 8 pixels, drawn twice as large
INK = 100


class Mosaics(NamedTuple):
    """N images of 32 x 32 pixels with up to four digits each.

    Attributes
    ----------
    images
        uint8 (N, 32, 32, 3).
    boxes
        Per image: (name, (x0, y0, x1, y1)) of every digit.
    masks
        int64 (N, 32, 32): 0 is the background, else 1 more than the digit.
    """

    images: np.ndarray
    boxes: list
    masks: np.ndarray

    @property
    def sets(self):
        """Which digits an image shows, bool (N, 4)."""
        return np.array(
            [[any(name == own for own, _ in boxes) for name in NAMES] for boxes in self.boxes]
        )

    @property
    def counts(self):
        """Number of digits in each image."""
        return np.array([len(boxes) for boxes in self.boxes])

    @property
    def targets(self):
        """Boxes as a torch data set gives them."""
        return [
            {
                "boxes": np.array([box for _, box in boxes], dtype=float).reshape(-1, 4),
                "labels": [name for name, _ in boxes],
            }
            for boxes in self.boxes
        ]


def mosaics(n: int, seed: int = 0, empty: float = 0.4) -> Mosaics:
    """Draw digits 0 to 3 into the quarters of canvases; a quarter may stay empty."""
    generator = np.random.default_rng(seed)
    found = load_digits()
    digits = [found.images[found.target == label] for label in range(len(NAMES))]
    images = generator.integers(0, 40, (n, 2 * CELL, 2 * CELL)).astype(np.uint8)
    masks = np.zeros(images.shape, dtype=np.int64)
    boxes = []
    for image, mask in zip(images, masks, strict=True):
        own = []
        for quarter in range(4):
            if generator.random() < empty:
                continue
            label = int(generator.integers(len(NAMES)))
            digit = generator.choice(digits[label])
            drawn = np.kron(digit, np.ones((2, 2))) * 15.9
            ink = drawn > INK
            y, x = CELL * (quarter // 2), CELL * (quarter % 2)
            image[y : y + CELL, x : x + CELL][ink] = drawn[ink]
            mask[y : y + CELL, x : x + CELL][ink] = label + 1
            rows, columns = np.nonzero(ink)
            box = (x + columns.min(), y + rows.min(), x + columns.max() + 1, y + rows.max() + 1)
            own.append((NAMES[label], tuple(map(int, box))))
        boxes.append(own)
    return Mosaics(np.stack([images] * 3, axis=-1), boxes, masks)


def write_images(folder: Path, images) -> list[Path]:
    """Write images as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index:04d}.png" for index in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    return paths


def write_coco(root: Path, made: Mosaics, outlines: str = "") -> Path:
    """Write COCO annotations: boxes, and outlines as ``polygons`` or ``runs``."""
    paths = write_images(root / "images", made.images)
    annotations = []
    for number, boxes in enumerate(made.boxes):
        for name, (x0, y0, x1, y1) in boxes:
            entry = {
                "id": len(annotations),
                "image_id": number,
                "category_id": NAMES.index(name) + 7,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": (x1 - x0) * (y1 - y0),
                "iscrowd": 0,
            }
            if outlines == "polygons":
                entry["segmentation"] = [[x0, y0, x1, y0, x1, y1, x0, y1]]
            if outlines == "runs":
                inside = np.zeros(made.masks[number].shape, dtype=bool)
                inside[y0:y1, x0:x1] = made.masks[number, y0:y1, x0:x1] == NAMES.index(name) + 1
                flat = inside.T.ravel()
                ends = np.flatnonzero(np.diff(flat)) + 1
                runs = np.diff([0, *ends, len(flat)]).tolist()
                size = list(inside.shape)
                entry["segmentation"] = {"counts": [0, *runs] if flat[0] else runs, "size": size}
            annotations.append(entry)
    data = {
        "images": [
            {"id": number, "file_name": path.name, "width": 32, "height": 32}
            for number, path in enumerate(paths)
        ],
        "annotations": annotations,
        "categories": [{"id": number + 7, "name": name} for number, name in enumerate(NAMES)],
    }
    path = root / "annotations.json"
    path.write_text(json.dumps(data))
    return path


def write_yolo(root: Path, made: Mosaics, outlines: bool = False) -> Path:
    """Write label files with boxes, or with the corners of the boxes as outlines."""
    write_images(root / "images" / "train", made.images)
    folder = root / "labels" / "train"
    folder.mkdir(parents=True)
    for number, boxes in enumerate(made.boxes):
        lines = []
        for name, (x0, y0, x1, y1) in boxes:
            values = [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]
            if outlines:
                values = [x0, y0, x1, y0, x1, y1, x0, y1]
            shares = " ".join(f"{value / 32:.6f}" for value in values)
            lines.append(f"{NAMES.index(name)} {shares}\n")
        (folder / f"{number:04d}.txt").write_text("".join(lines))
    path = root / "data.yaml"
    path.write_text(f"path: .\ntrain: images/train\nnames: [{', '.join(NAMES)}]\n")
    return path


def write_voc(root: Path, made: Mosaics) -> Path:
    """Write one XML file per image, as Pascal VOC has them."""
    paths = write_images(root / "JPEGImages", made.images)
    folder = root / "Annotations"
    folder.mkdir()
    for path, boxes in zip(paths, made.boxes, strict=True):
        tree = ElementTree.Element("annotation")
        ElementTree.SubElement(tree, "filename").text = path.name
        for name, box in boxes:
            one = ElementTree.SubElement(tree, "object")
            ElementTree.SubElement(one, "name").text = name
            place = ElementTree.SubElement(one, "bndbox")
            for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
                ElementTree.SubElement(place, key).text = str(value)
        ElementTree.ElementTree(tree).write(folder / f"{path.stem}.xml")
    return root


def write_box_table(root: Path, made: Mosaics) -> Path:
    """Write a CSV with one box per row; an image without any has a row without a label."""
    paths = write_images(root / "images", made.images)
    path = root / "boxes.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["filename", "class", "xmin", "ymin", "xmax", "ymax"])
        for image, boxes in zip(paths, made.boxes, strict=True):
            name = f"images/{image.name}"
            rows.writerows([[name, label, *box] for label, box in boxes] or [[name, *[""] * 5]])
    return path


def write_masks(root: Path, made: Mosaics, ending: str = "") -> Path:
    """Write images beside masks, PNG files with a palette."""
    write_images(root / "images", made.images)
    (root / "masks").mkdir()
    for number, mask in enumerate(made.masks):
        picture = Image.fromarray(mask.astype(np.uint8))
        picture.save(root / "masks" / f"{number:04d}{ending}.png")
    return root
