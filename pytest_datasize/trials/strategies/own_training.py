"""Strategy: a user's training loop, run once per trial; the gate then measures its model."""

import random
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from math import isfinite
from typing import Any

import numpy as np
import torch

from pytest_datasize.curve.seeds import Purpose, stream
from pytest_datasize.errors import DatasizeError, TrainingError
from pytest_datasize.requirement.process_settings import given_settings
from pytest_datasize.requirement.tasks import METRICS, ends
from pytest_datasize.requirement.units import plural
from pytest_datasize.requirement.user_code import named, resolved
from pytest_datasize.trials.strategies.predictions import outcome_of
from pytest_datasize.trials.strategies.trial_images import Pictures, TrialImages
from pytest_datasize.trials.work import (
    Ledger,
    Outcome,
    Trial,
    Trials,
    Work,
    whole_repeats,
)

UNIT = (0.0, 1.0)
"""Default bounds of a score."""


def run(work: Work, span: tuple[int, int]) -> Trials:
    """Call the trainer for all trials of some repeats, one after the other.

    Parameters
    ----------
    work
        The plan and all that its trials need. Options: ``trainer``, and ``bounds`` (metric →
        (low, high)) of scores that are not in [0, 1].
    span
        First repeat to run, and the one after the last.

    Raises
    ------
    TrainingError
        The trainer raised, or returned an invalid score; the message names the trial.
    """
    ledger = Ledger(work, span)
    trainer = resolved(work.options["trainer"])
    pictures = work.made.setdefault("own_training", Pictures(work.image_sets))
    start = time.perf_counter()
    done, names = ledger.resumed, _names(work.finished.values())
    for trial in whole_repeats(ledger):
        outcome = _train(trainer, trial, work, pictures, names)
        names = names or _names([outcome])
        ledger.add(*trial[:2], outcome)
        done += 1
        work.on_progress("training models", done, ledger.total)
    return ledger.trials({"own_training": time.perf_counter() - start})


def _names(outcomes: Any) -> frozenset[str]:
    """Metrics that a trial scored; every later one must score the same."""
    found = [outcome for outcome in outcomes if isinstance(outcome, Mapping)]
    return frozenset(found[0]) if found else frozenset()


def _train(
    trainer: Callable[..., Any],
    trial: Trial,
    work: Work,
    pictures: Pictures,
    known: frozenset[str],
) -> Outcome:
    size, number, repeat = trial
    seed = int(stream(work.seed, Purpose.TRAINER_SEED, size, number).integers(2**31))
    names, truth = work.image_sets[0].names, work.truth
    labels = truth[:, 0] if work.task == "regression" and truth.shape[1] == 1 else truth
    train, test = (
        TrialImages(labels[rows], names, pictures, rows)
        for rows in (repeat.training(size), repeat.test)
    )
    counted = f"{size} {plural(work.plan.unit)}"
    where = f"{named(work.options['trainer'])}, trial with {counted}, repeat {number}"
    try:
        with given_settings(), _seeded(seed, torch.device(work.device)):
            found = trainer(train, test, seed=seed, device=work.device)
    except DatasizeError:
        raise
    except Exception as problem:
        frame = traceback.extract_tb(problem.__traceback__)[-1]
        raise TrainingError(
            f"{where} (seed {seed}): raised {type(problem).__name__}: {problem} "
            f"({frame.filename}:{frame.lineno})"
        ) from problem
    if isinstance(found, Mapping):
        return _scores(found, where, known, work.options.get("bounds") or {}, len(test))
    if known:
        raise TrainingError(f"{where}: returned {type(found).__name__}, earlier trials scores.")
    return outcome_of(found, where, work.task, repeat.test, work.image_sets, truth)


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators for a trainer that does not seed them; restore them afterwards.

    Of torch's generators that of the CPU and of the device in use: another GPU may belong to
    another process, and reading its generator takes memory there.
    """
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with _torch_seeded(seed, device):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002


@contextmanager
def _torch_seeded(seed: int, device: torch.device) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if device.type not in ("cuda", "mps"):
            yield
        elif device.type == "mps":
            state = torch.mps.get_rng_state()
            torch.mps.manual_seed(seed)
            try:
                yield
            finally:
                torch.mps.set_rng_state(state)
        else:
            with (
                torch.random.fork_rng(devices=[device], device_type="cuda"),
                torch.cuda.device(device),
            ):
                torch.cuda.manual_seed(seed)
                yield


def _scores(
    found: Mapping[Any, Any],
    where: str,
    names: frozenset[str],
    bounds: Mapping[str, tuple[float, float]],
    n_test: int,
) -> dict[str, float | list[float]]:
    if not found:
        raise TrainingError(f"{where}: returned no scores; expected {{'accuracy': 0.87}}.")
    scores: dict[str, float | list[float]] = {}
    for name, value in found.items():
        try:
            if isinstance(value, (bool, np.bool_, str, bytes)):
                raise TypeError  # float() would take them
            values = _per_image(value)
            score = float(value) if values is None else float(np.mean(values))
        except Exception:  # a value of the user's may fail in any way
            raise TrainingError(
                f"{where}: {name!r} is a {type(value).__name__}; expected a number, or one for "
                f"each of the {n_test} test images."
            ) from None
        if values is not None and len(values) != n_test:
            raise TrainingError(
                f"{where}: {name!r} has {len(values)} values; expected one for each of the "
                f"{n_test} test images."
            )
        if not isinstance(name, str) or not isfinite(score):
            raise TrainingError(f"{where}: scored {name}={score}; expected a finite number.")
        low, high = bounds.get(name) or (ends(name) if name in METRICS else UNIT)
        if not low <= score <= high:
            raise TrainingError(
                f"{where}: scored {name}={score:g}, outside {low:g} to {high:g}. Declare what it "
                f"is, such as bounds={{{name!r}: (0, None)}} and direction={{{name!r}: 'lower'}}, "
                "or return a score in [0, 1]."
            )
        scores[name] = score if values is None else values
    if names and (differing := _differing(set(scores), names)):
        raise TrainingError(f"{where}: {differing}")
    return scores


def _per_image(value: Any) -> list[float] | None:
    """Return one value per image; None for a single number."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    array = np.asarray(value)
    return array.astype(np.float64).tolist() if array.ndim == 1 else None


def _differing(scores: Set[str], names: Set[str]) -> str:
    if scores == names:
        return ""
    missing, more = sorted(names - scores), sorted(scores - names)
    what = f"lacks {', '.join(missing)}" if missing else f"adds {', '.join(more)}"
    return f"{what}; every trial must score the same metrics, here {', '.join(sorted(names))}."


def other_metrics(outcome: Outcome, earlier: Outcome) -> str:
    """Describe how a trial's outcome differs in kind from an earlier one's; empty if it does not.

    Examples
    --------
    >>> other_metrics({"accuracy": 0.5}, {"accuracy": 0.6, "auc": 0.7})
    'lacks auc; every trial must score the same metrics, here accuracy, auc.'
    """
    if isinstance(outcome, Mapping) and isinstance(earlier, Mapping):
        return _differing(set(outcome), set(earlier))
    if isinstance(outcome, Mapping) or isinstance(earlier, Mapping):
        return "some trials return scores, others outcomes of single images; all must do the same."
    return ""
