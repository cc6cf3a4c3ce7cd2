"""No engine changes a verdict: the same evidence, bit for bit."""

import json

import pytest
from engine_studies import KINDS, evidence, run


@pytest.mark.parametrize("kind", KINDS)
def test_an_engine_never_changes_the_evidence(kind, workers, locally):
    assert evidence(run(kind, **workers)) == locally(kind)


def test_the_studies_are_what_they_are_meant_to_be(locally):
    found = {kind: json.loads(locally(kind)) for kind in KINDS}
    assert found["heads"]["outcomes"] != found["augment"]["outcomes"]
    assert found["until"]["n_trials"] < found["until"]["n_trials_planned"]
    notes = "\n".join(found["heads"]["notes"])
    assert "exact copies" in notes
    assert "nearly" in notes
    assert "5 test images are also in the pool" in "\n".join(found["tested_apart"]["notes"])
