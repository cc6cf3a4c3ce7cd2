"""Images of a trial in the workers of a DataLoader, whatever way these are started."""

import multiprocessing
import pickle

import numpy as np
import pytest
import torch
from support import shapes, write_folder
from torch.utils.data import DataLoader, Dataset, Subset
from trainers import forkserved, spawned

from pytest_datasize import DatasetError, Study
from pytest_datasize.images.sources.load import load
from pytest_datasize.images.sources.unlabelled import load_unlabelled
from pytest_datasize.trials.strategies.trial_images import Pictures, TrialImages


class Items(Dataset):
    """A Dataset of twelve grey images, with a transform of the user's own."""

    def __init__(self, transform):
        self.images, self.targets = shapes(12)
        self.transform = transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transform(self.images[index]), int(self.targets[index])


def inverted(image):
    return 255 - image


def trial(*sets):
    """The images of some sets, the last first."""
    rows = np.arange(sum(map(len, sets)))[::-1]
    labels = np.concatenate([images.labels for images in sets])[rows]
    return TrialImages(labels, sets[0].classes, Pictures(sets), rows)


def objects():
    pixels, labels = shapes(12)
    return {
        "arrays": (pixels, labels),
        "tensors": (torch.from_numpy(np.stack([pixels] * 3, 1)), torch.from_numpy(labels)),
        "torch dataset": Items(inverted),
        "subset": Subset(Items(inverted), range(1, 11)),
    }


@pytest.mark.parametrize("kind", objects())
def test_images_of_objects_can_be_sent_to_another_process(kind):
    images = load(objects()[kind]).images
    again = pickle.loads(pickle.dumps(images))
    for row in range(len(images)):
        assert np.array_equal(again.read(row), images.read(row))
        assert again.name(row) == images.name(row)


def test_a_trial_of_two_sets_and_images_without_labels_can_be_sent(tmp_path):
    images = load(objects()["arrays"]).images
    other = load_unlabelled(write_folder(tmp_path, *shapes(6, seed=3)), "deployment")
    sent = trial(images, other)
    sent.pixels(4)  # what is kept in memory here stays here
    again = pickle.loads(pickle.dumps(sent))
    assert again.classes == sent.classes
    assert len(pickle.dumps(sent)) == len(pickle.dumps(trial(images, other)))
    for (image, label), (wanted, wanted_label) in zip(again, sent, strict=True):
        assert np.array_equal(image, wanted)
        assert label == wanted_label
    assert np.array_equal(again.pixels(4), sent.pixels(4))


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_what_cannot_be_sent_is_named_with_the_remedy(method):
    """Raised where the workers are started, in this process."""
    context = multiprocessing.get_context(method)
    with pytest.raises(DatasetError, match=r"Items with 12 items.*lambda.*top of a module") as one:
        iter(DataLoader(trial(load(Items(lambda x: x)).images), 2, num_workers=1,
                        multiprocessing_context=context))  # fmt: skip
    assert "num_workers=0" in str(one.value)
    images = trial(load(Items(inverted)).images).with_transform(lambda picture: picture)
    with pytest.raises(DatasetError, match=r"the transform <function .*lambda.*top of a module"):
        pickle.dumps(images)


@pytest.mark.parametrize("trainer", [spawned, forkserved])
def test_a_trainer_reads_its_images_in_workers_that_are_not_forked(tmp_path, trainer):
    folder = write_folder(tmp_path, *shapes(60))
    study = Study(str(folder), trainer=trainer, sizes=[8, 16, 24], repeats=2, image_size=24)
    result = study.run()
    assert np.mean(result.scores["accuracy"][-1]) > 0.6
