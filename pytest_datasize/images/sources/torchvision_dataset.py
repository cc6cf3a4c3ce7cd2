"""Source: a data set that torchvision knows by name, from a local folder; nothing is fetched."""

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.image_set import ImageSet, Loaded, Reading
from pytest_datasize.images.sources import torch_dataset
from pytest_datasize.images.sources.parts import joined, split

PREFIX = "torchvision"
_TRAIN_TEST = {"train": {"train": True}, "test": {"train": False}}


def _splits(*names: str) -> dict[str, dict[str, Any]]:
    return {name: {"split": name} for name in names}


NAMES: dict[str, dict[str, dict[str, Any]]] = {
    "CIFAR10": _TRAIN_TEST,
    "CIFAR100": _TRAIN_TEST,
    "Caltech101": {},
    "Caltech256": {},
    "Country211": {**_splits("train", "test"), "val": {"split": "valid"}},
    "DTD": _splits("train", "val", "test"),
    "EuroSAT": {},
    "FER2013": _splits("train", "test"),
    "FGVCAircraft": _splits("train", "val", "test"),
    "FashionMNIST": _TRAIN_TEST,
    "Flowers102": _splits("train", "val", "test"),
    "Food101": _splits("train", "test"),
    "GTSRB": _splits("train", "test"),
    "ImageNet": _splits("train", "val"),
    "Imagenette": _splits("train", "val"),
    "KMNIST": _TRAIN_TEST,
    "MNIST": _TRAIN_TEST,
    "OxfordIIITPet": {"train": {"split": "trainval"}, "test": {"split": "test"}},
    "PCAM": _splits("train", "val", "test"),
    "QMNIST": _TRAIN_TEST,
    "RenderedSST2": _splits("train", "val", "test"),
    "SEMEION": {},
    "STL10": _splits("train", "test"),
    "SVHN": _splits("train", "test"),
    "StanfordCars": _splits("train", "test"),
    "USPS": _TRAIN_TEST,
}
"""Name → arguments of each part; without parts, a split of our own is made. Only data sets of one
label per image whose files hold no code, or are checked against known hashes before."""


def accepts(value: Any) -> bool:
    """Return False: such a data set is only selected by ``torchvision:NAME``."""
    return False


def load(value: Any, reading: Reading) -> Loaded:
    """Read ``NAME@ROOT``: the folder that was given to torchvision as ``root``.

    Raises
    ------
    DatasetError
        The name is unknown, or its files are not in the folder.
    """
    from torchvision import datasets

    name, _, folder = str(value).partition("@")
    if name not in NAMES:
        raise DatasetError(
            f"torchvision:{name} is not known here. Known: {', '.join(sorted(NAMES))}. Any other "
            "data set can be given as an object by the fixture datasize_dataset."
        )
    root = Path(folder or "data")
    make = getattr(datasets, name)
    can_download = "download" in inspect.signature(make.__init__).parameters
    options = {"download": False} if can_download else {}

    def part(arguments: dict[str, Any]) -> ImageSet:
        try:
            dataset = make(root, **arguments, **options)
        except Exception as problem:  # each data set complains in its own way
            raise DatasetError(
                f"torchvision:{name} cannot be read from {root}: {problem} Nothing is fetched "
                f"here; fetch it once with torchvision.datasets.{name}({str(root)!r}, "
                "download=True) or name another folder, as in torchvision:NAME@FOLDER."
            ) from None
        return torch_dataset.load(dataset, reading).images

    source = f"torchvision {name} in {root}"
    parts = {part_name: part(arguments) for part_name, arguments in NAMES[name].items()}
    if not parts:
        return Loaded(replace(part({}), source=source))
    if set(parts) == {"train"}:
        return Loaded(joined([parts["train"]], source))
    return split(parts, source)
