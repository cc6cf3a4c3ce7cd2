"""What both engines survive, and what they say when they cannot."""

import os
import re

import pytest
import torch
from engine_studies import (
    SIZES,
    between,
    embedded,
    evidence,
    network,
    refuse,
    remote,
    repeated,
    run,
    shards,
    study,
)
from PIL import Image
from support import shapes, write_folder
from trainers import Diary, broken, columns, die, helped, scores

from pytest_datasize.embedding import reader
from pytest_datasize.embedding.embedder import Embedder
from pytest_datasize.errors import DatasetError, EngineError, TrainingError
from pytest_datasize.store import Store
from pytest_datasize.store.index import NAME
from pytest_datasize.study.engines import Engines
from pytest_datasize.study.workers.tasks import Setup, TrainTask

REPEATS = 2


# -- workers that die ------------------------------------------------------------------------------


def test_a_worker_that_dies_is_replaced_and_its_trial_repeated(workers, tmp_path):
    result = study(trainer=Diary(tmp_path, deaths=1), **workers).run()
    assert result.scores == run("own_training").scores
    calls = sorted(path.stem for path in tmp_path.iterdir() if path.name != "victim")
    assert len(set(calls)) == len(SIZES) * REPEATS
    assert len(calls) == len(SIZES) * REPEATS + 1
    assert calls.count(os.readlink(tmp_path / "victim")) == 2


def test_work_that_kills_every_worker_is_an_error_and_no_hang(spare, tmp_path):
    engine = Engines().get(spare)
    with pytest.raises(EngineError, match=r"3 worker.* died on the same piece of work.*memory"):
        list(engine.map(die, [None, tmp_path, None]))
    assert len(list(tmp_path.iterdir())) == 3
    assert list(engine.map(die, [None])) == [(None, "alive")]
    engine.close()


def test_a_trainer_may_have_processes_of_its_own(workers):
    result = study(trainer=helped, sizes=(8, 10, 12), **workers).run()
    assert result.scores == study(trainer=columns, sizes=(8, 10, 12)).run().scores


# -- what cannot be done is told -------------------------------------------------------------------


def test_what_cannot_be_sent_is_named_with_a_way_out(workers):
    class Own(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return shapes(4)[0][index], index % 2

    for options in ({"trainer": lambda *args, **more: 0}, {"dataset": Own(), "sizes": (2, 3, 4)}):
        with pytest.raises(EngineError, match=r"cannot be sent to another.*in a module.*local"):
            study(**options, **workers).run()


@pytest.mark.parametrize("trainer", [None, columns])
def test_unreadable_images_are_told_as_without_an_engine(workers, tmp_path, trainer):
    folder = write_folder(tmp_path, *shapes(150))
    for number in (3, 140):
        next(folder.rglob(f"{number:04d}.png")).write_bytes(b"\x89PNG no more")
    said = []
    for options in ({}, workers):
        with pytest.raises(DatasetError) as caught:
            study(folder, trainer=trainer, **options).run()
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert "2 of 150 images cannot be read" in said[0]


def test_an_error_of_the_trainer_is_told_as_without_an_engine(workers):
    said = []
    for options in ({}, workers):
        with pytest.raises(TrainingError) as caught:
            study(trainer=broken, **options).run()
        said.append(str(caught.value))
    for text in said:  # of whichever trial came first
        assert re.fullmatch(
            r"trainers.broken, trial with \d+ images, repeat \d \(seed \d+\): raised "
            r"ZeroDivisionError: their bug \(.*/trainers.py:\d+\)",
            text,
        )


def test_trials_that_score_different_metrics_are_an_error(pool):
    match = r"trainers.scores, trial with \d+ images, repeat \d: (lacks|adds) auc"
    with pytest.raises(TrainingError, match=match):
        study(trainer=scores, **pool).run()


def test_a_worker_that_finds_other_images_says_so(pool):
    elsewhere = between(pool, on_task=remote(listing="something else"))
    for trainer in (None, columns):
        with pytest.raises(DatasetError, match="a worker finds other images there"):
            study(trainer=trainer, **elsewhere).run()


def test_workers_that_embed_differently_are_refused(pool):
    def another(answer):
        if isinstance(answer, Setup):
            return answer._replace(space=answer.space._replace(key="another device"))
        return answer

    with pytest.raises(EngineError, match=r"workers differ: .*'another device'"):
        study(**between(pool, on_answer=another)).run()


# -- the store -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["heads", "augment", "own_training"])
def test_what_workers_cannot_write_comes_back_and_is_kept(
    kind, workers, tmp_path, monkeypatch, locally
):
    away = tmp_path / "on another machine"
    expected = locally(kind)
    with Store(tmp_path / "kept") as store, monkeypatch.context() as patch:
        if kind == "heads":  # views are for this process then
            patch.setattr(Embedder, "forward", None)
        out_of_sight = between(workers, on_task=remote(store=away))
        assert evidence(run(kind, store=store, **out_of_sight)) == expected
    assert not away.exists()
    again = []
    with Store(tmp_path / "kept") as store:
        result = run(kind, store=store, repeats=3, on_trial=lambda *trial: again.append(trial[:2]))
    assert result.scores["accuracy"][0][:2] == run(kind).scores["accuracy"][0]
    if kind == "own_training":
        assert again == [(size, 2) for size in reversed(SIZES)]  # only the repeat that is new
    else:
        images = 90 * (1 if kind == "heads" else 5)
        assert embedded(tmp_path / "kept") == (images, images)


def test_images_are_embedded_once_over_all_workers(workers, tmp_path):
    class ReachedTrialsError(Exception):
        """The study came to its trials."""

    def stop(task):
        if isinstance(task, TrainTask):
            raise ReachedTrialsError
        return task

    for kind in ("heads", "augment"):
        with Store(tmp_path) as store, pytest.raises(ReachedTrialsError):
            run(kind, store=store, **between(workers, on_task=stop))
    named, written = embedded(tmp_path)
    assert named == 90 * 5
    assert written <= 100 * 5  # an exact copy in another worker's share may be embedded twice
    with Store(tmp_path) as store:
        run("augment", store=store, **workers)
    assert embedded(tmp_path) == (named, written)


def test_what_is_stored_is_not_sent_to_workers(pool, tmp_path):
    with Store(tmp_path) as store:
        found = run("heads", store=store, **pool)
    with Store(tmp_path) as store:
        again = run("heads", store=store, **between(pool, on_task=refuse))
    assert evidence(again) == evidence(found)


def test_a_grown_data_set_pays_for_what_is_new(workers, tmp_path):
    images, labels = shapes(160, noise=0.3)
    folder = write_folder(tmp_path / "data", images[:130], labels[:130])
    told = []
    for _ in range(2):
        with Store(tmp_path / "kept") as store:
            tell = lambda stage, done, total: told.append((stage, done, total))  # noqa: E731
            study(folder, store=store, on_progress=tell, **workers).run()
        write_folder(folder, images, labels)
    assert embedded(tmp_path / "kept") == (160, 160)
    assert ("embedding images", 160, 160) in told


def test_refresh_measures_again_and_verify_reads_again(workers, tmp_path):
    folder = write_folder(tmp_path / "data", *shapes(100, noise=0.3))
    found, files = [], []
    for flags in ({}, {"refresh": True}, {"verify": True}, {}, {"verify": True}):
        if len(found) == 3:
            change_unseen(next(folder.rglob("0004.png")))
        # of another number of repeats nothing is known: no one but the workers reads the images
        repeats = 3 if len(found) == 4 else 2
        with Store(tmp_path / "kept", **flags) as store:
            found.append(evidence(study(folder, repeats=repeats, store=store, **workers).run()))
        files.append(shards(tmp_path / "kept"))
    # the time of the inode tells that the file changed, although all other marks were restored
    assert found[0] == found[1] == found[2] != found[3]
    assert not set(files[0]) & set(files[1])
    assert files[1] == files[2]
    assert [n for file, n in files[3].items() if file not in files[2]] == [1]
    assert files[4] == files[3]


def change_unseen(path):
    """Draw another image into a file, and restore its size and time."""
    status = path.stat()
    Image.fromarray(shapes(1, seed=9)[0][0]).resize((12, 12)).save(path)
    assert path.stat().st_size <= status.st_size
    with path.open("ab") as stream:
        stream.write(bytes(status.st_size - path.stat().st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_without_a_store_workers_meet_in_a_folder_that_goes(pool, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    engines = pool["engines"]
    one, two = study(**pool), study(**pool)
    assert evidence(one.run()) == evidence(two.run())
    assert one.store.folder == two.store.folder == engines.folder
    assert (engines.folder / NAME).exists()
    assert not list(engines.folder.glob("shared-*"))
    own = Engines()
    folder = own.folder
    assert folder.exists()
    own.close()
    del own
    assert not folder.exists()


def test_a_data_set_in_memory_is_not_decoded_again_by_who_hands_out(workers, monkeypatch):
    def fail(*args):
        raise AssertionError("decoded here")

    asked = study(repeated(4), backbone=network(), **workers)
    asked.context.backbone.loaded  # noqa: B018  (loaded before decoding is forbidden)
    monkeypatch.setattr(reader, "decode", fail)
    asked.run()
