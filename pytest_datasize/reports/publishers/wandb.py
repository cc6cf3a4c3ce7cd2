"""Numbers and curves in Weights & Biases, when the user has set it up, never otherwise."""

import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pytest_datasize.reports.records.record_numbers import numbers, parameters, title

_SET_UP = ("WANDB_PROJECT", "WANDB_RUN_ID")


def configured() -> bool:
    """Whether W&B is installed and the environment names a project, or the tests began a run."""
    if find_spec("wandb") is None:
        return False
    return any(os.environ.get(name) for name in _SET_UP) or _active() is not None


def _active() -> Any:
    return getattr(sys.modules.get("wandb"), "run", None)


def publish(run: dict[str, Any], root: Path, say: Callable[[str], None]) -> None:
    """Log to the run that is active, else to one of its own; a server that fails is told, no more.

    Parameters
    ----------
    run
        The whole run.
    root
        pytest's root directory; names the W&B run.
    say
        Prints a line.
    """
    judged = [record for record in run["requirements"] if record["metric"] is not None]
    if not judged:
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
            active.config.update(parameters(judged), allow_val_change=True)
            active.log({**numbers(judged), **_curves(wandb, judged)})
        finally:
            if own is not None:
                own.finish()
        say(f"Weights & Biases: logged to run {active.name or active.id}")
    except Exception as problem:  # the verdicts stand, whatever a server does
        said = (str(problem) or "no reason given").splitlines()[0]
        say(f"Weights & Biases: not logged: {type(problem).__name__}: {said}")


def _curves(wandb: Any, judged: list[dict[str, Any]]) -> dict[str, Any]:
    if find_spec("matplotlib") is None:
        return {}
    from pytest_datasize.reports.formats.draw import standalone

    return {
        f"{title(record)}/curve": wandb.Html(standalone(record), inject=False) for record in judged
    }
