"""Ridge regressions on frozen embeddings, in closed form, their strength by leave-one-out.

For squared errors the prediction of an image by a model trained on all others follows from the
model trained on all: its error is divided by one less its own weight in the prediction (Allen 1974,
"The relationship between variable selection and data augmentation and a method for prediction").
So every strength is judged by as many models as there are images, at the price of one
decomposition. With augmented views an image is left out with all its views, and with groups a whole
group at a time.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pytest_datasize.embedding.features import Features
from pytest_datasize.embedding.threads import n_threads
from pytest_datasize.trials.heads.head_batch import FittedHead, HeadTask
from pytest_datasize.trials.heads.heads import in_threads

STRENGTHS: Final = tuple(10.0 ** (k / 2) for k in range(6, -11, -1))
"""Grid of strengths: half decades from 1000 down to 0.00001."""

_EMPTY: Final = 1e-10  # an axis with this share of the variance is rounding
_OWN: Final = 1.0 - 1e-6  # largest weight of an image in its own prediction


def fit_ridge(
    features: Features,
    numbers: NDArray[np.float64],
    tasks: Sequence[HeadTask],
    *,
    strengths: Sequence[float] | None = None,
    on_progress: Callable[[int], None] | None = None,
    on_head: Callable[[int, FittedHead], None] | None = None,
) -> list[FittedHead]:
    """Fit one ridge regression per task; each of K numbers has a strength of its own.

    Parameters
    ----------
    features
        Embeddings, [N, D], on any device; the arithmetic is double precision on the CPU.
    numbers
        Numbers to predict, [N, K].
    tasks
        Trials; a head depends on its own task and on `features` alone.
    strengths
        Strengths to choose from, by default :data:`STRENGTHS`.
    on_progress
        Called with the number of heads finished so far.
    on_head
        Called with the index of a task and its head, as soon as it is fitted.

    Returns
    -------
    list of FittedHead
        In the order of `tasks`; ``probabilities`` are the predicted numbers, float64 [m, K].

    Examples
    --------
    >>> x = torch.arange(6.0)[:, None]
    >>> task = HeadTask(train=np.arange(5), test=np.array([5]), seed=0)
    >>> [head] = fit_ridge(x, 2.0 * x.double().numpy() + 1.0, [task])
    >>> head.probabilities.round(2).tolist()
    [[11.0]]
    """
    grid = np.array(sorted(strengths or STRENGTHS, reverse=True))

    def fit(index: int) -> FittedHead:
        return _fitted(features, numbers, tasks[index], grid)

    order = sorted(range(len(tasks)), key=lambda index: -len(tasks[index].train))
    heads: dict[int, FittedHead] = {}
    threads = n_threads() if features.device.type == "cpu" else 0
    for index, head in zip(order, in_threads(fit, order, threads), strict=True):
        heads[index] = head
        if on_head is not None:
            on_head(index, head)
        if on_progress is not None:
            on_progress(len(heads))
    return [heads[index] for index in range(len(tasks))]


def _rows(features: Features, rows: NDArray[np.int64]) -> Tensor:
    found = features[torch.from_numpy(rows).to(features.device)]
    return found.float().cpu().double()


def _fitted(
    features: Features, numbers: NDArray[np.float64], task: HeadTask, grid: NDArray[np.float64]
) -> FittedHead:
    rows, own = _rows(features, task.train), torch.from_numpy(numbers[task.train])
    n = len(rows)
    centre, middle = rows.mean(0), own.mean(0)
    rows, own = rows - centre, own - middle
    wide = n < rows.shape[1]
    values, vectors = torch.linalg.eigh(rows @ rows.T if wide else rows.T @ rows)
    held = values > _EMPTY * values[-1].clamp_min(1e-300)
    values, vectors = values[held], vectors[:, held]
    axes = rows.T @ (vectors / values.sqrt()) if wide else vectors  # [D, r]
    turned = vectors * values.sqrt() if wide else rows @ vectors  # [n, r]
    variance = float(values.sum()) / n / rows.shape[1]
    pull = turned.T @ own  # [r, K]
    penalties = torch.from_numpy(grid) * (n * max(variance, 1e-300))
    left_out = _left_out if task.groups is None else partial(_groups_left_out, groups=task.groups)
    losses = torch.stack([left_out(turned, own, values, pull, p, task.views) for p in penalties])
    index = losses.argmin(0)  # [K]; of equal ones the strongest
    weights = pull / (values[:, None] + penalties[index])
    others = _rows(features, task.test) - centre
    predicted = (others @ (axes @ weights) + middle).numpy()
    strength = float(np.exp(np.log(grid[index.numpy()]).mean()))
    return FittedHead(predicted, strength, True, 0)


def _left_out(
    turned: Tensor, own: Tensor, values: Tensor, pull: Tensor, penalty: Tensor, views: int
) -> Tensor:
    """Return the mean squared error of each number for images left out with all their views."""
    n = len(turned)
    error = own - turned @ (pull / (values + penalty)[:, None])  # [n, K]
    weighted = turned / (values + penalty)
    if views == 1:
        weight = (weighted * turned).sum(1) + 1.0 / n
        return (error / (1.0 - weight.clamp_max(_OWN))[:, None]).square().mean(0)
    by_image = turned.view(views, -1, turned.shape[1]).transpose(0, 1)  # [images, views, r]
    weight = by_image @ weighted.view_as(turned.view(views, -1, turned.shape[1])).permute(1, 2, 0)
    weight = weight + 1.0 / n
    rest = torch.eye(views, dtype=weight.dtype) * (1.0 + 1e-9) - weight
    left: Tensor = torch.linalg.solve(rest, error.view(views, -1, error.shape[1]).transpose(0, 1))
    loss: Tensor = left[:, 0].square().mean(0)  # only views without augmentation count
    return loss


def _groups_left_out(
    turned: Tensor,
    own: Tensor,
    values: Tensor,
    pull: Tensor,
    penalty: Tensor,
    views: int,
    groups: NDArray[np.int64],
) -> Tensor:
    """Return the mean squared errors for whole groups left out, with all views of their images."""
    n, images = len(turned), len(groups)
    error = own - turned @ (pull / (values + penalty)[:, None])  # [n, K]
    weighted = turned / (values + penalty)
    total = torch.zeros(own.shape[1], dtype=own.dtype)
    for group in np.unique(groups):
        plain = np.flatnonzero(groups == group)
        rows = torch.from_numpy(np.concatenate([plain + images * view for view in range(views)]))
        weight = weighted[rows] @ turned[rows].T + 1.0 / n
        rest = torch.eye(len(rows), dtype=weight.dtype) * (1.0 + 1e-9) - weight
        left = torch.linalg.solve(rest, error[rows])
        total += left[: len(plain)].square().sum(0)
    return total / images
