"""The two-sample test on stored embeddings of real images: power, and false alarms counted."""

import numpy as np

from pytest_datasize.curve.advice.neighbours import agreement, nearest_of, share_interval
from pytest_datasize.curve.advice.two_sample import compare


def test_false_alarms_over_200_random_splits_keep_their_level(textile_embeddings):
    features = textile_embeddings[0][:, ::8]  # every eighth feature: the level needs no power
    alarms = 0
    for split in range(200):
        order = np.random.default_rng(split).permutation(len(features))[:90]
        found = compare(features[order[:50]], features[order[50:]], split, permutations=99)
        alarms += found.p_value <= 0.05
    assert 2 <= alarms <= 20  # 10 are expected; more than 20 has a probability of 0.0012


def test_one_class_that_is_missing_from_the_pool_is_noticed(textile_embeddings):
    features, labels, _ = textile_embeddings
    common = np.argmax(np.bincount(labels))
    pool = features[:300][labels[:300] == common]
    found = compare(pool, features[300:])
    assert found.mmd_p_value < 0.01
    assert found.auc_low > 0.5


def test_a_shift_of_all_images_is_noticed(textile_embeddings):
    features = textile_embeddings[0].astype(np.float32)
    moved = features[300:] + 0.5 * features.std(axis=0)
    assert compare(features[:300], moved).p_value < 0.01


def test_the_order_of_the_images_and_their_length_do_not_matter(textile_embeddings):
    features = textile_embeddings[0]
    one = compare(features[:100], features[100:200], permutations=99)
    other = compare(2.0 * features[:100].astype(np.float32), features[100:200], permutations=99)
    assert abs(one.accuracy - other.accuracy) < 1e-6
    assert one.compared == (100, 100)
    assert one.accuracy_low <= one.accuracy <= one.accuracy_high


def test_large_sets_are_sampled():
    rows = np.random.default_rng(0).standard_normal((1700, 4))
    assert compare(rows, rows[:30] + 3.0, permutations=9).compared == (1500, 30)


def test_neighbours_agree_more_than_chance_on_real_images(textile_embeddings):
    features, labels, _ = textile_embeddings
    found = agreement(features, labels)
    assert found.chance < found.low < found.share < found.high
    shuffled = agreement(features, np.random.default_rng(0).permutation(labels))
    assert shuffled.domain == "far"
    rows, distances = nearest_of(features[:5], features)
    assert rows.tolist() == [0, 1, 2, 3, 4]
    assert np.allclose(distances, 0, atol=1e-3)


def test_shares_at_the_ends_have_intervals():
    assert share_interval(0, 10)[0] == 0.0
    assert share_interval(10, 10)[1] == 1.0
