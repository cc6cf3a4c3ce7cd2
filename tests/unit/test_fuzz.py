"""Whatever bytes a table, a YAML file, a shard or an image holds: only our own errors come out."""

import io
import json
import tarfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from support import named

from pytest_datasize import DatasizeError
from pytest_datasize.images.decode import decode
from pytest_datasize.images.sources.load import load
from pytest_datasize.images.undecodable import UndecodableError
from pytest_datasize.requirement.settings import read_yaml

BRIEF = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def encoded(kind: str, **options) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (9, 11, 3), dtype=np.uint8)
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    extra = {"exif": exif} if kind in ("JPEG", "PNG", "WEBP", "TIFF") else {}
    Image.fromarray(pixels).save(stream, kind, **extra, **options)
    return stream.getvalue()


KINDS = ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "ICO", "TGA", "JPEG2000", "QOI", "PCX")
SEEDS = [encoded(kind) for kind in KINDS]


@st.composite
def damaged(draw, seeds):
    """A real file with bytes changed, cut out or put in."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, max(len(content) - 1, 0)))
        piece = draw(st.binary(max_size=8))
        cut = draw(st.integers(0, 12))
        content[place : place + draw(st.sampled_from([len(piece), 0, cut]))] = piece
    return bytes(content)


@settings(BRIEF, max_examples=400)
@given(st.one_of(damaged(SEEDS), st.binary(max_size=300)))
def test_any_bytes_as_an_image(content):
    try:
        picture = decode(content, max_pixels=1_000_000)
    except UndecodableError as problem:
        assert str(problem)  # noqa: PT017
    else:
        assert picture.mode == "RGB"


def read(path) -> None:
    try:
        named(load(str(path)))
    except DatasizeError as problem:
        assert str(problem)  # noqa: PT017


cells = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["a.png", "b.png", "cat", "dog", "", "../a.png", "/etc/passwd", "train", "\0"]),
)
TABLES = [b"path,label\na.png,cat\nb.png,dog\n", b'"path","label","split"\n"a.png","1","train"\n']


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "a.png").write_bytes(encoded("PNG"))
    (folder / "b.png").write_bytes(encoded("PNG") + b"x")
    return folder


@BRIEF
@given(
    st.one_of(
        st.binary(max_size=200),
        damaged(TABLES),
        st.lists(st.lists(cells, min_size=1, max_size=4), max_size=5).map(
            lambda rows: "\n".join(",".join(row) for row in rows).encode("utf-8", "replace")
        ),
    )
)
def test_any_bytes_as_a_table(place, content):
    path = place / "t.csv"
    path.write_bytes(content)
    read(path)


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), cells),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
names = st.sampled_from(["path", "label", "split", "file_name", "x"])


@BRIEF
@given(st.lists(st.one_of(values, st.dictionaries(names, values, max_size=4)), max_size=4))
def test_any_json_as_lines(place, rows):
    path = place / "t.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    read(path)


coco_keys = st.sampled_from(["id", "file_name", "image_id", "category_id", "name"])
coco_values = st.one_of(st.integers(0, 2), st.sampled_from(["a.png", "b.png", "cat"]), values)
coco_rows = st.lists(st.dictionaries(coco_keys, coco_values, max_size=5), max_size=3)


@BRIEF
@given(
    st.one_of(
        values,
        st.fixed_dictionaries(
            {"images": coco_rows, "annotations": coco_rows, "categories": coco_rows}
        ),
    )
)
def test_any_json_as_coco(place, data):
    path = place / "t.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    read(path)


def shard() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in (("1.png", encoded("PNG")), ("1.cls", b"0"), ("2.png", b"x")):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


@BRIEF
@given(damaged([shard()]))
def test_any_bytes_as_a_shard(place, content):
    path = place / "t.tar"
    path.write_bytes(content)
    read(path)


YAMLS = [
    b"defaults: {repeats: 5}\nchecks: {duplicates: error}\nrequirements:\n  - {f1_macro: 0.8}\n",
    b"datasets:\n  parts: data\nrequirements:\n  release:\n    accuracy: 0.9\n    dataset: parts\n",
]
yaml_keys = st.sampled_from(
    ["defaults", "datasets", "checks", "requirements", "accuracy", "name", "repeats", "group"]
)


@BRIEF
@given(
    st.one_of(
        st.binary(max_size=120),
        damaged(YAMLS),
        st.dictionaries(
            yaml_keys, st.one_of(values, st.dictionaries(yaml_keys, values, max_size=3)), max_size=4
        ).map(lambda data: json.dumps(data).encode()),
    )
)
def test_any_bytes_as_settings(place, content):
    path = place / "datasize.yaml"
    path.write_bytes(content)
    try:
        read_yaml(path)
    except DatasizeError as problem:
        assert str(problem)  # noqa: PT017


@BRIEF
@given(
    st.one_of(st.binary(max_size=120), damaged([b"train: images\nval: images\nnames: [a, b]\n"]))
)
def test_any_bytes_as_yolo(place, content):
    path = place / "data.yaml"
    path.write_bytes(content)
    read(path)
