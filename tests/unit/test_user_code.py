"""A function of the user's own, known by every source file that it is made of."""

import functools
import sys
import textwrap
from collections import OrderedDict
from importlib import import_module

import numpy as np
import pytest
from support import shapes
from torchvision.transforms import v2

from pytest_datasize import Study
from pytest_datasize.requirement.module_state import values_of
from pytest_datasize.requirement.user_code import code_of, content_of, packages_of, state_of
from pytest_datasize.store import Store

BODY = "def train(train, test, *, seed, device):\n    return helped()\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Write modules of a project, forget what was imported of them, and import its trainer."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(**files):
        for name, text in files.items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
                del sys.modules[name]
        return import_module("mine.trainer" if (tmp_path / "mine").exists() else "trainer").train

    yield write
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


IMPORTS = {
    "module": "from helper import helped\n",
    "function": "def helped():\n    import helper\n    return helper.helped()\n",
    "name": "def helped():\n    from helper import helped as found\n    return found()\n",
    "condition": "if 1 == 2:\n    import helper\n",
    "try": "try:\n    import no_such_module\nexcept ImportError:\n    import helper\n",
    "type checking": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import helper\n",
    "importlib": "import importlib\ndef helped(): return importlib.import_module('helper')\n",
    "dunder": "def helped(): return __import__('helper')\n",
    "method": "class A:\n    def b(self):\n        async def c():\n            import helper\n",
    "through another": "def helped():\n    import between\n",
}


@pytest.mark.parametrize("form", IMPORTS)
def test_a_helper_counts_however_it_is_imported(project, form):
    files = {"trainer": IMPORTS[form] + BODY, "between": "def f():\n    import helper\n"}
    before = code_of(project(**files, helper="def helped(): return 1\n"))
    assert before == code_of(project(**files, helper="def helped(): return 1\n"))
    after = code_of(project(**files, helper="def helped(): return 2\n"))
    assert None not in (before, after)
    assert before != after
    assert "helper" not in sys.modules or form in ("module", "try")  # it is read, not run


RELATIVE = {
    "from . import helper": "mine/helper",
    "from .helper import helped": "mine/helper",
    "from .parts.helper import helped": "mine/parts/helper",
    "from mine.parts import helper": "mine/parts/helper",
    "import mine.parts.helper": "mine/parts/helper",
    "import mine.parts.helper as x": "mine/parts/__init__",  # it runs, too
    "from .parts import *": "mine/parts/__init__",
    "import importlib; importlib.import_module('.parts.helper', __package__)": (
        "mine/parts/helper"
    ),
}


@pytest.mark.parametrize("statement", RELATIVE)
def test_a_helper_in_a_package_counts(project, statement):
    files = {
        "mine/__init__": "",
        "mine/parts/__init__": "",
        "mine/helper": "helped = 0\n",
        "mine/parts/helper": "helped = 0\n",
        "mine/trainer": f"def helped():\n    {statement}\n{BODY}".replace("import *", "import a"),
    }
    before = code_of(project(**files))
    assert before == code_of(project(**files))
    assert before != code_of(project(**{**files, RELATIVE[statement]: "helped = 1\n"}))


def test_which_file_says_what_counts(project):
    text = f"def helped():\n    import one, two\n{BODY}"
    before = code_of(project(trainer=text, one="A = 1\n", two="A = 2\n"))
    assert before != code_of(project(trainer=text, one="A = 2\n", two="A = 1\n"))
    assert before == code_of(project(trainer=text, one="A = 1\n", two="A = 2\n", three="A = 3"))


def test_the_name_is_that_of_the_content_not_of_the_place(project, tmp_path, monkeypatch):
    text = f"def helped():\n    import helper\n{BODY}"
    before = code_of(project(trainer=text, helper="A = 1\n"))
    there = tmp_path / "elsewhere"
    there.mkdir()
    for name in ("trainer", "helper"):
        (tmp_path / f"{name}.py").rename(there / f"{name}.py")
        sys.modules.pop(name, None)
    monkeypatch.syspath_prepend(there)
    assert before == code_of("trainer:train")


def test_two_files_of_one_name_are_two(tmp_path, monkeypatch):
    """pytest imports every conftest.py as ``conftest``; the last one is the module."""
    found = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "twice.py").write_text(f"A = {number}\n{BODY}")
        monkeypatch.syspath_prepend(folder)
        sys.modules.pop("twice", None)
        found.append(import_module("twice").train)
    sys.modules.pop("twice")
    assert code_of(found[0]) != code_of(found[1])


FIRST, SECOND = (lambda train, test: 1), (lambda train, test: train.first)


def made(number):
    def train(train, test, number=number):
        return number

    return train


class Keeps:
    """An object with a method as its trainer."""

    def train(self, train, test): ...

    @classmethod
    def of_class(cls, train, test): ...


class Named:
    """A decorator with a state, which has the name of what it decorates."""

    def __init__(self, function):
        functools.update_wrapper(self, function)

    def __call__(self, train, test): ...


def test_functions_of_one_name_and_states_are_not_mixed_up():
    assert None not in (code_of(FIRST), code_of(SECOND))
    assert code_of(FIRST) != code_of(SECOND)
    assert code_of(made(1)) != code_of(made(2))
    assert code_of(made([1])) is None
    assert code_of(Keeps().train) is None  # the state of the object cannot be told
    assert code_of(Keeps.of_class) is not None
    assert code_of(functools.partial(FIRST, 1)) is None
    assert code_of(Named(FIRST)) is None  # whatever it calls itself
    assert code_of(functools.lru_cache(made([1]))) is None


def test_installed_packages_are_named_with_their_versions(project):
    text = f"def helped():\n    import sklearn.svm, numpy, json\n    import helper\n{BODY}"
    found = packages_of(project(trainer=text, helper="import PIL.Image\n"))
    assert {"scikit-learn", "numpy"} <= set(found)
    assert {name.lower() for name in found} <= {"scikit-learn", "numpy", "pillow"}
    assert all(found.values())


class Grain:
    """A transform of the user's own, which shows nothing of its state."""

    def __init__(self, strength):
        self.strength = strength

    def __repr__(self):
        return "Grain()"

    def __call__(self, picture):
        return picture


@pytest.mark.parametrize(
    ("make", "other"),
    [
        (lambda: v2.RandomRotation(10), lambda: v2.RandomRotation(20)),
        (lambda: v2.Compose([v2.RandomRotation(5)]), lambda: v2.Compose([v2.RandomCrop(5)])),
        (lambda: v2.Compose([Grain(1)]), lambda: v2.Compose([Grain(2)])),
        (lambda: FIRST, lambda: SECOND),
        (lambda: "trainers:columns", lambda: "trainers:scores"),
    ],
)
def test_transforms_and_trainers_have_names_to_compare(make, other):
    assert content_of(make()) == content_of(make()) is not None
    assert content_of(make()) != content_of(other())
    assert "0x" not in content_of(make())


def test_what_cannot_be_told_has_no_name():
    assert content_of(v2.Lambda(lambda picture: picture)) is None
    assert content_of(functools.partial(made(1))) is None


SAME = {
    "another test": "def test_more():\n    assert 1\n",
    "a marked test": "@pytest.mark.slow\ndef test_more(): ...\n",
    "a class of tests": "class TestMore:\n    def test_it(self): ...\n",
    "a comment": "# nothing\n",
}

OTHER = {
    "a constant": "RATE = 0.1\n",
    "a statement": "import random\nrandom.seed(1)\n",
    "what may register itself": "def register(f): return f\n\n@register\ndef more(): ...\n",
    "a class": "class Model:\n    layers = 3\n",
    "another of the same name": "def helped(): return 3\n",
}

HELPED = "import pytest\n\ndef helped(): return 1\n\n" + BODY


@pytest.mark.parametrize("change", SAME)
def test_tests_beside_a_trainer_are_no_part_of_it(project, change):
    before = code_of(project(trainer=HELPED))
    assert (
        code_of(project(trainer=HELPED + SAME[change].replace("import pytest\n\n", ""))) == before
    )


@pytest.mark.parametrize("change", OTHER)
def test_all_else_beside_a_trainer_counts(project, change):
    before = code_of(project(trainer=HELPED))
    assert code_of(project(trainer=HELPED + OTHER[change])) != before


def test_a_function_that_is_looked_up_by_its_name_counts(project):
    text = "def train(*a, **k): return globals()['helped']()\n\ndef helped(): return {}\n"
    assert code_of(project(trainer=text.format(1))) != code_of(project(trainer=text.format(2)))


OUTSIDE = {
    "environment at import": "import os\nRATE = os.environ['GIVEN']\n",
    "environment in a function": "import os\ndef f(): return os.getenv('GIVEN')\n",
    "environment in a helper": "def f():\n    import reading\n",
    "a file": "import json\nwith open('given.json') as file:\n    CONFIG = json.load(file)\n",
    "a member of a class": "import os\nclass Model:\n    rate = os.environ.get('GIVEN')\n",
    "a value of a helper": "import helper\n",
}


@pytest.mark.parametrize("form", OUTSIDE)
def test_values_from_outside_are_a_state(project, form, tmp_path, monkeypatch):
    states = []
    monkeypatch.chdir(tmp_path)
    for given in ("1", "2", "2"):
        monkeypatch.setenv("GIVEN", given)
        (tmp_path / "given.json").write_text(given)
        reading = "from os import environ\ndef f(): return environ.get('GIVEN')\n"
        helper = "import os\nRATES = [float(os.environ['GIVEN'])]\n"
        states.append(
            state_of(project(trainer=OUTSIDE[form] + BODY, helper=helper, reading=reading))
        )
    assert states[0] != states[1] == states[2]


def test_a_value_that_other_code_sets_is_a_state(project):
    trainer = project(trainer="EPOCHS = 1\n\nclass Model:\n    layers = 3\n\n" + BODY)
    before = state_of(trainer)
    sys.modules["trainer"].EPOCHS = 2
    between = state_of(trainer)
    sys.modules["trainer"].Model.layers = 4
    assert len({before, between, state_of(trainer)}) == 3


def test_what_training_itself_changes_is_no_state(project):
    text = """
        CALLS, LOG, SEEN = 0, [], dict()

        class Model:
            built = 0

        def train(train, test, *, seed, device):
            global CALLS
            import helper
            CALLS += 1
            LOG.append(CALLS)
            SEEN[CALLS] = LOG
            Model.built += 1
    """
    trainer = project(trainer=text, helper="import os\nWHERE = os.getcwd()\n")
    before = state_of(trainer)
    trainer([], [], seed=0, device=None)
    assert "helper" in sys.modules
    assert state_of(trainer) == before


def test_evidence_of_other_values_is_not_used(project, tmp_path, monkeypatch):
    text = """
        import os
        RATE, CALLS = float(os.environ["RATE"]), []

        def train(train, test, *, seed, device):
            CALLS.append(seed)
            return {"accuracy": RATE}
    """
    found = []
    for rate in ("0.5", "0.75", "0.75"):
        monkeypatch.setenv("RATE", rate)
        trainer = project(trainer=text)
        with Store(tmp_path / "store") as store:
            options = {"repeats": 2, "sizes": (10, 20, 30), "device": "cpu", "store": store}
            scores = Study(shapes(40), trainer=trainer, **options).run().scores["accuracy"]
        found.append((scores[-1][0], bool(sys.modules["trainer"].CALLS)))
    assert found == [(0.5, True), (0.75, True), (0.75, False)]


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("class Net:\n    def __init__(self):\n        self.A = 1\nA = given()", 5),
        ("A = {'epochs': given()}", {"epochs": 5}),
        ("A = given()", np.float32(5)),
        ("A = given()", OrderedDict(epochs=5)),
    ],
)
def test_a_value_that_the_source_does_not_determine_is_a_state(source, value):
    [(name, text)] = values_of(source.encode(), {"A": value})
    assert name == "A"
    assert "5" in text


def test_a_list_that_the_source_fills_is_no_state():
    assert values_of(b"A = [1, 2]", {"A": [1, 2, 3]}) == []
