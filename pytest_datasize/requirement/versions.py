"""The versions of installed packages that results depend on: one list, by what depends on it.

A key that leaves out a package reuses what another version of it has calculated. Each list holds
the ones before it, since embeddings are made of decoded images and evidence of embeddings.
"""

import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Final

DECODING: Final = ("Pillow", "pillow-heif", "pillow-simd", "numpy")
"""What turns the bytes of a file into pixels, whose hash names an image."""

EMBEDDING: Final = (*DECODING, "torch", "torchvision", "timm")
"""What turns pixels into embeddings: resizing, architecture, arithmetic."""

EVIDENCE: Final = (*EMBEDDING, "scipy", "pytest-datasize")
"""What turns embeddings into models, scores, curves and verdicts."""


def versions(names: Iterable[str]) -> dict[str, str]:
    """Return package → version; empty for one that is not installed.

    Examples
    --------
    >>> versions(["numpy", "no-such-package"])["no-such-package"]
    ''
    """
    path = tuple(sys.path)
    return {name: _version(name, path) for name in names}


def versions_of_modules(modules: Iterable[str]) -> dict[str, str]:
    """Return package → version of installed packages by what they are imported as."""
    found: dict[str, str] = {}
    for module in sorted(modules):
        names = [module] if versions([module])[module] else _packages().get(module, [])
        found |= versions(names)
    return found


@cache
def _packages() -> Mapping[str, list[str]]:
    from importlib.metadata import packages_distributions  # reads all packages

    return packages_distributions()


def text_of(names: Iterable[str]) -> str:
    """Return the versions as one text, for keys that are texts."""
    return " ".join(f"{name}={found}" for name, found in versions(names).items() if found)


@cache
def _version(name: str, path: tuple[str, ...]) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
