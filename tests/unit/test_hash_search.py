"""The search for hashes that differ in few bits: all of them, at a cost that does not explode."""

import numpy as np
import pytest

from pytest_datasize.images.hash_search import (
    MOST_BITS,
    MOST_OF_A_BUCKET,
    HashIndex,
    usual_limit,
)
from pytest_datasize.images.near_duplicates import find

ODD = np.indices((16, 16)) % 2


def random_hashes(n: int, seed: int = 0):
    hashes = np.random.default_rng(seed).integers(0, 256, (n, 32), dtype=np.uint8)
    hashes[:, 0] |= 0x80
    return hashes


def as_seen(bits, mirrors: int, turned: bool):
    """Signs of an image as those of the same image mirrored, and turned."""
    grid = bits.reshape(16, 16) ^ (mirrors & 1) * ODD[1] ^ (mirrors >> 1) * ODD[0]
    return (grid.T if turned else grid).ravel().astype(np.uint8)


def copied(hashes, flips: int, seed: int = 1):
    """The same, each mirrored or turned by chance, and with some bits turned over."""
    generator = np.random.default_rng(seed)
    found = []
    for bits in np.unpackbits(hashes, axis=1):
        changed = bits.copy()
        changed[generator.choice(np.arange(1, 256), flips, replace=False)] ^= 1
        found.append(as_seen(changed, int(generator.integers(4)), bool(generator.integers(2))))
    return np.packbits(np.array(found), axis=1)


def all_with_all(asked, known, within: int):
    """Pairs that are near, by comparing every bit of every pair."""
    seen = np.unpackbits(known, axis=1)
    still = np.flatnonzero((ODD.sum(axis=0) == 0).ravel())[1:]
    found = set()
    for row, bits in enumerate(np.unpackbits(asked, axis=1)):
        for mirrors in range(4):
            for turned in (False, True):
                differing = seen ^ as_seen(bits, mirrors, turned)
                steady = differing[:, still].sum(axis=1) <= within // 2
                near = np.flatnonzero((differing.sum(axis=1) < within) & steady)
                found |= {(row, int(other)) for other in near}
    return sorted(found)


@pytest.mark.parametrize("within", [1, 4, 5, 9, 13, 16, 20, MOST_BITS + 1])
def test_exactly_the_pairs_are_found_that_comparing_all_with_all_finds(within):
    known = random_hashes(120)
    asked = np.concatenate([copied(known[:40], n) for n in {0, 1, within // 2, within - 1, within}])
    index = HashIndex(known, within)
    found = {
        pair
        for some in index.matches(asked)
        for pair in zip(some.asked.tolist(), some.known.tolist(), strict=True)
    }
    wanted = all_with_all(asked, known, within)
    assert len(wanted) >= 40
    assert sorted(found) == wanted
    assert index.partly == 0


def test_the_usual_limit_is_that_of_all_neighbours():
    hashes = np.concatenate([random_hashes(300), copied(random_hashes(300), 60)])
    signs = np.unpackbits(hashes, axis=1).astype(int) * 2 - 1
    differing = (256 - signs @ signs.T) // 2
    np.fill_diagonal(differing, 999)
    rows = np.unique(np.linspace(0, 599, 500).astype(int))
    usual = np.median(np.sort(differing, axis=1)[rows, 9])
    assert usual_limit(hashes) == min(MOST_BITS + 1, int(np.ceil(usual / 4)))


def test_the_work_of_an_image_does_not_grow_with_their_number():
    compared = {}
    for n in (2_000, 20_000):
        index = HashIndex(random_hashes(n), MOST_BITS + 1)
        for _ in index.matches(random_hashes(200, 1)):
            pass
        compared[n] = index.compared / 200
    assert compared[20_000] < 1.5 * compared[2_000]
    assert compared[20_000] < 20_000 / 20


def test_near_duplicates_are_found_among_many_images():
    n = 25_000  # more than was ever compared all with all
    hashes = np.repeat(random_hashes(n)[:, None], 5, axis=1)
    hashes[n - 1] = copied(hashes[3, :1], 10)
    test = np.repeat(copied(hashes[[7, n - 2], 0], 8)[:, None], 5, axis=1)
    found = find(hashes, test)
    assert found.groups == ((3, n - 1),)
    assert found.twins == ((0, 7), (1, n - 2))
    assert found.searched == "all"


def test_a_search_that_was_made_in_part_says_so():
    hashes = random_hashes(MOST_OF_A_BUCKET + 200)
    rows = np.arange(16)
    alike = np.zeros((16, 16), dtype=np.uint8)
    alike[np.ix_(rows % 2 == 1, rows % 2 == 1)] = 1  # of all images, a quarter of the bits agree
    hashes &= ~np.packbits(alike.ravel())
    index = HashIndex(hashes, MOST_BITS + 1)
    for _ in index.matches(hashes[:20]):
        pass
    assert index.partly > 0
    assert index.compared < 20 * 2 * 12 * 23 * MOST_OF_A_BUCKET
