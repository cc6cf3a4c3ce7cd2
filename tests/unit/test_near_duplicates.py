"""Nearly the same images: grouped in a pool, left out of test images, and always the same ones."""

import numpy as np
import pytest
from PIL import Image, ImageOps
from support import shapes, write_folder

from pytest_datasize import DatasetError, Study
from pytest_datasize.images import hash_search, near_duplicates, pool
from pytest_datasize.images.image_set import ImageSet, Loaded
from pytest_datasize.images.near_duplicates import NearDuplicates, find, separated
from pytest_datasize.images.perceptual_hash import hashes_of, squares_of
from pytest_datasize.store import Store
from pytest_datasize.study.compare import compare
from pytest_datasize.study.transfer_gain import transfer_gain
from pytest_datasize.trials.plan import draw


def labelled(n: int, start: int = 0, **more) -> ImageSet:
    names = [f"image {start + row}" for row in range(n)]
    return ImageSet("test", ("a", "b"), np.arange(n) % 2, lambda i: b"", names.__getitem__, **more)


def test_test_images_nearly_in_the_pool_are_left_out_and_named():
    kept = separated(
        Loaded(labelled(50), labelled(12, 50)), NearDuplicates(twins=((10, 7), (11, 8)))
    )
    assert [kept.test.name(row) for row in range(10)] == [f"image {row}" for row in range(50, 60)]
    [finding] = kept.images.findings
    assert finding.names == ("image 60 ~ image 7", "image 61 ~ image 8")
    assert finding.check == "near_duplicates"
    assert kept.images.groups is None
    with pytest.raises(DatasetError, match="no test image of class 'a' is left"):
        separated(Loaded(labelled(50), labelled(2, 50)), NearDuplicates(twins=((0, 3),)))


def test_near_duplicates_in_the_pool_are_never_divided_by_a_split():
    pairs = tuple((row, 50 + row) for row in range(10))
    kept = separated(Loaded(labelled(60)), NearDuplicates(pairs)).images
    assert (kept.groups[50:] == kept.groups[:10]).all()
    assert len(set(kept.groups)) == len(set(kept.near)) == 50
    assert kept.findings[0].count == 20
    for repeat in draw(kept, repeats=5).repeats:
        assert not set(repeat.test % 50) & set(repeat.order % 50)
    alone = separated(Loaded(labelled(60)), NearDuplicates()).images
    assert alone.groups is None
    assert alone.findings == ()
    assert len(set(alone.near)) == 60


def test_groups_that_share_a_near_duplicate_become_one():
    groups = np.arange(60) // 10
    images = labelled(60, groups=groups, group_names=tuple("abcdef"))
    kept = separated(Loaded(images), NearDuplicates(((5, 15, 25), (55, 59)))).images
    assert kept.groups.tolist() == [0] * 30 + [1] * 10 + [2] * 10 + [3] * 10


def test_chains_of_near_duplicates_are_one_group(textiles):
    picture = Image.open(min(textiles.rglob("*.jpg"))).convert("RGB")
    others = [Image.open(p).convert("RGB") for p in sorted(textiles.rglob("*.jpg"))[40::40]]

    def crop(p, share):
        return p.crop((round(p.width * share), round(p.height * share), p.width, p.height))

    chain = [crop(picture, share / 500) for share in range(12)]  # the ends share too little
    hashes = hashes_of([squares_of(p) for p in (*chain, *others)])
    assert find(hashes).groups == (tuple(range(12)),)
    ends = hashes_of([squares_of(p) for p in (chain[0], chain[-1], *others)])
    assert find(ends).groups == ()


@pytest.mark.parametrize(
    ("images", "found", "text"),
    [
        (labelled(8), NearDuplicates(searched="few"), "not looked for: 8 images are too few"),
        (labelled(60), NearDuplicates(searched="some"), "were looked for in part"),
        (labelled(60), NearDuplicates(searched="alike"), "not looked for: most images have ten"),
    ],
)
def test_a_search_that_was_not_made_is_reported(images, found, text):
    [finding] = separated(Loaded(images), found).images.findings
    assert finding.check == "alike"
    assert text in finding.text
    loaded = separated(Loaded(images, labelled(6, 60)), found)
    assert [text in finding.text for finding in loaded.images.findings] == [True]


def test_why_nothing_was_searched():
    hashes = np.random.default_rng(0).integers(0, 256, (60, 5, 32), dtype=np.uint8) | 0x80
    assert find(hashes).searched == "all"
    assert find(hashes[:8]).searched == "few"
    assert find(np.repeat(hashes[:4], 15, axis=0)).searched == "alike"


class Columns:
    """A backbone of 64 features that do not see by how much an image is shifted downwards."""

    def __new__(cls):
        import torch

        torch.manual_seed(0)
        return torch.nn.Sequential(
            torch.nn.AvgPool2d((24, 3)),
            torch.nn.Flatten(),
            torch.nn.Linear(24, 64),
        )


@pytest.fixture
def with_copies(tmp_path):
    """120 images; two again mirrored, which hashes see, and two shifted, which means see."""
    images, labels = shapes(120)
    more = [
        *(np.asarray(ImageOps.mirror(Image.fromarray(images[row]))) for row in (0, 1)),
        *(np.roll(images[row], 9, axis=0) for row in (2, 3)),
    ]
    return write_folder(
        tmp_path / "data", np.concatenate([images, more]), [*labels, *labels[[0, 1, 2, 3]]]
    )


OPTIONS = {"image_size": 24, "repeats": 3, "sizes": (10, 30, 80), "device": "cpu"}


def test_every_strategy_has_the_same_splits(with_copies):
    store = Store()
    tested = {}
    for strategy in ("feature_extraction", "fine_tuning", "from_scratch"):
        study = Study(
            str(with_copies), backbone=Columns(), strategy=strategy, store=store, **OPTIONS
        )
        result = study.run()
        tested[strategy] = result.splits, study.fingerprint(), result.available
        assert len(set(result.splits)) == 3
        assert any("4 images" in note and "2 groups" in note for note in result.notes)
    assert tested["feature_extraction"] == tested["fine_tuning"] == tested["from_scratch"]


def test_groups_of_near_duplicates_are_part_of_the_fingerprint(with_copies):
    names = {
        Study(str(with_copies), checks=checks, store=Store()).fingerprint()
        for checks in (None, "alike=ignore")
    }
    assert len(names) == 2


def test_what_counts_as_a_near_duplicate_is_part_of_the_fingerprint(with_copies, monkeypatch):
    before = Study(str(with_copies)).fingerprint()
    monkeypatch.setattr(hash_search, "usual_limit", lambda hashes: 0)
    assert Study(str(with_copies)).fingerprint() != before


def test_near_duplicates_are_searched_once_for_all_studies_of_a_store(
    with_copies, tmp_path, monkeypatch
):
    searched = []
    search = near_duplicates.find
    monkeypatch.setattr(
        near_duplicates, "find", lambda *hashes: searched.append(1) or search(*hashes)
    )
    for strategy in ("feature_extraction", "fine_tuning"):
        with Store(tmp_path / "store") as store:
            study = Study(
                str(with_copies), backbone=Columns(), strategy=strategy, store=store, **OPTIONS
            )
            study.run()
    assert len(searched) == 1


def test_the_fingerprint_is_computed_once_for_a_study(with_copies, monkeypatch):
    computed = []
    name = pool.key_of
    monkeypatch.setattr(pool, "key_of", lambda parts: computed.append(1) or name(parts))
    study = Study(str(with_copies), backbone=Columns(), strategy="fine_tuning", **OPTIONS)
    study.run()
    study.run()
    study.subject()
    transfer_gain(study.context)
    assert len(computed) == 1


def test_strategies_on_other_images_are_not_compared(tmp_path, with_copies):
    other = write_folder(tmp_path / "other", *shapes(120, seed=1))

    def run(strategy, augment):
        folder = with_copies if strategy == "feature_extraction" else other
        return Study(str(folder), backbone=Columns(), strategy=strategy, **OPTIONS).run()

    with pytest.raises(DatasetError, match=r"fine_tuning and feature_extraction .* same images"):
        compare(run, ["feature_extraction", "fine_tuning"], 0.9)
    assert len(compare(run, ["fine_tuning", "from_scratch"], 0.9).rows) == 2


def test_transfer_gain_needs_the_same_splits(with_copies):
    store = Store()
    studies = [
        Study(str(with_copies), backbone=Columns(), strategy=strategy, store=store, **OPTIONS)
        for strategy in ("feature_extraction", "from_scratch")
    ]
    results = [study.run() for study in studies]
    assert transfer_gain(studies[0].context) is not None
    from dataclasses import replace

    from pytest_datasize.study.transfer_gain import keep_scores

    keep_scores(studies[1].context, replace(results[1], splits=results[1].splits[::-1]))
    assert transfer_gain(studies[0].context) is None


def test_a_class_of_near_duplicates_is_an_error_and_no_perfect_recall():
    images, labels = shapes(60)
    lighter = np.clip(images[0].astype(int) + np.arange(0, 24, 2)[:, None, None], 0, 255)
    together = np.concatenate([images, lighter.astype(np.uint8)])
    named = [*labels.astype(str), *["odd"] * len(lighter)]
    options = {"backbone": Columns(), **OPTIONS, "sizes": (10, 20, 40)}
    with pytest.raises(
        DatasetError, match=r"'odd' are of one group.*nearly the same are kept in one group.*alike"
    ):
        Study((together[12:], named[12:]), **options).run()
    result = Study((together[12:], named[12:]), checks={"alike": "ignore"}, **options).run()
    assert result.class_counts["odd"] == len(lighter)
