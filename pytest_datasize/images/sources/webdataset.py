"""Source: WebDataset tar shards, read in place: nothing is ever unpacked."""

import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.class_labels import is_missing
from pytest_datasize.images.factors import factor_columns, with_factors
from pytest_datasize.images.groups import of_column, with_groups
from pytest_datasize.images.image_set import (
    ImageSet,
    Loaded,
    Raw,
    Reading,
    file_stamp,
    one_line,
)
from pytest_datasize.images.sources.files import Boundary
from pytest_datasize.images.sources.manifest import left_out
from pytest_datasize.images.sources.parts import kind, split
from pytest_datasize.images.sources.suffixes import SUFFIXES
from pytest_datasize.images.sources.tables import LABELS
from pytest_datasize.images.targets.read import described
from pytest_datasize.images.undecodable import UnreadableError

_MOST_TEXT = 1 << 20  # a label or its JSON is not larger
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_BLOCK = tarfile.BLOCKSIZE


class Member(NamedTuple):
    """Where in a shard a file lies."""

    shard: Path
    name: str
    offset: int
    size: int


def accepts(value: Any) -> bool:
    """Whether a path is a tar file, a pattern of tar files, or a folder that holds some."""
    if not isinstance(value, Path):
        return False
    return value.suffix.lower() == ".tar" or (value.is_dir() and any(value.glob("*.tar")))


def load(value: Path, reading: Reading) -> Loaded:
    """Index shards once: samples are files of one name up to its first dot.

    A sample is an image with its class in ``.cls`` or in the ``label`` of its ``.json``. Shards
    whose names begin with train, val or test are such parts.

    Raises
    ------
    DatasetError
        A shard is damaged, compressed or hostile, or a sample has no image.
    """
    path = Path(value)
    shards = _shards(path)
    if path.is_dir():
        boundary = Boundary(path, reading.allow_outside)
        for shard in shards:
            boundary.check(shard)
    parts: dict[str, list[Path]] = {}
    for shard in shards:
        word = re.split(r"[-_.]", shard.name)[0]
        parts.setdefault(kind(word) or "", []).append(shard)
    if len(parts) == 1:
        return Loaded(_read(shards, reading, f"WebDataset {path}"))
    named = {name or "others": part for name, part in parts.items()}
    return split(
        {name: _read(part, reading, f"WebDataset {path}, {name}") for name, part in named.items()},
        f"WebDataset {path}",
    )


def _shards(path: Path) -> list[Path]:
    """Return the shards that ``{000..009}``, ``*`` or a folder expands to."""
    if path.is_dir():
        return sorted(path.glob("*.tar"))
    text = str(path)
    ranges = _RANGE.findall(text)
    if ranges:
        if any(int(last) - int(first) > 100_000 for first, last in ranges):
            raise DatasetError(f"WebDataset {path}: more shards than can be meant.")
        numbers = [
            [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
            for first, last in ranges
        ]
        pieces = _RANGE.split(text)[::3]
        found = [
            Path(
                "".join(piece + number for piece, number in zip(pieces, (*chosen, ""), strict=True))
            )
            for chosen in product(*numbers)
        ]
    elif "*" in text:
        found = sorted(path.parent.glob(path.name))
    else:
        found = [path]
    absent = [str(shard) for shard in found if not shard.is_file()]
    if absent or not found:
        what = f"{absent[0]} does not exist" if absent else "no file has a name of this form"
        raise DatasetError(f"WebDataset {path}: {what}.")
    return found


def _read(shards: list[Path], reading: Reading, source: str) -> ImageSet:
    images: list[Member] = []
    values: list[Any] = []
    facts: list[dict[str, Any]] = []
    unlabelled = []
    others = 0
    for shard in shards:
        for key, members in _samples(shard).items():
            pictures = [m for end, m in members.items() if f".{end.split('.')[-1]}" in SUFFIXES]
            if not pictures:
                others += 1
                continue
            if len(pictures) > 1:
                raise DatasetError(f"{shard}: sample {one_line(key)} holds {len(pictures)} images.")
            fact = _facts(members)
            if is_missing(fact.get("label")):
                unlabelled.append(f"{shard.name}/{key}")
                continue
            images.append(pictures[0])
            values.append(fact["label"])
            facts.append(fact)
    findings = left_out(unlabelled, source, "images without a label", "missing_labels")
    if not images:
        raise DatasetError(
            f"{source}: no image with a class in it ({len(unlabelled)} images without, {others} "
            "samples without an image). Expected pairs such as 0001.jpg and 0001.cls, or "
            "0001.json with a `label`."
        )
    columns = tuple(dict.fromkeys(name for fact in facts for name in fact))
    group = of_column(reading.group, columns, source)
    factors = factor_columns(reading.slices, columns, source)
    described_as = described(values, source, reading.task)
    stamps = {shard: file_stamp(shard) for shard in shards}
    placed = _Members(images, stamps)
    found = ImageSet(
        source=source,
        **described_as.fields,
        read=placed.read,
        name=placed.name,
        findings=(*findings, *described_as.findings),
        stamp=placed.stamp,
        key=placed.key,
    )
    found = with_factors(
        found, {name: [fact.get(column) for fact in facts] for name, column in factors.items()}
    )
    return found if group is None else with_groups(found, [fact.get(group) for fact in facts])


@dataclass(frozen=True, eq=False)
class _Members:
    """Images in shards, and the stamp of each shard."""

    images: list[Member]
    stamps: dict[Path, str | None]

    def read(self, index: int) -> Raw:
        return read_member(self.images[index])

    def name(self, index: int) -> str:
        return f"{self.images[index].shard}/{self.images[index].name}"

    def stamp(self, index: int) -> str | None:
        member = self.images[index]
        whole = self.stamps[member.shard]
        return whole and f"{whole}|{member.offset}|{member.size}"

    def key(self, index: int) -> str:
        return self.images[index].name


def read_member(member: Member) -> Raw:
    """Read one file out of a shard; safe in several threads, each opens the shard by itself."""
    try:
        with member.shard.open("rb") as file:
            file.seek(member.offset)
            found = file.read(member.size)
    except OSError as problem:
        raise UnreadableError(
            f"{member.shard}: cannot be read: {problem.strerror}. Did it change during the run?"
        ) from None
    if len(found) < member.size:
        raise UnreadableError(f"{member.shard}: ends within {one_line(member.name)}; copy it again")
    return found


def _samples(shard: Path) -> dict[str, dict[str, Member]]:
    """Sample → ending → where its bytes lie."""
    found: dict[str, dict[str, Member]] = {}
    for member in _members(shard):
        folder, _, base = member.name.rpartition("/")
        stem, _, ending = base.partition(".")
        if stem and ending:
            sample = found.setdefault(f"{folder}/{stem}" if folder else stem, {})
            if ending.lower() in sample:
                raise DatasetError(f"{shard}: {one_line(member.name)} stands twice in it.")
            sample[ending.lower()] = member
    return found


def _members(shard: Path) -> Iterator[Member]:
    end = 0
    try:
        size = shard.stat().st_size
        with tarfile.open(shard, "r:") as archive:
            for entry in archive:
                end = max(end, archive.offset)
                path = PurePosixPath(entry.name)
                if path.is_absolute() or ".." in path.parts:
                    raise DatasetError(
                        f"{shard}: the entry {one_line(entry.name)} leads outside; this is no "
                        "WebDataset, and it may mean harm."
                    )
                if entry.isreg() and not entry.issparse():
                    if entry.offset_data + entry.size > size:
                        raise DatasetError(
                            f"{shard}: ends within {one_line(entry.name)}; copy it again."
                        )
                    yield Member(shard, entry.name, entry.offset_data, entry.size)
        with shard.open("rb") as file:
            file.seek(end)
            closing = file.read(_BLOCK)
    except OSError as problem:
        raise DatasetError(f"{shard}: cannot be read: {problem.strerror}.") from None
    except (tarfile.TarError, ValueError, EOFError, OverflowError, RecursionError) as problem:
        raise DatasetError(
            f"{shard}: not a readable tar file ({problem}). Shards must be uncompressed; if it is, "
            "copy it again."
        ) from None
    # tarfile stops in silence at a damaged header: a whole archive ends with an empty block
    if closing != bytes(_BLOCK):
        raise DatasetError(f"{shard}: damaged or cut off after byte {end:,}; copy it again.")


def _facts(members: dict[str, Member]) -> dict[str, Any]:
    """Return the label and JSON fields from the files beside an image."""
    facts: dict[str, Any] = {}
    if "json" in members:
        member = members["json"]
        try:
            data = json.loads(_text(member))
        except (ValueError, RecursionError) as problem:
            raise DatasetError(
                f"{member.shard}: {one_line(member.name)} is not JSON: {problem}."
            ) from None
        if isinstance(data, dict):
            facts.update(data)
            facts["label"] = next((data[name] for name in (*LABELS, "cls") if name in data), None)
    if "cls" in members:
        label = _text(members["cls"]).strip()
        other = str(facts.get("label", label)).strip()
        if label != other and label.isdigit() == other.isdigit() and not is_missing(other):
            raise DatasetError(
                f"{members['cls'].shard}: {one_line(members['cls'].name)} says "
                f"{one_line(label[:80])!r}, the .json beside it {one_line(other[:80])!r}. Remove "
                "the labels that are not the classes from one of them."
            )
        facts["label"] = label
    return facts


def _text(member: Member) -> str:
    if member.size > _MOST_TEXT:
        raise DatasetError(f"{member.shard}: {one_line(member.name)} is too long for a label.")
    raw = read_member(member)
    assert isinstance(raw, bytes)
    return raw.decode("utf-8", "replace")
