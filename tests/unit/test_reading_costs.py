"""What reading large data sets costs, in counts: reads of a column, of a row, of a file."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from pytest_datasize import DatasetError
from pytest_datasize.images.content_hash import BATCH, known_contents, read_contents
from pytest_datasize.images.image_set import ImageSet, Reading
from pytest_datasize.images.perceptual_hash import perceptual_hashes
from pytest_datasize.images.sources import tables
from pytest_datasize.images.sources.load import load
from pytest_datasize.store import Store


def test_a_column_of_hugging_face_is_read_once_however_many_rows(monkeypatch):
    datasets = pytest.importorskip("datasets")
    reads = []
    get = datasets.Dataset.__getitem__

    def counted(self, key):
        reads.append(key)
        return get(self, key)

    monkeypatch.setattr(datasets.Dataset, "__getitem__", counted)
    numbers = []
    for rows in (range(12), range(60)):
        content = {
            "image": [np.full((4, 4), row, dtype=np.uint8) for row in rows],
            "label": [row % 2 for row in rows],
            "patient": [f"p{row // 4:02}" for row in rows],
        }
        features = datasets.Features(
            image=datasets.Image(),
            label=datasets.ClassLabel(names=["a", "b"]),
            patient=datasets.Value("string"),
        )
        dataset = datasets.Dataset.from_dict(content, features=features)
        reads.clear()
        images = load(dataset, reading=Reading(group="patient")).images
        assert images.groups.tolist() == [row // 4 for row in rows]
        numbers.append(len(reads))
    assert max(numbers) <= 4 + 8  # eight images at most are looked at for their bits


def pictures(n: int, reads: list[int]) -> ImageSet:
    """n different images that count how often they are read."""

    def read(row):
        reads.append(row)
        pixels = np.zeros((8, 8), dtype=np.uint8)
        pixels.flat[:16] = [row >> bit & 1 for bit in range(16)]
        return pixels * 255

    return ImageSet(
        "test", ("a",), np.zeros(n, int), read, lambda row: f"{row}", stamp=lambda row: f"f{row}"
    )


def test_contents_read_before_an_interruption_are_not_read_again(tmp_path):
    n, stop, reads = 4 * BATCH, 3 * BATCH + 10, []

    def interrupt(done):
        if done == stop:
            raise KeyboardInterrupt

    with Store(tmp_path) as store, pytest.raises(KeyboardInterrupt):
        read_contents(pictures(n, reads), store, on_done=interrupt)
    reads.clear()
    with Store(tmp_path) as store:
        images = pictures(n, reads)
        assert sum(map(bool, known_contents(images, store))) == stop
        read_contents(images, store)
        assert len(reads) == n - stop


def test_contents_and_hashes_are_written_in_batches(tmp_path, monkeypatch):
    n, written, reads = 2 * BATCH + 7, [], []
    remember = Store.remember

    def counted(self, contents):
        written.append(len(contents))
        remember(self, contents)

    monkeypatch.setattr(Store, "remember", counted)
    with Store(tmp_path) as store:
        images = pictures(n, reads)
        contents = read_contents(images, store, threads=2)
        assert written == [BATCH, BATCH, 7]
        perceptual_hashes(replace(images, digests=contents), store)
        assert len(reads) == n


def rows_read(monkeypatch) -> list[int]:
    """Count the rows that are read of tables."""
    read = []
    reader, loads = csv.reader, json.loads

    class Counted:
        def __init__(self, *given, **options):
            self._rows = reader(*given, **options)

        def __iter__(self):
            return self

        def __next__(self):
            row = next(self._rows)
            read.append(1)
            return row

        @property
        def line_num(self):
            return self._rows.line_num

    monkeypatch.setattr(tables.csv, "reader", Counted)
    monkeypatch.setattr(tables.json, "loads", lambda text: read.append(1) or loads(text))
    return read


def test_tables_beside_images_are_read_no_further_than_their_header(tmp_path, monkeypatch):
    from support import shapes, write_folder

    write_folder(tmp_path, *shapes(20))
    n = 5_000
    (tmp_path / "measured.csv").write_text("\n".join(["time,value", *["1,2"] * n]))
    (tmp_path / "log.jsonl").write_text("\n".join(['{"event": 1}'] * n))
    read = rows_read(monkeypatch)
    assert len(load(str(tmp_path)).images) == 20
    assert len(read) == 1 + tables.FIRST_ROWS


def test_a_manifest_in_a_folder_is_read_whole_once(tmp_path, monkeypatch):
    from support import shapes, write_folder

    write_folder(tmp_path / "images", *shapes(20))
    paths = sorted((tmp_path / "images").rglob("*.png"))
    lines = [f"{path.relative_to(tmp_path)},{path.parent.name}" for path in paths]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *lines]))
    read = rows_read(monkeypatch)
    assert len(load(str(tmp_path)).images) == 20
    assert len(read) == 21 + 2  # the header to choose the source, and again to choose the table


def test_a_manifest_that_is_damaged_further_down_is_an_error_of_its_own(tmp_path):
    (tmp_path / "list.csv").write_text("path,label\na.png,x\nb.png\n")
    with pytest.raises(DatasetError, match="line 3 has 1 cells"):
        load(str(tmp_path))


def test_columns_of_every_kind_of_table(tmp_path):
    (tmp_path / "a.csv").write_text("\n\nPath;Label\nx;y\n")
    (tmp_path / "b.tsv").write_text("x.png\tcat\n")
    (tmp_path / "c.jsonl").write_text('{"path": "x"}\n\n{"path": "y", "label": 1}\n')
    assert tables.columns(tmp_path / "a.csv") == ["Path", "Label"]
    assert tables.columns(tmp_path / "b.tsv") == ["path", "label"]
    assert tables.columns(tmp_path / "c.jsonl") == ["path", "label"]
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    parquet.write_table(
        pyarrow.table({"path": ["x"], "label": ["y"], "image_bytes": [b"z"]}),
        tmp_path / "d.parquet",
    )
    assert tables.columns(tmp_path / "d.parquet") == ["path", "label"]
    assert tables.read(tmp_path / "d.parquet") == {"path": ["x"], "label": ["y"]}
    (tmp_path / "e.parquet").write_bytes(b"no such file")
    with pytest.raises(DatasetError, match="not readable as Parquet"):
        tables.columns(tmp_path / "e.parquet")
