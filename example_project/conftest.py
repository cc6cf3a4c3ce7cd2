"""The images of this repository. In your repository: ``return "data/train"``."""

import conformal_clip_data
import pytest


@pytest.fixture(scope="session")
def datasize_dataset():
    """Return 2,000 photographs of textiles: nominal, with local and with global defects."""
    return conformal_clip_data.textile_simulated_root()
