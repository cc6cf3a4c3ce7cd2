"""Learning curve v1 (interface first; constants still being fitted)."""
from __future__ import annotations
import math
from dataclasses import dataclass, field
from typing import NamedTuple
import numpy as np
from scipy.special import ndtr, ndtri, logsumexp


class Interval(NamedTuple):
    low: float
    high: float


class Ceiling(NamedTuple):
    mean: float
    low: float
    high: float


class C:   # constants to tune
    b = (0.03, 3.0); nb = 12
    b_mu, b_sd = math.log(0.5), 1.2
    phi_a, phi_b = 0.6, 0.6; nphi = 11
    s = (0.0, 0.3, 1.5); s_w = (0.5, 0.3, 0.2)
    back = 0.05; fwd = 0.05; fcap = 12.0
    scales = (0.3, 0.7, 1.5, 3.5); sc_w = (0.25, 0.25, 0.25, 0.25)
    bpow = 1.0; fpow = 1.0
    gam = 0.6; nu0 = 3.0; infl = 1.0
    luck = 1.0; churn = 1.0
    col = True; pool = 1.0
    flat = 0.0
    vdef = 0.1


def power_grid():
    lb = np.linspace(math.log(C.b[0]), math.log(C.b[1]), C.nb)
    wb = -0.5 * ((lb - C.b_mu) / C.b_sd) ** 2
    from scipy.stats import beta
    q = (np.arange(C.nphi) + 0.5) / C.nphi
    phi = beta.ppf(q, C.phi_a, C.phi_b); wphi = np.zeros(C.nphi)
    B, P, S = np.meshgrid(np.exp(lb), phi, C.s, indexing='ij')
    W = wb[:, None, None] + wphi[None, :, None] + np.log(C.s_w)[None, None, :]
    W = W - logsumexp(W)
    if C.flat > 0:
        W = W + math.log(1 - C.flat)
        return np.r_[B.ravel(), 1.], np.r_[P.ravel(), 1.], np.r_[S.ravel(), 0.], np.r_[W.ravel(), math.log(C.flat)]
    return B.ravel(), P.ravel(), S.ravel(), W.ravel()


def power_shape(u, B, P, S):
    """u = log(n/N): (M,) -> (G, M)"""
    with np.errstate(over='ignore'):
        return np.log(P[:, None] + (1 - P[:, None]) * ((np.exp(u)[None] + S[:, None]) / (1 + S[:, None])) ** -B[:, None] + 1e-12)


LAWS = {'power': (power_grid, power_shape)}
UGRID = np.r_[np.linspace(0, math.log(16), 17), np.linspace(math.log(16), math.log(2.0**20), 15)[1:]]
LEV = np.linspace(-4, 4, 65)


@dataclass(frozen=True, eq=False)
class LearningCurve:
    sizes: tuple
    scores: tuple
    n_test: int | None
    law: str
    level: float
    bounds: tuple
    _u: np.ndarray = field(repr=False)
    _q: np.ndarray = field(repr=False)   # (nodes, levels) scores
    _top: np.ndarray = field(repr=False)

    @classmethod
    def fit(cls, sizes, scores, n_test=None, *, law='power', test_covariance=None, train_covariance=None, bounds=(0.0, 1.0), level=0.9, pool=None):
        n = np.asarray(sizes, float); o = np.argsort(n); n = n[o]
        reps = [np.asarray(scores[i], float) for i in o]
        lo, hi = bounds
        K = len(n); N = n[-1]; u = np.log(n / N)
        r = np.array([len(s) for s in reps]); y = np.array([s.mean() for s in reps])
        floor = 0.5 / ((n_test or 1000) + 1)
        e = np.maximum(hi - y, floor)
        z = np.log(e)
        # ---- repeats' variance
        binom = (1 / e - 1) / n_test if n_test else np.zeros(K)
        s2 = np.array([s.var(ddof=1) if len(s) > 1 else 0. for s in reps]) / e**2
        dof = r - 1.
        base = np.exp(-C.gam * u)
        default = binom if n_test else np.full(K, C.vdef**2)
        if dof.sum() > 0: v0 = (dof * s2 / base).sum() / dof.sum()
        else: v0 = default[-1]
        v0 = max(v0, 1e-6)
        v = (C.nu0 * v0 * base + dof * s2) / (C.nu0 + dof)
        v = v + 0.25 * floor**2 / e**2
        # ---- pool
        whole = pool == N or (pool is None and K > 1 and r[-1] == 1 and (r[:-1] > 1).all())
        common = 0.
        if whole:
            P = N; f = n / P
            vs = v / np.maximum(1 - f, 0.3)
            vs[-1] = v0
            own = vs * (1 - f) / r; own[-1] = 0
            noise = np.diag(own) + C.pool * v0
        else:
            noise = np.diag(v / r)
            if C.col and (r == r[0]).all() and r[0] > 1:
                A = np.stack([(s - s.mean()) for s in reps]) / e[:, None] / np.sqrt(v)[:, None]
                G = A @ A.T / (r[0] - 1)
                rho = (G.sum() - np.trace(G)) / max(K * (K - 1), 1)
                rho = min(max(rho * C.col, 0), 0.95)
                sd = np.sqrt(v / r)
                noise = (1 - rho) * noise + rho * np.outer(sd, sd)
        noise = noise * C.infl
        # ---- test luck
        if n_test:
            em = np.maximum(e[:, None], e[None]); lc = (1 / em - 1) / n_test
            ch = max(0.0, 1 - C.churn * v[-1] / max(binom[-1], 1e-9)) if not whole else 1.
            noise = noise + C.luck * max(ch, 0.0) * lc
        noise = noise + 1e-8 * np.eye(K)
        grid, shape = LAWS[law]
        B, P, S, W = grid()
        g = shape(u, B, P, S)
        # misfit backward
        d = -u
        back = C.back**2 * np.minimum(d[:, None], d[None]) ** C.bpow
        un = np.unique(np.r_[np.linspace(-math.log(N), 0, 24)[:-1], UGRID])
        fwd = C.fwd**2 * np.minimum(np.maximum(un, 0), C.fcap) ** C.fpow
        gf = shape(un, B, P, S)
        ginf = np.log(P + 1e-12)
        one = np.ones(K); M = z[None] - g
        comps = []
        db = np.maximum(-un, 0)
        for sc, sw in zip(C.scales, C.sc_w):
            Sg = noise + sc**2 * back
            L = np.linalg.cholesky(Sg); Si = np.linalg.inv(Sg)
            s1 = Si @ one; t = s1.sum()
            xh = M @ s1 / t
            ll = -0.5 * ((M @ Si * M).sum(1) - xh**2 * t) - np.log(np.diag(L)).sum() - 0.5 * math.log(t) + W + math.log(sw)
            cc = sc**2 * C.back**2 * np.minimum(db[:, None], d[None]) ** C.bpow
            cc[un >= 0] = 0
            K1 = cc @ Si
            mu = xh[:, None] + gf + (M - xh[:, None]) @ K1.T
            var = sc**2 * (C.back**2 * db**C.bpow + fwd) - (K1 * cc).sum(1) + (1 - K1 @ one) ** 2 / t
            mi = xh + ginf; vi = sc**2 * C.fwd**2 * C.fcap**C.fpow + 1 / t
            comps.append((ll, np.c_[mu, mi], np.r_[np.maximum(var, 1e-9), vi]))
        ll = np.concatenate([c[0] for c in comps]); mu = np.concatenate([c[1] for c in comps])
        sd = np.sqrt(np.concatenate([np.broadcast_to(c[2], c[1].shape) for c in comps]))
        w = np.exp(ll - ll.max()); keep = w > 1e-4; w = w[keep] / w[keep].sum(); mu = mu[keep]; sd = sd[keep]
        # quantile table
        m = w @ mu; s = np.sqrt(w @ (sd**2 + (mu - m) ** 2))
        tg = np.linspace(-5, 5, 81)
        Z = m + s * tg[:, None]
        Q = np.empty((len(m), len(LEV)))
        for i in range(len(m)):
            F = w @ ndtr((Z[:, i][None] - mu[:, i, None]) / sd[:, i, None])
            F = np.clip(np.maximum.accumulate(F), 1e-12, 1 - 1e-12)
            Q[i] = np.interp(-LEV, ndtri(F), Z[:, i])
        Q = np.clip(hi - np.exp(Q), lo, hi)
        top = np.maximum.accumulate(Q[:-1], axis=0)
        inf = np.maximum(Q[-1], top[-1])
        return cls(tuple(int(x) for x in n), tuple(tuple(map(float, s)) for s in reps), n_test, law, level, bounds, un + math.log(N), top, inf)

    def _at(self, n):
        x = math.log(max(n, 1e-9)); i = int(np.clip(np.searchsorted(self._u, x) - 1, 0, len(self._u) - 2))
        f = min(max((x - self._u[i]) / (self._u[i + 1] - self._u[i]), 0), 1)
        return self._q[i] * (1 - f) + self._q[i + 1] * f
    def _quant(self, row, p): return float(np.interp(ndtri(p), LEV, row))
    def predict(self, n): return self._quant(self._at(n), 0.5)
    def interval(self, n, level=0.9):
        row = self._at(n); return Interval(self._quant(row, (1 - level) / 2), self._quant(row, (1 + level) / 2))
    def _first(self, target, p):
        x = ndtri(p); j = int(np.clip(np.searchsorted(LEV, x) - 1, 0, len(LEV) - 2)); f = (x - LEV[j]) / (LEV[j + 1] - LEV[j])
        c = self._q[:, j] * (1 - f) + self._q[:, j + 1] * f
        if c[-1] < target: return math.inf
        i = int(np.argmax(c >= target))
        if i == 0: return 1.0
        return math.ceil(math.exp(self._u[i - 1] + (target - c[i - 1]) / (c[i] - c[i - 1]) * (self._u[i] - self._u[i - 1])) - 1e-9)
    def required(self, target): return float(self._first(target, 0.5))
    def required_interval(self, target, level=0.9): return Interval(float(self._first(target, (1 + level) / 2)), float(self._first(target, (1 - level) / 2)))
    def probability(self, n, target):
        return float(ndtr(-np.interp(target, self._at(n), LEV)))
    @property
    def ceiling(self): return Ceiling(self._quant(self._top, .5), self._quant(self._top, .05), self._quant(self._top, .95))
    def reachable(self, target): return self.ceiling.high >= target
