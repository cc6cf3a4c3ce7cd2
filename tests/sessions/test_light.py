"""Gates that train nothing, in an environment without torch."""

import pytest

WITHOUT = """
import sys
for name in ("torch", "torchvision", "timm"):
    sys.modules[name] = None  # an import raises ModuleNotFoundError
import pytest

@pytest.fixture(scope="session")
def datasize_dataset(): return {data!r}
"""

GATES = """
from pytest_datasize import datasize

@datasize.requires(images_per_class=10)
def test_counted(): ...

@datasize.requires(accuracy=0.6)
def test_trained(): ...

def test_other(): ...
"""


@pytest.fixture
def light(repository, shape_folder):
    """The repository, on a machine that lacks torch."""
    (repository.path / "conftest.py").write_text(WITHOUT.format(data=str(shape_folder)))
    repository.makepyfile(GATES)
    return repository


def test_what_trains_nothing_works_and_the_rest_says_what_to_install(light):
    result = light.runpytest_subprocess("--datasize-json=run.json", "--datasize-markdown=run.md")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*training needs torch, which is not installed here. Install*"])
    assert "please report" not in result.stdout.str()
    assert (light.path / "run.json").exists()
    light.runpytest_subprocess("--datasize=check").assert_outcomes(skipped=2, passed=1)


def test_a_committed_record_is_judged(repository, shape_folder):
    repository.makepyfile(GATES.replace("accuracy=0.6", "accuracy=0.6, second_look='off'"))
    repository.runpytest_subprocess("--datasize-lock").assert_outcomes(passed=3)
    conftest = repository.path / "conftest.py"
    backbone = conftest.read_text()
    assert "datasize_backbone" in backbone
    (repository.path / "conftest.py").write_text(WITHOUT.format(data=str(shape_folder)))
    result = repository.runpytest_subprocess("--datasize=locked")
    assert "please report" not in result.stdout.str()
    assert "INTERNALERROR" not in result.stdout.str()
