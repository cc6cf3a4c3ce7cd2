"""Experiment trackers: a real local MLflow server, Weights & Biases offline; never by accident."""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest

from pytest_datasize.reports.publishers import mlflow, wandb
from pytest_datasize.reports.records.record_numbers import numbers


def test_nothing_is_logged_where_nothing_is_set_up():
    assert not mlflow.configured()
    assert not wandb.configured()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A local MLflow server over a database of its own."""
    pytest.importorskip("flask", reason="mlflow is not installed, or without its server")
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    places += ["--artifacts-destination", str(folder / "artifacts")]
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    address = f"http://127.0.0.1:{port}"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*command, *places], stdout=log, stderr=log, cwd=folder)
        try:
            for _ in range(240):
                try:
                    with urllib.request.urlopen(f"{address}/health", timeout=2):
                        break
                except (urllib.error.URLError, OSError):
                    time.sleep(0.5)
                if process.poll() is not None:
                    break
            else:
                process.terminate()
            if process.poll() is not None:
                pytest.fail(f"the MLflow server did not start: {(folder / 'log').read_text()}")
            yield address
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture(params=["folder", pytest.param("server", marks=pytest.mark.slow)])
def place(request, tmp_path, monkeypatch):
    """Where MLflow keeps runs: a folder, or a server where one is installed."""
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # since version 3.17 it asks
    if request.param == "folder":
        return (tmp_path / "runs").as_uri()
    return request.getfixturevalue("server")


@pytest.mark.filterwarnings("ignore")
def test_mlflow_gets_numbers_curves_and_the_result(odd_run, place, monkeypatch):
    import mlflow as client

    monkeypatch.setenv("MLFLOW_TRACKING_URI", place)
    assert mlflow.configured()
    said = []
    mlflow.publish(odd_run, Path("shop"), said.append)
    [line] = said
    assert line.startswith("MLflow: logged to run ")
    logged = client.tracking.MlflowClient(place)
    run = logged.get_run(line.split()[-1])
    judged = [record for record in odd_run["requirements"] if record["metric"]]
    assert run.data.metrics == pytest.approx(numbers(judged))
    assert run.data.tags["datasize_strategy"] == "feature_extraction"
    assert run.info.status == "FINISHED"
    names = {entry.path for entry in logged.list_artifacts(run.info.run_id, "datasize")}
    assert "datasize/result.json" in names
    assert client.active_run() is None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(find_spec("mlflow") is None, reason="mlflow is not installed")
def test_a_server_that_is_away_is_told_and_no_more(odd_run, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    said = []
    mlflow.publish(odd_run, Path("shop"), said.append)
    assert said[0].startswith("MLflow: not logged: ")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed")
def test_wandb_writes_a_run(odd_run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_PROJECT", "shop")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert wandb.configured()
    said = []
    wandb.publish(odd_run, Path("shop"), said.append)
    assert said[0].startswith("Weights & Biases: logged to run ")
    assert list((tmp_path / "wandb").glob("offline-run-*"))
