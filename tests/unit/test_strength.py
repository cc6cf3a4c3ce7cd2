"""The search for the strength finds what trying the whole grid finds."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from pytest_datasize.trials.heads import head_batch
from pytest_datasize.trials.heads.heads import STRENGTHS, HeadTask, fit_heads
from pytest_datasize.trials.heads.softmax_regression import gradient_at_zero
from pytest_datasize.trials.heads.strength import Search, _held_out_loss, choose_strength


@given(
    length=st.integers(2, 15),
    minimum=st.floats(-3, 18),
    first=st.integers(0, 14),
    steep=st.floats(0.1, 3),
)
def test_the_minimum_of_a_valley_is_found_within_one_step(length, minimum, first, steep):
    """Wherever the valley lies, outside of the grid too, and however its sides differ."""

    def loss(i: int) -> float:
        return abs(i - minimum) * (steep if i > minimum else 1.0)

    search = Search(length, min(first, length - 1))
    while (index := search.next()) is not None:
        assert 0 <= index < length
        assert index not in search.loss
        search.add(index, loss(index))
    best = min(range(length), key=loss)
    assert abs(search.best - best) <= 1
    assert search.loss[search.best] == min(search.loss.values())


def test_of_equal_strengths_the_stronger_penalty_is_taken():
    search = Search(11, 4)
    while (index := search.next()) is not None:
        search.add(index, 1.0)
    assert search.best == 0


@pytest.mark.parametrize("n", [60, 400, 1_200])
def test_the_choice_is_that_of_the_whole_grid(n, monkeypatch):
    """On scans of digits, no strength of the grid loses less on the rows held out."""
    found = load_digits()
    features, labels = torch.tensor(found.data, dtype=torch.float32), torch.tensor(found.target)
    order = np.random.default_rng(0).permutation(len(labels))
    tasks = [HeadTask(order[k : k + n], order[-200:], k) for k in range(3)]
    chosen = []

    def watched(problem, held, votes, levels, ridge):
        index, start = choose_strength(problem, held, votes, levels, ridge)
        weight = _training(held, ridge)
        at_zero = gradient_at_zero(problem, weight)
        loss = [
            _held_out_loss(problem, weight, votes, level.expand(len(held)), ridge, at_zero)
            for level in levels
        ]
        chosen.append((index, torch.stack([one for one, _ in loss], 1)))
        return index, start

    monkeypatch.setattr(head_batch, "choose_strength", watched)
    heads = fit_heads(features, labels, tasks, 10)
    assert sum(len(index) for index, _ in chosen) == len(heads) == 3
    for index, loss in chosen:
        taken = loss.gather(1, index[:, None])[:, 0]
        assert (taken <= loss.min(1).values * 1.001).all()
    assert {head.strength for head in heads} <= set(STRENGTHS)


def _training(held: torch.Tensor, ridge: torch.Tensor) -> torch.Tensor:
    weight = (~held).to(ridge.dtype)
    return (weight / weight.sum(-1, keepdim=True))[:, None]
