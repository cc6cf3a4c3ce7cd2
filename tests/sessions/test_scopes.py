"""What a result depends on, end to end: an option changes, and what depends on it is made anew."""

import shutil
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

import numpy as np
import pytest
import torch
from support import CONFTEST, shapes, write_folder

from pytest_datasize import Study
from pytest_datasize.plugin.verdicts import VERDICT_SCOPES
from pytest_datasize.requirement import validators
from pytest_datasize.requirement.options import OPTIONS, STUDY_SCOPES, Option, Scope, table_of
from pytest_datasize.store import Store
from pytest_datasize.study import cache_keys

GATE = """
from pytest_datasize import datasize

@datasize.requires(accuracy=0.6)
def test_gate(): ...
"""

BASE = {"dataset": "{shapes}", "image_size": "24", "sizes": "10,24,60", "repeats": "2"}


class Change(NamedTuple):
    """Another valid value of an option, beside what it needs.

    Attributes
    ----------
    to
        The value of the second run.
    beside
        Options of both runs.
    same_images
        Whether the images, which keys have in place of their options, stay the same.
    """

    to: str
    beside: Mapping[str, str] = MappingProxyType({})
    same_images: bool = False


_FIELD = {"test_dataset": "{held}", "deployment": "{field}"}

_GROUPS = {"group": r"(\d\d)\.png", "unit": "group", "sizes": "10,16,24"}

CHANGES = {
    "dataset": Change("{more}"),
    "test_dataset": Change("{held}"),
    "task": Change("classification", same_images=True),
    "group": Change(r"(\d\d)\.png"),
    "unit": Change("group", {**_GROUPS, "unit": "image"}),
    "slices": Change(r"hundreds=0(\d)\d\d\.png"),
    "checks": Change("sizes=ignore"),
    "allow_outside": Change("true", same_images=True),
    "max_pixels": Change("1000", same_images=True),
    "backbone": Change("local-dir:{net}/b", {"backbone": "local-dir:{net}/a"}),
    "weights": Change(
        "{net}/b/model.safetensors",
        {"backbone": "test_resnet", "weights": "{net}/a/model.safetensors"},
    ),
    "precision": Change("float32"),
    "runtime": Change("torch"),
    "strategy": Change("from_scratch"),
    "features": Change("stages"),
    "augment": Change("true"),
    "unfreeze": Change("1"),
    "trainer": Change("trainers:columns"),
    "preset": Change("flowers-transfer", {"strategy": "feature_extraction"}),
    "budget": Change("10h"),
    "direction": Change("loss=lower"),
    "bounds": Change("loss=0..inf"),
    "operating_points": Change("recall_at_precision=left@0.8"),
    "image_size": Change("32"),
    "sizes": Change("10,30,60"),
    "repeats": Change("3"),
    "law": Change("exponential"),
    "test_fraction": Change("0.3"),
    "sampling": Change("balanced"),
    "seed": Change("1"),
    "device": Change("cpu"),
    "engine": Change("processes"),
    "workers": Change("2"),
    "ray_address": Change("local"),
    "ray_gpus": Change("0.5"),
    "ray_upload": Change("true"),
    "min_slice": Change("accuracy=0.3", {"slices": r"hundreds=0(\d)\d\d\.png"}),
    "confidence": Change("0.9", {"confidence": "0.6"}),
    "second_look": Change("off"),
    "undecided": Change("warn"),
    "level": Change("warning"),
    "trusted_range": Change("2"),
    "max_increase": Change("0.2"),
    "cost_per_image": Change("2"),
    "cost_per_group": Change("2", _GROUPS),
    "image_budget": Change("500", {"cost_per_image": "1"}),
    "images_per_class": Change("5"),
    "represents": Change("true", _FIELD),
    "deployment": Change("{other}", {**_FIELD, "represents": "true"}),
    "false_alarms": Change("0.02", {**_FIELD, "represents": "true"}),
}
"""An entry for every option: one that is missing fails below."""

STOPS_EARLY = ("confidence",)
"""Options of a verdict that decide how many repeats are trained: their evidence is their own."""

NEITHER = (Scope.CONDITION, Scope.OUTCOME, Scope.RUNTIME)


@pytest.fixture(scope="module")
def places(tmp_path_factory, shape_folder):
    """Data sets and two local backbones of one architecture."""
    import timm
    from safetensors.torch import save_file

    root = tmp_path_factory.mktemp("places")
    for number, name in enumerate("ab"):
        torch.manual_seed(number)
        (root / name).mkdir()
        model = timm.create_model("test_resnet", num_classes=10)
        save_file(model.state_dict(), root / name / "model.safetensors")
        (root / name / "config.json").write_text(
            '{"architecture": "test_resnet", "num_classes": 10}'
        )
    return {
        "shapes": shape_folder,
        "more": write_folder(root / "more", *shapes(130)),
        "held": write_folder(root / "held", *shapes(40, seed=1)),
        "field": write_folder(root / "field", *shapes(40, seed=2)),
        "other": write_folder(root / "other", *shapes(40, seed=3)),
        "net": root,
    }


@pytest.fixture(scope="module")
def first_runs(tmp_path_factory):
    """Options of a first run → the store that it left, and what is in it."""
    return tmp_path_factory.mktemp("stores"), {}


def studied(options: dict[str, str], store) -> None:
    """Run a study; what makes verdicts of it is not its matter."""
    given = {name: OPTIONS[name].parse_text(name, value, "") for name, value in options.items()}
    columns = torch.nn.Sequential(torch.nn.AvgPool2d((24, 6)), torch.nn.Flatten())
    with Store(store) as opened:
        Study(**{"backbone": columns, **given}, store=opened).run()


@pytest.fixture
def twice(pytester, places, first_runs):
    """Run twice on one store; return how many evidences and verdicts the second run added."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_gate=GATE)
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider\n")
    root, known = first_runs

    def judged(options: dict[str, str], store) -> None:
        given = [f"--datasize-{name.replace('_', '-')}={value}" for name, value in options.items()]
        result = pytester.runpytest_inprocess("test_gate.py", f"--datasize-store={store}", *given)
        assert "errors" not in result.parseoutcomes(), result.outlines

    def run(name: str, options: dict[str, str], store) -> tuple[int, int]:
        placed = {key: placed_in(value, places) for key, value in options.items()}
        (studied if OPTIONS[name].scope in STUDY_SCOPES else judged)(placed, store)
        with Store(store) as left:
            return len(left.all("evidence")), len(left.all("verdict"))

    def both(name: str, before: dict[str, str], after: dict[str, str]) -> tuple[int, int]:
        key = (OPTIONS[name].scope in STUDY_SCOPES, *sorted(before.items()))
        if key not in known:
            folder = root / str(len(known))
            known[key] = folder, run(name, before, folder)
        folder, (evidence, verdicts) = known[key]
        copy = shutil.copytree(folder, pytester.path / "store")
        evidence_after, verdicts_after = run(name, after, copy)
        return evidence_after - evidence, verdicts_after - verdicts

    return both


def placed_in(value: str, places) -> str:
    """Fill in the folders of this run."""
    return value.format(**places) if value.startswith(("{", "local-dir:")) else value


def expected(name: str) -> tuple[int, int]:
    """Measurements and judgements that a change of an option costs."""
    scope, change = OPTIONS[name].scope, CHANGES[name]
    if scope in NEITHER or change.same_images:
        return 0, 0
    if scope in (*VERDICT_SCOPES, Scope.TARGET):
        return (1 if name in STOPS_EARLY else 0), 1
    return 1, 0  # of a study; a verdict is keyed by its evidence


@pytest.mark.parametrize("name", OPTIONS)
def test_a_changed_option_makes_anew_what_depends_on_it_and_nothing_else(name, twice):
    assert name in CHANGES, "a new option needs an example here"
    change = CHANGES[name]
    before = {**BASE, **change.beside}
    assert twice(name, before, {**before, name: change.to}) == expected(name)


def test_every_scope_is_accounted_for_once():
    keyed_by_content = (Scope.IMAGES,)
    keyed_as_targets = (Scope.TARGET,)
    parts = [keyed_by_content, cache_keys.EVIDENCE, keyed_as_targets, VERDICT_SCOPES, NEITHER]
    assert sorted(scope.name for part in parts for scope in part) == sorted(Scope.__members__)
    assert set(cache_keys.TRIAL) < set(cache_keys.EVIDENCE) < set(STUDY_SCOPES)
    assert {option.scope for option in OPTIONS.values()} == set(Scope)
    assert all(len(scope.value) > 20 for scope in Scope)  # what it means


def test_an_option_without_a_scope_fails_at_import():
    given = (validators.flag, "true or false", "whether")
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        Option(*given)

    class Forgotten:
        new: Annotated[bool, Option(*given, False)]  # the default took the place of the help

    class Plain:
        new: bool

    for options in (Forgotten, Plain):
        with pytest.raises(TypeError, match="option 'new': expected an Option with a Scope"):
            table_of(options)


def test_a_key_does_not_depend_on_the_order_in_which_options_are_given():
    rng = np.random.default_rng(0)
    images = (rng.random((40, 16, 16)), np.arange(40) % 2)
    given: dict[str, Any] = {"image_size": 16, "seed": 3, "backbone": torch.nn.Flatten()}
    one, other = Study(images, **given), Study(images, **dict(reversed(given.items())))
    assert one.key() == other.key()
