"""Find factors that tell the class, and say so as findings about the data set."""

from collections.abc import Sequence

from pytest_datasize.curve.advice.association import ERROR_RATE, FactorFacts, factor_facts
from pytest_datasize.images.image_set import Finding, ImageSet, one_line
from pytest_datasize.requirement.tasks import CLASSIFICATION


def facts_of(images: ImageSet) -> tuple[FactorFacts, ...]:
    """Return what is known of the factors of images; tested where each image has one class."""
    factors = [(factor.name, factor.numbers) for factor in images.factors]
    if images.task != CLASSIFICATION:
        return tuple(
            FactorFacts(
                name, len(set(values.tolist())), len(images), False, "the labels are no classes"
            )
            for name, values in factors
        )
    return factor_facts(factors, images.labels, images.groups)


def findings_of(facts: Sequence[FactorFacts]) -> tuple[Finding, ...]:
    """Return a finding for each factor that tells the class or could not be tested.

    Examples
    --------
    >>> [one] = findings_of([FactorFacts("site", 2, 400, False, "", 0.0001, 0.93, 0.51)])
    >>> print(one.text)
    'site' tells the class: guessing the class from it is right for 93 % of images, each class \
counting alike; from shuffled values 51 % (p = 0.0001; 1 % false alarms). A model may learn it \
instead of the class
    """
    found = []
    for one in facts:
        name = repr(one_line(one.name))
        if one.tells:
            assert one.guessed is not None
            assert one.shuffled is not None
            of = "groups" if one.grouped else "images"
            text = (
                f"{name} tells the class: guessing the class from it is right for "
                f"{100 * one.guessed:.0f} % of {of}, each class counting alike; from shuffled "
                f"values {100 * one.shuffled:.0f} % (p = {one.p_value:.2g}; "
                f"{100 * ERROR_RATE:.0f} % false alarms). A model may learn it instead of the class"
            )
            found.append(Finding("factor_tells_class", text, one.units))
        elif one.untested:
            text = f"{name} was not tested for telling the class: {one.untested}"
            found.append(Finding("factor_not_tested", text, one.values))
    return tuple(found)
