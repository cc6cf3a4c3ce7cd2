"""Publish numbers, curves and the result file to MLflow, only if the user has set it up."""

import json
import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pytest_datasize.reports.records.record_numbers import numbers, parameters, title
from pytest_datasize.reports.records.record_types import GateRecord, RunContent
from pytest_datasize.reports.records.selection import judged
from pytest_datasize.reports.records.text import problem_text

_SET_UP = ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID")


def configured() -> bool:
    """Whether MLflow is installed, and the environment sets a server or the tests began a run."""
    if find_spec("mlflow") is None:
        return False
    return any(os.environ.get(name) for name in _SET_UP) or _running()


def _running() -> bool:
    module = sys.modules.get("mlflow")
    return module is not None and getattr(module, "active_run", lambda: None)() is not None


def publish(run: RunContent, root: Path, say: Callable[[str], None]) -> None:
    """Log to the active run, else to a new one; a failure is reported in one line.

    Parameters
    ----------
    run
        The whole run.
    root
        pytest's root directory; names the MLflow run.
    say
        Prints a line.
    """
    requirements = judged(run["requirements"])
    if not requirements:
        return
    try:
        import mlflow

        own = None if _running() else mlflow.start_run(run_name=f"pytest-datasize {root.name}")
        try:
            logged = mlflow.active_run().info.run_id
            mlflow.log_metrics(numbers(requirements))
            mlflow.set_tags(parameters(requirements))
            mlflow.log_text(json.dumps(run, indent=2), "datasize/result.json")
            _curves(mlflow, requirements)
        finally:
            if own is not None:
                mlflow.end_run()
        say(f"MLflow: logged to run {logged}")
    except Exception as problem:  # a server error must not affect the verdicts
        say(f"MLflow: not logged: {problem_text(problem)}")


def _curves(mlflow: Any, requirements: list[GateRecord]) -> None:
    if find_spec("matplotlib") is None:
        return
    from pytest_datasize.reports.formats.draw import standalone

    for record in requirements:
        mlflow.log_text(standalone(record), f"{title(record)}.svg")
