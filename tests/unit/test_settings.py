"""Layers of settings, and what ``datasize.yaml`` may say."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_datasize import RequirementError
from pytest_datasize.requirement.options import OPTIONS
from pytest_datasize.requirement.settings import Layer, read_yaml, resolve


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "datasize.yaml"
    path.write_text(text)
    return path


def test_the_stronger_layer_wins_and_is_named():
    strong, weak = Layer("marker", {"seed": 1}), Layer("command line", {"seed": 2, "repeats": 7})
    settings = resolve(strong, weak)
    assert (settings["seed"], settings["repeats"], settings["sampling"]) == (1, 7, "stratified")
    assert settings.layers["seed"] is strong
    assert "sampling" not in settings.layers


def test_a_whole_file(tmp_path):
    config = read_yaml(
        written(
            tmp_path,
            "defaults: {repeats: 5}\n"
            "datasets:\n  parts: data/parts\n"
            "requirements:\n"
            "  - name: release\n    accuracy: 0.9\n    dataset: parts\n"
            "  - f1_macro: 0.7\n",
        )
    )
    assert config.defaults == {"repeats": 5}
    assert config.datasets == {"parts": "data/parts"}
    (release, line, first), (second, _, _) = config.requirements
    assert (release, line, second) == ("release", 5, "requirement 2")
    assert (first.targets, first.options) == ({"accuracy": 0.9}, {"dataset": "parts"})


def test_requirements_may_be_a_mapping(tmp_path):
    config = read_yaml(written(tmp_path, "requirements:\n  release: {accuracy: 0.9}\n"))
    assert [(name, line) for name, line, _ in config.requirements] == [("release", 2)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("default: {}", "unknown key 'default'; did you mean 'defaults'?"),
        ("defaults: {repets: 3}", "unknown key 'repets'; did you mean 'repeats'?"),
        ("defaults: {repeats: many}", "repeats='many' is not allowed"),
        ("defaults: {accuracy: 0.9}", "unknown key 'accuracy'"),
        ("datasets: {a: 3}", "datasets: a=3 is not allowed"),
        ("requirements: [{accuracy: 9}]", "1: requirement 1: accuracy=9 is not allowed"),
        ("requirements: [{acc: 0.9}]", "did you mean"),
        ("requirements: [5]", "entry 1: expected `key: value` lines"),
        ("requirements: 5", "expected `key: value` lines"),
        ("requirements:\n- {name: a, auc: .9}\n- {name: a, auc: .8}", "'a' occurs twice"),
        ("defaults: {seed: 1, seed: 2}", "the key 'seed' occurs twice"),
        ("- a", "expected `key: value` lines"),
        ("a: [", "not valid YAML"),
        (
            "requirements:\n- name: a\n  recall_per_class: {crack: .9, *: .8}",
            ":3: not valid YAML: an unquoted * begins an alias. Quote a text that begins with it, "
            'such as the class "*".',
        ),
        (
            "requirements:\n- recall_per_class:\n    *others: .8",
            ":3: not valid YAML: an unquoted *",
        ),
        ("a: !!python/object:os.system {}", "not valid YAML"),
        ("a: &x [*x]", "an alias contains itself"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, text, says):
    path = written(tmp_path, text)
    with pytest.raises(RequirementError) as caught:
        read_yaml(path)
    assert str(path) in str(caught.value)
    assert says in str(caught.value)


def test_an_empty_file_says_nothing(tmp_path):
    assert read_yaml(written(tmp_path, "")).requirements == ()


@given(st.text(max_size=80) | st.binary(max_size=80))
def test_any_bytes_give_settings_or_our_own_error(content):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "datasize.yaml")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with suppress(RequirementError):
            read_yaml(path)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("repeats", "7", 7),
        ("confidence", "0.9", 0.9),
        ("sizes", "10, 20,40", (10, 20, 40)),
        ("sizes", "5%,10%,0.5", (0.05, 0.1, 0.5)),
        ("device", "cuda:1", "cuda:1"),
    ],
)
def test_text_is_read_as_the_option_needs_it(name, text, value):
    assert OPTIONS[name].parse_text(name, text, "here") == value


@pytest.mark.parametrize(
    ("name", "text"), [("repeats", "seven"), ("sizes", "a,b"), ("seed", "1.5")]
)
def test_wrong_text_is_refused(name, text):
    with pytest.raises(RequirementError, match=name):
        OPTIONS[name].parse_text(name, text, "here")
