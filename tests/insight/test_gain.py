"""What transfer adds, from scores of two strategies on the same images."""

import numpy as np
import pytest

from pytest_datasize.curve.advice.gain import transfer_gain
from pytest_datasize.reports.wording.advice_text import transfer


def test_the_largest_common_size_counts():
    found = transfer_gain({50: [0.7], 100: [0.8, 0.9], 400: [1.0]}, {50: [0.1], 100: [0.5, 0.6]}, 9)
    assert (found.images, found.repeats) == (100, 2)
    assert found.gain == pytest.approx(0.3)
    assert transfer_gain({50: [0.7]}, {60: [0.7]}, 9) is None


def test_the_interval_is_the_corrected_resampled_t():
    frozen, scratch = [0.80, 0.82, 0.86, 0.84], [0.60, 0.66, 0.64, 0.62]
    differences = np.subtract(frozen, scratch)
    half = 2.353363 * np.sqrt(differences.var(ddof=1) * (1 / 4 + 25 / 100))
    found = transfer_gain({100: frozen}, {100: scratch}, 25)
    assert (found.low, found.high) == pytest.approx(
        (differences.mean() - half, differences.mean() + half), abs=1e-6
    )


def test_one_repeat_says_why_it_has_no_interval():
    found = transfer_gain({100: [0.8]}, {100: [0.6]}, 25)
    assert found.low is None
    assert "(no interval: one repeat)" in transfer(vars(found))


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [(0.8, 0.5, "transfer helps"), (0.5, 0.8, "does harm"), (0.6, 0.6, "cannot be told")],
)
def test_the_sentence_follows_the_interval(one, other, said):
    luck = np.array([0.01, -0.02, 0.015, -0.005])
    scores = ({100: (mean + sign * luck).tolist()} for mean, sign in ((one, 1), (other, -1)))
    found = transfer_gain(*scores, 20)
    assert said in transfer(vars(found))
