"""Find factors that predict the class, and report them as findings about the data set."""

from collections.abc import Iterable, Sequence

from pytest_datasize.curve.advice.association import ERROR_RATE, FactorFacts, factor_facts
from pytest_datasize.curve.slices import LEAST_PER_VALUE, MOST_VALUES, FactorValues
from pytest_datasize.errors import RequirementError
from pytest_datasize.images.image_set import Finding, ImageSet, one_line
from pytest_datasize.requirement.tasks import CLASSIFICATION
from pytest_datasize.requirement.units import plural

_NAME = 40


def facts_of(images: ImageSet) -> tuple[FactorFacts, ...]:
    """Return what is known of the factors of images; tested where each image has one class."""
    if images.task != CLASSIFICATION:
        return tuple(
            FactorFacts(one.name, len(one.values), len(images), "the labels are not classes")
            for one in images.factors
        )
    factors = [FactorValues(*factor) for factor in images.factors]
    return factor_facts(factors, images.classes, images.labels, images.groups)


def refuse_undivided(names: Iterable[str]) -> None:
    """Refuse factors that have no slices where every slice has a target.

    Raises
    ------
    RequirementError
        There is one: its slices would pass unseen beside those of other factors.
    """
    for name in names:
        raise RequirementError(
            f"min_slice: {_shown(name)} has no slices to judge: a factor has at most {MOST_VALUES} "
            f"values, and at least {LEAST_PER_VALUE:g} images per value on average. Leave it out "
            "of slices=, or give it fewer values."
        )


def findings_of(facts: Sequence[FactorFacts]) -> tuple[Finding, ...]:
    """Return a finding for each factor that predicts the class or could not be tested.

    Examples
    --------
    >>> [one] = findings_of(
    ...     [FactorFacts("site", 2, 400, "", 0.0001, 0.93, 0.51, 1.0, "B", "rust", 0.95, 0.09)])
    >>> print(one.text)
    'site' predicts the class: it gives the right class for 93 % of images (each class counts \
alike; shuffled values: 51 %; p = 0.0001, significance level 1 %). 95 % of 'rust' have 'B', and \
9 % of all others. A model may learn 'site' instead of the class
    """
    found = []
    for one in facts:
        name = _shown(one.name)
        if one.tells:
            best = "" if one.possible == 1 else f"at best {100 * one.possible:.0f} %; "
            text = (
                f"{name} predicts the class: it gives the right class for "
                f"{100 * one.guessed:.0f} % of {plural(one.unit)} (each class counts alike; {best}"
                f"shuffled values: {100 * one.shuffled:.0f} %; p = {one.p_value:.1g}, significance "
                f"level {100 * ERROR_RATE:.0f} %). {100 * one.share:.0f} % of "
                f"{_shown(one.class_name)} have {_shown(one.value)}, and "
                f"{100 * one.share_of_others:.0f} % of all others. "
                f"A model may learn {name} instead of the class"
            )
            found.append(Finding("factor_tells_class", text, one.units))
        elif one.untested:
            text = f"{name} was not tested as a predictor of the class: {one.untested}"
            found.append(Finding("factor_not_tested", text, one.values))
    return tuple(found)


def _shown(name: str) -> str:
    text = one_line(name)
    return repr(text if len(text) <= _NAME else f"{text[: _NAME - 3]}...")
