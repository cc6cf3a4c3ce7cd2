"""The marker in real sessions: where it may stand, what it decides, what a wrong one does."""

import json

import pytest
from support import stored_embeddings

from pytest_datasize.plugin.merged_markers import merged_requirements

GATE = "from pytest_datasize import datasize\nimport pytest\n"


def test_enough_passes_and_too_few_fails_without_a_traceback(repository):
    repository.makepyfile(
        GATE
        + """
@datasize.requires(accuracy=0.7)
def test_enough(): ...

@datasize.requires(accuracy=0.995)
def test_short(): ...
"""
    )
    result = repository.runpytest()
    result.assert_outcomes(passed=1, failed=1)
    text = result.stdout.str()
    assert "Traceback" not in text
    assert "pytest_datasize/" not in text
    result.stdout.fnmatch_lines(["*_ test_short _*", "*accuracy 0.995*now 0.*"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "200")
        result = repository.runpytest("-q")
    result.stdout.fnmatch_lines(["FAILED *::test_short - Failed: accuracy 0.995 *"])


def test_the_plain_mark_on_functions_classes_modules_and_parametrised_tests(repository):
    repository.makepyfile(
        test_module=GATE
        + """
pytestmark = datasize.requires(accuracy=0.6)
def test_a(): ...
@pytest.mark.parametrize("n", [1, 2])
def test_b(n): ...
""",
        test_rest=GATE
        + """
import unittest
@pytest.mark.datasize(accuracy=0.6)
class TestC:
    def test_c(self): ...
    def test_d(self): ...
@datasize.requires(accuracy=0.6)
class TestOld(unittest.TestCase):
    def test_e(self): ...
@pytest.mark.parametrize("n", [1, pytest.param(2, marks=datasize.requires(accuracy=0.995))])
def test_f(n): ...
""",
    )
    result = repository.runpytest("-v")
    result.assert_outcomes(passed=7, failed=1)
    result.stdout.fnmatch_lines(["*::test_f?2? FAILED*"])
    assert result.stdout.str().count(" sufficient") == 6
    repository.runpytest("-m", "datasize").assert_outcomes(passed=6, failed=1, deselected=1)
    repository.runpytest("-m", "not datasize").assert_outcomes(passed=1, deselected=7)


def read(repository, source: str) -> dict[str, list[tuple[dict, dict]]]:
    """Collect a module; return test → targets and options of its requirements."""
    path = repository.makepyfile(GATE + source)
    items, _ = repository.inline_genitems(path)
    return {
        item.nodeid.partition("::")[2]: [(r.targets, r.options) for r in merged_requirements(item)]
        for item in items
    }


def test_closer_markers_override_outer_ones(repository):
    """One requirement: of every target and option, the value closest to the test counts."""
    found = read(
        repository,
        """
pytestmark = datasize.requires(accuracy=0.6, seed=1, repeats=3)
@datasize.requires(auc=0.6, seed=2)
class TestBase:
    def test_inherits(self): ...
    @datasize.requires(accuracy=0.55, seed=3)
    def test_overrides(self): ...
    @pytest.mark.parametrize("n", [1, pytest.param(2, marks=datasize.requires(seed=5))])
    @datasize.requires(dataset="other", seed=4)
    def test_case(self, n): ...
@datasize.requires(auc=0.55)
class TestDerived(TestBase):
    pass
@datasize.requires(repeats=4)
def test_function(): ...
""",
    )
    module = {"seed": 1, "repeats": 3}
    assert found == {
        "test_function": [({"accuracy": 0.6}, module | {"repeats": 4})],
        "TestBase::test_inherits": [({"accuracy": 0.6, "auc": 0.6}, module | {"seed": 2})],
        "TestBase::test_overrides": [({"accuracy": 0.55, "auc": 0.6}, module | {"seed": 3})],
        "TestDerived::test_inherits": [({"accuracy": 0.6, "auc": 0.55}, module | {"seed": 2})],
        "TestDerived::test_overrides": [({"accuracy": 0.55, "auc": 0.55}, module | {"seed": 3})],
        **{
            f"{group}::test_case[{n}]": [
                ({"accuracy": 0.6, "auc": auc}, module | {"dataset": "other", "seed": 3 + n})
            ]
            for group, auc in (("TestBase", 0.6), ("TestDerived", 0.55))
            for n in (1, 2)
        },
    }


def test_a_marker_without_target_sets_defaults(repository):
    repository.makepyfile(
        GATE
        + """
pytestmark = datasize.requires(seed=5)
def test_plain(): ...
def test_no_result(datasize_result): ...
@datasize.requires(accuracy=0.6)
def test_gate(datasize_result): assert datasize_result.seed == 5
class TestIt:
    @datasize.requires(accuracy=0.6)
    def test_method(self, datasize_result): assert datasize_result.seed == 5
    def test_other(self): ...
"""
    )
    result = repository.runpytest("--datasize-json=out.json")
    result.assert_outcomes(passed=4, errors=1)
    assert "datasize_result needs a requirement on the test" in result.stdout.str()
    records = json.loads((repository.path / "out.json").read_text())["requirements"]
    assert {record["nodeid"].split("::")[-1] for record in records} == {"test_gate", "test_method"}


@pytest.mark.parametrize("where", ["function", "class", "module", "case"])
def test_options_without_any_target_are_an_error(repository, where):
    mark = "datasize.requires(seed=5)"
    repository.makepyfile(
        GATE
        + {
            "function": f"@{mark}\ndef test_it(): ...\n",
            "class": f"@{mark}\nclass TestIt:\n    def test_it(self): ...\n",
            "module": f"pytestmark = {mark}\nclass TestIt:\n    def test_it(self): ...\n",
            "case": "@pytest.mark.parametrize('n', [pytest.param(1, marks="
            f"{mark})])\ndef test_it(n): ...\n",
        }[where]
    )
    result = repository.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*: no target; give at least one metric*"])


STACKED = """
@datasize.requires(accuracy=0.6{0})
@datasize.requires(auc=0.6, f1_macro=0.6, repeats=3{1})
"""


@pytest.mark.parametrize("where", ["function", "class", "module"])
def test_two_markers_in_one_place_are_refused_unless_stacked(repository, where):
    marks = {
        "function": STACKED + "def test_it(): ...\n",
        "class": STACKED + "class TestIt:\n    def test_it(self): ...\n",
        "module": "pytestmark = [datasize.requires(accuracy=0.6{0}), "
        "datasize.requires(auc=0.6, f1_macro=0.6, repeats=3{1})]\ndef test_it(): ...\n",
    }[where]
    repository.makepyfile(GATE + marks.format("", ""))
    result = repository.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*: two datasize markers here. Write their targets in one*"])
    for stack in (("", ", stack=True"), (", stack=True", ""), (", stack=True", ", stack=True")):
        [(first, _), (second, options)] = read(repository, marks.format(*stack)).popitem()[1]
        assert (first, second) == ({"accuracy": 0.6}, {"auc": 0.6, "f1_macro": 0.6})
        assert options == {"repeats": 3}


def test_a_stacked_marker_takes_the_options_of_outer_ones_and_not_their_targets(repository):
    source = """
pytestmark = datasize.requires(accuracy=0.6, seed=1)
@datasize.requires(f1_macro=0.6, seed=2, stack=True)
class TestStacked:
    @datasize.requires(balanced_accuracy=0.6)
    @datasize.requires(auc=0.999, stack=True)
    def test_it(self): ...
"""
    assert read(repository, source)["TestStacked::test_it"] == [
        ({"f1_macro": 0.6}, {"seed": 2}),
        ({"accuracy": 0.6, "balanced_accuracy": 0.6}, {"seed": 1}),
        ({"auc": 0.999}, {"seed": 1}),
    ]
    result = repository.runpytest("--datasize-json=out.json")
    result.assert_outcomes(failed=1)  # by the last one
    records = json.loads((repository.path / "out.json").read_text())["requirements"]
    found = [(r["order"], r["metric"], r["failed"], r["line"]) for r in records]
    assert found == [
        (0, "f1_macro", False, 5),
        (1, "accuracy", False, 7),
        (1, "balanced_accuracy", False, 7),
        (2, "auc", True, 8),
    ]


def test_of_strategy_and_trainer_the_closer_one_counts(repository):
    found = read(
        repository,
        """
pytestmark = datasize.requires(accuracy=0.5, strategy="feature_extraction")
@datasize.requires(trainer="theirs:train")
class TestIt:
    def test_own(self): ...
    @datasize.requires(strategy="own_training")
    def test_named(self): ...
    @datasize.requires(strategy="fine_tuning")
    def test_other(self): ...
""",
    )
    options = {name.partition("::")[2]: options for name, [(_, options)] in found.items()}
    assert options == {
        "test_own": {"trainer": "theirs:train"},
        "test_named": {"trainer": "theirs:train", "strategy": "own_training"},
        "test_other": {"strategy": "fine_tuning"},
    }


def test_all_metrics_and_the_worst_class_by_name(repository):
    repository.makepyfile(
        GATE
        + """
@datasize.requires(accuracy=0.6, balanced_accuracy=0.6, f1_micro=0.6, f1_macro=0.6, auc=0.6,
                   recall_per_class=0.6)
def test_it(): ...
"""
    )
    result = repository.runpytest()
    result.assert_outcomes(passed=1)
    result.stdout.re_match_lines([r"  sufficient .*recall '(left|right)' "])


def test_the_body_runs_when_the_gate_has_passed(repository):
    repository.makepyfile(
        GATE
        + """
@datasize.requires(accuracy=0.6)
def test_own_assert(): assert False, "their own"

@datasize.requires(accuracy=0.999)
def test_not_reached(): pytest.skip("must not hide the verdict")
"""
    )
    result = repository.runpytest()
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*their own*"])


WRONG = {
    "acuracy=0.9": "unknown name 'acuracy'; did you mean 'accuracy'?",
    "accuracy=90": "write 0.9 for 90 %",
    "accuracy=0.9, sampling='balance'": "did you mean 'balanced'?",
    "accuracy=0.9, repeats='ten'": "repeats='ten' is not allowed",
    "repeats=5": "no target",
    "0.9": "0.9 has no name",
}


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("form", ["datasize.requires", "pytest.mark.datasize"])
def test_a_wrong_marker_is_a_collection_error_before_any_training(repository, form, workers):
    for number, arguments in enumerate(WRONG):
        repository.makepyfile(
            **{f"test_{number}": f"{GATE}\n@{form}({arguments})\ndef test_it_{number}(): ...\n"}
        )
    repository.makepyfile(test_right=GATE + "@datasize.requires(accuracy=0.6)\ndef test_a(): ...\n")
    arguments = ["--datasize-store=kept", *([] if workers == "0" else ["-n", workers])]
    result = repository.runpytest("-p", "no:randomly", *arguments)
    text = result.stdout.str()
    outcomes = result.parseoutcomes()
    assert outcomes["errors"] >= len(WRONG)
    assert "passed" not in outcomes
    assert "INTERNALERROR" not in text
    assert stored_embeddings(repository.path / "kept") == 0
    for number, says in enumerate(WRONG.values()):
        assert says in text
        assert f"test_{number}.py::test_it_{number}: " in text
    repository.runpytest("--datasize-store=kept", "test_right.py").assert_outcomes(passed=1)
    assert stored_embeddings(repository.path / "kept") > 0  # where a gate measures they are seen


def test_a_wrong_marker_on_a_class_is_told_once(repository):
    repository.makepyfile(
        "import pytest\n@pytest.mark.datasize(acc=1)\nclass TestA:\n"
        "    def test_a(self): ...\n    def test_b(self): ...\n"
    )
    result = repository.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*::TestA::test_a: unknown name 'acc'*"])


def test_xfail_expects_a_short_data_set_not_a_broken_one(repository):
    repository.makepyfile(
        GATE
        + """
@pytest.mark.xfail(strict=True)
@datasize.requires(accuracy=0.999)
def test_short(): ...

@pytest.mark.xfail(strict=True)
@datasize.requires(accuracy=0.6, dataset="missing")
def test_broken(): ...
"""
    )
    result = repository.runpytest()
    result.assert_outcomes(xfailed=1, errors=1)
    result.stdout.fnmatch_lines(["*missing does not exist*"])


def test_a_marker_added_after_collection_counts(repository):
    repository.makeconftest(
        (repository.path / "conftest.py").read_text()
        + """
def pytest_collection_modifyitems(items):
    for item in items:
        arguments = {"accuracy": 0.999} if "late" in item.name else {"acuracy": 0.9}
        item.add_marker(pytest.mark.datasize(**arguments))
"""
    )
    repository.makepyfile("def test_late(): ...\ndef test_wrong(): ...\n")
    result = repository.runpytest()
    result.assert_outcomes(failed=1, errors=1)
    result.stdout.fnmatch_lines(["*::test_wrong: unknown name 'acuracy'; did you mean*"])


def test_a_marker_added_too_late_fails(repository):
    repository.makepyfile(
        GATE
        + """
@pytest.fixture
def late(request): request.node.add_marker(pytest.mark.datasize(accuracy=0.6))
def test_it(late): ...
"""
    )
    result = repository.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["the datasize marker was added or changed too late*"])


def test_xfail_does_not_hide_a_fixture_that_fails(repository):
    repository.makepyfile(
        GATE
        + """
class TestIt:
    @pytest.fixture
    def datasize_dataset(self): raise OSError("their disk")

    @pytest.mark.xfail(strict=True)
    @datasize.requires(accuracy=0.6)
    def test_it(self): ...
"""
    )
    result = repository.runpytest("--datasize-json=out.json")
    result.assert_outcomes(errors=1)
    [record] = json.loads((repository.path / "out.json").read_text())["requirements"]
    assert record["verdict"] == "error"
    assert "their disk" in record["message"]


def test_modules_with_equal_weights_are_not_mixed_up(repository):
    repository.makepyfile(
        GATE
        + """
import torch

class Corner(torch.nn.Module):
    def __init__(self, good):
        super().__init__()
        self.good = good
    def forward(self, images):
        columns = images.mean(dim=(1, 2))
        return columns if self.good else columns[:, :1] * 0

@pytest.mark.parametrize("good", [True, False])
class TestBoth:
    @pytest.fixture
    def datasize_backbone(self, good): return Corner(good)

    @datasize.requires(accuracy=0.65)
    def test_it(self, good): ...
"""
    )
    repository.runpytest().assert_outcomes(passed=1, failed=1)


def test_undecided_may_warn_instead(repository):
    repository.makepyfile(
        GATE
        + """
@pytest.mark.filterwarnings("default")
@datasize.requires(accuracy=0.778, confidence=0.95, undecided="warn")
def test_warns(): ...

@datasize.requires(accuracy=0.778, confidence=0.95)
def test_fails(): ...
"""
    )
    result = repository.runpytest()
    result.assert_outcomes(passed=1, failed=1, warnings=1)
    result.stdout.fnmatch_lines(["*needed *more certainty; to decide, *"])
    result.stdout.fnmatch_lines(
        ["*DatasizeWarning: accuracy 0.778 is not certain enough: * % sure*"]
    )


@pytest.mark.parametrize("where", ["collection", "fixture"])
def test_a_second_marker_that_comes_later_is_not_lost(repository, where):
    """The first is met; the second, from a hook or a fixture, must still fail the test."""
    add = "add_marker(pytest.mark.datasize(accuracy=0.999))"
    hook = f"def pytest_collection_modifyitems(items):\n    for item in items: item.{add}\n"
    fixture = f"@pytest.fixture(autouse=True)\ndef late(request): request.node.{add}\n"
    conftest = (repository.path / "conftest.py").read_text() + "\n"
    repository.makeconftest(conftest + (hook if where == "collection" else fixture))
    repository.makepyfile(GATE + "@datasize.requires(accuracy=0.6)\ndef test_it(): ...\n")
    repository.runpytest().assert_outcomes(failed=1)


REPLACED = {
    "replaced": "item.own_markers[:] = [pytest.mark.datasize(accuracy=0.999).mark]",
    "target": "item.own_markers[0].kwargs['accuracy'] = 0.999",
    "inside": "item.own_markers[0].kwargs['sizes'].append(5000)",  # larger than the pool
}


@pytest.mark.parametrize("where", ["collection", "fixture"])
@pytest.mark.parametrize("change", REPLACED)
def test_a_marker_that_is_replaced_or_changed_is_read_again(repository, change, where):
    """As many markers as before, which say something else."""
    hook = f"def pytest_collection_modifyitems(items):\n    for item in items: {REPLACED[change]}\n"
    fixture = (
        "@pytest.fixture(autouse=True)\n"
        f"def late(request):\n    item = request.node\n    {REPLACED[change]}\n"
    )
    conftest = (repository.path / "conftest.py").read_text() + "\n"
    repository.makeconftest(conftest + (hook if where == "collection" else fixture))
    repository.makepyfile(
        GATE + "@datasize.requires(accuracy=0.6, sizes=[10, 30, 60])\ndef test_it(): ...\n"
    )
    result = repository.runpytest()
    if where == "collection":  # the third cannot be trained, which is an error of the set-up
        result.assert_outcomes(**{"errors" if change == "inside" else "failed": 1})
    else:
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["the datasize marker was added or changed too late*"])
