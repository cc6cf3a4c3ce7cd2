"""Small studies to give to engines."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from support import shapes, stages
from trainers import columns

from pytest_datasize import Study
from pytest_datasize.store.index import NAME
from pytest_datasize.study.engines import Engines
from pytest_datasize.study.result_json import to_json
from pytest_datasize.study.stopping import Certainty

SIZES = (12, 24, 40)


class Between(Engines):
    """Workers of other engines, with a folder of a test's own; it may change what goes to and fro.

    Parameters
    ----------
    lender
        Whose workers: they are not ended with this object.
    on_task, on_answer
        Task → the task that is sent instead; answer → the answer that is yielded instead.
    """

    def __init__(self, lender, on_task=lambda task: task, on_answer=lambda answer: answer):
        super().__init__()
        self._lender, self._on_task, self._on_answer = lender, on_task, on_answer

    def get(self, options):
        """Return an engine whose workers are the lender's."""
        self._lent = self._lender.get(options)
        return self

    def workers(self):
        """Return how many items are at work at a time."""
        return self._lent.workers()

    def map(self, task, items):
        """Yield (item, answer)."""
        for item, answer in self._lent.map(self._on_task(task), items):
            yield item, self._on_answer(answer)

    def close(self):
        """End nothing."""


def between(options, **changes):
    """Return options of workers with something between them and the study."""
    return {**options, "engines": Between(options["engines"], **changes)}


def remote(**changes):
    """Return what changes the study that every task carries."""

    def change(task):
        return replace(task, remote=replace(task.remote, **changes))

    return change


def refuse(task):
    """Send no task at all."""
    raise AssertionError(f"{type(task).__name__} was sent to workers")


def network() -> torch.nn.Module:
    """A small backbone of three stages, the same for every test: 72 features."""
    return stages(normed=False, cells=(2, 3))


def repeated(seed: int = 0):
    """100 images, of which some are exact copies and some the same but for one grey level."""
    images, labels = shapes(80, seed, noise=0.3)
    near = images[:10].copy()
    near[:, :2, :2] ^= 1
    return np.concatenate([images, images[5:15], near]), np.concatenate(
        [labels, labels[5:15], labels[:10]]
    )


def leaked():
    """Test images, of which five are in the pool as they are, and five but for a grey level."""
    own, pool = repeated(7), repeated()
    images, labels = pool[0][20:30].copy(), pool[1][20:30]
    images[5:, :2, :2] ^= 1
    return np.concatenate([own[0], images]), np.concatenate([own[1], labels])


def study(dataset=None, **options) -> Study:
    """A study of 80 different images that takes a second."""
    given = {"image_size": 24, "sizes": SIZES, "repeats": 2, "device": "cpu", "seed": 3}
    given |= {"backbone": network(), **options}
    return Study(repeated() if dataset is None else dataset, **given)


def evidence(result) -> str:
    """Everything that a study found, bit for bit, but not how long it took."""
    return json.dumps({**to_json(result), "timings": {}}, sort_keys=True)


NO_WARNING = "test_leak=note,near_duplicates=note"

KINDS = {
    "heads": {},
    "augment": {"augment": True},
    "fine_tuning": {"strategy": "fine_tuning"},
    "from_scratch": {"strategy": "from_scratch", "sizes": (8, 10, 12)},
    "own_training": {"trainer": columns},
    "tested_apart": {"test_dataset": leaked(), "checks": NO_WARNING},
    "own_tested_apart": {"test_dataset": leaked(), "checks": NO_WARNING, "trainer": columns},
    "groups": {"group": list(np.arange(100) // 4)},
    "whole_groups": {"group": list(np.arange(100) // 4), "unit": "group", "sizes": (4, 8, 12)},
    "whole_groups_tuned": {
        "group": list(np.arange(100) // 4),
        "unit": "group",
        "sizes": (4, 8, 12),
        "strategy": "fine_tuning",
    },
    "points": {
        "operating_points": {"recall_at_precision": {"class": "1", "precision": 0.7}},
        "strategy": "fine_tuning",
    },
    "until": {"repeats": 10, "until": Certainty({"accuracy": 0.2}, 0.8)},
    "bfloat16": {"precision": "bfloat16"},
    "openvino": {"runtime": "openvino", "augment": True},
}
"""Studies whose evidence no engine may change."""


def run(kind: str, **options):
    """Run one of the kinds."""
    given = {**KINDS[kind], **options}
    until = given.pop("until", None)
    return study(**given).run(until)


def shards(store: Path) -> dict[int, int]:
    """Return file of embeddings → how many of its embeddings count."""
    with closing(sqlite3.connect(store / NAME)) as index:
        return dict(
            index.execute(
                "SELECT shard, COUNT(*) FROM rows JOIN spaces ON spaces.id = rows.space "
                "WHERE name LIKE '%|%' GROUP BY shard"  # hashes lie there, too
            )
        )


def embedded(store: Path, width: int = 72) -> tuple[int, int]:
    """Return how many embeddings a store has, and how many were written to their files."""
    found = shards(store)
    sizes = [(store / "embeddings" / f"{shard:016x}.f16").stat().st_size for shard in found]
    return sum(found.values()), sum(sizes) // (2 * width)
