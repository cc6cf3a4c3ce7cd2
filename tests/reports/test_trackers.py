"""Experiment trackers: MLflow with a database of its own, Weights & Biases offline."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pytest_datasize.reports.publishers import mlflow, wandb
from pytest_datasize.reports.records.record_numbers import numbers
from pytest_datasize.reports.records.selection import judged


def test_nothing_is_logged_where_nothing_is_set_up():
    assert not mlflow.configured()
    assert not wandb.configured()


@pytest.fixture(scope="module")
def mlflow_folder(tmp_path_factory):
    """Where the tests of this file keep one MLflow database; to create its tables takes seconds."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture
def database(mlflow_folder, monkeypatch):
    """An MLflow store of its own, as ``MLFLOW_TRACKING_URI=sqlite:///mlflow.db`` makes it."""
    monkeypatch.chdir(mlflow_folder)  # artifacts go to ./mlruns
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{mlflow_folder}/mlflow.db")
    return os.environ["MLFLOW_TRACKING_URI"]


@pytest.mark.filterwarnings("ignore")
def test_mlflow_gets_numbers_curves_and_the_result(odd_run, database):
    import mlflow as client

    assert mlflow.configured()
    said = []
    mlflow.publish(odd_run, Path("shop"), said.append)
    [line] = said
    assert line.startswith("MLflow: logged to run ")
    logged = client.tracking.MlflowClient(database)
    run = logged.get_run(line.split()[-1])
    assert run.data.metrics == pytest.approx(numbers(judged(odd_run["requirements"])))
    assert run.data.tags["datasize_strategy"] == "feature_extraction"
    assert run.info.status == "FINISHED"
    names = {entry.path for entry in logged.list_artifacts(run.info.run_id, "datasize")}
    assert "datasize/result.json" in names
    assert client.active_run() is None


def test_a_session_logs_to_mlflow(repository, mlflow_folder, monkeypatch):
    """Also where warnings are errors: deprecations inside MLflow are not the gate's matter."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{mlflow_folder}/mlflow.db")
    repository.makepyfile(
        "from pytest_datasize import datasize\n"
        "@datasize.requires(accuracy=0.6)\ndef test_enough(): ...\n"
    )
    result = repository.runpytest_subprocess()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["MLflow: logged to run *"])
    with closing(sqlite3.connect(mlflow_folder / "mlflow.db")) as opened:
        names = [name for (name,) in opened.execute("SELECT key FROM metrics")]
    assert "datasize/test_a_session_logs_to_mlflow.py/test_enough/accuracy/required" in names


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (RuntimeError(), "MLflow: not logged: RuntimeError"),
        (OSError("\n \n"), "MLflow: not logged: OSError"),
        (ValueError("first\nsecond"), "MLflow: not logged: ValueError: first"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_failure_of_mlflow_is_one_line_with_or_without_a_text(
    odd_run, database, monkeypatch, problem, said
):
    import mlflow as client

    def fail(*arguments, **named):
        raise problem

    monkeypatch.setattr(client, "log_metrics", fail)
    lines = []
    mlflow.publish(odd_run, Path("shop"), lines.append)
    assert lines == [said]
    assert client.active_run() is None


@pytest.mark.filterwarnings("ignore")
def test_a_server_that_is_away_is_one_line(odd_run, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    said = []
    mlflow.publish(odd_run, Path("shop"), said.append)
    assert said[0].startswith("MLflow: not logged: ")


@pytest.mark.filterwarnings("ignore")
def test_wandb_writes_a_run(odd_run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_PROJECT", "shop")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert wandb.configured()
    said = []
    wandb.publish(odd_run, Path("shop"), said.append)
    assert said[0].startswith("Weights & Biases: logged to run ")
    assert list((tmp_path / "wandb").glob("offline-run-*"))
    assert os.environ["WANDB_MODE"] == "offline"
