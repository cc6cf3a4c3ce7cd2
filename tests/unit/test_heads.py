"""Heads: the same as scikit-learn's, converged, independent, reproducible, on odd input too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from pytest_datasize.trials.heads import principal_axes
from pytest_datasize.trials.heads.head_batch import DEFAULT_STRENGTH
from pytest_datasize.trials.heads.heads import (
    STRENGTHS,
    FittedHead,
    HeadTask,
    _inner_splits,
    fit_heads,
)

C = 3


def images(n: int, d: int, seed: int = 0, noise: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings like a backbone's: a falling spectrum, dead and offset channels."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % C
    centres = rng.normal(size=(C, d))
    x = centres[y] * 0.5 + noise * rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) / np.sqrt(d)
    x = x * np.geomspace(1, 0.05, d) + rng.normal(size=d)
    if d > 4:
        x[:, -2:] = 0.25
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def tasks_of(n: int, sizes: list[int], repeats: int = 2, held: int = 60) -> list[HeadTask]:
    rng = np.random.default_rng(1)
    orders = [  # every prefix is stratified
        (rng.permutation(n // C)[:, None] * C + np.arange(C)).ravel() for _ in range(repeats)
    ]
    return [
        HeadTask(order[held : held + size], order[:held], seed)
        for size in sizes
        for seed, order in enumerate(orders)
    ]


def same(a: FittedHead, b: FittedHead) -> bool:
    return np.array_equal(a.probabilities, b.probabilities) and (
        a.strength,
        a.converged,
        a.iterations,
    ) == (b.strength, b.converged, b.iterations)


def sklearn_head(
    x: torch.Tensor, y: torch.Tensor, task: HeadTask, strength: float
) -> LogisticRegression:
    """The head that `FittedHead.strength` defines, by scikit-learn in float64."""
    rows = scaled(x, task)
    model = LogisticRegression(C=1 / (strength * len(task.train)), tol=1e-8, max_iter=5_000)
    return model.fit(rows[task.train], y.numpy()[task.train])


def scaled(x: torch.Tensor, task: HeadTask) -> np.ndarray:
    rows = x.double().numpy()
    centre, variance = rows[task.train].mean(0), rows[task.train].var(0)
    return (rows - centre) / np.sqrt(variance.mean())


@pytest.mark.parametrize("size", [12, 40, 200])  # row space twice, principal axes
@pytest.mark.parametrize("strength", [0.003, 0.1, 10.0])
def test_a_fixed_strength_gives_the_probabilities_of_scikit_learn(
    size: int, strength: float
) -> None:
    x, y = images(300, 90)
    [task] = tasks_of(300, [size], repeats=1)
    [head] = fit_heads(x, y, [task], C, strengths=[strength])
    model = sklearn_head(x, y, task, strength)
    expected = model.predict_proba(scaled(x, task)[task.test])
    assert head.converged
    assert head.strength == strength
    np.testing.assert_allclose(head.probabilities, expected, atol=5e-3)


def test_the_gradient_at_the_solution_is_small() -> None:
    # Scored on its own training rows, a head shows its gradient: X'(P - Y) / n + s W = 0 has the
    # bias row sum(P - Y) = 0 and, W = -X'(P - Y) / (s n), logits that reproduce P.
    x, y = images(300, 40)
    rng = np.random.default_rng(0)
    for strength in (0.01, 1.0):
        train = rng.permutation(300)[:150]
        task = HeadTask(train, train, 0)
        [head] = fit_heads(x, y, [task], C, strengths=[strength])
        rows = scaled(x, task)[train]
        residual = head.probabilities - np.eye(C)[y.numpy()[train]]
        assert np.abs(residual.mean(0)).max() < 1e-3
        weights = -rows.T @ residual / (strength * len(train))
        logits, centred = rows @ weights, np.log(head.probabilities.astype(float))
        logits -= logits.mean(1, keepdims=True)
        centred -= centred.mean(1, keepdims=True)
        difference = logits - centred
        difference -= difference.mean(0)  # the bias
        assert np.abs(difference).max() < 0.02 * np.abs(centred).max() + 0.02


@pytest.mark.parametrize("size", [30, 300])
def test_accuracy_matches_the_best_fixed_strength_of_scikit_learn(size: int) -> None:
    x, y = images(600, 40, noise=2.0)
    tasks, truth = tasks_of(600, [size], repeats=4, held=300), y.numpy()

    def accuracy(predicted: list[np.ndarray]) -> float:
        return float(
            np.mean([np.mean(p == truth[t.test]) for p, t in zip(predicted, tasks, strict=True)])
        )

    ours = accuracy([head.probabilities.argmax(1) for head in fit_heads(x, y, tasks, C)])
    theirs = [
        accuracy([sklearn_head(x, y, t, s).predict(scaled(x, t)[t.test]) for t in tasks])
        for s in (0.03, 0.3, 3.0, 30.0)
    ]
    assert ours > max(theirs) - 0.02


def test_a_head_does_not_depend_on_the_other_tasks_or_their_order() -> None:
    x, y = images(400, 70)
    tasks = tasks_of(400, [6, 30, 100, 250], repeats=5)
    together = fit_heads(x, y, tasks, C)
    backwards = fit_heads(x, y, tasks[::-1], C)[::-1]
    alone = [fit_heads(x, y, [task], C)[0] for task in tasks]
    assert all(map(same, together, backwards))
    assert all(map(same, together, alone))


@pytest.mark.parametrize("pool_bytes", [1 << 30, 0], ids=["axes kept", "axes of a large pool"])
@pytest.mark.parametrize(("classes", "width"), [(10, 37), (7, 129)])
def test_no_company_changes_a_head(
    classes: int, width: int, pool_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Widths and sizes after which the next matrix of a batch starts at an odd address."""
    monkeypatch.setattr(principal_axes, "_CACHE_BYTES", pool_bytes)
    rng = np.random.default_rng(classes)
    y = np.arange(500) % classes
    rows = rng.normal(size=(classes, width))[y] / 2 + rng.normal(size=(500, width))
    x, y = torch.tensor(rows, dtype=torch.float32), torch.tensor(y)
    orders = [rng.permutation(500) for _ in range(3)]
    tasks = [
        HeadTask(order[61 : 61 + n], order[:61], seed)
        for n in (6, 11, 31, 151)
        for seed, order in enumerate(orders)
    ]
    together = fit_heads(x, y, tasks, classes)
    for head, task in zip(together, tasks, strict=True):
        assert same(head, fit_heads(x, y, [task], classes)[0])
    assert all(map(same, together[1::2], fit_heads(x, y, tasks[1::2], classes)))


def test_the_number_of_threads_changes_no_bit_and_is_left_as_it_was() -> None:
    x, y = images(400, 70)
    tasks = tasks_of(400, [6, 100, 250], repeats=4)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(fit_heads(x, y, tasks, C))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(map(same, results[0], other))


def test_the_global_random_state_is_neither_read_nor_changed() -> None:
    x, y = images(200, 30)
    tasks = tasks_of(200, [12, 60])
    torch.manual_seed(1)
    np.random.seed(1)
    first, state, numpy_state = (
        fit_heads(x, y, tasks, C),
        torch.get_rng_state(),
        np.random.get_state(),
    )
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    np.random.seed(2)
    assert all(map(same, first, fit_heads(x, y, tasks, C)))
    np.random.seed(1)
    assert np.array_equal(numpy_state[1], np.random.get_state()[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_give_what_the_same_numbers_give_in_float32(
    dtype: torch.dtype,
) -> None:
    x, y = images(200, 60)
    tasks = tasks_of(200, [20, 100])
    half = x.to(dtype)
    assert all(map(same, fit_heads(half, y, tasks, C), fit_heads(half.float(), y, tasks, C)))


def test_fewer_images_than_features() -> None:
    x, y = images(90, 300)
    [task] = tasks_of(90, [30], repeats=1)
    [head] = fit_heads(x, y, [task], C, strengths=[0.1])
    expected = sklearn_head(x, y, task, 0.1).predict_proba(scaled(x, task)[task.test])
    np.testing.assert_allclose(head.probabilities, expected, atol=5e-3)


def test_two_images_per_class_choose_and_one_falls_back_to_the_default() -> None:
    x, y = images(300, 60)
    order = np.argsort(y.numpy(), kind="stable")
    two, one = order.reshape(C, -1)[:, :2].ravel(), order.reshape(C, -1)[:, 0]
    test = np.arange(50)
    heads = fit_heads(x, y, [HeadTask(two, test, 0), HeadTask(one, test, 0)], C)
    assert all(head.converged for head in heads)
    assert heads[0].strength in STRENGTHS
    assert heads[1].strength == DEFAULT_STRENGTH


@pytest.mark.parametrize(
    "kind", ["constant", "constant rows in train", "duplicates", "separable", "one feature"]
)
def test_odd_features_give_finite_converged_heads(kind: str) -> None:
    x, y = images(200, 30)
    tasks = tasks_of(200, [9, 90])
    if kind == "constant":
        x = torch.full_like(x, 3.0)
    elif kind == "constant rows in train":
        for task in tasks:
            x[task.train] = x[0].clone()
    elif kind == "duplicates":
        x, y = x[:6].repeat(34, 1)[:200], y[:6].repeat(34)[:200]
    elif kind == "separable":
        x = torch.nn.functional.one_hot(y, C).float() * 50
    else:
        x = x[:, :1] + y[:, None]
    for task, head in zip(tasks, fit_heads(x, y, tasks, C), strict=True):
        assert head.converged, head
        assert np.isfinite(head.probabilities).all()
        np.testing.assert_allclose(head.probabilities.sum(1), 1, atol=1e-5)
        accuracy = (head.probabilities.argmax(1) == y.numpy()[task.test]).mean()
        if kind in ("separable", "duplicates"):
            assert accuracy > 0.95 or (kind == "duplicates" and len(task.train) == 9)
        if kind == "constant":
            share = np.bincount(y.numpy()[task.train], minlength=C) / len(task.train)
            np.testing.assert_allclose(head.probabilities, np.tile(share, (60, 1)), atol=1e-3)


def test_strength_does_not_depend_on_the_unit_of_the_features() -> None:
    x, y = images(200, 30)
    tasks = tasks_of(200, [20, 100])
    for a, b in zip(fit_heads(x, y, tasks, C), fit_heads(x * 1024, y, tasks, C), strict=True):
        assert a.strength == b.strength
        np.testing.assert_allclose(a.probabilities, b.probabilities, atol=1e-3)


def test_progress_counts_to_the_number_of_tasks() -> None:
    x, y = images(200, 30)
    seen: list[int] = []
    fit_heads(x, y, tasks_of(200, [9, 40, 90]), C, on_progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 6


def test_wrong_input_is_refused_in_words() -> None:
    x, y = images(50, 10)
    task = HeadTask(np.arange(40), np.arange(40, 50), 0)
    with pytest.raises(ValueError, match="positive"):
        fit_heads(x, y, [task], C, strengths=[0.0, 1.0])
    with pytest.raises(ValueError, match="labels"):
        fit_heads(x, y[:-1], [task], C)
    with pytest.raises(ValueError, match="n_classes"):
        fit_heads(x, y, [task], 2)
    x[3, 3] = torch.nan
    with pytest.raises(ValueError, match="finite"):
        fit_heads(x, y, [task], C)
    assert fit_heads(x, y, [], C) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_same_heads() -> None:
    x, y = images(400, 70)
    tasks = tasks_of(400, [6, 100, 250])
    for a, b in zip(
        fit_heads(x, y, tasks, C), fit_heads(x.cuda(), y.cuda(), tasks, C), strict=True
    ):
        np.testing.assert_allclose(a.probabilities, b.probabilities, atol=5e-3)


@pytest.mark.parametrize("failure", ["nan", "gives up"])
def test_where_single_precision_fails_double_does_it(failure, monkeypatch):
    """As LAPACK does with one thread on some matrices with hundreds of empty rows."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % C
    features = torch.randn(300, 50, generator=generator) + 2 * torch.eye(50)[labels]
    features[:, 30:] = 0
    tasks = [HeadTask(np.arange(n), np.arange(200, 300), seed=0) for n in (20, 200)]
    expected = fit_heads(features, labels, tasks, C)
    eigh = torch.linalg.eigh

    def failing(matrix):
        if matrix.dtype == torch.float64:
            return eigh(matrix)
        if failure == "gives up":
            raise torch.linalg.LinAlgError("failed to converge")
        values, vectors = eigh(matrix)
        return values * float("nan"), vectors

    monkeypatch.setattr(torch.linalg, "eigh", failing)
    for head, other in zip(fit_heads(features, labels, tasks, C), expected, strict=True):
        assert head.strength == other.strength
        assert head.probabilities == pytest.approx(other.probabilities, abs=0.01)


def test_views_of_an_image_never_straddle_an_inner_split():
    labels = np.arange(40) % 2
    plain, tiled = _inner_splits(labels, 3), _inner_splits(np.tile(labels, 3), 3, views=3)
    for view in range(3):
        assert (tiled[:, 40 * view : 40 * (view + 1)] == plain).all()


@pytest.mark.parametrize("views", [1, 2])
def test_images_of_a_group_never_straddle_an_inner_split(views):
    generator = np.random.default_rng(0)
    groups = generator.permutation(np.arange(60) % 12)
    labels = (groups % 3 == 0).astype(int)
    held = _inner_splits(np.tile(labels, views), 3, views, groups)
    renamed = _inner_splits(np.tile(labels, views), 3, views, (groups * 5 + 2) % 12)
    assert (held == renamed).all()  # names of groups decide nothing
    assert held.shape[1] == 60 * views
    for split in held:
        out = set(np.tile(groups, views)[split])
        assert out
        assert not out & set(np.tile(groups, views)[~split])
        assert set(np.tile(labels, views)[~split]) == {0, 1}


def test_a_single_group_of_a_class_is_no_reason_not_to_choose_a_strength():
    labels, groups = np.array([0] * 4 + [1] * 16), np.arange(20) // 4
    assert _inner_splits(labels, 0, 1, groups).any()


def test_copies_as_views_change_neither_strength_nor_head():
    """Views that equal their image add nothing: the same strength, the same probabilities."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(120) % 3
    features = torch.randn(120, 20, generator=generator) + torch.eye(3)[labels].repeat(1, 7)[:, :20]
    task = HeadTask(np.arange(60), np.arange(60, 120), seed=0)
    tripled = HeadTask(np.concatenate([np.arange(60)] * 3), task.test, seed=0, views=3)
    [one], [three] = (fit_heads(features, labels, [t], 3) for t in (task, tripled))
    assert one.strength == three.strength
    assert one.probabilities == pytest.approx(three.probabilities, abs=0.01)
