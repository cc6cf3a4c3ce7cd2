"""The estimated cost of a study, and what is left out to stay within a budget. No torch."""

from collections.abc import Container
from dataclasses import dataclass, replace

from pytest_datasize.errors import RequirementError
from pytest_datasize.trials.plan import Plan
from pytest_datasize.trials.recipe import Recipe

STOPPED_AFTER = 0.5
"""Approximate share of a recipe's maximum epochs that run where early stopping ends them."""

CYCLES_RUN = 1.5
"""Approximate epochs that run, as a multiple of those of the first cycle, where more may follow."""


@dataclass(frozen=True)
class Cost:
    """An estimate.

    Attributes
    ----------
    forwards
        Images that pass (part of) the network once, before training.
    once
        Seconds before the first trial, for steps that every image needs once.
    stored
        Bytes of stored embeddings or activations.
    recipe
        How a trial is trained by gradients; None where it is not.
    step
        Seconds that the gradient of one image takes.
    epoch
        Additional seconds per epoch, for saving weights.
    known
        Whether an estimate exists; a user's trainer has none.
    """

    forwards: int
    once: float
    stored: int
    recipe: Recipe | None = None
    step: float = 0.0
    epoch: float = 0.0
    known: bool = True

    def backwards(self, plan: Plan) -> int:
        """Gradients of images in a whole plan."""
        return round(sum(self._learnt(repeat.images(size)) for size, _, repeat in plan.trials()))

    def seconds(self, plan: Plan, known: Container[tuple[int, int]] = ()) -> float:
        """Seconds of a whole plan, without the trials that are known."""
        left = [
            repeat.images(size)
            for size, number, repeat in plan.trials()
            if (size, number) not in known
        ]
        return sum(self._trial(images, plan.n_test) for images in left) + (
            self.once if left else 0.0
        )

    def _learnt(self, images: int) -> float:
        """Gradients of one trial; few images are passed several times an epoch."""
        if self.recipe is None:
            return 0.0
        fit = max(1, round(images * (1 - self.recipe.validation)))
        batch = min(self.recipe.batch, fit)
        passes = max(1, -(-self.recipe.least_steps * batch // fit))
        return self._epochs(self.recipe) * passes * fit

    @staticmethod
    def _epochs(recipe: Recipe) -> float:
        if recipe.patience is None:
            return recipe.epochs * (CYCLES_RUN if recipe.cycles > 1 else 1.0)
        return recipe.epochs * STOPPED_AFTER

    def _trial(self, images: int, n_test: int) -> float:
        if self.recipe is None:
            return 0.0
        epochs = self._epochs(self.recipe)
        looks = 1.0 if self.recipe.patience is None else epochs
        scored = looks * images * self.recipe.validation + n_test
        # a gradient takes about as long as three forward passes
        return self.step * (self._learnt(images) + scored / 3) + self.epoch * (looks - 1)


def trim_to_budget(plan: Plan, cost: Cost, budget: float | None) -> tuple[Plan, str]:
    """Remove repeats, then the largest sizes, until a plan fits a budget.

    Never fewer than two repeats and three sizes, which a fit needs.

    Parameters
    ----------
    plan
        The full plan.
    cost
        Its cost.
    budget
        Seconds; None removes nothing.

    Returns
    -------
    Plan
        The plan that fits the budget.
    str
        What was removed, and the expected time; empty if nothing was removed.

    Raises
    ------
    RequirementError
        There is a budget, but no cost estimate.
    """
    if budget is None:
        return plan, ""
    if not cost.known:
        raise RequirementError(
            f"budget={budget:g} s: no one knows how long the trainer takes. Set repeats and "
            "sizes instead."
        )
    left = plan
    while cost.seconds(left) > budget and len(left.repeats) > 2:
        left = replace(left, repeats=left.repeats[:-1])
    while cost.seconds(left) > budget and len(left.sizes) > 3:
        left = replace(left, sizes=left.sizes[:-1])
    if left is plan and cost.seconds(plan) <= budget:
        return plan, ""
    lost = []
    if len(left.repeats) < len(plan.repeats):
        lost.append(f"{len(left.repeats)} of {len(plan.repeats)} repeats")
    if len(left.sizes) < len(plan.sizes):
        lost.append(f"sizes up to {left.sizes[-1]:,} instead of {plan.sizes[-1]:,}")
    expected = cost.seconds(left)
    over = "" if expected <= budget else "; a fit needs no less, so the budget is exceeded"
    what = ", ".join(lost) or "nothing could be left out"
    return left, f"budget of {budget:.0f} s: {what}; about {expected:.0f} s expected{over}"
