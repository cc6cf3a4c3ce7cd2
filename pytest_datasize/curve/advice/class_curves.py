"""Fit the recall of every class as a function of images, all classes jointly.

A class with six test images carries little data on its own curve, but classes of one data set grow
alike. So each class has its own level (recall today) and its own rise, both drawn from
distributions over classes that are estimated at the same time (partial pooling): a well-measured
class keeps its own curve, a rare one borrows from the others. On the logit scale, with r the number
of images relative to today's, class c follows ``level_c + rise_c * (1 - r**-b) / b``; b is shared.

Adding images to some classes only has two effects that growth in current proportions does not
show. The classifier's prior shifts towards the classes that grow, at the cost of the others: the
effect on each recall is measured by shifting the held-out predictions
(:func:`prior_shift`). And only the classes that grow gain information: :data:`OWN_SHARE`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from pytest_datasize.curve.laws import FloatArray, Scale
from pytest_datasize.curve.noise import means_covariance
from pytest_datasize.curve.outcomes import Outcomes
from pytest_datasize.curve.seeds import Purpose, stream

DRAWS: Final = 400
"""Number of draws that represent the posterior."""

OWN_SHARE: Final = 0.7
"""Share of a class's growth that comes from its own images; the rest comes from all others.

Chosen on Fashion-MNIST, where all values from 0.5 to 1 work about equally well.
"""

MISFIT: Final = 0.3
"""Deviation of a true recall from the law per e-fold of images, in logits; a random walk."""

SHIFT_ERROR: Final = 0.3
"""Relative error of the effect of a prior shift on a recall: it is measured for small shifts."""

_CURVATURES: Final = (0.001, 0.15, 0.3, 0.5, 0.75, 1.0)
_LEVEL_SPREADS: Final = (0.3, 0.6, 1.2, 2.4)
_RISE_SPREADS: Final = (0.05, 0.1, 0.2, 0.4)
_MEAN, _MEAN_VARIANCE = np.array([1.0, 0.4]), np.array([9.0, 0.16])
"""Prior of the classes' mean level and mean rise: weak, from curves of many image data sets."""

_SHIFT: Final = float(np.log(2.0))
_MOST_CLASSES: Final = 200
_MOST_PREDICTIONS: Final = 10_000


@dataclass(frozen=True)
class _LogitScale(Scale):
    """Logit of a score; half a right and half a wrong image keep the score away from 0 and 1."""

    images: int

    def _share(self, score: FloatArray) -> FloatArray:
        return (score * self.images + 0.5) / (self.images + 1.0)

    def z(self, score: FloatArray) -> FloatArray:
        return np.asarray(logit(self._share(score)))

    def score(self, z: FloatArray) -> FloatArray:
        return (np.asarray(expit(z)) * (self.images + 1.0) - 0.5) / self.images

    def slope(self, score: FloatArray) -> FloatArray:
        share = self._share(score)
        return 1.0 / (share * (1.0 - share))


@dataclass(frozen=True, eq=False)
class ClassCurves:
    """Posterior draws of every class's curve; made by :func:`fit_classes`.

    Attributes
    ----------
    names
        C class names.
    images
        Training images of every class today, shape (C,).
    level, rise
        Draws of the recall today and of its slope in log images, logits, shape (S, C).
    curvature
        Draws of b, shape (S,).
    misfit, shift_factor
        Draws of each class's deviation from the law after an e-fold, logits, and of the factor by
        which ``shift`` is wrong, shape (S, C).
    shift
        Change of a recall (row) per log prior of a class (column), in logits, (C, C).
    """

    names: tuple[str, ...]
    images: FloatArray
    level: FloatArray
    rise: FloatArray
    curvature: FloatArray
    misfit: FloatArray
    shift_factor: FloatArray
    shift: FloatArray

    def recalls(self, images: FloatArray) -> FloatArray:
        """Return draws of every class's recall for given numbers of training images.

        Parameters
        ----------
        images
            Training images of every class, shape (..., C).

        Returns
        -------
        ndarray
            Recalls in (0, 1), shape (S, ..., C).
        """
        effective, composition = _growth(images, self.images)
        spread = (slice(None), *[None] * (images.ndim - 1))
        b = self.curvature[(*spread, None)]
        gain = self.rise[spread] * -np.expm1(-b * effective) / b
        moved = self.shift_factor[spread] * (composition @ self.shift.T)
        strayed = self.misfit[spread] * np.sqrt(np.abs(effective))
        odds = self.level[spread] + gain + moved + strayed
        return np.asarray(expit(odds))


def _growth(images: FloatArray, now: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the growth of every class and of its share, in e-folds, (..., C) each."""
    grown = np.log(images / now)
    total = np.log(images.sum(axis=-1, keepdims=True) / now.sum())
    return OWN_SHARE * grown + (1.0 - OWN_SHARE) * total, grown - total


def fit_classes(
    outcomes: Mapping[str, Outcomes],
    images: FloatArray,
    shift: FloatArray | None = None,
    seed: int = 0,
) -> ClassCurves:
    """Fit the recalls of all classes jointly.

    Parameters
    ----------
    outcomes
        Class name → outcomes of its recall at K training sizes.
    images
        Training images of every class at every size, shape (K, C); the last row is today's.
    shift
        See :func:`prior_shift`; None if unknown: then there is no shift.
    seed
        Seed of the draws.

    Examples
    --------
    >>> from pytest_datasize.curve.outcomes import gather
    >>> hits = np.arange(40) < 30
    >>> grown = np.arange(40) < 36
    >>> one = gather((50, 100, 200), [[hits * 1.0], [hits * 1.0], [grown * 1.0]],
    ...     [np.arange(40)], 200)
    >>> sizes = np.array([[25, 25], [50, 50], [100, 100]])
    >>> curves = fit_classes({"a": one, "b": one}, sizes)
    >>> bool(np.median(curves.recalls(np.array([200.0, 200.0]))[:, 0]) > 0.88)
    True
    """
    sizes = np.maximum(np.asarray(images, dtype=np.float64), 0.5)
    now = sizes[-1]
    classes = len(now)
    shift = np.zeros((classes, classes)) if shift is None else np.asarray(shift)
    effective, composition = _growth(sizes, now)
    estimates = [
        _estimated(one, np.abs(growth))
        for one, growth in zip(outcomes.values(), effective.T, strict=True)
    ]
    z = np.stack([one[0] for one in estimates]) - (composition @ shift.T).T
    weight = np.stack([one[1] for one in estimates])
    cells = [
        _cell(z, weight, effective.T, curvature, level, rise)
        for curvature in _CURVATURES
        for level in _LEVEL_SPREADS
        for rise in _RISE_SPREADS
    ]
    evidence = np.array([cell.log_evidence for cell in cells])
    weights = np.exp(evidence - evidence.max())
    generator = stream(seed, Purpose.CLASS_CURVES)
    chosen = generator.choice(len(cells), DRAWS, p=weights / weights.sum())
    drawn = np.stack([cells[index].draw(generator) for index in chosen])
    return ClassCurves(
        names=tuple(outcomes),
        images=now,
        level=drawn[:, :, 0],
        rise=drawn[:, :, 1],
        curvature=np.array([cells[index].curvature for index in chosen]),
        misfit=MISFIT * generator.standard_normal((DRAWS, classes)),
        shift_factor=1.0 + SHIFT_ERROR * generator.standard_normal((DRAWS, classes)),
        shift=shift,
    )


def _estimated(outcomes: Outcomes, away: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return a class's mean recalls as logits, and the inverse of their covariance.

    The misfit of the law grows with the distance ``away`` of a size from today's, in e-folds.
    """
    scale = _LogitScale(outcomes.n_test)
    scores = [np.asarray(repeats) for repeats in outcomes.scores]
    covariance = means_covariance(
        np.array(outcomes.sizes, dtype=np.float64),
        scores,
        scale,
        n_test=outcomes.n_test,
        pool=outcomes.pool,
        replacement=outcomes.replacement,
        bounds=(0.0, 1.0),
        test_covariance=np.asarray(outcomes.test_covariance, dtype=np.float64),
        train_covariance=None,
        split_variance=np.asarray(outcomes.split_variance, dtype=np.float64),
    )
    means = np.array([values.mean() for values in scores])
    misfit = MISFIT**2 * np.minimum.outer(away, away)
    blurred = covariance + misfit + 0.03**2 * np.eye(len(means))
    return scale.z(means), np.asarray(np.linalg.inv(blurred), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class _Cell:
    """The posterior given curvature and spreads; it is normal, so computed exactly."""

    log_evidence: float
    curvature: float
    mean: FloatArray  # (2,), mean over classes
    mean_covariance: FloatArray  # (2, 2)
    gain: FloatArray  # (C, 2, 2), weight of a class's own data
    own: FloatArray  # (C, 2)
    covariance: FloatArray  # (C, 2, 2), of a class given the mean

    def draw(self, generator: np.random.Generator) -> FloatArray:
        mean = generator.multivariate_normal(self.mean, self.mean_covariance)
        centre = mean + np.einsum("cij,cj->ci", self.gain, self.own - mean)
        noise = generator.standard_normal(centre.shape)
        drawn: FloatArray = centre + np.einsum(
            "cij,cj->ci", np.linalg.cholesky(self.covariance), noise
        )
        return drawn


def _cell(
    z: FloatArray,
    weight: FloatArray,
    growth: FloatArray,
    curvature: float,
    level_spread: float,
    rise_spread: float,
) -> _Cell:
    """Integrate over the classes and their mean, both normal, in closed form."""
    gained = -np.expm1(-curvature * growth) / curvature
    design = np.stack([np.ones_like(gained), gained], axis=2)
    precision = np.einsum("cki,ckl,clj->cij", design, weight, design)
    own = np.linalg.solve(precision, np.einsum("cki,ckl,cl->ci", design, weight, z)[..., None])
    own = own[..., 0]
    residual = z - np.einsum("cki,ci->ck", design, own)
    between = np.diag([level_spread**2, rise_spread**2])
    noise = np.linalg.inv(precision)
    marginal = between + noise
    inverse = np.linalg.inv(marginal)
    prior = np.diag(1.0 / _MEAN_VARIANCE)
    of_mean = prior + inverse.sum(axis=0)
    mean = np.linalg.solve(of_mean, prior @ _MEAN + np.einsum("cij,cj->i", inverse, own))
    away = own - mean
    log_evidence = -0.5 * float(
        np.einsum("ck,ckl,cl->", residual, weight, residual)
        + np.linalg.slogdet(precision)[1].sum()
        + np.linalg.slogdet(marginal)[1].sum()
        + np.einsum("ci,cij,cj->", away, inverse, away)
        + (mean - _MEAN) @ prior @ (mean - _MEAN)
        + np.linalg.slogdet(of_mean)[1]
    )
    gain = between @ inverse
    covariance = between - gain @ between
    return _Cell(
        log_evidence,
        curvature,
        mean,
        np.linalg.inv(of_mean),
        gain,
        own,
        (covariance + np.swapaxes(covariance, 1, 2)) / 2 + 1e-10 * np.eye(2),
    )


def prior_shift(
    labels: NDArray[np.int64], probabilities: FloatArray, n_classes: int
) -> list[list[float]] | None:
    """Measure the change of every class's recall when the prior of a class grows.

    Parameters
    ----------
    labels
        Classes of M held-out predictions, shape (M,).
    probabilities
        Those predictions, shape (M, C).
    n_classes
        C; above 200 classes nothing is measured and None is returned.

    Returns
    -------
    list of C lists
        Row c, column j: change of the logit of the recall of c per unit of the log prior of j.
        Rows sum to zero: a prior that grows for all classes changes nothing.
    """
    if n_classes > _MOST_CLASSES:
        return None
    # of very many predictions, an even sample suffices
    step = max(1, len(labels) // _MOST_PREDICTIONS)
    labels, probabilities = labels[::step], probabilities[::step]
    odds = np.log(np.maximum(probabilities.astype(np.float64), 1e-12))
    counts = np.bincount(labels, minlength=n_classes)
    moved = np.zeros((n_classes, n_classes))
    for column in range(n_classes):
        logits = []
        for sign in (1.0, -1.0):
            shifted = odds.copy()
            shifted[:, column] += sign * _SHIFT
            hits = np.bincount(labels[shifted.argmax(axis=1) == labels], minlength=n_classes)
            logits.append(np.log((hits + 0.5) / (counts - hits + 0.5)))
        moved[:, column] = (logits[0] - logits[1]) / (2 * _SHIFT)
    moved -= moved.sum(axis=1, keepdims=True) / n_classes
    return [[round(float(value), 4) for value in row] for row in moved]
