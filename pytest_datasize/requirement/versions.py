"""List the installed packages whose versions results depend on.

A key that omits a package would reuse results of another version. Each list includes the one
before it, since embeddings are computed from decoded images and evidence from embeddings.
"""

import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Final

DECODING: Final = ("Pillow", "pillow-heif", "pillow-simd", "numpy")
"""Packages that decode files into pixels, whose hash identifies an image."""

EMBEDDING: Final = (*DECODING, "torch", "torchvision", "timm")
"""Packages that turn pixels into embeddings: resizing, architecture, arithmetic."""

EVIDENCE: Final = (*EMBEDDING, "openvino", "scipy", "pytest-datasize")
"""Packages that turn embeddings into models, scores, curves and verdicts.

OpenVINO is one of them because it computes the embeddings where it is used; embeddings of PyTorch
do not depend on it.
"""

METHOD: Final = 5
"""Version of training, curves and verdicts: increase when their numbers change.

The version of the package does not change between two releases, and a store outlives both.
"""


def evidence_versions() -> list[object]:
    """Return everything installed that trials and evidence depend on, for a cache key."""
    return [METHOD, versions(EVIDENCE)]


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
    """Return package → version of the installed packages that provide some modules."""
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
    """Return the versions as one text, for text keys."""
    return " ".join(f"{name}={found}" for name, found in versions(names).items() if found)


@cache
def _version(name: str, path: tuple[str, ...]) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
