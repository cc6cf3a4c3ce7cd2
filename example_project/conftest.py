"""Where this repository's images are. In yours it would be ``return "data/train"``."""

import conformal_clip_data
import pytest


@pytest.fixture(scope="session")
def datasize_dataset():
    """2,000 photographs of textiles: nominal ones, and ones with local and global defects."""
    return conformal_clip_data.textile_simulated_root()
