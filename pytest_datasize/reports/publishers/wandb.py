"""Publish numbers and curves to Weights & Biases, only if the user has set it up."""

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

_SET_UP = ("WANDB_PROJECT", "WANDB_RUN_ID")


def configured() -> bool:
    """Whether W&B is installed, and the environment sets a project or the tests began a run."""
    if find_spec("wandb") is None:
        return False
    return any(os.environ.get(name) for name in _SET_UP) or _active() is not None


def _active() -> Any:
    return getattr(sys.modules.get("wandb"), "run", None)


def publish(run: RunContent, root: Path, say: Callable[[str], None]) -> None:
    """Log to the active run, else to a new one; a failure is reported in one line.

    Parameters
    ----------
    run
        The whole run.
    root
        pytest's root directory; names the W&B run.
    say
        Prints a line.
    """
    requirements = judged(run["requirements"])
    if not requirements:
        return
    try:
        import wandb

        own = (
            None
            if _active()
            else wandb.init(
                name=f"pytest-datasize {root.name}", settings=wandb.Settings(silent=True)
            )
        )
        active = own or _active()
        try:
            active.config.update(parameters(requirements), allow_val_change=True)
            active.log({**numbers(requirements), **_curves(wandb, requirements)})
        finally:
            if own is not None:
                own.finish()
        say(f"Weights & Biases: logged to run {active.name or active.id}")
    except Exception as problem:  # a server error must not affect the verdicts
        say(f"Weights & Biases: not logged: {problem_text(problem)}")


def _curves(wandb: Any, requirements: list[GateRecord]) -> dict[str, Any]:
    if find_spec("matplotlib") is None:
        return {}
    from pytest_datasize.reports.formats.draw import standalone

    return {
        f"{title(record)}/curve": wandb.Html(standalone(record), inject=False)
        for record in requirements
    }
