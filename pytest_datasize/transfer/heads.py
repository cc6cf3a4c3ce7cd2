"""Many small softmax heads on frozen embeddings, trained together to convergence (first version)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["FittedHead", "HeadTask", "fit_heads"]

STRENGTHS = tuple(float(10.0 ** (k / 2)) for k in range(2, -7, -1))
DEFAULT_STRENGTH = 1.0
FOLDS = 5
HELD_OUT_ROWS = 320
ROW_SPACE_LIMIT = 512
TOLERANCE = 1e-4
SCALE_FLOOR = 0.1


@dataclass(frozen=True)
class HeadTask:
    """One trial."""

    train: np.ndarray
    test: np.ndarray
    seed: int


@dataclass(frozen=True)
class FittedHead:
    """Outcome of one trial."""

    probabilities: np.ndarray
    strength: float
    converged: bool
    iterations: int


class _Fit(NamedTuple):
    weights: Tensor  # [B, C, J, D]
    logits: Tensor  # [B, C, J, n]
    converged: Tensor  # [B, J]
    iterations: Tensor  # [B, J]


def _splits(labels: np.ndarray, seed: int) -> np.ndarray:
    """Boolean [K, n], true on held-out rows."""
    n = len(labels)
    counts = np.bincount(labels)
    folds = int(min(FOLDS, counts[counts > 0].min()))
    if folds < 2:
        return np.zeros((0, n), dtype=bool)
    rng = np.random.default_rng(seed)
    fold = np.empty(n, dtype=np.int64)
    start = 0
    for c in np.flatnonzero(counts):
        rows = rng.permutation(np.flatnonzero(labels == c))
        fold[rows] = (start + np.arange(len(rows))) % folds
        start += len(rows)
    used = min(folds, max(1, -(-HELD_OUT_ROWS * folds // n)))
    return np.stack([fold == k for k in range(used)])


def _minimise(
    rows: Tensor,  # [B, n, D] last column ones
    target: Tensor,  # [B, C, 1, n]
    weight: Tensor,  # [B, 1, J, n] sums to one over n
    penalty: Tensor,  # [B, 1, J, D]
    scale: Tensor,  # [B, 1, J, D] preconditioner
    *,
    start: Tensor | None = None,
    tolerance: float = TOLERANCE,
    iterations: int = 200,
    line_steps: int = 2,
) -> _Fit:
    b, n, d = rows.shape
    c, j = target.shape[1], weight.shape[2]
    columns = rows.transpose(1, 2)

    def logits_of(w: Tensor) -> Tensor:
        return (w.view(b, c * j, d) @ columns).view(b, c, j, n)

    def gradient_of(w: Tensor, f: Tensor) -> Tensor:
        r = (torch.softmax(f, 1) - target) * weight
        return (r.view(b, c * j, n) @ rows).view(b, c, j, d) + penalty * w

    def dot(x: Tensor, y: Tensor) -> Tensor:
        return (x * y).sum(-1).sum(1)  # [B, J]

    w = rows.new_zeros(b, c, j, d)
    f = rows.new_zeros(b, c, j, n)
    g = gradient_of(w, f)
    limit = tolerance * dot(g, g).sqrt()
    if start is not None:
        w = start.clone()
        f = logits_of(w)
        g = gradient_of(w, f)
    s = g / scale
    gs = dot(g, s)
    p = -s
    done = dot(g, g).sqrt() <= limit
    used = torch.zeros_like(done, dtype=torch.int64)
    for _ in range(iterations):
        if bool(done.all()):
            break
        used += ~done
        df = logits_of(p)
        wp, pp = dot(penalty * w, p), dot(penalty * p, p)
        t = torch.zeros_like(wp)
        low, high = torch.zeros_like(t), torch.full_like(t, torch.inf)
        for _ in range(line_steps):
            q = torch.softmax(f + t[:, None, :, None] * df, 1)
            slope = dot((q - target) * weight, df) + wp + t * pp
            mean = (q * df).sum(1)
            bend = dot(q * df * weight, df) - (weight[:, 0] * mean * mean).sum(-1) + pp
            low, high = torch.where(slope <= 0, t, low), torch.where(slope > 0, t, high)
            new = t - slope / bend.clamp_min(1e-30)
            t = torch.where((new >= low) & (new <= high), new, (low + high) / 2)
        t = torch.where(done, 0.0, t)[:, None, :, None]
        w, f = w + t * p, f + t * df
        old, g = g, gradient_of(w, f)
        s = g / scale
        beta = ((dot(g, s) - dot(old, s)) / gs.clamp_min(1e-38)).clamp_min(0.0)
        gs = dot(g, s)
        p = beta[:, None, :, None] * p - s
        uphill = dot(g, p) >= 0
        p = torch.where(uphill[:, None, :, None], -s, p)
        done = done | (dot(g, g).sqrt() <= limit)
    return _Fit(w, f, done, used)


def _fit_group(
    features: Tensor,
    labels: Tensor,
    tasks: Sequence[HeadTask],
    n_classes: int,
    strengths: Sequence[float],
    splits: list[np.ndarray],
) -> list[FittedHead]:
    device = features.device
    train = torch.from_numpy(np.stack([t.train for t in tasks])).to(device)
    test = torch.from_numpy(np.stack([t.test for t in tasks])).to(device)
    x, xt = features[train].float(), features[test].float()
    centre = x.mean(1, keepdim=True)
    x, xt = x - centre, xt - centre
    var = (x * x).mean(1, keepdim=True)
    width = (var + SCALE_FLOOR * var.mean(-1, keepdim=True)).sqrt()
    width = torch.where(width > 0, width, 1.0)
    # total variance D, whatever the features' units
    x, xt = x / width, xt / width
    b, n, d = x.shape
    if n <= min(d, ROW_SPACE_LIMIT):
        value, vector = torch.linalg.eigh(x @ x.transpose(1, 2))
        value = value.clamp_min(1e-6 * value[:, -1:].clamp_min(1e-30))
        root = value.sqrt()[:, None]
        xt = (xt @ (x.transpose(1, 2) @ vector)) / root
        x = vector * root
    spectrum = (x * x).mean(1) if n <= min(d, ROW_SPACE_LIMIT) else x.new_ones(b, x.shape[2])
    x = torch.cat([x, x.new_ones(b, n, 1)], 2)
    xt = torch.cat([xt, xt.new_ones(b, xt.shape[1], 1)], 2)
    spectrum = torch.cat([spectrum, spectrum.new_ones(b, 1)], 1)
    target = torch.nn.functional.one_hot(labels[train], n_classes).float()
    target = target.permute(0, 2, 1)[:, :, None].contiguous()
    lam = x.new_tensor(list(strengths))
    free = x.new_ones(x.shape[2])
    free[-1] = 0

    def scales(pen: Tensor) -> Tensor:
        if n <= min(d, ROW_SPACE_LIMIT):
            return spectrum[:, None, None] / n_classes + pen
        return torch.ones_like(pen)

    held = torch.from_numpy(np.stack(splits)).to(device)  # [B, K, n]
    k, s = held.shape[1], len(lam)
    if k == 0 or s == 1:
        index = (lam - DEFAULT_STRENGTH).abs().argmin().expand(b)
        start = None
    else:
        keep = (~held).float()
        keep = keep / keep.sum(-1, keepdim=True)
        weight = keep.repeat_interleave(s, 1)[:, None]
        pen = (lam[:, None] * free).repeat(k, 1).expand(b, 1, k * s, -1)
        fit = _minimise(x, target, weight, pen, scales(pen), tolerance=1e-2)
        loss = torch.logsumexp(fit.logits, 1) - (fit.logits * target).sum(1)
        loss = (loss.view(b, k, s, n) * held[:, :, None]).sum((1, 3))
        index = loss.argmin(-1)
        ww = fit.weights.view(b, n_classes, k, s, -1).mean(2)
        start = torch.take_along_dim(ww, index[:, None, None, None], 2)
    pen = (lam[index][:, None] * free)[:, None, None]
    weight = x.new_full((b, 1, 1, n), 1 / n)
    fit = _minimise(x, target, weight, pen, scales(pen), start=start)
    if not bool(fit.converged.all()):
        again = _minimise(
            x, target, weight, pen, scales(pen), start=fit.weights, iterations=2000, line_steps=8
        )
        fit = _Fit(again.weights, again.logits, again.converged, fit.iterations + again.iterations)
    prob = torch.softmax(fit.weights[:, :, 0] @ xt.transpose(1, 2), 1).transpose(1, 2)
    out = prob.cpu().numpy()
    chosen = index.tolist()
    return [
        FittedHead(out[i], strengths[chosen[i]], bool(fit.converged[i]), int(fit.iterations[i]))
        for i in range(b)
    ]


def fit_heads(
    features: Tensor,
    labels: Tensor,
    tasks: Sequence[HeadTask],
    n_classes: int,
    *,
    strengths: Sequence[float] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> list[FittedHead]:
    """Fit one regularised softmax head per task."""
    grid = sorted(STRENGTHS if strengths is None else strengths, reverse=True)
    truth = labels.cpu().numpy()
    groups: dict[tuple[int, int, int], list[int]] = {}
    splits = [_splits(truth[t.train], t.seed) for t in tasks]
    for i, task in enumerate(tasks):
        groups.setdefault((len(task.train), len(task.test), len(splits[i])), []).append(i)
    results: dict[int, FittedHead] = {}
    with torch.inference_mode():
        for (n, m, _), members in sorted(groups.items()):
            size = max(1, 2_000_000 // ((n + m) * features.shape[1]))
            for first in range(0, len(members), size):
                chunk = members[first : first + size]
                fits = _fit_group(
                    features, labels, [tasks[i] for i in chunk], n_classes, grid,
                    [splits[i] for i in chunk],
                )
                results.update(zip(chunk, fits, strict=True))
                if on_progress is not None:
                    on_progress(len(chunk))
    return [results[i] for i in range(len(tasks))]
