"""Copies of real images by their perceptual hash: what it finds, and what it must not."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from pytest_datasize.images.content_hash import read_contents
from pytest_datasize.images.hash_search import MOST_BITS, HashIndex, usual_limit
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.images.near_duplicates import find
from pytest_datasize.images.perceptual_hash import hashes_of, perceptual_hashes, squares_of
from pytest_datasize.store import Store


def again(picture: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return Image.open(io.BytesIO(stream.getvalue())).convert("RGB")


CHANGES = {
    "JPEG": lambda p: again(p, 50),
    "brighter": lambda p: ImageEnhance.Brightness(p).enhance(1.2),
    "mirrored": ImageOps.mirror,
    "flipped": ImageOps.flip,
    "turned": lambda p: p.transpose(Image.Transpose.ROTATE_90),
    "turned back": lambda p: p.transpose(Image.Transpose.ROTATE_270),
    "transposed": lambda p: p.transpose(Image.Transpose.TRANSVERSE),
    "half": lambda p: p.resize((p.width // 2, p.height // 2), Image.Resampling.LANCZOS),
}


def hashed(pictures):
    return hashes_of([squares_of(picture) for picture in pictures])


def whole(hashes):
    return np.ascontiguousarray(hashes[:, 0])


def matched(asked, pool, within=None):
    """Pairs of rows that are near, as a sorted list."""
    index = HashIndex(whole(pool), usual_limit(whole(pool)) if within is None else within)
    found = [
        pair
        for some in index.matches(whole(asked))
        for pair in zip(some.asked.tolist(), some.known.tolist(), strict=True)
    ]
    return sorted(set(found))


@pytest.fixture(scope="module")
def pictures(textiles):
    return [Image.open(p).convert("RGB") for p in sorted(textiles.rglob("*.jpg"))[::25]]


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_of_real_images_are_found_and_nothing_else(pictures, change):
    found = matched(
        hashed([CHANGES[change](picture) for picture in pictures[:30]]), hashed(pictures)
    )
    assert found == [(row, row) for row in range(30)]


@pytest.mark.parametrize("side", ["a copy is", "an original is"])
@pytest.mark.parametrize("share", [0.03, 0.05, 0.08, 0.1])
def test_crops_around_the_middle_are_found_by_windows(pictures, share, side):
    def crop(p):
        across, down = round(p.width * share / 2), round(p.height * share / 2)
        return p.crop((across, down, p.width - across, p.height - down))

    cropped = [crop(picture) for picture in pictures[:30]]
    if side == "a copy is":
        found = find(hashed(pictures), hashed(cropped))
    else:
        found = find(hashed(cropped + pictures[30:]), hashed(pictures[:30]))
    assert set(found.twins) <= {(row, row) for row in range(30)}
    assert len(found.twins) >= 28


def test_no_two_different_images_are_near(pictures):
    pool = hashed(pictures)
    assert matched(pool, pool) == [(row, row) for row in range(len(pool))]
    assert 10 < usual_limit(whole(pool)) <= MOST_BITS + 1
    assert find(pool).groups == ()


def test_parts_in_one_pose_have_a_limit_of_their_own(pictures):
    """Images that share most of what they show: an absolute limit would call all of them copies."""
    generator = np.random.default_rng(0)
    part = np.asarray(pictures[0].resize((64, 64))).astype(float)
    blemished = []
    for _ in range(60):
        pixels = part.copy()
        row, column = generator.integers(4, 52, 2)
        pixels[row : row + 8, column : column + 8] -= 25  # the defect, each in its own place
        blemished.append(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)))
    pool = hashed(blemished)
    assert len(matched(pool, pool, MOST_BITS + 1)) > 1000
    assert sum(one < other for one, other in matched(pool, pool)) <= 10


def test_a_pool_written_out_four_times_over_is_found_out(pictures):
    changes = (lambda p: p, CHANGES["JPEG"], CHANGES["brighter"], CHANGES["mirrored"])
    pool = hashed([change(picture) for change in changes for picture in pictures[:40]])
    assert find(pool).groups == tuple((row, 40 + row, 80 + row, 120 + row) for row in range(40))


def test_flat_images_are_no_copies_of_each_other():
    flat = [Image.new("RGB", (40, 40), (grey, grey, grey)) for grey in range(0, 250, 5)]
    pool = hashed(flat)
    assert not matched(pool, pool, MOST_BITS + 1)
    assert find(pool).groups == ()


def test_too_few_images_say_nothing_of_what_is_usual(pictures):
    few = hashed(pictures[:5])
    assert usual_limit(whole(few)) == 0
    assert not matched(few, few)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), turns=st.integers(0, 3), mirror=st.booleans())
def test_every_turn_and_mirror_of_squares_is_found(seed, turns, mirror):
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (32, 32), dtype=np.uint8)
    other = np.rot90(pixels.T if mirror else pixels, turns)
    one, changed = (hashes_of([np.ascontiguousarray(p).tobytes()]) for p in (pixels, other))
    assert matched(changed, one, 9) == [(0, 0)]


def test_hashes_are_kept_by_content_and_come_back_bit_by_bit(tmp_path, textiles):
    paths = sorted(textiles.rglob("*.jpg"))[:30]
    reads = []

    def read(row):
        reads.append(row)
        return paths[row].read_bytes()

    images = ImageSet("test", ("a",), np.zeros(30, int), read, lambda row: paths[row].name)
    with Store(tmp_path) as store:
        named = ImageSet(**{**vars(images), "digests": read_contents(images, store)})
    assert len(reads) == 30
    with Store(tmp_path) as store:
        found = perceptual_hashes(named, store)
        assert len(reads) == 30  # the one pass that named them has hashed them
    fresh = hashed([Image.open(path).convert("RGB") for path in paths])
    assert (found == fresh).all()
    with Store() as store:  # another store knows nothing: the images are read again
        assert (perceptual_hashes(named, store, threads=2) == fresh).all()
    assert len(reads) == 60
