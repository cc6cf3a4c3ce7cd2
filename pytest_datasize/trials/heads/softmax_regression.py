"""Regularised softmax and logistic regressions, many at once, by conjugate gradients."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pytest_datasize.trials.heads.principal_axes import aligned_matrices

_ROUNDING = 1e-12  # squared Newton step that is float32 rounding: where the best weights are zero


class Problem(NamedTuple):
    """Training rows of B trials; each is fitted J times, with other row weights and penalties."""

    rows: Tensor  # [B, n, D] as `with_ones` has them
    target: Tensor  # [B, C, 1, n], one-hot; logistic: [B, 1, J, n], whether a row shows a label
    second: Tensor  # [B, D], mean square of each column


class Solution(NamedTuple):
    """State of the fits; those that have not converged can be continued from here."""

    weights: Tensor  # [B, C, J, D]
    logits: Tensor  # [B, C, J, n]
    converged: Tensor  # bool [B, J]
    iterations: Tensor  # int64 [B, J]


def minimise(
    problem: Problem,
    weight: Tensor,
    penalty: Tensor,
    tolerance: float,
    iterations: int,
    *,
    start: Tensor | None = None,
    at_zero: Tensor | None = None,
    line_steps: int = 1,
    logistic: bool = False,
) -> Solution:
    """Minimise J regularised log-losses for each of B trials by preconditioned conjugate gradients.

    Row weights [B, 1, J, n] add up to one over the rows; `penalty` [B, 1, J, D] is the L2 strength
    of each column; `start` [B, C, J, D] are first weights; without it, they are zero, where
    `at_zero` may bring the gradient (`gradient_at_zero`). Polak-Ribiere directions, restarted when
    they lose their slope (Nocedal & Wright, Numerical Optimization, 2006, section 5.2), with the
    step from `line_steps` Newton steps on the convex loss along the direction, kept in a bracket.

    The preconditioner is the Hessian's diagonal at the start, with the mean of p(1 - p) in place
    of each row's. A fit has converged when the Newton step left by this diagonal is `tolerance`
    times its weights (both in the norm of the diagonal: free of units, and as strict for separable
    classes, whose gradient is small everywhere). It stands still from then on, so that no fit
    depends on how long another one takes.

    With `logistic`, C is 1 and each of the J fits predicts whether a row shows a label.
    """
    rows, target, second = problem
    (b, n, d), c, j = rows.shape, target.shape[1], weight.shape[2]
    columns = rows.transpose(1, 2)
    flat = aligned_matrices(rows, b, c * j, n)
    residual = flat.view(b, c, j, n)

    def dot(x: Tensor, y: Tensor) -> Tensor:
        return (x * y).sum(-1).sum(1)  # [B, J]

    def logits_of(w: Tensor) -> Tensor:
        return torch.bmm(w.reshape(b, c * j, d), columns).view(b, c, j, n)

    def gradient_of(w: Tensor, softmax: Tensor) -> Tensor:
        torch.sub(softmax, target, out=residual).mul_(weight)
        return torch.bmm(flat, rows).view(b, c, j, d).addcmul_(penalty, w)

    w = rows.new_zeros(b, c, j, d) if start is None else start.clone()
    logits = rows.new_zeros(b, c, j, n) if start is None else logits_of(w)
    softmax = probabilities(logits, logistic)
    uncertain = (softmax * (1 - softmax) * weight).sum(-1, keepdim=True)
    curvature = second[:, None, None] * uncertain + penalty
    gradient = gradient_of(w, softmax) if at_zero is None else at_zero
    size = dot(gradient, gradient / curvature)
    converged = size <= tolerance**2 * dot(w, curvature * w) + _ROUNDING
    direction = -gradient / curvature
    used = torch.zeros_like(converged, dtype=torch.int64)
    for _ in range(iterations):
        if converged.all():
            break
        used += ~converged
        change = logits_of(direction)
        pull = penalty * direction
        bend_pull, slope_pull = dot(pull, direction), dot(pull, w)
        slope = dot(gradient, direction)
        step = torch.zeros_like(slope)
        low, high = step, torch.full_like(step, torch.inf)
        for attempt in range(line_steps):
            if attempt > 0:
                softmax = probabilities(logits + step[:, None, :, None] * change, logistic)
                slope = dot((softmax - target) * weight, change) + slope_pull + step * bend_pull
            moment = softmax * change
            if logistic:
                spread = moment.mul_(change).mul_(1 - softmax).sum(1)
            else:
                mean = moment.sum(1)
                spread = moment.mul_(change).sum(1).addcmul_(mean, mean, value=-1.0)
            bend = spread.mul_(weight[:, 0]).sum(-1) + bend_pull
            low, high = torch.where(slope <= 0, step, low), torch.where(slope > 0, step, high)
            step = step - slope / bend.clamp_min(1e-30)
            step = torch.where((step >= low) & (step <= high), step, (low + high) / 2)
        step = torch.where(converged, 0.0, step)[:, None, :, None]
        w.addcmul_(step, direction)
        logits.addcmul_(step, change)
        softmax = probabilities(logits, logistic)
        before, gradient = gradient, gradient_of(w, softmax)
        downhill = gradient / curvature
        size_before, size = size, dot(gradient, downhill)
        keep = ((size - dot(before, downhill)) / size_before.clamp_min(1e-38)).clamp_min(0.0)
        direction.mul_(keep[:, None, :, None]).sub_(downhill)
        uphill = dot(gradient, direction) >= 0
        direction = torch.where(uphill[:, None, :, None], -downhill, direction)
        converged |= size <= tolerance**2 * dot(w, curvature * w) + _ROUNDING
    return Solution(w, logits, converged, used)


def probabilities(logits: Tensor, logistic: bool) -> Tensor:
    """Return probabilities of classes, over dimension 1, or of each label by itself."""
    return torch.sigmoid(logits) if logistic else torch.softmax(logits, 1)


def gradient_at_zero(problem: Problem, weight: Tensor) -> Tensor:
    """Return the gradient at zero weights, [B, C, J, D]: the same for every penalty."""
    rows, target, _ = problem
    (b, n, d), c, j = rows.shape, target.shape[1], weight.shape[2]
    flat = aligned_matrices(rows, b, c * j, n)
    flat.view(b, c, j, n).copy_((1 / c - target) * weight)
    return torch.bmm(flat, rows).view(b, c, j, d)
