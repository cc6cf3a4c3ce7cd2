"""Embeddings that stay in their files: the same rows, read when they are taken."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_datasize.embedding import backbone as backbones
from pytest_datasize.embedding.embed import embed
from pytest_datasize.embedding.embedder import Embedder
from pytest_datasize.embedding.features import StoredFeatures, chosen, joined
from pytest_datasize.errors import DatasetError
from pytest_datasize.images.sources.load import load
from pytest_datasize.store import Store
from pytest_datasize.store.mapped import MappedRows
from pytest_datasize.trials.heads.heads import HeadTask, fit_heads

CPU = torch.device("cpu")


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.data())
@settings(max_examples=60, deadline=None)
def test_taken_rows_are_those_of_one_array(lengths, data):
    rng = np.random.default_rng(len(lengths))
    shards = [rng.standard_normal((n, 3)).astype(np.float16) for n in lengths]
    places = [(shard, row) for shard, n in enumerate(lengths) for row in range(n)]
    order = data.draw(st.permutations(places))
    whole = np.stack([shards[shard][row] for shard, row in order])
    rows = MappedRows(shards, *np.array(order).T)
    asked = np.array(data.draw(st.lists(st.integers(0, len(order) - 1), max_size=12)), np.int64)
    assert np.array_equal(rows.take(asked), whole[asked])
    assert np.array_equal(rows.part(asked).take(np.arange(len(asked))), whole[asked])
    features = StoredFeatures([rows, rows], CPU)
    twice = np.concatenate([whole, whole])
    index = torch.from_numpy(np.concatenate([asked, asked + len(order)]).reshape(2, -1))
    assert torch.equal(features[index], torch.from_numpy(twice)[index])
    assert torch.equal(features[1:4], torch.from_numpy(twice[1:4]))


def colours(n):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    images = rng.integers(0, 120, (n, 12, 12, 3)) + 100 * labels[:, None, None, None]
    return load((images.astype(np.uint8), labels)).images


@pytest.fixture
def model():
    layers = torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.Flatten())
    return backbones.load(layers, image_size=16)


def test_embeddings_beyond_the_bound_stay_in_files_and_are_the_same(tmp_path, model):
    images = colours(60)
    plain = embed([images], Embedder(model, CPU), Store())
    with Store(tmp_path) as store:
        filed = embed([images], Embedder(model, CPU), store, bound=100)
        assert isinstance(filed.features, StoredFeatures)
        assert filed.computed == 60
        assert torch.equal(filed.features[:], plain.features[:])
        again = embed([images], Embedder(model, CPU), store, bound=100)
        assert again.computed == 0
        assert torch.equal(again.features[:], plain.features[:])
        some = np.array([5, 3, 5])
        assert torch.equal(chosen(again.features, some)[:], plain.features[:][some])
        both = joined([again.features, filed.features])
        assert torch.equal(both[60:], plain.features[:])


def test_heads_are_the_same_bits_from_files(tmp_path, model):
    images = colours(80)
    with Store(tmp_path) as store:
        plain = embed([images], Embedder(model, CPU), Store()).features
        filed = embed([images], Embedder(model, CPU), store, bound=100).features
        labels = torch.from_numpy(images.labels)
        tasks = [HeadTask(np.arange(n), np.arange(60, 80), seed=n) for n in (10, 40, 60)]
        one, other = (fit_heads(rows, labels, tasks, 2) for rows in (plain, filed))
    for left, right in zip(one, other, strict=True):
        assert np.array_equal(left.probabilities, right.probabilities)


def test_a_damaged_row_is_told_when_it_is_taken_and_made_again(tmp_path, model):
    images = colours(40)
    with Store(tmp_path) as store:
        features = embed([images], Embedder(model, CPU), store, bound=100).features
        files = sorted((tmp_path / "embeddings").glob("*.f16"), key=lambda p: p.stat().st_size)
        shard = files[0] if features.shape[1] < 80 else files[-1]  # the other one holds hashes
        with shard.open("r+b") as stream:
            stream.write(b"\x55")
        with pytest.raises(DatasetError, match="1 stored embeddings are damaged"):
            features[:]
        mended = embed([images], Embedder(model, CPU), store, bound=100)
        assert mended.computed == 1
        assert torch.equal(
            mended.features[:], embed([images], Embedder(model, CPU), Store()).features[:]
        )
