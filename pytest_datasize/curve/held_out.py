"""Convert training images to images of the data set, a share of which is held out to test.

Where groups are counted, all numbers are of groups.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class HeldOut:
    """What is held out of the images that a team collects.

    Attributes
    ----------
    share
        Share of the images that is held out, in [0, 1); 0 with a test set of its own.
    images
        Number of images that is held out however many there are, besides that share.
    """

    share: float = 0.0
    images: int = 0

    def data_set(self, training: float) -> float:
        """Return the images of the data set that give so many images to train on, rounded up.

        Examples
        --------
        >>> HeldOut(0.2).data_set(1067), HeldOut().data_set(1067), HeldOut(0.2).data_set(math.inf)
        (1334, 1067, inf)
        """
        if math.isinf(training):
            return training
        return math.ceil(training / (1.0 - self.share) - 1e-9) + self.images

    def training(self, data_set: float) -> int:
        """Return the training images among so many images of the data set, rounded down.

        Examples
        --------
        >>> HeldOut(0.2).training(1334), HeldOut(images=100).training(50)
        (1067, 0)
        """
        return max(0, math.floor((data_set - self.images) * (1.0 - self.share) + 1e-9))
