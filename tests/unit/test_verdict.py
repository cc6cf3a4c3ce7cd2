"""Verdicts on curves whose truth is known, and what they say."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_datasize.curve.counts import count
from pytest_datasize.curve.held_out import HeldOut
from pytest_datasize.curve.learning_curve import LearningCurve
from pytest_datasize.curve.verdict import Status, judge

SIZES = (20, 40, 80, 160, 320, 640)


def curve(ceiling=0.9, scale=1.2, exponent=0.5, noise=0.004, seed=0, n_test=20_000):
    """Scores of ceiling - scale n^-exponent with little noise."""
    generator = np.random.default_rng(seed)
    return LearningCurve.fit(
        SIZES,
        [ceiling - scale * n**-exponent + noise * generator.standard_normal(10) for n in SIZES],
        n_test,
    )


def one(target, available=640, confidence=None, **law):
    return judge("accuracy", target, {None: curve(**law)}, available, confidence)


def test_sufficient():
    found = one(0.82)
    assert found.status is Status.SUFFICIENT
    assert found.required == pytest.approx((1.2 / 0.08) ** 2, rel=0.2)
    assert found.missing == 0
    assert found.summary == f"accuracy 0.82 is met: now {found.score:.3f}, more than 99 % sure"
    assert found.probability >= 0.9 > one(found.score_sure + 0.002).probability


def test_numbers_are_not_rounded_up_to_what_is_required():
    found = replace(one(0.87), score=0.8697, probability=0.3)
    assert "(now 0.8697, 70 % sure)" in found.summary
    found = replace(found, status=Status.UNDECIDED, probability=0.8996, level=0.9)
    assert "89.9 % sure that these 640 images suffice, 90 % is required" in found.summary
    found = replace(found, probability=0.9941, level=0.995)
    assert "99.4 % sure that these 640 images suffice" in found.summary


def test_insufficient_says_how_many_are_missing():
    found = one(0.87)
    assert found.status is Status.INSUFFICIENT
    assert found.required == pytest.approx((1.2 / 0.03) ** 2, rel=0.35)
    assert found.required_low <= found.required <= found.required_high
    assert found.missing == found.required - 640
    assert found.summary.startswith(f"about {count(found.missing)} images short of accuracy 0.87")


@pytest.mark.parametrize(
    ("held_out", "images"), [(HeldOut(0.2), 800), (HeldOut(), 640), (HeldOut(images=150), 790)]
)
def test_missing_images_are_those_of_the_data_set(held_out, images):
    found = judge("accuracy", 0.87, {None: CURVE}, 640, held_out=held_out)
    assert found.images == images
    # what is told is what suffices once a part of it is held out again, and not one less
    assert held_out.training(found.images + found.missing) >= found.required
    assert held_out.training(found.images + found.missing - 1) < found.required


@given(st.floats(0, 0.9), st.integers(0, 1000), st.integers(1, 10**6))
def test_held_out_images_are_converted_there_and_back(share, images, training):
    held_out = HeldOut(share, images)
    whole = held_out.data_set(training)
    assert held_out.training(whole) >= training
    assert held_out.training(whole - 1) < training


@pytest.mark.parametrize(("target", "close"), [(0.8518, True), (0.80, False), (0.87, False)])
def test_a_verdict_as_likely_wrong_as_right_is_called_too_close(target, close):
    found = one(target)
    assert found.close == (0.4 <= found.probability <= 0.6) == close
    assert ("too close to call" in found.summary) == close
    assert not one(target, confidence=0.9).close


def test_unreachable_when_even_the_upper_end_of_the_ceiling_is_below():
    found = one(0.99)
    assert found.ceiling_high < 0.99
    assert found.status is Status.UNREACHABLE
    assert math.isinf(found.required)
    assert math.isinf(found.required_low)
    assert "out of reach" in found.summary


def test_undecided_between_the_confidences():
    border = curve().predict(640)
    assert one(border).status is Status.SUFFICIENT
    found = one(border, confidence=0.9)
    assert found.status is Status.UNDECIDED
    assert "is not certain enough: 50 % sure that these 640 images suffice" in found.summary
    assert one(0.7, confidence=0.9).status is Status.SUFFICIENT
    assert one(0.89, confidence=0.9).status is Status.INSUFFICIENT


@given(st.floats(0.3, 0.99), st.sampled_from([None, 0.8, 0.95]), st.integers(20, 10_000))
def test_verdict_required_and_probability_agree(target, confidence, available):
    found = judge("accuracy", target, {None: CURVE}, available, confidence)
    if confidence is None:
        passed = found.status is Status.SUFFICIENT
        assert passed == (found.required <= available)
        assert passed == (found.probability >= 0.5)
        assert passed == (found.score >= target)
    elif found.status is Status.SUFFICIENT:
        assert found.probability >= confidence
    assert found.required_low <= found.required <= found.required_high


CURVE = curve()


def test_of_several_classes_the_one_that_needs_most_decides():
    curves = {"good": curve(ceiling=0.95), "bad": curve(ceiling=0.88)}
    found = judge("recall_per_class", 0.8, curves, 640)
    assert found.class_name == "bad"
    assert found.subject == "recall of 'bad' 0.8"
    both = {"first": curve(ceiling=0.88), "second": curve(ceiling=0.87)}
    assert judge("recall_per_class", 0.86, both, 640).class_name == "second"


def test_a_class_is_judged_by_its_own_target_and_one_without_is_not():
    curves = {"good": curve(ceiling=0.95), "bad": curve(ceiling=0.88), "new": curve(ceiling=0.6)}
    found = judge("recall_per_class", {"good": 0.9, "bad": 0.7}, curves, 640)
    alone = {name: judge("recall_per_class", 0.9, {name: curves[name]}, 640) for name in curves}
    assert (found.class_name, found.target) == ("good", 0.9)
    assert found.required == alone["good"].required
    assert found.subject == "recall of 'good' 0.9"
    worst = judge("recall_per_class", {"good": 0.9, "bad": 0.87}, curves, 640)
    assert (worst.class_name, worst.target) == ("bad", 0.87)
    assert worst.required > found.required


@given(st.integers(1, 10**9))
def test_a_shown_number_is_never_too_small(n):
    text = count(n)
    shown = float(text.split()[0].replace(",", "")) * (1e6 if "million" in text else 1)
    assert n <= shown * (1 + 1e-9)
    assert shown <= n * 1.1 + 1
    assert n < 100 or len(re.sub("[.,]", "", text.split()[0]).rstrip("0")) <= 2


def test_beyond_the_trusted_range_a_number_is_called_an_extrapolation():
    near, far = (judge("accuracy", 0.87, {None: CURVE}, 640, trusted_range=t) for t in (4.0, 2.0))
    assert (near.extrapolated, far.extrapolated) == (False, True)
    assert near.required == far.required
    assert 2.25 < far.required / 640 < 3.2  # truly 2.5


@pytest.mark.parametrize("target", [0.845, 0.85, 0.852, 0.853, 0.855, 0.86])
@pytest.mark.parametrize("earlier", [0, 1, 2])
def test_a_model_that_is_tried_after_others_must_be_surer(target, earlier):
    found = judge("accuracy", target, {None: curve()}, 640, earlier=earlier)
    level = (0.5, 0.75, 1 - 0.5 / 3)[earlier]
    assert found.level == pytest.approx(level)
    assert (found.status is Status.SUFFICIENT) == (found.probability >= level)
    # what is called insufficient needs more than there is, whatever the median says
    assert (found.required <= 640) == (found.status is Status.SUFFICIENT)


@pytest.mark.parametrize("earlier", [1, 3])
def test_what_is_likely_but_not_sure_enough_is_never_called_short(earlier):
    """One verdict has one probability in all its sentences."""
    found = CURVE.probability
    likely = next(t / 10000 for t in range(9900, 5000, -1) if found(640, t / 10000) >= 0.51)
    judged = judge("accuracy", likely, {None: CURVE}, 640, earlier=earlier)
    assert judged.status is Status.INSUFFICIENT
    assert judged.required > judged.available
    assert "is not certain enough" in judged.summary
    assert "short" not in judged.summary


def test_a_confidence_is_divided_among_the_models_tried():
    fitted = curve()
    target = next(
        t
        for t in np.arange(0.86, 0.80, -0.0005)
        if 0.91 < fitted.probability(640, float(t)) < 0.949
    )
    first, second = (
        judge("accuracy", float(target), {None: fitted}, 640, 0.9, earlier=n) for n in (0, 1)
    )
    assert (first.status, second.status) == (Status.SUFFICIENT, Status.UNDECIDED)
    assert (
        "95 % is required of the second model tried" in second.summary
    )  # what it says to be asked is what it lacks
