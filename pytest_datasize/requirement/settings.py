"""Resolve the settings of a requirement: marker > command line > YAML > ini > default."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from pytest_datasize.errors import DatasetError, RequirementError
from pytest_datasize.requirement.options import OPTIONS
from pytest_datasize.requirement.registries import SOURCES_BY_NAME
from pytest_datasize.requirement.requirement import Requirement
from pytest_datasize.requirement.spelling import nearest

CONFIG_NAME = "datasize.yaml"

MOST_CHARACTERS = 1_000_000
"""Longest settings file that is read."""

MOST_VALUES = 100_000
"""Most values in a settings file, aliases counted as often as they are used."""


@dataclass(frozen=True)
class YamlConfig:
    """Checked content of a ``datasize.yaml``.

    Attributes
    ----------
    path
        The file; relative paths in it are relative to its folder.
    defaults
        Option name → value.
    datasets
        Name → folder.
    requirements
        The gates, each with its name and line (1-based).
    """

    path: Path
    defaults: Mapping[str, Any] = field(default_factory=dict)
    datasets: Mapping[str, str] = field(default_factory=dict)
    requirements: tuple[tuple[str, int, Requirement], ...] = ()


class Layer(NamedTuple):
    """One place where options are set.

    Attributes
    ----------
    name
        Its name in messages.
    values
        Option name → checked value.
    base
        Folder to which its relative paths refer.
    """

    name: str
    values: Mapping[str, Any]
    base: Path = Path()


@dataclass(frozen=True)
class Settings:
    """The value of every option for one requirement, and the layer that set it.

    Attributes
    ----------
    values
        Option name → value.
    layers
        Option name → layer; options with their default value are not in it.
    """

    values: Mapping[str, Any]
    layers: Mapping[str, Layer]

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def base(self, name: str, default: Path) -> Path:
        """Return the folder to which a relative path in this option refers."""
        return self.layers[name].base if name in self.layers else default


def resolve(*layers: Layer) -> Settings:
    """Merge layers, highest priority first, over the built-in defaults.

    Examples
    --------
    >>> marker, ini = Layer("marker", {"repeats": 5}), Layer("ini", {"repeats": 20, "seed": 1})
    >>> settings = resolve(marker, ini)
    >>> settings["repeats"], settings["seed"], settings["sampling"]
    (5, 1, 'stratified')
    >>> settings.layers["seed"].name
    'ini'
    """
    values = {name: option.default for name, option in OPTIONS.items()}
    origin = {}
    for layer in reversed(layers):
        values.update(layer.values)
        origin.update(dict.fromkeys(layer.values, layer))
    return Settings(values, origin)


def read_yaml(path: Path) -> YamlConfig:
    """Read and check a ``datasize.yaml``.

    Raises
    ------
    RequirementError
        The file cannot be read, is not YAML, or holds an unknown key or a wrong value; the
        message names the file, the line and the key.
    """
    import yaml

    class UniqueKeys(yaml.SafeLoader):
        """Reject duplicate keys: YAML silently keeps the last one, which could drop a gate."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            seen = set()
            for key, _ in node.value:
                if isinstance(key.value, str) and key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} occurs twice", key.start_mark
                    )
                seen.add(key.value if isinstance(key.value, str) else id(key))
            return super().construct_mapping(node, deep)

    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MOST_CHARACTERS + 1)
        if len(text) > MOST_CHARACTERS:
            raise ValueError(f"longer than {MOST_CHARACTERS:,} characters")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_bomb(node)
        data = yaml.load(text, Loader=UniqueKeys)  # noqa: S506  (a SafeLoader)
        lines = _entry_lines(node, "requirements")
    except OSError as problem:
        raise RequirementError(f"{path}: cannot be read: {problem.strerror}") from None
    except yaml.MarkedYAMLError as problem:
        line = f":{problem.problem_mark.line + 1}" if problem.problem_mark else ""
        if "alias" in f"{problem.context} {problem.problem}":
            raise RequirementError(
                f"{path}{line}: not valid YAML: an unquoted * begins an alias. Quote a text that "
                'begins with it, such as the class "*".'
            ) from None
        raise RequirementError(f"{path}{line}: not valid YAML: {str(problem)[:300]}") from None
    except Exception as problem:  # constructors of the library raise errors of many types
        said = str(problem) or type(problem).__name__
        raise RequirementError(f"{path}: not valid YAML: {said[:300]}") from None

    sections = _mapping(data, f"{path}", allowed=("checks", "datasets", "defaults", "requirements"))
    defaults = {
        name: OPTIONS[name].parse(name, value, f"{path}: defaults")
        for name, value in _mapping(
            sections.get("defaults"), f"{path}: defaults", allowed=tuple(OPTIONS)
        ).items()
    }
    if "checks" in sections:
        levels = _mapping(sections["checks"], f"{path}: checks")
        defaults["checks"] = OPTIONS["checks"].parse("checks", levels, f"{path}")
    datasets = {}
    for name, folder in _mapping(sections.get("datasets"), f"{path}: datasets").items():
        if not isinstance(folder, str) or not folder:
            raise RequirementError(
                f"{path}: datasets: {name}={folder!r} is not allowed. "
                "Expected the path of a folder."
            )
        datasets[name] = folder
    entries = _named_entries(sections.get("requirements"), path)
    requirements = tuple(
        (name, line, Requirement.parse((), arguments, f"{path}:{line}: {name}"))
        for line, (name, arguments) in zip(lines, entries, strict=True)
    )
    return YamlConfig(path, defaults, datasets, requirements)


def _refuse_bomb(root: Any) -> None:
    """Refuse aliases that expand to very many values, or that contain themselves."""
    sizes: dict[int, int] = {}
    open_: set[int] = set()

    def size(node: Any) -> int:
        if node is None or node.id == "scalar":
            return 1
        if id(node) in open_:
            raise ValueError("an alias contains itself")
        if id(node) not in sizes:
            open_.add(id(node))
            inner = (
                node.value if node.id == "sequence" else [x for pair in node.value for x in pair]
            )
            sizes[id(node)] = 1 + sum(map(size, inner))
            open_.remove(id(node))
        if sizes[id(node)] > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES:,} values")
        return sizes[id(node)]

    size(root)


def _mapping(value: Any, where: str, allowed: tuple[str, ...] = ()) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RequirementError(
            f"{where}: expected `key: value` lines, found {type(value).__name__} {value!r}."
        )
    for key in value:
        if not isinstance(key, str) or (allowed and key not in allowed):
            hint = nearest(str(key), allowed) or "."
            raise RequirementError(
                f"{where}: unknown key {key!r}{hint} Allowed: {', '.join(sorted(allowed))}."
            )
    return value


def _named_entries(section: Any, path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return (name, entry) pairs from a list of entries with `name:`, or a mapping name → entry."""
    if section is None:
        return []
    where = f"{path}: requirements"
    if isinstance(section, list):
        entries = []
        for number, value in enumerate(section, 1):
            entry = dict(_mapping(value, f"{where}: entry {number}"))
            entries.append((entry.pop("name", f"requirement {number}"), entry))
    else:
        entries = [
            (name, dict(_mapping(value, f"{where}: {name}")))
            for name, value in _mapping(section, where).items()
        ]
    names = [name for name, _ in entries]
    for name in names:
        if not isinstance(name, str) or not name.strip() or "::" in name or "\n" in name:
            raise RequirementError(f"{where}: name {name!r} is not allowed; give a short text.")
        if names.count(name) > 1:
            raise RequirementError(f"{where}: the name {name!r} occurs twice; names are unique.")
    return entries


def _entry_lines(root: Any, section: str) -> list[int]:
    """Return the line (1-based) of every entry of a section, so that a failure can point at it."""
    pairs = root.value if root is not None and root.id == "mapping" else []
    for key, value in pairs:
        if key.value == section and value.id in ("mapping", "sequence"):
            nodes = [child[0] if value.id == "mapping" else child for child in value.value]
            return [node.start_mark.line + 1 for node in nodes]
    return []


def located(option: str, value: Any, base: Path, yaml: YamlConfig) -> Any:
    """Make a path absolute, and resolve the name of a data set.

    Raises
    ------
    DatasetError
        The data set is neither a name nor a path that exists.
    """
    if not isinstance(value, str) or value in OPTIONS[option].choices:
        return value
    if option == "backbone":
        kind, colon, folder = value.partition(":")
        return f"{kind}:{base / folder}" if kind == "local-dir" and colon else value
    if option in ("dataset", "test_dataset", "deployment"):
        if value in yaml.datasets:
            value, base = yaml.datasets[value], yaml.path.parent
            return _placed(value, base)
        if value.partition(":")[0] in SOURCES_BY_NAME:
            return _placed(value, base)
        if yaml.datasets and not (base / value).exists():
            hint = nearest(value, tuple(yaml.datasets)) or "."
            raise DatasetError(
                f"{option} {value!r} is neither a folder ({base / value} does not exist) nor a "
                f"name from `datasets:` in {yaml.path}{hint} Names: {', '.join(yaml.datasets)}."
            )
    return str(base / _local(value))


def _local(value: str) -> str:
    """Return a path as the system knows it: ``~`` is expanded, ``file://`` is left out."""
    if value.startswith("file://"):
        value = unquote(value.removeprefix("file://"))
    return os.path.expanduser(value) if value.startswith("~") else value


def _placed(value: str, base: Path) -> str:
    """Make the path in ``path``, ``SOURCE:path`` or ``torchvision:NAME@path`` absolute."""
    kind, colon, rest = value.partition(":")
    if kind not in SOURCES_BY_NAME or not colon:
        return str(base / _local(value))
    if kind == "torchvision":
        name, _, folder = rest.partition("@")
        return f"{kind}:{name}@{base / _local(folder or 'data')}"
    return f"{kind}:{base / _local(rest)}"
