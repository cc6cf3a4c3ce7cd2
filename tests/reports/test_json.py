"""The JSON file and its published schema."""

import json as plain

import jsonschema
import pytest

from pytest_datasize.errors import ReportError
from pytest_datasize.reports.records import result_file


def check(run):
    schema = result_file.schema()
    validator = jsonschema.validators.validator_for(schema)
    validator.check_schema(schema)
    validator(schema).validate(run)


def test_every_kind_of_record_keeps_the_schema(odd_run, tmp_path):
    result_file.write(tmp_path / "run.json", odd_run)
    assert result_file.read(tmp_path / "run.json") == odd_run
    check(odd_run)
    assert {record["verdict"] for record in odd_run["requirements"]} >= {
        "sufficient",
        "undecided",
        "error",
    }


def test_the_schema_refuses_what_is_wrong(odd_run):
    wrong = plain.loads(plain.dumps(odd_run))
    wrong["requirements"][0]["required"] = -1
    with pytest.raises(jsonschema.ValidationError):
        check(wrong)
    del wrong["requirements"][0]["curve"]
    with pytest.raises(jsonschema.ValidationError):
        check(wrong)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no such file"),
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "it has no schema"),
        ('{"schema": 1}', "it has schema 1, expected 3"),
        ('{"schema": 3}', "'created' is missing"),
    ],
)
def test_a_file_that_is_no_result_is_named(tmp_path, text, said):
    path = tmp_path / "run.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ReportError, match=said) as caught:
        result_file.read(path)
    assert str(path) in str(caught.value)


def test_a_record_that_lacks_something_is_named(odd_run, tmp_path):
    damaged = plain.loads(plain.dumps(odd_run))
    del damaged["requirements"][1]["curve"]
    (tmp_path / "run.json").write_text(plain.dumps(damaged))
    with pytest.raises(ReportError, match="requirement 2: 'curve' is missing"):
        result_file.read(tmp_path / "run.json")


def test_the_commit_comes_from_the_ci_or_from_git(tmp_path, monkeypatch):
    assert result_file.commit(tmp_path) is None
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "packed-refs").write_text("# pack-refs\nabc123 refs/heads/main\n")
    assert result_file.commit(tmp_path / "tests") == "abc123"
    (git / "refs" / "heads" / "main").write_text("def456\n")
    assert result_file.commit(tmp_path) == "def456"
    (git / "HEAD").write_text("789abc\n")
    assert result_file.commit(tmp_path) == "789abc"
    monkeypatch.setenv("GITHUB_SHA", "fedcba")
    assert result_file.commit(tmp_path) == "fedcba"
