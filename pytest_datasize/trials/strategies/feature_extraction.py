"""Strategy: the backbone stays frozen, every trial trains a fresh head (linear probe)."""

import time
from dataclasses import replace
from importlib import import_module

from pytest_datasize.curve.seeds import Purpose, seed_of
from pytest_datasize.requirement.tasks import TASKS
from pytest_datasize.trials.heads.head_batch import FittedHead
from pytest_datasize.trials.operating_points import Flags
from pytest_datasize.trials.tasks.head_data import Heads
from pytest_datasize.trials.work import Ledger, Trials, Work


def run(work: Work, span: tuple[int, int]) -> Trials:
    """Train the heads of all trials together, on the embeddings of the work.

    Parameters
    ----------
    work
        The plan and all that its trials need; its seed draws the inner splits that choose the
        strength of regularisation. Option ``augment``: train on augmented views, too.
    span
        First repeat to run, and the one after the last.
    """
    ledger = Ledger(work, span)
    trials = ledger.pending
    if not trials and TASKS[work.task].embeds_images:
        return ledger.trials({})
    heads = work.made.get("heads")
    prepared = 0.0
    if heads is None:
        heads = work.made["heads"] = heads_of(replace(work, made={}))
        prepared = heads.seconds
    if not trials:
        return ledger.trials({"decode_and_embed": prepared}, heads.notes, 0, heads.arithmetic)
    flags = Flags.of(work)
    start = time.perf_counter()

    def keep(i: int, head: FittedHead) -> None:
        size, number, repeat = trials[i]
        ledger.add(
            size, number, flags.with_flags(head.probabilities, repeat.training(size), head.held)
        )

    found = heads.fit(
        [
            (repeat.training(size), repeat.test, seed_of(work.seed, Purpose.HEAD_FOLDS, number))
            for size, number, repeat in trials
        ],
        keep,
    )
    return ledger.trials(
        {"decode_and_embed": prepared, "heads": time.perf_counter() - start},
        heads.notes,
        unconverged=sum(not head.converged for head in found),
        arithmetic=heads.arithmetic,
    )


def heads_of(work: Work) -> Heads:
    """Prepare what fits the heads of the work's task."""
    heads: Heads = import_module(TASKS[work.task].heads).prepare(work)
    return heads
