"""Scores of slices against known truths, and how often a random factor is reported."""

from dataclasses import asdict

import numpy as np
import pytest
import torch

from pytest_datasize import Study
from pytest_datasize.curve.advice.association import ERROR_RATE, factor_facts
from pytest_datasize.curve.outcomes import gather
from pytest_datasize.curve.slices import LEAST_GROUPS, LEAST_IMAGES, FactorValues, slices_of
from pytest_datasize.errors import DatasetError, RequirementError
from pytest_datasize.images.image_set import Reading
from pytest_datasize.images.sources.load import load
from pytest_datasize.reports.wording import slices_text
from pytest_datasize.study.factors import findings_of

SIZES = (50, 100, 200, 400)


def factor(numbers, name="site"):
    numbers = np.asarray(numbers)
    return FactorValues(name, tuple(map(str, range(numbers.max() + 1))), numbers)


def planted(truths, n, generator, groups=None):
    """Slices of n test images each, with known accuracies at the largest size; less before."""
    numbers = np.repeat(np.arange(len(truths)), n)
    hard = generator.random(len(numbers))
    accuracy = np.asarray(truths)[numbers]
    steps = range(len(SIZES))
    hits = [[(hard < accuracy - 0.03 * (len(SIZES) - 1 - k)) * 1.0] for k in steps]
    rows = [np.arange(len(numbers))]
    outcomes = gather(SIZES, hits, rows, len(numbers), groups)
    found = slices_of(factor(numbers), len(numbers), {"accuracy": (outcomes, hits)}, rows, groups)
    return found, outcomes


def last(one):
    """Score and deviation of a slice at the largest size."""
    outcomes = one.outcomes["accuracy"]
    return np.mean(outcomes.scores[-1]), np.sqrt(outcomes.test_covariance[-1, -1])


def test_a_slice_of_all_images_is_scored_as_all_images():
    generator = np.random.default_rng(0)
    tested = [np.arange(40), np.arange(40, 80), np.arange(80, 120)]
    hits = [[(generator.random(40) < p) * 1.0 for _ in tested] for p in (0.6, 0.7, 0.8)]
    outcomes = gather(SIZES[:3], hits, tested, 120)
    one_value = factor(np.zeros(120, int))
    [one] = slices_of(one_value, 120, {"accuracy": (outcomes, hits)}, tested)
    found = one.outcomes["accuracy"]
    np.testing.assert_allclose(found.scores, outcomes.scores, atol=1e-12)
    np.testing.assert_allclose(found.test_covariance, outcomes.test_covariance, rtol=0.02)
    np.testing.assert_allclose(found.split_variance, outcomes.split_variance, atol=1e-12)


def test_the_worst_of_equal_slices_is_not_called_bad_by_luck():
    generator = np.random.default_rng(1)
    raw, borrowed = [], []
    for _ in range(40):
        slices, _ = planted([0.88] * 20, 40, generator)
        raw.append(min(one.measured["accuracy"] for one in slices) < 0.8)
        borrowed.append(min(last(one)[0] for one in slices) < 0.8)
    assert np.mean(raw) > 0.5
    assert np.mean(borrowed) < 0.1


@pytest.mark.parametrize(("number", "n"), [(3, 300), (20, 200)])
def test_one_bad_slice_is_not_hidden_by_good_ones(number, n):
    generator = np.random.default_rng(2)
    for _ in range(20):
        slices, _ = planted([0.7, *[0.9] * (number - 1)], n, generator)
        assert last(slices[0])[0] < 0.8
        assert all(last(one)[0] > 0.82 for one in slices[1:])


def test_intervals_hold_the_truth():
    generator = np.random.default_rng(3)
    held = []
    for _ in range(100):
        truths = np.clip(0.88 + 0.05 * generator.standard_normal(5), 0.5, 0.99)
        for truth, one in zip(truths, planted(truths, 100, generator)[0], strict=True):
            score, deviation = last(one)
            held.append(abs(score - truth) < 1.645 * deviation)
    assert 0.83 < np.mean(held) < 0.97


def test_slices_of_few_images_or_groups_are_too_small():
    generator = np.random.default_rng(4)
    slices, _ = planted([0.9, 0.8], LEAST_IMAGES - 1, generator)
    assert [one.too_small for one in slices] == [True, True]
    assert slices[0].outcomes == {}
    assert 0 < slices[0].measured["accuracy"] <= 1
    patients = np.concatenate([np.arange(60) % LEAST_GROUPS, 100 + np.arange(60) % 4])
    slices, _ = planted([0.9, 0.8], 60, generator, patients)
    assert [one.n_groups for one in slices] == [LEAST_GROUPS, 4]
    assert [one.too_small for one in slices] == [False, True]


def test_images_of_one_patient_widen_the_interval_of_a_slice():
    generator = np.random.default_rng(5)
    patients = np.repeat(np.arange(40), 10)
    numbers = np.arange(40).repeat(10) % 2
    hits = [[(generator.random(40) < 0.7).repeat(10) * 1.0]] * 3
    rows = [np.arange(400)]
    deviations = []
    for groups in (None, patients):
        outcomes = gather(SIZES[:3], hits, rows, 400, groups)
        found = slices_of(factor(numbers), 400, {"accuracy": (outcomes, hits)}, rows, groups)
        deviations.append(last(found[0])[1])
    assert deviations[1] > 1.7 * deviations[0]


def test_a_factor_of_nearly_one_value_per_image_has_no_slices():
    assert not factor(np.arange(60)).divides
    assert not factor(np.arange(1000) % 300).divides
    assert factor(np.arange(60) % 30).divides


# -- factors that predict the class ---------------------------------------------------------------


def test_random_factors_are_found_as_often_as_is_stated():
    """Of 240 random factors, one in a hundred has p <= 0.01; of many together, none is reported."""
    generator = np.random.default_rng(6)
    labels = generator.integers(0, 2, 150)
    factors = [factor(generator.integers(0, 2 + i % 2, 150), str(i)) for i in range(240)]
    alone = [factor_facts([one], ["a", "b"], labels)[0] for one in factors]
    p_values = np.array([one.p_value for one in alone])
    assert (p_values <= ERROR_RATE).sum() <= 8  # 2.4 are expected; more than 8 are in 0.1 %
    assert 10 <= (p_values <= 0.1).sum() <= 40  # 24 are expected
    assert 0.4 < np.median(p_values) < 0.6
    assert sum(one.tells for one in alone) <= (p_values <= ERROR_RATE).sum()
    assert not any(one.tells for one in factor_facts(factors[:60], ["a", "b"], labels))


def test_factors_that_are_tested_together_are_corrected_for_their_number():
    generator = np.random.default_rng(7)
    labels = generator.integers(0, 5, 150)
    factors = [factor(generator.integers(0, 8, 150), str(i)) for i in range(10)]
    leak = factor(np.where(generator.random(150) < 0.8, labels, 0), "leak")
    *random, leaking = factor_facts([*factors, leak], list("abcde"), labels)
    assert leaking.tells
    assert leaking.p_value == pytest.approx(11 * 1e-4)
    assert all(one.p_value > ERROR_RATE for one in random)


def test_a_rare_class_of_one_site_is_found_although_the_majority_is_always_guessed():
    generator = np.random.default_rng(7)
    labels = (np.arange(600) < 30).astype(int)
    site = np.where(labels == 1, 1, generator.integers(0, 2, 600))
    [one] = factor_facts([factor(site)], ["good", "rust"], labels)
    assert one.tells
    assert (one.class_name, one.value, one.share) == ("rust", "1", 1.0)
    assert one.guessed == pytest.approx(0.75, abs=0.03)


def test_two_sites_of_ten_classes_are_compared_with_the_best_that_two_sites_allow():
    generator = np.random.default_rng(8)
    labels = np.arange(1000) % 10
    site = np.where(generator.random(1000) < 0.9, labels // 5, 1 - labels // 5)
    names = [str(label) for label in range(10)]
    [one] = factor_facts([factor(site)], names, labels)
    assert one.tells
    assert one.possible == 0.2
    assert one.shuffled < one.guessed <= 0.2


def test_a_dependence_that_hardly_helps_is_significant_but_no_finding():
    generator = np.random.default_rng(9)
    labels = np.arange(20_000) % 2
    site = (generator.random(20_000) < 0.47 + 0.06 * labels).astype(int)
    [one] = factor_facts([factor(site)], ["a", "b"], labels)
    assert one.p_value < ERROR_RATE
    assert not one.tells


def test_images_of_one_patient_count_once():
    """Each of 12 patients has one class and one site, as chance has it, and 50 images."""
    generator = np.random.default_rng(10)
    patients = np.arange(12).repeat(50)
    found = []
    for _ in range(20):
        labels = generator.permutation(12).repeat(50) % 2
        site = generator.permutation(12).repeat(50) % 2
        [grouped] = factor_facts([factor(site)], ["a", "b"], labels, patients)
        [single] = factor_facts([factor(site)], ["a", "b"], labels)
        found.append((grouped.tells, single.tells))
        assert (grouped.units, grouped.unit) == (12, "group")
        assert (single.units, single.unit) == (600, "image")
    assert np.mean(found, axis=0).tolist() == pytest.approx([0.0, 0.5], abs=0.45)
    assert not any(grouped for grouped, _ in found)
    assert any(single for _, single in found)


@pytest.mark.parametrize(
    ("unit", "said", "known"),
    [
        ("group", "right class for 100 % of groups (", "2 values in 40 groups: "),
        ("image", "right class for 100 % of images (", "2 values in 160 images: "),
    ],
)
def test_findings_and_reports_say_what_was_counted(unit, said, known):
    labels = np.arange(40).repeat(4) % 2
    groups = np.arange(40).repeat(4) if unit == "group" else None
    serial = factor(np.arange(160) if groups is None else groups, "serial")
    leak, untested = factor_facts([factor(labels), serial], ["a", "b"], labels, groups)
    assert leak.tells
    texts = [finding.text for finding in findings_of([leak, untested])]
    assert said in texts[0]
    assert f" {unit}s, nearly one for each" in texts[1]
    row = {**asdict(leak), "tells": leak.tells}
    assert known in slices_text.factor(row)
    assert f"right for 100 % of {unit}s" in slices_text.factor(row)


# -- where the values come from -------------------------------------------------------------------


def arrays(n=8):
    return np.zeros((n, 8, 8), np.uint8) + np.arange(n, dtype=np.uint8)[:, None, None]


def test_values_of_arrays_and_the_order_that_was_asked_for():
    data = arrays(), np.arange(8) % 2
    slices = {"b": np.arange(8) // 4, "a": lambda name: name[0]}
    images = load(data, reading=Reading(slices=slices)).images
    assert [one.name for one in images.factors] == ["b", "a"]
    assert images.part([7, 0]).factors[0].numbers.tolist() == [1, 0]


def test_values_of_the_pool_only_are_refused_beside_test_images():
    data, test = (arrays(), np.arange(8) % 2), (arrays() + 100, np.arange(8) % 2)
    with pytest.raises(DatasetError, match="values for the images of the pool only"):
        load(data, test, Reading(slices={"day": np.arange(8)}))
    both = load(data, test, Reading(slices={"last": lambda name: name.split()[1] > "3"}))
    assert both.test.factors[0].values == ("False", "True")


def test_a_column_where_there_are_none_is_an_error_that_says_what_can_be_given():
    with pytest.raises(DatasetError, match="slices='site' is the name of a column, but there are"):
        load((arrays(), np.arange(8) % 2), reading=Reading(slices={"site": "site"}))


def test_the_columns_of_a_hugging_face_data_set():
    datasets = pytest.importorskip("datasets")
    from PIL import Image

    given = datasets.Dataset.from_dict(
        {
            "image": [Image.fromarray(one) for one in arrays()],
            "label": [0, 1] * 4,
            "site": ["A", None, "B", "B"] * 2,
        },
        features=datasets.Features(
            {
                "image": datasets.Image(),
                "label": datasets.ClassLabel(names=["x", "y"]),
                "site": datasets.Value("string"),
            }
        ),
    )
    images = load(given, reading=Reading(slices={"site": "site"})).images
    assert images.factors[0].values == ("(none)", "A", "B")
    with pytest.raises(DatasetError, match=r"slices='sites' is not one of .*did you mean 'site'"):
        load(given, reading=Reading(slices={"place": "sites"}))


def test_the_json_of_a_webdataset(tmp_path):
    import io
    import json
    import tarfile

    from PIL import Image

    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for row, pixels in enumerate(arrays()):
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            about = json.dumps({"label": row % 2, "site": "AB"[row // 4]}).encode()
            for suffix, content in (("png", file.getvalue()), ("json", about)):
                member = tarfile.TarInfo(f"{row}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    images = load(str(tmp_path / "a.tar"), reading=Reading(slices={"site": "site"})).images
    assert images.factors[0].numbers.tolist() == [0] * 4 + [1] * 4


def test_factors_change_the_key_of_the_evidence_but_not_of_a_trial():
    data = (arrays(40), np.arange(40) % 2)
    asked = [None, {"half": np.arange(40) // 20}, {"half": np.arange(40) % 5}]
    contexts = [
        Study(data, backbone=torch.nn.Flatten(), image_size=16, device="cpu", slices=one).context
        for one in asked
    ]
    assert len({context.trials_key() for context in contexts}) == 1
    assert len({context.evidence_key(context.family()) for context in contexts}) == 3
    assert len({context.pool.fingerprint() for context in contexts}) == 1


def few_repeats(tested, pool):
    """The slices of 80 rows, of which some were tested, after a pool of some length."""
    hits = [[(rows % 5 > 0) * 1.0 for rows in tested] for _ in SIZES]
    outcomes = gather(SIZES, hits, tested, 80)
    numbers = np.arange(80) % 2
    return slices_of(factor(numbers), pool, {"accuracy": (outcomes, hits)}, tested)


def test_slices_are_the_same_ones_after_few_repeats_with_wider_intervals():
    few = few_repeats([np.arange(20)], 80)
    many = few_repeats([np.arange(40), np.arange(40, 80)], 80)
    assert [(one.n_test, one.testable) for one in few] == [(10, 40), (10, 40)]
    assert not any(one.too_small for one in few)
    assert all(last(one)[1] > 1.5 * last(other)[1] for one, other in zip(few, many, strict=True))
    assert all(one.too_small for one in few_repeats([np.arange(8)], 80))


def test_test_images_of_their_own_are_the_ones_that_count():
    assert all(one.too_small for one in few_repeats([np.arange(40, 80)], 40))
    [one, _] = few_repeats([np.arange(10, 80)], 10)
    assert (one.images, one.n_test, one.testable, one.too_small) == (5, 35, 35, False)


def test_groups_that_were_not_tested_prove_nothing_of_a_slice():
    hits = [[np.ones(150)] for _ in SIZES]
    numbers = np.repeat([0, 1], [150, 50])
    patients = np.arange(200) // 10  # five of the second site, of which one is tested
    tested = [np.r_[np.arange(140), np.arange(150, 160)]]
    outcomes = gather(SIZES, hits, tested, 200, patients)
    one, other = slices_of(factor(numbers), 200, {"accuracy": (outcomes, hits)}, tested, patients)
    assert (one.under_tested, one.too_small) == (False, False)
    assert (other.n_groups, other.n_tested_groups) == (5, 1)
    assert (other.small, other.under_tested, other.outcomes) == (False, True, {})


def test_a_target_of_slices_of_which_few_groups_were_tested_is_an_error(textured):
    images, labels, groups, site = textured
    options = {"group": groups, "slices": {"site": site}, "image_size": 16, "device": "cpu"}
    study = Study((images, labels), backbone=torch.nn.Flatten(), repeats=2, **options)
    result = study.run()
    assert result.under_tested
    with pytest.raises(RequirementError, match=r"site 'B' cannot be judged: 2 repeats .* groups"):
        result.verdict(min_slice={"accuracy": 0.3})
    more = Study((images, labels), backbone=torch.nn.Flatten(), repeats=5, **options).run()
    assert not more.under_tested
    assert len(more.verdict(min_slice={"accuracy": 0.3}).judgements) == 1


@pytest.fixture(scope="module")
def textured():
    """150 images of 15 patients, five of them of site B."""
    rng = np.random.default_rng(0)
    labels = np.arange(150) % 2
    images = rng.integers(0, 150, (150, 16, 16), dtype=np.uint8) + (labels * 60)[:, None, None]
    groups = np.arange(150) // 10
    return images.astype(np.uint8), labels, groups, np.where(groups < 10, "A", "B")
