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
from numpy.typing import NDArray

from pytest_datasize.curve.seeds import Purpose, stream
from pytest_datasize.errors import DatasizeError, TrainingError
from pytest_datasize.requirement.process_settings import given_settings
from pytest_datasize.requirement.user_code import named, resolved
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
    names: frozenset[str],
) -> Outcome:
    size, number, repeat = trial
    seed = int(stream(work.seed, Purpose.TRAINER_SEED, size, number).integers(2**31))
    classes = work.image_sets[0].classes
    train, test = (
        TrialImages(work.labels[rows], classes, pictures, rows)
        for rows in (repeat.order[:size], repeat.test)
    )
    where = f"{named(work.options['trainer'])}, trial with {size} images, repeat {number}"
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
        return _scores(found, where, names, work.options.get("bounds") or {})
    if names:
        raise TrainingError(f"{where}: returned {type(found).__name__}, earlier trials scores.")
    return _probabilities(found, where, len(test), classes)


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


_SUM = 1e-2
"""Largest distance of a sum of probabilities from one: half precision rounds."""


def _scores(
    found: Mapping[Any, Any],
    where: str,
    names: frozenset[str],
    bounds: Mapping[str, tuple[float, float]],
) -> dict[str, float]:
    if not found:
        raise TrainingError(f"{where}: returned no scores; expected {{'accuracy': 0.87}}.")
    scores = {}
    for name, value in found.items():
        try:
            if isinstance(value, (bool, np.bool_, str, bytes)):
                raise TypeError  # float() would take them
            score = float(value)
        except Exception:  # a value of the user's may fail in any way
            raise TrainingError(
                f"{where}: {name!r} is a {type(value).__name__}; expected a number."
            ) from None
        if not isinstance(name, str) or not isfinite(score):
            raise TrainingError(f"{where}: scored {name}={score}; expected a finite number.")
        low, high = bounds.get(name, UNIT)
        if not low <= score <= high:
            raise TrainingError(
                f"{where}: scored {name}={score:g}, outside {low:g} to {high:g}. Declare what it "
                f"is, such as bounds={{{name!r}: (0, None)}} and direction={{{name!r}: 'lower'}}, "
                "or return a score in [0, 1]."
            )
        scores[name] = score
    if names and (differing := _differing(set(scores), names)):
        raise TrainingError(f"{where}: {differing}")
    return scores


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


def _probabilities(
    found: Any, where: str, n_test: int, classes: tuple[str, ...]
) -> NDArray[np.floating]:
    """Check class probabilities (n_test, C), or convert predicted labels (n_test,) to them."""
    if isinstance(found, torch.Tensor):
        found = found.detach().cpu().numpy()
    try:
        array = np.asarray(found)
    except ValueError:
        array = np.asarray(None)
    n_classes = len(classes)
    if array.shape == (n_test,) and array.dtype.kind in "iub":
        labels = array.astype(np.int64)
    elif array.shape == (n_test,) and array.dtype.kind in "OU" and set(array) <= set(classes):
        labels = np.array([classes.index(name) for name in array], dtype=np.int64)
    elif array.shape == (n_test, n_classes) and array.dtype.kind in "fiu":
        if not np.isfinite(array).all():
            raise TrainingError(f"{where}: some probabilities are not finite numbers.")
        probabilities: NDArray[np.floating] = array.astype(np.float64)
        sums = probabilities.sum(axis=1)
        wrong = np.flatnonzero((np.abs(sums - 1.0) > _SUM) | (probabilities < -_SUM).any(axis=1))
        if wrong.size:
            raise TrainingError(
                f"{where}: {wrong.size} of {n_test} rows are no probabilities: row {wrong[0]} sums "
                f"to {sums[wrong[0]]:.3g}. Of logits, return the softmax."
            )
        return probabilities
    else:
        raise TrainingError(
            f"{where}: returned {type(found).__name__} of shape {array.shape}; expected scores "
            f"({{'accuracy': 0.87}}), predicted labels of shape ({n_test},) or class "
            f"probabilities of shape ({n_test}, {n_classes})."
        )
    if not ((labels >= 0) & (labels < n_classes)).all():
        raise TrainingError(f"{where}: predicted a label outside 0 to {n_classes - 1}.")
    one_hot: NDArray[np.floating] = np.eye(n_classes)[labels]
    return one_hot
