"""Do we have enough images? One gate passes, one has too few images, one cannot be reached."""

import pytest
from torch.utils.data import Subset
from torchvision.datasets import ImageFolder

from pytest_datasize import datasize


@datasize.requires(accuracy=0.72, auc=0.85)
def test_enough_images(datasize_result):
    assert min(datasize_result.class_counts.values()) >= 400


class TestFirstDelivery:
    """The first delivery was every fourth image. The gate reports how many are missing."""

    @pytest.fixture
    def datasize_dataset(self, datasize_dataset):
        images = ImageFolder(datasize_dataset)
        return Subset(images, range(0, len(images), 4))

    @pytest.mark.xfail(strict=True, reason="500 images are too few; see --runxfail")
    @datasize.requires(accuracy=0.78)
    def test_enough_images(self): ...


@pytest.mark.xfail(strict=True, reason="above the ceiling of a linear probe; see --runxfail")
@datasize.requires(accuracy=0.99)
def test_enough_for_the_ambitious_target(): ...
