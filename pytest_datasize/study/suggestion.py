"""Suggest images to label next: a head trained on the labelled images ranks the unlabelled ones."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.content_hash import read_contents
from pytest_datasize.images.sources.unlabelled import load_unlabelled
from pytest_datasize.requirement.tasks import CLASSIFICATION

if TYPE_CHECKING:
    from pytest_datasize.study.study import Study


@dataclass(frozen=True)
class Suggestion:
    """One image to label.

    Attributes
    ----------
    image
        Its name, such as a path.
    likely
        Its most probable class.
    margin
        Probability of that class minus that of the second, in [0, 1].
    """

    image: str
    likely: str
    margin: float


def suggest(study: "Study", unlabelled: Any, number: int) -> list[Suggestion]:
    """Rank unlabelled images by how much their labels would help the model.

    Parameters
    ----------
    study
        The study with the labelled images and the backbone.
    unlabelled
        See :func:`pytest_datasize.images.sources.unlabelled.load_unlabelled`. Images that are
        labelled already, and exact copies, are left out.
    number
        Images to suggest.

    Raises
    ------
    DatasetError
        No image is left to label, or images cannot be read.
    """
    import torch

    from pytest_datasize.curve.advice.ranking import margins, rank
    from pytest_datasize.curve.seeds import Purpose, seed_of
    from pytest_datasize.embedding.threads import n_threads
    from pytest_datasize.trials.heads.heads import HeadTask, fit_heads

    labelled, waiting = study.images(), load_unlabelled(unlabelled, "unlabelled")
    if labelled.task != CLASSIFICATION:
        raise DatasetError(
            f"{labelled.source}: images to label next are suggested for one class per image, not "
            f"for task={labelled.task!r}."
        )
    names = read_contents(waiting, study.store, n_threads())
    first: dict[str, int] = {}
    for row, content in enumerate(names):
        first.setdefault(content, row)
    known = set(labelled.digests)
    rows = np.array([row for content, row in first.items() if content not in known], dtype=int)
    if not len(rows):
        raise DatasetError(f"{waiting.source}: every image is in {labelled.source} already.")
    taught, asked = study.embed(labelled, replace(waiting, digests=names))
    features = torch.from_numpy(np.concatenate([taught, asked[rows]]))
    labels = np.concatenate([labelled.labels, np.zeros(len(rows), dtype=np.int64)])
    train, test = np.split(np.arange(len(labels)), [len(taught)])
    seed = study.options["seed"]
    task = HeadTask(train, test, seed_of(seed, Purpose.SUGGESTION_FOLDS))
    [head] = fit_heads(features, torch.from_numpy(labels), [task], len(labelled.classes))
    margin = margins(head.probabilities)
    return [
        Suggestion(
            waiting.name(int(rows[place])),
            labelled.classes[int(head.probabilities[place].argmax())],
            round(float(margin[place]), 4),
        )
        for place in rank(asked[rows], head.probabilities, number, seed)
    ]
