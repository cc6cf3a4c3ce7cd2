"""Copies of real images by their perceptual hash: what it finds, and what it must not."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from pytest_datasize.images.content_hash import read_contents
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.images.near_duplicates import keep_apart
from pytest_datasize.images.perceptual_hash import (
    MOST_BITS,
    copies,
    hashes_of,
    limit,
    perceptual_hashes,
    squares_of,
)
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


@pytest.fixture(scope="module")
def pictures(textiles):
    return [Image.open(p).convert("RGB") for p in sorted(textiles.rglob("*.jpg"))[::25]]


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_of_real_images_are_found_and_nothing_else(pictures, change):
    pool = hashed(pictures)
    found = copies(hashed([CHANGES[change](picture) for picture in pictures[:30]]), pool)
    assert found.tolist() == [[row, row] for row in range(30)]


def test_no_two_different_images_are_copies(pictures):
    pool = hashed(pictures)
    assert copies(pool, pool).tolist() == [[row, row] for row in range(len(pool))]
    assert 10 < limit(pool) <= MOST_BITS + 1


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
    assert len(copies(pool, pool, MOST_BITS + 1)) > 1000
    pairs = copies(pool, pool)
    assert (pairs[:, 0] < pairs[:, 1]).sum() <= 10


def test_a_pool_written_out_four_times_over_is_found_out(pictures):
    changes = (lambda p: p, CHANGES["JPEG"], CHANGES["brighter"], CHANGES["mirrored"])
    pool = hashed([change(picture) for change in changes for picture in pictures[:40]])
    links = copies(pool, pool)
    assert len(links) == 160 * 4
    assert (links[:, 0] % 40 == links[:, 1] % 40).all()


def test_flat_images_are_no_copies_of_each_other():
    flat = [Image.new("RGB", (40, 40), (grey, grey, grey)) for grey in range(0, 250, 5)]
    pool = hashed(flat)
    assert not copies(pool, pool, 24).size


def test_too_few_images_say_nothing_of_what_is_usual(pictures):
    few = hashed(pictures[:5])
    assert limit(few) == 0
    assert not copies(few, few).size


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), turns=st.integers(0, 3), mirror=st.booleans())
def test_every_turn_and_mirror_of_squares_is_found(seed, turns, mirror):
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (32, 32), dtype=np.uint8)
    other = np.rot90(pixels.T if mirror else pixels, turns)
    one, changed = (hashes_of([np.ascontiguousarray(p).tobytes()]) for p in (pixels, other))
    assert copies(changed, one, 9).tolist() == [[0, 0]]


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


def test_the_hash_keeps_copies_apart_where_nothing_is_embedded(pictures):
    hashes = hashed([*pictures, *map(ImageOps.mirror, pictures[:5])])
    n = len(pictures)
    names = [f"image {row}" for row in range(n + 5)]
    images = ImageSet("x", ("a", "b"), np.arange(n + 5) % 2, lambda i: b"", names.__getitem__)
    from pytest_datasize.images.image_set import Loaded

    kept = keep_apart(Loaded(images), None, hashes)[0].images
    assert (kept.groups[n:] == kept.groups[:5]).all()
    assert len(set(kept.near.tolist())) == n
    test = images.part(range(n - 4, n + 5))
    apart, rows = keep_apart(Loaded(images.part(range(n - 4)), test), None, hashes)
    assert [apart.test.name(row) for row in range(len(apart.test))] == names[n - 4 : n]
    assert len(rows) == n
    assert apart.images.groups is None
