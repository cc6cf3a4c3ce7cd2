"""Promises that every strategy keeps, and those of fine-tuning from stored activations."""

import copy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from support import shapes, stages

from pytest_datasize import BackboneError, Study, TrainingError
from pytest_datasize.embedding.backbone import load
from pytest_datasize.errors import RequirementError
from pytest_datasize.requirement.registries import STRATEGIES
from pytest_datasize.store import Store
from pytest_datasize.trials.networks import activations
from pytest_datasize.trials.networks.cut import Cut
from pytest_datasize.trials.networks.memory import Portions
from pytest_datasize.trials.networks.pool import CAUTION, pool, pool_weights
from pytest_datasize.trials.networks.training import Trainer, split
from pytest_datasize.trials.recipe import FINE_TUNING, FROM_SCRATCH, Recipe
from pytest_datasize.trials.strategies import fine_tuning, from_scratch

SIZES = (12, 30, 64)


def network() -> torch.nn.Module:
    """A small backbone of three stages, with BatchNorm, the same for every test."""
    return stages(normed=True, cells=(1, 3))


@pytest.fixture(autouse=True)
def brisk(monkeypatch):
    """A few quick epochs whose outcome is kept, so that training does change every network."""
    brisk = replace(FINE_TUNING, rate=3e-3, epochs=6, batch=32, least_steps=5, cycles=1)
    monkeypatch.setattr(fine_tuning, "FINE_TUNING", brisk)
    monkeypatch.setattr(from_scratch, "FROM_SCRATCH", replace(FROM_SCRATCH, epochs=6))


def columns(train, test, *, seed, device):
    """A trainer of one's own: the nearest class mean."""
    means = [train.pixels(6)[train.labels == label].mean(axis=0) for label in (0, 1)]
    far = [((test.pixels(6) - mean) ** 2).sum(axis=(1, 2, 3)) for mean in means]
    return np.argmin(far, axis=0)


def study(strategy="fine_tuning", **options) -> Study:
    given = {
        "image_size": 24,
        "sizes": SIZES,
        "repeats": 3,
        "device": "cpu",
        "strategy": strategy,
        **options,
    }
    given.setdefault("backbone", None)
    given["backbone"] = given["backbone"] or network()
    if strategy == "own_training":
        given["trainer"] = columns
    return Study(shapes(100, noise=0.2), **given)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_trial_is_handed_on_and_a_known_one_is_not_trained_again(strategy):
    told = []
    whole = study(strategy, on_trial=lambda *trial: told.append(trial)).run()
    assert sorted(trial[:2] for trial in told) == [(n, r) for n in SIZES for r in range(3)]
    assert np.mean(whole.scores["accuracy"][-1]) > 0.5

    known = {trial[:2]: trial[2] for trial in told[:5]}
    again = []
    resumed = study(strategy, finished=known, on_trial=lambda *trial: again.append(trial)).run()
    assert {trial[:2] for trial in again} == {trial[:2] for trial in told} - set(known)
    assert resumed.scores == whole.scores
    assert "5 of 9 trials were known from before" in resumed.notes

    everything = {trial[:2]: trial[2] for trial in told}
    assert study(strategy, finished=everything, on_trial=None).run().scores == whole.scores


@pytest.mark.parametrize("strategy", ["fine_tuning", "from_scratch"])
def test_the_same_bits_with_any_number_of_threads(strategy, monkeypatch):
    backbone = network()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    found = []
    for threads in (1, 3):
        monkeypatch.setattr("pytest_datasize.trials.work.n_threads", lambda n=threads: n)
        outcomes = {}
        tell = partial(lambda o, n, r, p: o.update({(n, r): p}), outcomes)
        study(strategy, backbone=backbone, on_trial=tell).run()
        found.append(outcomes)
    assert all((found[0][key] == found[1][key]).all() for key in found[0])
    assert (torch.get_rng_state() == before).all()


@pytest.mark.parametrize("strategy", ["feature_extraction", "fine_tuning", "own_training"])
def test_an_interruption_keeps_what_is_finished(strategy):
    finished = {}

    def interrupt(size, repeat, outcome):
        finished[size, repeat] = outcome
        if len(finished) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study(strategy, on_trial=interrupt).run()
    assert len(finished) == 4
    assert study(strategy, finished=finished).run().scores == study(strategy).run().scores


def probabilities(**options) -> np.ndarray:
    found = {}
    study(on_trial=lambda n, r, p: found.update({(n, r): p}), **options).run()
    return np.concatenate([found[key] for key in sorted(found)])


def test_training_from_stored_activations_is_training_the_model(monkeypatch):
    """Against the same recipe with the whole model run for every image of every step."""
    cached = probabilities()
    real = fine_tuning.cut

    def uncut(backbone, unfreeze):
        found = real(backbone, unfreeze)
        assert not found.whole
        return Cut(torch.nn.Identity(), backbone.model, found.trainable, 1, 3, "for the test")

    monkeypatch.setattr(fine_tuning, "cut", uncut)
    whole = probabilities()
    # half precision of images and activations, and what many steps make of it
    assert np.abs(cached - whole).mean() < 0.02
    clear = np.abs(whole[:, 0] - 0.5) > 0.05  # half precision may tip what stands on the edge
    assert clear.mean() > 0.3
    assert (cached.argmax(1) == whole.argmax(1))[clear].mean() > 0.98


def test_activations_beyond_the_bound_live_in_a_file_that_goes(monkeypatch, tmp_path):
    in_memory = probabilities()
    monkeypatch.setattr(activations, "MEMORY_BOUND", 1000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen = []
    real = activations.Activations.batch
    monkeypatch.setattr(
        activations.Activations,
        "batch",
        lambda self, *rest: (seen.append(len(list(tmp_path.iterdir()))), real(self, *rest))[1],
    )
    assert (probabilities() == in_memory).all()
    assert max(seen) >= 1
    assert not list(tmp_path.iterdir())


def test_a_full_memory_halves_what_runs_at_a_time(monkeypatch):
    class Small(torch.nn.Module):
        """Pretends that five images are too many."""

        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, found):
            if len(found) > 4 and torch.is_grad_enabled():
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return self.inner(found)

    plenty = probabilities()
    real = fine_tuning.cut

    def cut(backbone, unfreeze):
        found = real(backbone, unfreeze)
        names = tuple(f"inner.top.{name}" for name in found.trainable)
        return replace(found, top=Small(found.top), trainable=names)

    monkeypatch.setattr(fine_tuning, "cut", cut)
    found = {}
    result = study(on_trial=lambda n, r, p: found.update({(n, r): p})).run()
    scarce = np.concatenate([found[key] for key in sorted(found)])
    assert np.abs(scarce - plenty).max() < 0.05  # rounding, over many steps
    assert any(note.startswith("the GPU's memory was full") for note in result.notes)


def test_memory_that_fills_up_midway_counts_nothing_twice():
    """Full at eleven, and once more at the second portion; then a single image is too many."""
    portions, added, calls = Portions(), [], []

    def work(rows):
        calls.append(len(rows))
        if len(rows) > 10 or len(calls) == 3:
            raise torch.cuda.OutOfMemoryError
        added.extend(rows.tolist())

    portions.run(np.arange(16), work, added.clear)
    assert added == list(range(16))
    assert calls == [16, 8, 8, 4, 4, 4, 4]
    assert (portions.most, portions.halvings) == (4, 2)

    def never(rows):
        raise torch.cuda.OutOfMemoryError

    with pytest.raises(TrainingError, match="too small for a single image"):
        portions.run(np.arange(3), never, added.clear)


def test_fine_tuning_moves_the_unfrozen_stage_and_says_which():
    result = study(unfreeze=2).run()
    assert "2 of 3 stages of Sequential were unfrozen" in result.notes
    assert result.strategy == "fine_tuning"
    with pytest.raises(BackboneError, match="no weights to train"):
        study(backbone=torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.Flatten())).run()


def test_training_keeps_the_statistics_of_batch_norm_and_the_best_weights(monkeypatch):
    kept = []
    real = Trainer.fit

    def fit(self, network, parameters, rows, generator, **arguments):
        before = copy.deepcopy(network.state_dict())
        first = self._look(network, rows.validation, 0).value
        epoch = real(self, network, parameters, rows, generator, **arguments)
        last = self._look(network, rows.validation, 0).value
        kept.append((epoch, first, last, changed(network, before)))
        return epoch

    monkeypatch.setattr(Trainer, "fit", fit)
    monkeypatch.setattr(fine_tuning, "FINE_TUNING", Recipe(rate=3e-3, epochs=6))
    study(repeats=2).run()
    assert any(epoch > 0 for epoch, *_ in kept)
    for epoch, first, last, names in kept:
        assert last <= first
        assert all(".2.0." in name or "head" in name for name in names)
        assert bool(names) == (epoch > 0)


def changed(network: torch.nn.Module, before: dict) -> set[str]:
    """Names of the parameters and statistics that are no longer the same."""
    state = network.state_dict().items()
    return {name for name, value in state if not torch.equal(value, before[name])}


def test_a_cycle_runs_all_its_steps_and_keeps_the_statistics_of_batch_norm(monkeypatch):
    rates, steps, names = [], [], []
    real, step = Trainer.cycle, Trainer._step

    def cycle(self, network, parameters, train, generator, epochs):
        before = copy.deepcopy(network.state_dict())
        begun = len(rates)
        real(self, network, parameters, train, generator, epochs)
        steps.append((len(train), len(rates) - begun))
        names.append(changed(network, before))

    def noted(self, network, optimiser, batch, generator):
        rates.append(optimiser.param_groups[0]["lr"])
        step(self, network, optimiser, batch, generator)

    monkeypatch.setattr(Trainer, "cycle", cycle)
    monkeypatch.setattr(Trainer, "_step", noted)
    monkeypatch.setattr("pytest_datasize.trials.work.n_threads", lambda: 1)
    study(repeats=2).run()
    recipe = fine_tuning.FINE_TUNING
    # a fifth is held out; six epochs of at least five steps, in whole passes
    assert sorted(steps) == [(10, 30), (10, 30), (24, 30), (24, 30), (52, 48), (52, 48)]
    assert max(rates) == recipe.rate
    assert rates[-1] < recipe.rate / 20


def test_a_network_that_learnt_nothing_leaves_the_head_alone():
    """At a rate of nothing it is undecided; the head is that of feature_extraction."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fine_tuning, "FINE_TUNING", replace(FINE_TUNING, rate=0.0))
        idle = probabilities(sizes=(64, 72, 80))
    head = probabilities(strategy="feature_extraction", features="last", sizes=(64, 72, 80))
    assert (idle.argmax(1) == head.argmax(1)).all()


def test_two_images_of_a_class_train_no_network(monkeypatch):
    """Half of them would be held out, and no more than a fifth is what the recipe wants."""
    trained, real = set(), Trainer.cycle

    def cycle(self, network, parameters, train, generator, epochs):
        trained.add(len(train))
        real(self, network, parameters, train, generator, epochs)

    monkeypatch.setattr(Trainer, "cycle", cycle)
    options = {"sizes": (4, 10, 30), "repeats": 2}
    found = probabilities(**options)
    assert trained == {8, 24}
    head = probabilities(strategy="feature_extraction", features="last", **options)
    smallest = np.arange(len(found)) < len(found) // 3
    assert (found[smallest] == head[smallest]).all()
    assert (found[~smallest] != head[~smallest]).any()


@pytest.mark.parametrize("seed", range(4))
def test_the_weights_of_a_pool_have_the_least_loss(seed):
    """Against a search over a grid; where the network misleads, its weight is zero."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(3, size=80)
    logits = generator.normal(size=(2, 80, 3))
    logits[0, np.arange(80), labels] += (-1.0, 0.0, 1.0, 3.0)[seed]
    logits[1, np.arange(80), labels] += 1.5
    one, other = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    found = pool_weights(one, other, labels)

    def loss(weights):
        own = pool(one, other, np.array(weights))[np.arange(80), labels]
        return CAUTION / 2 * np.square(np.subtract(weights, (0, 1))).sum() - np.log(own).sum()

    grid = [(a, b) for a in np.linspace(0, 2, 41) for b in np.linspace(0, 2, 41)]
    assert found.min() >= 0
    assert loss(found) <= min(map(loss, grid)) + 1e-9
    assert np.abs(found - min(grid, key=loss)).max() <= 0.051
    if seed in (0, 3):
        assert (found[0] == 0) == (seed == 0)


def test_few_images_hardly_move_the_weights_of_a_pool():
    """Five images that a network gets right and the head wrong, then a hundred times as many."""
    right, wrong = np.array([[0.9, 0.1]]), np.array([[0.3, 0.7]])
    few, many = (
        pool_weights(right.repeat(n, 0), wrong.repeat(n, 0), np.zeros(n, dtype=np.int64))
        for n in (5, 500)
    )
    assert few[0] < 0.6 < 1.5 < many[0]
    assert few[1] > 0.6 > 0.4 > many[1]
    assert pool(right, wrong, many).argmax() == 0


def test_a_head_trained_by_steps_gets_near_the_regularised_one():
    recipe = Recipe(head_rate=1e-2, head_epochs=60, epochs=1, rate=1e-6, dropout=0.1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fine_tuning, "FINE_TUNING", recipe)
        stepped = study(repeats=10).run().scores["accuracy"]
    probe = study("feature_extraction", repeats=10).run().scores["accuracy"]
    assert abs(np.mean(stepped[-1]) - np.mean(probe[-1])) < 0.15


def test_validation_images_are_of_every_class_and_of_the_subsample():
    labels = np.array([0] * 30 + [1] * 6 + [2] * 2)
    rows = np.random.default_rng(0).permutation(38)
    fit, watch = split(rows, labels, 0.2, np.random.default_rng(1))
    assert sorted([*fit, *watch]) == list(range(38))
    assert np.bincount(labels[watch]).tolist() == [6, 1, 1]
    again = split(rows, labels, 0.2, np.random.default_rng(1))
    assert (again[1] == watch).all()


# -- augmentation ---------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["feature_extraction", "fine_tuning", "from_scratch"])
def test_views_are_for_training_images_alone(strategy):
    """A transform that paints a picture white: test images must not have been painted."""
    painted = []

    def paint(picture):
        painted.append(picture.tobytes())
        return picture.point(lambda value: 255)

    images, labels = shapes(60)
    test, test_labels = shapes(40, seed=9)
    result = Study(
        (images, labels),
        test_dataset=(test, test_labels),
        backbone=network(),
        strategy=strategy,
        augment=paint,
        image_size=24,
        sizes=(*SIZES[:2], 60),
        repeats=2,
        device="cpu",
    ).run()
    own = {np.repeat(image[..., None], 3, axis=2).tobytes() for image in test}
    assert painted
    assert not own & set(painted)
    # each view once for every frozen network, however many trials, and four images that the model
    # is tried on: fine-tuning has a trunk and the backbone of its head
    networks = 2 if strategy == "fine_tuning" else 1
    assert networks * 4 * 60 <= len(painted) <= networks * 4 * (60 + 4)
    assert result.available == 60


def test_views_are_the_same_in_every_run_and_kept_by_content(tmp_path):
    with Store(tmp_path) as store:
        one = study("feature_extraction", augment=True, store=store).run()
    shards = [path.stat().st_size for path in (tmp_path / "embeddings").iterdir()]
    *views, hashes = sorted(shards)  # 100 images each: the plain view and four others
    assert (hashes, views) == (100 * 5 * 32, [views[0]] * 5)
    with Store(tmp_path) as store:
        two = study("feature_extraction", augment=True, store=store, law="m4").run()
        assert len(list((tmp_path / "embeddings").iterdir())) == 6
        assert one.scores == two.scores
        plain = study("feature_extraction", store=store, augment=False).run()
    assert plain.scores != one.scores


def test_a_transform_of_ones_own_is_not_mistaken_for_another(tmp_path):
    """Objects with one repr: nothing of the first may be taken for the second."""

    def flip(picture):
        return picture.transpose(0)

    def darken(picture):
        return picture.point(lambda value: value // 3)

    class Named:
        def __init__(self, change):
            self.change = change

        def __call__(self, picture):
            return self.change(picture)

        def __repr__(self):
            return "Named()"

    found = []
    for change in (flip, darken):
        with Store(tmp_path) as store:
            found.append(study("feature_extraction", augment=Named(change), store=store).run())
    assert found[0].scores != found[1].scores


def test_trials_of_long_training_are_kept_in_the_store(tmp_path):
    """A rerun after an interruption goes on where it was; more repeats train the new ones alone."""
    told = []

    def interrupt(*trial):
        told.append(trial)
        if len(told) == 4:
            raise KeyboardInterrupt

    with Store(tmp_path) as store, pytest.raises(KeyboardInterrupt):
        study("fine_tuning", store=store, on_trial=interrupt).run()
    with Store(tmp_path) as store:
        more = []
        resumed = study("fine_tuning", store=store, on_trial=lambda *t: more.append(t)).run()
        assert len(told) + len(more) == resumed.n_trials
        assert any("were known from before" in note for note in resumed.notes)
        extra = []
        study("fine_tuning", store=store, repeats=4, on_trial=lambda *t: extra.append(t)).run()
        assert len(extra) == len(SIZES)
    assert study("fine_tuning").run().scores == resumed.scores


def test_what_is_no_transform_is_refused_with_its_name():
    with pytest.raises(RequirementError, match="returned NoneType; expected a PIL image"):
        study("feature_extraction", augment=lambda picture: None).run()
    with pytest.raises(RequirementError, match="raised KeyError"):
        study("feature_extraction", augment=lambda picture: {}["x"]).run()


def test_from_scratch_needs_no_weights_and_says_so(monkeypatch):
    """A named backbone that no hub and no package has weights for here."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = torch.get_rng_state()
    result = study(
        "from_scratch", backbone="test_resnet", image_size=32, sizes=(12, 20, 40), repeats=2
    ).run()
    assert result.weights_source == "random weights, fresh in every trial"
    assert result.weights_hash == ""
    assert (torch.get_rng_state() == before).all()


def test_from_scratch_refuses_layers_that_do_not_say_how_they_start():
    class Scale(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(3, 1, 1))

        def forward(self, images):
            return images * self.scale

    with pytest.raises(BackboneError, match=r"'0' of backbone Sequential is a Scale without"):
        study("from_scratch", backbone=torch.nn.Sequential(Scale(), *network())).run()


def test_a_network_from_scratch_starts_in_evaluation_mode():
    """Scored before the first epoch, it learns no statistics: whichever trial is the first."""
    backbone = load(network(), image_size=24)
    model = from_scratch.untrained(backbone, 0)
    assert not any(module.training for module in model.modules())
